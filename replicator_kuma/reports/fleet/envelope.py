"""What goes between two peers: a document whole, or what has changed in it since a version.

Each process counts the versions of its own document. An envelope says which version of the other's
document its sender has (`known`), and the other sends what is newer than that. Values are absolute
and versions are checked, so that a lost, repeated or late envelope does no harm. When a monitor was
last checked goes with the monitor only, and is no change by itself: nobody judges by it, and it
would be nearly all that is sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from operator import attrgetter, le
from typing import Any

from replicator_kuma.reports.document import as_json
from replicator_kuma.reports.fleet.documents import Monitor, Monitors
from replicator_kuma.reports.fleet.reading import Unreadable, loads, read


@dataclass(frozen=True)
class Known:
    """The version of a process's document that somebody has."""

    process: str
    version: int


@dataclass(frozen=True)
class Envelope:
    """What one side sends. Without ``document`` it says only who sends it, and what it has."""

    process: str
    """random, for each process: tells two that claim one name from one that was restarted"""
    instance: str
    fleet: str
    version: int
    """of its document now; 0: it sends none"""
    known: Known | None = None
    """what it has of the receiver's document; null: send it whole"""
    base: int | None = None
    """the version that ``document`` is a change of; null: it is whole"""
    document: Monitors | None = None
    """whole, or with those monitors only that have changed"""
    refused: str | None = None
    """why the sender does not use what the receiver sends"""

    @classmethod
    def of(cls, body: bytes) -> Envelope:
        """The envelope in a body of JSON. Raises Unreadable."""
        found = read(cls, loads(body))
        lengths = (len(found.instance), len(found.fleet), len(found.process))
        if not all(map(le, (1, 1, 8), lengths)) or not all(map(le, lengths, (128, 64, 64))):
            raise Unreadable("it names no instance")
        if found.document is not None and found.document.state == "silent":
            raise Unreadable("it calls itself silent")
        return found


class Ledger:
    """The versions of this instance's own document. The caller holds a lock around all calls."""

    def __init__(self) -> None:
        self.version = 0
        self.document: Monitors | None = None
        self._rest: dict[int, Any] = {}
        """of each monitor all but its heartbeat, in the document's order"""
        self._ordered_at = 0
        """the version that first had these monitors in this order"""
        self._changed: dict[int, int] = {}
        """by monitor, the version that changed more than its heartbeat"""
        self._changed_at = 0
        """the newest of them"""
        self._texts: dict[int | None, str] = {}

    def take(self, document: Monitors) -> bool:
        """Note the newest document; whether more has changed than times of heartbeats."""
        before, old = self.document, self._rest
        self.version += 1
        self.document = document
        if before is not None and before.monitors is document.monitors:
            self._texts.clear()
            return _head(before) != _head(document)
        same = {id(each) for each in before.monitors} if before is not None else set()
        self._rest = {
            each.id: old[each.id] if id(each) in same else _ALL_BUT_BEAT(each)
            for each in document.monitors
        }
        self._texts.clear()
        if before is None or list(old) != list(self._rest):
            self._ordered_at = self.version
            self._changed = dict.fromkeys(self._rest, self.version)
            self._changed_at = self.version
            return True
        news = _head(before) != _head(document)
        for earlier, monitor in zip(before.monitors, document.monitors, strict=True):
            if earlier is not monitor and old[monitor.id] != self._rest[monitor.id]:
                self._changed[monitor.id] = self._changed_at = self.version
                news = True
        return news

    def since(self, version: int | None) -> str:
        """Members of an envelope, as the inside of a JSON object, for who has this version."""
        if version is None or not self._ordered_at <= version <= self.version:
            version = None
        if version not in self._texts:
            self._texts[version] = _json(self._members(version))[1:-1]
        return self._texts[version]

    def _members(self, base: int | None) -> dict[str, Any]:
        assert self.document is not None
        if base is None:
            return {"version": self.version, "document": as_json(self.document)}
        if base == self.version:
            return {"version": self.version}
        # mostly nobody went up or down
        all_of_it = self.document.monitors if self._changed_at > base else ()
        changed = tuple(each for each in all_of_it if self._changed[each.id] > base)
        document = as_json(replace(self.document, monitors=changed))
        return {"version": self.version, "base": base, "document": document}


def written(envelope: Envelope, members: str) -> bytes:
    """An envelope as a body; ``members``: those of `Ledger.since`, or "" where it sends none."""
    head = {
        "process": envelope.process,
        "instance": envelope.instance,
        "fleet": envelope.fleet,
        "known": as_json(envelope.known),
        "refused": envelope.refused,
    }
    return f"{_json(head)[:-1]},{members}}}".encode()


NOTHING = '"version":0'
"""the members of an envelope that sends no document"""


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _head(document: Monitors) -> Monitors:
    return replace(document, monitors=(), beats_at=None)


Change = tuple[Monitor | None, Monitor]
"""a monitor before (None: it was not there) and now"""


class Copy:
    """What is known of another process's document. The caller holds a lock around all calls."""

    def __init__(self) -> None:
        self.process = ""
        self.version = 0
        self._document: Monitors | None = None
        self._places: Mapping[int, int] = {}
        """of its monitors in the document"""
        self._listed: tuple[int, ...] = ()

    @property
    def document(self) -> Monitors | None:
        """The newest document, whole."""
        return self._document

    @property
    def head(self) -> Monitors | None:
        """The document without its monitors and without when it was made."""
        return self._document and _head(self._document)

    @property
    def listed(self) -> Sequence[int]:
        """The document's monitors, in its order."""
        return self._listed

    def take(self, envelope: Envelope) -> tuple[Change, ...]:
        """Note what came; returns monitors that are new or changed by more than a heartbeat.

        Where it cannot be used, ``version`` is 0: the document is needed whole. Raises Unreadable.
        """
        if envelope.process != self.process:
            self.process, self.version = envelope.process, 0
        if envelope.document is None:
            if envelope.version != self.version:
                self.version = 0
            return ()
        if envelope.version < self.version:
            return ()  # a newer one has overtaken it
        if envelope.base is None:
            return self._whole(envelope, envelope.document)
        if not 0 < self.version >= envelope.base:
            self.version = 0
            return ()
        return self._change(envelope, envelope.document)

    def _whole(self, envelope: Envelope, document: Monitors) -> tuple[Change, ...]:
        places = {monitor.id: place for place, monitor in enumerate(document.monitors)}
        if len(places) != len(document.monitors):
            raise Unreadable("it has a monitor twice")
        before = {m.id: m for m in self._document.monitors} if self._document else {}
        changed = tuple(
            (old, new)
            for new in document.monitors
            if (old := before.get(new.id)) is None or _ALL_BUT_BEAT(old) != _ALL_BUT_BEAT(new)
        )
        self._places, self._listed, self._document = places, tuple(places), document
        self.version = envelope.version
        return changed

    def _change(self, envelope: Envelope, head: Monitors) -> tuple[Change, ...]:
        if self._document is None or any(m.id not in self._places for m in head.monitors):
            raise Unreadable("it changes a monitor that it never named")
        monitors = self._document.monitors
        changed = tuple((monitors[self._places[each.id]], each) for each in head.monitors)
        if changed:
            into = list(monitors)
            for each in head.monitors:
                into[self._places[each.id]] = each
            monitors = tuple(into)
        self._document = replace(head, monitors=monitors)
        self.version = envelope.version
        return changed


_ALL_BUT_BEAT = attrgetter(*(f.name for f in fields(Monitor) if f.name != "beat_at"))
