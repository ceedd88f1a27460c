"""Kuma's database where nobody can tell which it is: each question gives the reason."""

from __future__ import annotations

from typing import Any, NoReturn

from replicator_kuma.base.errors import ReplicatorError
from replicator_kuma.dump.transform.represent import Representation


class UnknownStore:
    """A store that raises what stood in the way of a real one."""

    engine = "unknown"
    embedded = shows_processes = lenient = False
    outlives_us = True

    def __init__(self, error: ReplicatorError) -> None:
        self._error = error

    def _fail(self, *_arguments: Any, **_named: Any) -> NoReturn:
        raise self._error

    choosing = read = write = exists = in_use = holders = check = check_writable = _fail
    fingerprint = purge_history = obstacles = rehearsal = scratch = forget_scratch = quieten = _fail

    @property
    def representation(self) -> Representation:
        self._fail()
