"""What a reader's tables look like page by page: hashes that prove which rows are as they were.

SQLite keeps a table's rows in pages. Pages with the same bytes hold the same rows. So a dump of
another instant needs to read only the rows of leaves with another hash; a table whose leaves are
all the same need not be read at all. To hash pages takes a tenth of the time that reading takes.

`page_reader.py` reads them, in a process of its own. Where it cannot tell what a transaction sees
(no log, another user's files, a writer without a pause), nothing is proved and all is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import sqlite3
import struct
import subprocess
import sys
from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from replicator_kuma.adapters.database.sqlite import page_reader
from replicator_kuma.adapters.database.sqlite.page_reader import HEADER, NO_ROW
from replicator_kuma.base import core_dumps

LEAST_BYTES = 4 << 20
"""The size of a database that is worth a process: a smaller one is read as fast."""
LEAST_PAGES = 128
"""The size of a table that is worth to be remembered."""
_TRIES = 4
HASH = 32
"""Bytes of a SHA-256."""


@dataclass(frozen=True)
class Tree:
    """The leaves of one table at one instant, in the order of its rows."""

    hashes: bytes
    """SHA-256 of each leaf and its overflow pages, HASH bytes for each leaf"""
    firsts: array[int]
    """the first rowid of each leaf; all later rows up to the next leaf's first are in it"""
    rows: array[int]
    """the number of rows in each leaf"""

    @property
    def as_one(self) -> Tree:
        """The same as a single leaf: for a table whose lines are not in the order of its rowids."""
        whole = hashlib.sha256(self.hashes).digest()
        return Tree(whole, self.firsts[:1], array("q", [sum(self.rows)]))

    def hash(self, leaf: int) -> bytes:
        return self.hashes[leaf * HASH : (leaf + 1) * HASH]


class Pages:
    """The process that reads pages of one database; `ended` ends it."""

    def __init__(self, database: Path) -> None:
        """``database``: the real file. Raises OSError."""
        found = database.stat()
        self._identity = found.st_dev, found.st_ino
        self._database = database
        with core_dumps.forbidden():  # it reads secrets
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", page_reader.__file__),
                    *(os.fsencode(database), str(found.st_dev), str(found.st_ino)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={},
                start_new_session=True,
            )

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._process.communicate()

    def opened(
        self, readable: Callable[[], sqlite3.Connection]
    ) -> tuple[sqlite3.Connection, bytes]:
        """A connection in a read transaction, and the header of the wal-index that it began with.

        The header is empty if that cannot be proved. Raises what ``readable`` raises.
        """
        before = self._header()
        for last in range(1 - _TRIES, 1):
            connection = readable()
            after = self._header()
            # It counts up with each commit. So the transaction began with the one seen before it
            # and after it.
            if after == before or last == 0:
                break
            before = after
            connection.close()
        proved = after == before and any(after) and self._in_place()
        return connection, after if proved else b""

    def _in_place(self) -> bool:
        """Whether SQLite uses the wal-index that was read: else it makes its own in memory."""
        try:
            found = self._database.stat()
        except OSError:
            return False
        writable = os.access(f"{self._database}-shm", os.R_OK | os.W_OK)
        return writable and (found.st_dev, found.st_ino) == self._identity

    def trees(
        self, connection: sqlite3.Connection, header: bytes, tables: Collection[str]
    ) -> dict[str, Tree]:
        """The trees of large tables with rowids, as a transaction sees them (`opened`).

        Raises sqlite3.DatabaseError.
        """
        layouts = {name: layout for name in tables if (layout := _layout(connection, name))}
        pages = array("I")
        for layout in layouts.values():
            pages += layout.pages
        request = b"P" + header + struct.pack("=I", len(pages)) + pages.tobytes()
        if self._asked(request, 1) != b"\1":
            return {}
        hashes, firsts = self._rest(len(pages) * HASH), array("q")
        numbers = self._rest(len(pages) * firsts.itemsize)
        if len(numbers) < len(pages) * firsts.itemsize:
            return {}
        firsts.frombytes(numbers)
        at, trees = 0, dict[str, Tree]()
        for name, layout in layouts.items():
            end = at + len(layout.pages)
            if tree := layout.tree(hashes[at * HASH : end * HASH], firsts[at:end]):
                trees[name] = tree
            at = end
        return trees

    def _header(self) -> bytes:
        return self._asked(b"H", HEADER)

    def _asked(self, request: bytes, answer: int) -> bytes:
        """The first bytes of the answer; fewer if the process has ended."""
        asks: IO[bytes] | None = self._process.stdin
        with contextlib.suppress(OSError):
            assert asks is not None
            asks.write(request)
            asks.flush()
            return self._rest(answer)
        return b""

    def _rest(self, size: int) -> bytes:
        answers: IO[bytes] | None = self._process.stdout
        assert answers is not None
        return answers.read(size)


class _Layout(NamedTuple):
    """Which pages hold a table's rows: each leaf, followed by its overflow pages."""

    pages: array[int]
    leaves: Sequence[int]
    """where the leaves are in ``pages``"""
    rows: array[int]

    def tree(self, hashes: bytes, firsts: array[int]) -> Tree | None:
        """``hashes``, ``firsts``: of each page. None for a table without rowids."""
        if len(self.leaves) < len(self.pages):
            firsts = array("q", (firsts[place] for place in self.leaves))
            ends = (*self.leaves[1:], len(self.pages))
            parts = (hashes[a * HASH : b * HASH] for a, b in zip(self.leaves, ends, strict=True))
            hashes = b"".join(p if len(p) == HASH else hashlib.sha256(p).digest() for p in parts)
        ordered = list(firsts) == sorted(set(firsts)) and NO_ROW not in firsts
        return Tree(hashes, firsts, self.rows) if ordered else None


def _layout(connection: sqlite3.Connection, table: str) -> _Layout | None:
    """None for a small table, and where this SQLite has no dbstat."""
    sql = "SELECT pageno, ncell, pagetype = 'leaf' FROM dbstat WHERE name = ? AND pagetype <> ?"
    try:
        found = connection.execute(sql, (table, "internal")).fetchall()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname != "SQLITE_ERROR":
            raise
        return None  # compiled without SQLITE_ENABLE_DBSTAT_VTAB
    if len(found) < LEAST_PAGES:
        return None
    # dbstat walks through the tree: a leaf's overflow pages come right after it
    pages, cells, kinds = zip(*found, strict=True)
    leaves = list(itertools.compress(range(len(kinds)), kinds))
    rows = array("q", itertools.compress(cells, kinds))
    return _Layout(array("I", pages), leaves, rows) if leaves and leaves[0] == 0 else None


@contextlib.contextmanager
def ended(pages: Pages) -> Iterator[Pages]:
    """End the process after the block."""
    try:
        yield pages
    finally:
        pages.close()
