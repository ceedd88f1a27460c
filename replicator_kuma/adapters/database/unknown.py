"""Kuma's database where nobody can tell which it is: each question gives the reason."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import NoReturn

from replicator_kuma.adapters.database import Reader, Store, Writer
from replicator_kuma.adapters.database.holders import Holder
from replicator_kuma.base.errors import ReplicatorError
from replicator_kuma.dump.transform.represent import Representation


class UnknownStore:
    """A store that raises what stood in the way of a real one."""

    engine = "unknown"
    embedded = False

    def __init__(self, error: ReplicatorError) -> None:
        self._error = error

    def _fail(self) -> NoReturn:
        raise self._error

    @property
    def representation(self) -> Representation:
        self._fail()

    def choosing(self, settings: Collection[str]) -> Store:
        self._fail()

    def read(self) -> AbstractContextManager[Reader]:
        self._fail()

    def write(self) -> AbstractContextManager[Writer]:
        self._fail()

    def exists(self) -> bool:
        self._fail()

    def in_use(self) -> bool:
        self._fail()

    def holders(self) -> tuple[Holder, ...]:
        self._fail()

    def check(self, tables: Collection[str] | None = None) -> Sequence[str]:
        self._fail()

    def check_writable(self) -> None:
        self._fail()

    def fingerprint(self) -> str:
        self._fail()

    def purge_history(self) -> int:
        self._fail()
