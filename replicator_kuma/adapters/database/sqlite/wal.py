"""Tells which pages of a database were written, by the frame headers of its write-ahead log.

A frame is a page with a header of 24 bytes: page number, size of the database (after a commit),
two salts, two checksums over all frames so far (https://www.sqlite.org/walformat.html).

Only kuma.db-wal is opened here. It carries no locks: to close any descriptor of kuma.db or of
kuma.db-shm would drop the locks that SQLite holds in this process.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Collection
from pathlib import Path

from replicator_kuma.base.errors import DatabaseError
from replicator_kuma.base.folders import Folder

_HEADER, _FRAME = 32, 24

Log = tuple[bytes, ...]
"""The headers of a log's frames. The salts in them change each time that the log begins anew."""


def read_log(database: Path) -> Log:
    """The log beside a database file; one without frames if there is no log.

    Raises DatabaseError.
    """
    name = f"{database.name}-wal"
    try:
        with Folder.open(database.parent) as folder:
            file = folder.open_regular(name)
        if file is None:
            return ()
        with file:
            return _read(file.fileno())
    except OSError as error:
        raise DatabaseError(f"cannot read {database}-wal: {error.strerror}") from error


def _read(file: int) -> Log:
    header = os.pread(file, _HEADER, 0)
    if len(header) < _HEADER:
        return ()
    step, salts = _FRAME + int.from_bytes(header[8:12]), header[16:24]
    frames, place = list[bytes](), _HEADER
    while len(frame := os.pread(file, _FRAME, place)) == _FRAME and frame[8:16] == salts:
        frames.append(frame)
        place += step
    return tuple(frames)


def pages_since(before: Log, now: Log) -> set[int]:
    """The numbers of the pages that were written into a log since it was read before.

    All frames are compared, not only those after the last one: a frame that was written and never
    committed (a crash, a full disk) is overwritten by the next writer. The checksums make headers
    differ where anything in a frame or before it differs.

    Of a log that began anew all frames count. What was in the former one is not told: see
    `SqliteStore.write`, whose open read keeps that from mattering.
    """
    known = itertools.chain(before, itertools.repeat(b""))
    new = (frame for old, frame in zip(known, now, strict=False) if old != frame)
    return {int.from_bytes(frame[:4]) for frame in new}


def pages_of(connection: sqlite3.Connection, tables: Collection[str]) -> dict[int, str] | None:
    """The pages of tables and their indexes, by number; None if this SQLite cannot tell.

    A page joins a tree only if another page of that tree is written: its parent, or the page before
    it in a chain. Raises sqlite3.DatabaseError.
    """
    trees = connection.execute("SELECT name, tbl_name FROM sqlite_master WHERE rootpage").fetchall()
    found = dict[int, str]()
    try:
        for name, table in trees:
            if table in tables:  # one tree a statement: else dbstat reads the whole database
                sql = "SELECT pageno FROM dbstat WHERE name = ?"
                found.update((page, table) for (page,) in connection.execute(sql, (name,)))
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname != "SQLITE_ERROR":
            raise
        return None  # compiled without SQLITE_ENABLE_DBSTAT_VTAB
    return found
