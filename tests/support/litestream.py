"""Litestream's replicas in tests: the program of the virtual environment, stores in folders."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from replicator_kuma.adapters.litestream.place import Place, parse
from replicator_kuma.adapters.litestream.program import find
from replicator_kuma.adapters.litestream.restore import Replica
from replicator_kuma.base.state_directory import anchored
from replicator_kuma.config.child_environments import litestream_environment
from tests.adapters.repository.places import S3_KEY, S3_SECRET

OF_0_3 = Path(__file__).resolve().parents[1] / "old" / "litestream-0.3"
"""what Litestream 0.3.13 streamed: one table `t` with the row `of 0.3`"""
KEYS = {"AWS_ACCESS_KEY_ID": S3_KEY, "AWS_SECRET_ACCESS_KEY": S3_SECRET, "PATH": "/usr/bin:/bin"}


def replica(folder: Path, url: str, name: str = "one") -> Replica:
    """The replica of an instance whose data and state are in ``folder``.

    The state is anchored as `run` does it: the path of a socket has to be short.
    """
    above: Place = parse(url)
    for each in ("data", "state"):
        (folder / each).mkdir(parents=True, exist_ok=True)
    environment = litestream_environment(KEYS, above.kind)
    place, database = above.below("fleet", name), folder / "data" / "kuma.db"
    return Replica(find(), environment, place, above, database, anchored(folder / "state"))


def write(database: Path, *statements: str) -> None:
    """Commit statements, as Kuma does: in WAL mode."""
    with closing(sqlite3.connect(database, timeout=10)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def rows(database: Path, query: str = "SELECT x FROM t ORDER BY rowid") -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        return [row[0] for row in connection.execute(query)]
