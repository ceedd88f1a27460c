"""Takes a table's lines from an earlier dump of the same database, where its pages are the same.

Beside that dump's folder is a file (`notes_of`) that says which leaf of a table had which bytes,
and where in the dump its lines are. It is a cache, and nothing trusts it. The file has its SHA-256
in it. Of the dump's lines those are used whose SHA-256 is the one that was noted. The digest of a
new dump is made of all its lines, wherever they come from.

A line depends on more than on its row. All of that is in `Leaves.recipe`.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import json
import sqlite3
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from replicator_kuma import __version__
from replicator_kuma.adapters.database.sqlite.pages import HASH, Tree
from replicator_kuma.dump.files import create, open_regular
from replicator_kuma.dump.format import Lines, NotMade
from replicator_kuma.dump.manifest import TableEntry

_FORMAT = 1
_BLOCK = 1 << 18
"""Bytes of lines that are handed on at once."""
_MOST_NEW = 2
"""If one leaf of so many is new, all rows are read: that is no slower."""
_END = 2**63 - 1


@dataclass(frozen=True)
class Leaves:
    """One table of an earlier dump, leaf by leaf."""

    recipe: str
    """what else its lines depend on, but for its rows"""
    entry: TableEntry
    tree: Tree
    content: array[int]
    """where the lines of each leaf begin in the content file, and where the last one's end"""
    runtime: array[int]
    """the same in the runtime file; empty without one"""


class Old(NamedTuple):
    """The leaves from ``start`` to before ``end`` of the earlier dump: their rows are the same."""

    start: int
    end: int


class New(NamedTuple):
    """Leaves from ``start`` to before ``end`` of the new tree, whose rows have to be read."""

    start: int
    end: int


def steps(old: Tree, new: Tree) -> list[Old | New] | None:
    """What a table's lines are made of, in their order; None if too much is new."""
    count, most = len(new.rows), min(len(old.rows), len(new.rows))
    head = _alike(most, lambda n: old.hashes[: n * HASH] == new.hashes[: n * HASH])
    tail = _alike(
        most - head,
        lambda n: (
            old.hashes[len(old.hashes) - n * HASH :] == new.hashes[len(new.hashes) - n * HASH :]
        ),
    )
    found = list[Old | New]([Old(0, head)] if head else [])
    places = {old.hash(leaf): leaf for leaf in range(head, len(old.rows) - tail)}
    fresh, last = 0, head
    for leaf in range(head, count - tail):
        place, before = places.get(new.hash(leaf)), found[-1] if found else None
        if place is None:
            fresh += 1
            joined = before.start if isinstance(before, New) else leaf
            found[len(found) - isinstance(before, New) :] = [New(joined, leaf + 1)]
        elif place < last:
            return None  # two leaves with the same rows: no tree has that
        else:
            joined = before.start if isinstance(before, Old) and before.end == place else place
            found[len(found) - (joined != place) :] = [Old(joined, place + 1)]
            last = place + 1
    if tail:
        found.append(Old(len(old.rows) - tail, len(old.rows)))
    return None if fresh * _MOST_NEW > count else found


def _alike(most: int, same: Callable[[int], bool]) -> int:
    """The largest number up to ``most`` that is still the ``same``, as all below it are."""
    return bisect.bisect_left(range(1, most + 1), True, key=lambda number: not same(number))


def between(tree: Tree, new: New) -> tuple[int, int]:
    """The rowids of new leaves, both included."""
    last = tree.firsts[new.end] - 1 if new.end < len(tree.firsts) else _END
    return tree.firsts[new.start], last


def recipe(connection: sqlite3.Connection, table: str, sql: str) -> str:
    """What the lines of a table depend on, but for its rows; ``sql`` makes them."""
    (definition,) = connection.execute(
        "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)
    ).fetchone()
    parts = (_FORMAT, __version__, sqlite3.sqlite_version, definition, sql)
    return hashlib.sha256(json.dumps(parts).encode(errors="surrogateescape")).hexdigest()


def by_rowid(connection: sqlite3.Connection, table: str) -> bool:
    """Whether the column `id` is the rowid: then the order of leaves is that of the lines."""
    columns = connection.execute("SELECT name, pk FROM pragma_table_info(?)", (table,)).fetchall()
    origins = connection.execute("SELECT origin FROM pragma_index_list(?)", (table,)).fetchall()
    return [name for name, key in columns if key] == ["id"] and ("pk",) not in origins


def lines(
    folder: Path,
    table: str,
    old: Leaves,
    wanted: Sequence[Old | New],
    rows: Callable[[New], Iterator[Lines]],
) -> Iterator[Lines]:
    """A table's lines from the dump in ``folder``, and those that ``rows`` reads.

    The iterator ends with NotMade if the dump's lines are not those that were noted.
    """
    with ExitStack() as stack:
        content = _Kept(folder / "tables" / f"{table}.jsonl", old.content, stack)
        runtime = None
        if old.entry.runtime:
            runtime = _Kept(folder / "runtime" / f"{table}.jsonl", old.runtime, stack)
        for step in wanted:
            if isinstance(step, New):
                yield from rows(step)
                continue
            at = step.start
            while at < step.end:
                end = _block(old, at, step.end)
                yield Lines(
                    sum(old.tree.rows[at:end]),
                    content.lines(at, end),
                    runtime.lines(at, end) if runtime else b"",
                )
                at = end
        if content.digest() != old.entry.sha256 or (
            runtime and runtime.digest() != old.entry.runtime
        ):
            raise NotMade


def _block(old: Leaves, at: int, most: int) -> int:
    """The end of the next leaves that are handed on together."""
    end = at + 1
    while end < most and old.content[end + 1] - old.content[at] <= _BLOCK:
        end += 1
    return end


class _Kept:
    """A file of the earlier dump, read once from its begin to its end."""

    def __init__(self, path: Path, places: array[int], stack: ExitStack) -> None:
        try:
            file = open_regular(path)
        except OSError as error:
            raise NotMade from error
        if file is None:
            raise NotMade
        self._file: BinaryIO = stack.enter_context(file)
        self._places, self._at = places, 0
        self._hash = hashlib.sha256()

    def lines(self, start: int, end: int) -> bytes:
        self._pass(self._places[start])
        return self._read(self._places[end] - self._places[start])

    def digest(self) -> str:
        """SHA-256 over the whole file."""
        while self._read(_BLOCK):
            pass
        return self._hash.hexdigest()

    def _pass(self, place: int) -> None:
        while self._at < place:
            if not self._read(min(_BLOCK, place - self._at)):
                raise NotMade

    def _read(self, size: int) -> bytes:
        try:
            found = self._file.read(size)
        except OSError as error:
            raise NotMade from error
        self._hash.update(found)
        self._at += len(found)
        return found


def noted(
    folder: Path, table: str, entry: TableEntry, tree: Tree, made_by: str, old: Leaves | None
) -> Leaves | None:
    """A table of the dump in ``folder``, which was made of this tree's rows. Raises OSError.

    ``old``: the same table in the earlier dump. The lines of leaves that are there too are not
    counted again.
    """
    if sum(tree.rows) != entry.rows:
        return None
    parts = steps(old.tree, tree) if old and old.recipe == made_by else None
    if old is None or parts is None or bool(old.runtime) != bool(entry.runtime):
        old, parts = None, [New(0, len(tree.rows))]
    found = []
    for kind, there in (("tables", True), ("runtime", bool(entry.runtime))):
        places = array("Q")
        if there:
            before = (
                array("Q") if old is None else getattr(old, "content" if kind == "tables" else kind)
            )
            places = _places(folder / kind / f"{table}.jsonl", tree.rows, before, parts)
        found.append(places)
    return Leaves(made_by, entry, tree, *found)


def _places(
    path: Path, rows: Sequence[int], old: array[int], parts: Sequence[Old | New]
) -> array[int]:
    """Where each leaf's lines begin, and where the last one's end. Raises OSError."""
    places = array("Q")
    with path.open("rb") as file:
        at = len(file.readline())  # that of the columns
        for part in parts:
            if isinstance(part, Old):
                moved = at - old[part.start]
                kept = old[part.start : part.end]
                places += array("Q", (place + moved for place in kept)) if moved else kept
                at = old[part.end] + moved
                continue
            file.seek(at)
            counts = rows[part.start : part.end]
            sizes = map(len, itertools.islice(file, sum(counts)))
            ends = array("Q", itertools.accumulate(sizes, initial=at))
            places += array("Q", (ends[n] for n in itertools.accumulate(counts[:-1], initial=0)))
            at = ends[-1]
    places.append(at)
    return places


def write(path: Path, tables: Mapping[str, Leaves]) -> None:
    """Write the file of a dump's leaves, a new one. Raises OSError."""
    names, parts = dict[str, Any](), list[bytes]()
    for name, leaves in tables.items():
        tree, entry = leaves.tree, leaves.entry
        names[name] = [leaves.recipe, entry.rows, entry.sha256, entry.runtime, len(tree.rows)]
        parts.append(tree.hashes)
        parts += (a.tobytes() for a in (tree.firsts, tree.rows, leaves.content, leaves.runtime))
    text = b"%b\n%b" % (json.dumps(names).encode(), b"".join(parts))
    with create(path) as file:
        file.write(hashlib.sha256(text).digest())
        file.write(text)


def read(path: Path) -> dict[str, Leaves]:
    """What `write` wrote; nothing if it is not there, or damaged."""
    with suppress(OSError):
        file = open_regular(path)
        if file is not None:
            with file:
                digest, text = file.read(HASH), file.read()
            if hashlib.sha256(text).digest() == digest:
                return dict(_parsed(text))
    return {}


def _parsed(text: bytes) -> Iterator[tuple[str, Leaves]]:
    head, _, rest = text.partition(b"\n")
    at = 0

    def numbers(kind: str, count: int) -> array[int]:
        nonlocal at
        made = array(kind)
        made.frombytes(rest[at : (at := at + count * made.itemsize)])
        return made

    for name, (made_by, rows, sha256, runtime, count) in json.loads(head).items():
        hashes = rest[at : at + count * HASH]
        at += count * HASH
        tree = Tree(hashes, numbers("q", count), numbers("q", count))
        content = numbers("Q", count + 1)
        lies = numbers("Q", count + 1 if runtime else 0)
        yield name, Leaves(made_by, TableEntry(rows, sha256, runtime), tree, content, lies)
