"""Which database an instance has, as Kuma itself decides it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from replicator_kuma.adapters.database import Store
from replicator_kuma.adapters.database.db_config import read_login
from replicator_kuma.base.errors import ReplicatorError, SettingsError
from replicator_kuma.dump.catalog import SETTINGS
from replicator_kuma.dump.transform.represent import Representation


def open_store(
    data_dir: Path,
    environ: Mapping[str, str] = MappingProxyType({}),
    settings: Collection[str] = SETTINGS,
) -> Store:
    """The store of Kuma's database; nothing is connected or opened yet.

    ``environ`` is Kuma's environment (its UPTIME_KUMA_DB_* are read), ``settings`` are the keys of
    `setting` to replicate. Raises SettingsError, DatabaseError (see `read_login`).
    """
    login = read_login(data_dir, environ)
    if login is None:
        from replicator_kuma.adapters.database.sqlite.store import SqliteStore

        return SqliteStore(data_dir, frozenset(settings))
    try:
        from replicator_kuma.adapters.database.mariadb.store import MariadbStore
    except ModuleNotFoundError as error:
        if error.name != "pymysql":
            raise
        raise SettingsError(
            "Kuma uses MariaDB here, and the Python package PyMySQL is not installed",
            hint='Try: pip install "replicator-kuma[mariadb]", in a clone pip install ".[mariadb]"',
        ) from None
    return MariadbStore(login, frozenset(settings))


class UnknownStore:
    """Where nobody can tell which database it is: each question gives the reason."""

    engine = "unknown"
    embedded = shows_processes = lenient = streamable = False
    outlives_us = True

    def __init__(self, error: ReplicatorError) -> None:
        self._error = error

    def _fail(self, *_arguments: Any, **_named: Any) -> NoReturn:
        raise self._error

    choosing = read = write = exists = in_use = holders = check = check_writable = watch = _fail
    beats = _fail
    fingerprint = purge_history = obstacles = rehearsal = scratch = forget_scratch = quieten = _fail

    @property
    def representation(self) -> Representation:
        self._fail()
