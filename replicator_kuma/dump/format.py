"""A dump in a folder: writes one from a database, opens one that may come from an attacker.

    manifest.json              format, schema, engine, rows and SHA-256 of everything, digest
    tables/monitor.jsonl       first line the content columns, then one JSON array a row, by key
    runtime/monitor.jsonl      the runtime columns of the same rows in the same order
    files/upload/logo3.png

The digest covers tables/ and files/ by their SHA-256. What must not count as a change (runtime
columns, ids of unkeyed rows) is in runtime/, outside the digest. Everything streams: memory does
not grow with the number of rows.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

from replicator_kuma.base.errors import RowFault, SnapshotRefused
from replicator_kuma.base.text import sized
from replicator_kuma.dump import values
from replicator_kuma.dump.catalog import FILE_COLUMNS, TABLES, files_of, is_file, left_behind
from replicator_kuma.dump.files import create, hash_file, open_regular
from replicator_kuma.dump.manifest import (
    FORMAT,
    MANIFEST,
    Manifest,
    TableEntry,
    parse_manifest,
    read_manifest,
)
from replicator_kuma.dump.row_names import describe_row
from replicator_kuma.dump.schema import Schema
from replicator_kuma.dump.select import Select, select

MAX_LINE = 32 * 1024**2
"""Bytes of one row: reading it takes about ten times as much memory."""
_MAX_NAMES = 64 * 1024
COLUMN = re.compile(r"[A-Za-z0-9_]{1,64}")
"""Column names go into messages, and an attacker may have written them."""
_BATCH_ROWS, _BATCH_BYTES = 64, 1 << 16
"""How many rows, and about how many bytes, are encoded at once: memory stays small."""

_BLOCK = 1 << 20


class Lines(NamedTuple):
    """Some rows of a table as canonical lines, each with its line end."""

    rows: int
    content: bytes
    runtime: bytes
    """without meaning where the table has no runtime columns"""


class NotMade(Exception):
    """A source cannot make the lines of a table, and says so after some of them."""


class Source(Protocol):
    """Where rows come from (a `database.Reader`)."""

    @property
    def schema(self) -> Schema: ...

    def rows(self, select: Select) -> Iterator[tuple[Any, ...]]: ...

    def lines(self, select: Select, *, faultless: bool) -> Iterator[Lines] | None:
        """The lines of `rows`, if the source makes them faster itself; the iterator may end early
        with NotMade.

        ``faultless``: None also where a row may be one that `audit.audited` refuses.
        """
        return None

    def known(self, select: Select) -> TableEntry | None:
        """What a table's lines come to, if the source can prove that without its rows."""
        return None


class _Sink:
    """Hashes what is written; keeps it in a file, which ``stack`` closes, if there is a path."""

    def __init__(self, path: Path | None, stack: ExitStack) -> None:
        self._hash = hashlib.sha256()
        self._file: BinaryIO | None = None
        if path is not None:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            self._file = stack.enter_context(create(path))

    def write(self, lines: bytes) -> None:
        self._hash.update(lines)
        if self._file is not None:
            self._file.write(lines)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


Audit = Callable[[Select, Iterator[tuple[Any, ...]]], Iterator[tuple[Any, ...]]]
"""Returns a table's rows unchanged; raises for a bad one."""


def write_tables(
    folder: Path | None, source: Source, tables: Iterable[str], audit: Audit | None = None
) -> tuple[dict[str, TableEntry], frozenset[str]]:
    """Write tables in canonical form below ``folder``; with None, only hash them.

    Returns the entries by table, and the names of the files that rows point to (also of those that
    no dump may hold, see `is_file`). ``audit`` sees every row. Raises what the source and the
    audit raise, RowFault for a row that is too long to be read again, and OSError.
    """
    entries: dict[str, TableEntry] = {}
    named: set[str] = set()
    for table in tables:
        chosen = select(source.schema, table)
        column = FILE_COLUMNS.get(table)
        naming = column in chosen.content
        if folder is None and audit is None and not naming and (entry := source.known(chosen)):
            entries[table] = entry
            continue
        # the rows that name files are looked at one by one
        lines = None if naming else source.lines(chosen, faultless=audit is not None)
        if lines is not None:
            try:
                entries[table] = _write_table(folder, chosen, lines)
                continue
            except NotMade:
                if folder is not None:
                    for kind in ("tables", "runtime"):
                        (folder / kind / f"{table}.jsonl").unlink(missing_ok=True)
        rows = source.rows(chosen)
        if audit is not None:
            rows = audit(chosen, rows)
        if naming:
            rows = _naming(rows, table, chosen.content.index(str(column)), named)
        entries[table] = _write_table(folder, chosen, _encoded(chosen, rows))
    return entries, frozenset(named)


def _naming(
    rows: Iterator[tuple[Any, ...]], table: str, index: int, named: set[str]
) -> Iterator[tuple[Any, ...]]:
    for row in rows:
        named.update(files_of(table, row[index]) or left_behind(table, row[index]))
        yield row


def _write_table(folder: Path | None, chosen: Select, lines: Iterable[Lines]) -> TableEntry:
    name, count = f"{chosen.table}.jsonl", 0
    with ExitStack() as stack:
        main = _Sink(folder and folder / "tables" / name, stack)
        main.write(values.encode_rows([chosen.content]))
        runtime = None
        if chosen.runtime:
            runtime = _Sink(folder and folder / "runtime" / name, stack)
            runtime.write(values.encode_rows([chosen.runtime]))
        for batch in lines:
            if max(len(batch.content), len(batch.runtime)) > MAX_LINE:
                _refuse_long(chosen, batch)
            count += batch.rows
            main.write(batch.content)
            if runtime is not None:
                runtime.write(batch.runtime)
        return TableEntry(count, main.hexdigest(), runtime.hexdigest() if runtime else "")


def _encoded(chosen: Select, rows: Iterator[tuple[Any, ...]]) -> Iterator[Lines]:
    split, size = len(chosen.content), 1
    if chosen.unkeyed:
        rows = _untied(rows, len(chosen.order), split)
    while batch := list(itertools.islice(rows, size)):
        content = values.encode_rows([row[:split] for row in batch] if chosen.runtime else batch)
        runtime = values.encode_rows([row[split:] for row in batch]) if chosen.runtime else b""
        length = len(content) + len(runtime)
        size = min(_BATCH_ROWS, 1 + _BATCH_BYTES * len(batch) // length)
        yield Lines(len(batch), content, runtime)


def _refuse_long(chosen: Select, batch: Lines) -> None:
    """Raise RowFault for the first row with a line that nobody would read again."""
    runtime = batch.runtime if chosen.runtime else b"[]\n" * batch.rows
    for lines in zip(batch.content.split(b"\n"), runtime.split(b"\n"), strict=True):
        if max(map(len, lines)) < MAX_LINE:
            continue
        row = tuple(itertools.chain(*map(values.decode, lines)))
        name = describe_row(chosen.table, chosen.columns, row)
        sizes = {c: len(v) for c, v in zip(chosen.columns, row, strict=True) if isinstance(v, str)}
        longest = max(sizes, key=lambda column: sizes[column], default="")
        raise RowFault(
            f"{name}: it has more than {sized(MAX_LINE)}, most of them in {longest}: no replica "
            "would take it"
        )


def _untied(rows: Iterator[tuple[Any, ...]], key: int, split: int) -> Iterator[tuple[Any, ...]]:
    """Sort rows with the same key by text, then id: the database returns them in any order."""

    def text(row: tuple[Any, ...]) -> tuple[bytes, int, bytes]:
        rest = values.encode(row[split:])
        return values.encode(row[:split]), len(rest), rest

    group: list[tuple[Any, ...]] = []
    for row in rows:
        if group and row[:key] != group[0][:key]:
            if len(group) > 1:
                group.sort(key=text)
            yield from group
            group = []
        group.append(row)
    yield from sorted(group, key=text)


def accepts(name: str) -> bool:
    """Whether a dump may hold a file of this name, relative to its folder."""
    if name == MANIFEST:
        return True
    kind, _, rest = name.partition("/")
    if kind in {"tables", "runtime"}:
        return rest.endswith(".jsonl") and rest.removesuffix(".jsonl") in TABLES
    return kind == "files" and is_file(rest)


@dataclass(frozen=True)
class Dump:
    """A complete dump in a folder."""

    folder: Path
    manifest: Manifest

    @classmethod
    def open(cls, folder: Path) -> Dump:
        """Read the manifest; raises SnapshotRefused if it is malformed or contradicts itself."""
        raw = read_manifest(folder / MANIFEST)
        found = raw.get("format")
        if type(found) is not int or found != FORMAT:
            raise SnapshotRefused(
                f"the snapshot has format {str(found)[:80]!r}, this version reads {FORMAT}",
                hint="Nothing was applied. Install the leader's version of replicator-kuma here.",
            )
        try:
            manifest = parse_manifest(raw)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SnapshotRefused(f"a malformed manifest: {repr(error)[:200]}") from error
        if raw.get("digest") != manifest.digest:
            raise SnapshotRefused("the snapshot's digest is not that of its tables and files")
        return cls(folder, manifest)

    @classmethod
    def whole(cls, folder: Path, digest: str, name: str) -> Dump:
        """Open and verify a fetched dump; raises SnapshotRefused. ``digest``: from its tags."""
        dump = cls.open(folder)
        if dump.manifest.digest != digest:
            raise SnapshotRefused(f"{name} holds another dump than its tags say")
        dump.verify()
        return dump

    def columns(self, table: str, kind: str = "tables") -> tuple[str, ...]:
        """The column names of a table's content (or ``runtime``) file."""
        with self._open(table, kind) as file:
            return _columns(file.readline(_MAX_NAMES))

    def lines(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """Yield a table's (content, runtime) lines without line ends; `[]` for no runtime."""
        with ExitStack() as stack:
            yield from self.reader(table, stack)

    def reader(self, table: str, stack: ExitStack) -> LineReader:
        """The same lines; ``stack`` closes the files."""
        main = stack.enter_context(self._open(table, "tables"))
        main.readline(MAX_LINE)
        runtime = None
        if self.manifest.tables[table].runtime:
            runtime = stack.enter_context(self._open(table, "runtime"))
            runtime.readline(MAX_LINE)
        return LineReader(main, runtime)

    def _open(self, table: str, kind: str) -> BinaryIO:
        file = open_regular(self.folder / kind / f"{table}.jsonl")
        if file is None:
            raise SnapshotRefused(f"the snapshot lacks {kind}/{table}.jsonl")
        return file

    def verify(self) -> None:
        """Compare everything with the manifest; raises SnapshotRefused for any difference.

        It checks names, numbers of lines and hashes, not whether each line is a valid row: the
        plan checks that, for the lines that differ.
        """
        try:
            self._verify_names()
            for table, entry in self.manifest.tables.items():
                self._verify_lines(table, "tables", entry.sha256, entry.rows)
                if entry.runtime:
                    self._verify_lines(table, "runtime", entry.runtime, entry.rows)
            for name, sha256 in self.manifest.files.items():
                if hash_file(self.folder / "files" / name) != sha256:
                    raise SnapshotRefused(f"the snapshot's {name} is not what its manifest says")
        except OSError as error:
            raise SnapshotRefused(f"the snapshot cannot be read: {error.strerror}") from error

    def _verify_names(self) -> None:
        names = {MANIFEST, *self.manifest.hashes}
        found = {
            str(path.relative_to(self.folder))
            for path in self.folder.rglob("*")
            if path.is_symlink() or not path.is_dir()
        }
        if odd := sorted(found ^ names):
            raise SnapshotRefused(
                f"the snapshot holds other files than its manifest says: {odd[:5]}"
            )

    def _verify_lines(self, table: str, kind: str, sha256: str, rows: int) -> None:
        hasher, count, begun = hashlib.sha256(), -1, 0
        with self._open(table, kind) as file:
            while block := file.read(min(_BLOCK, MAX_LINE)):
                hasher.update(block)
                count += block.count(b"\n")
                end = block.find(b"\n") + 1
                if begun + (end or len(block)) > MAX_LINE:
                    break
                begun = len(block) - block.rfind(b"\n") - 1 if end else begun + len(block)
        if hasher.hexdigest() != sha256 or count != rows or begun:
            raise SnapshotRefused(f"the snapshot's {kind}/{table} is not what its manifest says")


class LineReader:
    """See `Dump.lines`."""

    def __init__(self, main: BinaryIO, runtime: BinaryIO | None) -> None:
        self._main, self._runtime = main, runtime

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        if self._runtime is None:
            for line in self._main:
                yield line[:-1], b"[]"
            return
        for line, rest in zip(self._main, self._runtime, strict=True):
            yield line[:-1], rest[:-1]

    def skip_alike(self, other: LineReader) -> None:
        """Skip content lines that both have from here on, but for the last one; by blocks.

        The runtime lines of these rows are not compared.
        """
        places = self._main.tell(), other._main.tell()
        lines = size = read = found = 0
        while (block := self._main.read(_BLOCK)) and block == other._main.read(_BLOCK):
            end = block.rfind(b"\n", 0, max(0, block.rfind(b"\n"))) + 1  # before its last line
            if end:
                lines, size = found + block.count(b"\n", 0, end), read + end
            found += block.count(b"\n")
            read += len(block)
        for reader, place in zip((self, other), places, strict=True):
            reader._main.seek(place + size)
            if reader._runtime is not None:
                for _line in itertools.islice(reader._runtime, lines):
                    pass


def _columns(line: bytes) -> tuple[str, ...]:
    try:
        names = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise SnapshotRefused("a table has no line of column names") from error
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise SnapshotRefused("a table has no line of column names")
    if not all(map(COLUMN.fullmatch, names)):
        raise SnapshotRefused("a table names a column as no column of Kuma is named")
    if len(set(names)) != len(names):
        raise SnapshotRefused("a table names a column twice")
    return tuple(names)
