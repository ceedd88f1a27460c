"""Which database an instance has, as Kuma itself decides it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType

from replicator_kuma.adapters.database import Store
from replicator_kuma.adapters.database.db_config import read_login
from replicator_kuma.base.errors import SettingsError
from replicator_kuma.dump.catalog import SETTINGS


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
