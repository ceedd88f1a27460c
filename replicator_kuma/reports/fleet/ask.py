"""Asks a running instance for its fleet: the one in this state directory, or one by HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from replicator_kuma.adapters.peers import Peer, Unheard
from replicator_kuma.adapters.peers.http import HttpLine
from replicator_kuma.base.errors import InstanceUnreachable
from replicator_kuma.daemon import control
from replicator_kuma.reports.fleet.documents import Fleet
from replicator_kuma.reports.fleet.exchange import QUESTION
from replicator_kuma.reports.fleet.reading import Unreadable, loads, read

PATH = "/api/v1/fleet"


class RunningHere:
    """The `replicator run` of a state directory, or, where none runs, the first peer that answers.

    Needs no token for the one here: the socket belongs to its user.
    """

    def __init__(self, folder: Path, peers: Sequence[Peer], token: str) -> None:
        self._folder = folder
        self._peers = [ByHttp(peer, token) for peer in peers]

    def fleet(self) -> Fleet:
        """Raises InstanceUnreachable; StateError and AlreadyRunning as `control.ask`."""
        found = control.ask(self._folder, QUESTION, {}, lambda _message: None)
        if found is not None:
            return _read(found, "the supervisor that runs here")
        why = []
        for peer in self._peers:
            try:
                return peer.fleet()
            except InstanceUnreachable as error:
                why.append(str(error))
        raise InstanceUnreachable("; ".join(["no `replicator run` runs here", *why]))


class ByHttp:
    """An instance at an address."""

    def __init__(self, peer: Peer, token: str) -> None:
        self._name = peer.name
        self._line = HttpLine(peer, token)

    def fleet(self) -> Fleet:
        """Raises InstanceUnreachable."""
        try:
            return _read(loads(self._line.ask(None, PATH)), self._name)
        except Unheard as error:
            raise InstanceUnreachable(f"{self._name}: {error}") from None
        except Unreadable as error:
            raise InstanceUnreachable(_no_fleet(self._name, error)) from None


def _read(raw: Any, name: str) -> Fleet:
    try:
        return read(Fleet, raw)
    except Unreadable as error:
        raise InstanceUnreachable(_no_fleet(name, error)) from None


def _no_fleet(name: str, error: Unreadable) -> str:
    return f"{name} tells no fleet that is understood here: {error}"
