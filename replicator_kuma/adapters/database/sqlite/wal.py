"""Tells which pages of a database were written, by the frame headers of its write-ahead log.

A frame is a page with a header of 24 bytes: page number, size of the database (after a commit),
two salts, two checksums over all frames so far (https://www.sqlite.org/walformat.html).

Only kuma.db-wal is opened here. It carries no locks: to close any descriptor of kuma.db or of
kuma.db-shm would drop the locks that SQLite holds in this process.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from replicator_kuma.base.errors import DatabaseError
from replicator_kuma.base.folders import Folder

_HEADER, _FRAME = 32, 24
_VERSION = 40
"""Where the first page of a database holds the number of the schema's version."""
SETTLE_NS = 2_000_000_000
"""A file changed within the last two seconds can change again without a new time stamp."""

Log = tuple[bytes, ...]
"""The headers of a log's frames. The salts in them change each time that the log begins anew."""


def read_log(database: Path) -> Log:
    """The log beside a database file; one without frames if there is no log.

    Raises DatabaseError.
    """
    with contextlib.closing(Tail(database)) as tail:
        return tail.log()


def _frames(file: int, header: bytes, start: int = 0) -> list[bytes]:
    """The headers of a log's frames from a number on, committed or not; ``header`` is the log's."""
    step, salts = _step(header), header[16:24]
    frames, place = list[bytes](), _HEADER + start * step
    while len(frame := os.pread(file, _FRAME, place)) == _FRAME and frame[8:16] == salts:
        frames.append(frame)
        place += step
    return frames


def _step(header: bytes) -> int:
    return _FRAME + int.from_bytes(header[8:12])


def _committed(frames: Sequence[bytes]) -> int:
    """How many frames belong to transactions that were committed."""
    marks = (n for n in range(len(frames), 0, -1) if any(frames[n - 1][4:8]))
    return next(marks, 0)


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


@dataclass(frozen=True)
class News:
    """What was committed since the last look."""

    pages: frozenset[int] = frozenset()
    version: int | None = None
    """the version of the schema, if the first page is among them"""


@dataclass(frozen=True)
class _Place:
    """Up to where a log has been read."""

    database: tuple[int, ...]
    """device, inode, size and times of the database's file"""
    settled: bool
    """a later write to that file changes its times"""
    log: tuple[int, int] | None
    """device and inode of the log's file"""
    header: bytes
    """the log's; empty without one"""
    frames: int
    """the number of those up to the last commit"""
    last: bytes
    """the header of the last of these"""


class Tail:
    """Follows the log of one database, and reads only what is new in it."""

    def __init__(self, database: Path) -> None:
        """``database``: the file itself, or a link to it."""
        self._database = database
        self._file: BufferedReader | None = None
        self._at: _Place | None = None

    def close(self) -> None:
        """Close the log; the next look goes on where this one was."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def log(self) -> Log:
        """All frames that are there. Raises DatabaseError."""
        file = self._opened()
        header = b"" if file is None else os.pread(file, _HEADER, 0)
        return tuple(_frames(file, header)) if file and len(header) == _HEADER else ()

    def news(self) -> News | None:
        """What was committed since the last call; None if that cannot be told.

        The rows of a transaction can be read a moment after it shows here. Raises DatabaseError.
        """
        before, self._at = self._at, None
        file = self._opened()
        header = b"" if file is None else os.pread(file, _HEADER, 0)
        if file is None or len(header) < _HEADER:
            now = self._place(file, b"", 0, b"")
            calm = before is not None and not before.header and _untouched(before, now)
            return News() if calm else None
        log = _identity(os.fstat(file))
        same = before is not None and (before.log, before.header) == (log, header)
        start, last = (before.frames, before.last) if before is not None and same else (0, b"")
        # the former log's: before the new frames, which are written over them
        old = [] if before is None or same else _frames(file, before.header, before.frames)
        new = _frames(file, header, start)
        done = _committed(new)
        now = self._place(file, header, start + done, new[done - 1] if done else last)
        if before is None or not _whole(file, before, now, len(new)):
            return None
        version = _version(file, header, start, new[:done])
        if version is None:
            version = _version(file, before.header, before.frames, old)
        pages = (int.from_bytes(frame[:4]) for frame in (*old, *new[:done]))
        return News(frozenset(pages), version)

    def _opened(self) -> int | None:
        """The descriptor of the log; None if there is none. Raises DatabaseError."""
        database = Path(os.path.realpath(self._database))
        name = f"{database.name}-wal"
        try:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                found = _identity((database.parent / name).lstat())
                if self._file is not None and _identity(os.fstat(self._file.fileno())) == found:
                    return self._file.fileno()
            self.close()
            with Folder.open(database.parent) as folder:
                self._file = folder.open_regular(name)
        except FileNotFoundError:
            return None  # the folder is gone
        except OSError as error:
            raise DatabaseError(f"cannot read {database}-wal: {error.strerror}") from error
        return None if self._file is None else self._file.fileno()

    def _place(self, log: int | None, header: bytes, frames: int, last: bytes) -> _Place:
        """Note up to where it was read. The database's file is looked at after its log."""
        database, changed = tuple[int, ...](), 0
        with contextlib.suppress(OSError):  # it is gone: the same until it is there again
            found = self._database.stat()
            times = (found.st_mtime_ns, found.st_ctime_ns)
            database, changed = (*_identity(found), found.st_size, *times), max(times)
        self._at = _Place(
            database,
            abs(time.time_ns() - changed) >= SETTLE_NS,
            None if log is None else _identity(os.fstat(log)),
            header,
            frames,
            last,
        )
        return self._at


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _whole(file: int, before: _Place, now: _Place, new: int) -> bool:
    """Whether all is known that was committed between two looks; ``new``: frames in this log."""
    if before.database[:2] != now.database[:2]:
        return False
    if not before.header:
        return _untouched(before, now)
    if before.log != now.log or not _stands(file, before):
        return False
    if before.header == now.header:
        return True
    # the log began anew: the unseen frames of the former one lie behind those that we know
    return _next(before.header) == now.header[16:20] and new < before.frames


def _untouched(before: _Place, now: _Place) -> bool:
    """Whether no log was copied into the database: so none came and went between two looks."""
    return before.settled and before.database == now.database


def _stands(file: int, before: _Place) -> bool:
    """Whether the last frame that we know is still in its place: nothing was cut or overwritten.

    The checksums in its header are over all frames up to it.
    """
    if not before.frames:
        return before.header == os.pread(file, _HEADER, 0)
    place = _HEADER + (before.frames - 1) * _step(before.header)
    return os.pread(file, _FRAME, place) == before.last


def _next(header: bytes) -> bytes:
    """The first salt of the log that follows this one in the same file."""
    return ((int.from_bytes(header[16:20]) + 1) & 0xFFFFFFFF).to_bytes(4)


def _version(file: int, header: bytes, start: int, frames: Sequence[bytes]) -> int | None:
    """The version of the schema in the newest frame that holds the first page."""
    numbers = range(len(frames) - 1, -1, -1)
    first = next((n for n in numbers if int.from_bytes(frames[n][:4]) == 1), None)
    if first is None:
        return None
    place = _HEADER + (start + first) * _step(header) + _FRAME + _VERSION
    return int.from_bytes(os.pread(file, 4, place))
