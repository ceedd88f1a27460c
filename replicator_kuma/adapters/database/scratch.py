"""An empty database of an instance's own schema, for a drill: it goes when the drill ends.

The instance's own database is only read: its tables' definitions, and the rows that say which
migrations they have seen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from replicator_kuma.adapters.database import Store
from replicator_kuma.adapters.database.sqlite import scratch as sqlite_scratch
from replicator_kuma.adapters.database.sqlite.store import SqliteStore


@contextlib.contextmanager
def scratch(store: Store, data_dir: Path) -> Iterator[Store]:
    """A scratch database for the block; ``data_dir`` is the data directory that it belongs to.

    SQLite: kuma.db in ``data_dir``, which its caller removes. MariaDB: a database of its own on
    the same server, dropped after the block. Raises DatabaseErrors, SettingsError.
    """
    if isinstance(store, SqliteStore):
        yield sqlite_scratch.scratch(store, data_dir)
        return
    if store.engine != "mariadb":
        with store.read():  # says what is wrong with it
            raise AssertionError(f"no scratch database for {store.engine}")
    from replicator_kuma.adapters.database.mariadb import scratch as mariadb_scratch

    with mariadb_scratch.scratch(store) as made:
        yield made


def forget(store: Store) -> None:
    """Drop what a killed drill left outside its folder; raises DatabaseError."""
    if store.engine == "mariadb":
        from replicator_kuma.adapters.database.mariadb import scratch as mariadb_scratch

        mariadb_scratch.forget(store)


def newest_beat(store: Store) -> int | None:
    """The highest id of a heartbeat of an active monitor, 0 for none yet; None: none is active.

    Kuma gives ids in order, so that a newer beat has a higher one, whatever the clocks say.
    Raises DatabaseError.
    """
    with store.read() as reader:
        if not reader.query("SELECT id FROM monitor WHERE active = 1 LIMIT 1"):
            return None
        found = reader.query(
            "SELECT max(h.id) FROM heartbeat h JOIN monitor m ON m.id = h.monitor_id "
            "WHERE m.active = 1"
        )
    return int(found[0][0] or 0)
