"""A dump that takes lines from an earlier one has the bytes of a dump that reads every row."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import subprocess
import sys
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from replicator_kuma.adapters.database import notes_of
from replicator_kuma.adapters.database.sql import SelectSql
from replicator_kuma.adapters.database.sqlite import lines, pages, remembered
from replicator_kuma.adapters.database.sqlite.pages import Pages, Tree
from replicator_kuma.adapters.database.sqlite.reader import SqliteReader
from replicator_kuma.adapters.database.sqlite.remembered import New, Old, between, steps
from replicator_kuma.adapters.database.sqlite.store import SqliteStore
from replicator_kuma.dump.audit import audited
from replicator_kuma.dump.catalog import TABLES
from replicator_kuma.dump.format import Lines, write_tables
from replicator_kuma.dump.manifest import TableEntry
from replicator_kuma.dump.select import select
from tests.support.databases import build, create
from tests.support.nasty import TEXTS
from tests.support.tiers import by_tier

Entries = dict[str, TableEntry]
MONITORS = 120


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small databases count as large ones."""
    monkeypatch.setattr(pages, "LEAST_BYTES", 0)
    monkeypatch.setattr(pages, "LEAST_PAGES", 2)


@pytest.fixture
def kuma(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A Kuma's connection to a database whose monitors fill some dozens of pages."""
    with _kuma(tmp_path) as connection:
        yield connection


@contextlib.contextmanager
def _kuma(folder: Path, **how: Any) -> Iterator[sqlite3.Connection]:
    create(folder / "kuma.db", wal=True, **how)
    build(folder / "kuma.db", monitors=MONITORS, wal=True)
    with closing(sqlite3.connect(folder / "kuma.db", isolation_level=None)) as connection:
        connection.execute("UPDATE monitor SET description = hex(randomblob(300))")
        yield connection


def prepared(reader: SqliteReader) -> SqliteReader:
    for table in reader.schema.require(TABLES):
        reader.dangling(select(reader.schema, table))
    return reader


def taken(folder: Path, reader: SqliteReader, *, strictly: bool = False) -> dict[str, bytes]:
    """The files of a dump by this reader, which it remembers."""
    folder.mkdir()
    tables = prepared(reader).schema.require(TABLES)
    entries, _named = write_tables(folder, reader, tables, audited if strictly else None)
    reader.remember(folder, entries)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.jsonl")}


class Dumps:
    """Dumps of one database, each made with the help of the one before."""

    def __init__(self, data: Path, folder: Path) -> None:
        self.store, self.folder, self.number = SqliteStore(data), folder, 0

    @property
    def last(self) -> Path:
        return self.folder / f"dump-{self.number}"

    def next(self, *, strictly: bool = False) -> dict[str, bytes]:
        earlier, self.number = self.last, self.number + 1
        with self.store.read(earlier) as reader:
            return taken(self.last, reader, strictly=strictly)

    def hashed(self) -> Entries:
        with self.store.read(self.last) as reader:
            return hashed(reader)

    def require_exact(self) -> None:
        """The next dump, and a hash, are those that need no earlier one."""
        with self.store.read() as reader:
            plain = taken(self.folder / f"plain-{self.number}", reader)
        with self.store.read() as reader:
            entries = hashed(reader)
        assert self.hashed() == entries
        assert self.next() == plain
        assert self.hashed() == entries


def hashed(reader: SqliteReader) -> Entries:
    prepared(reader)
    return write_tables(None, reader, reader.schema.require(TABLES))[0]


@pytest.fixture
def dumps(kuma: sqlite3.Connection, tmp_path: Path) -> Dumps:
    made = Dumps(tmp_path, tmp_path)
    made.next()
    return made


@contextlib.contextmanager
def counted() -> Iterator[Counter[str]]:
    """How many rows of which table SQLite makes lines of."""
    found, made = Counter[str](), lines.made_lines

    def passed_on(table: str, batches: Iterator[Lines]) -> Iterator[Lines]:
        for batch in batches:
            found[table] += batch.rows
            yield batch

    def count(connection: sqlite3.Connection, sql: SelectSql, **how: Any) -> Iterator[Lines] | None:
        batches = made(connection, sql, **how)
        return batches and passed_on(sql.select.table, batches)

    with mock.patch.object(lines, "made_lines", count):
        yield found


def _insert(kuma: sqlite3.Connection, chance: random.Random) -> None:
    kuma.execute(
        "INSERT INTO monitor (id, name, active, user_id, interval, type, weight, created_date) "
        "VALUES (?, ?, 1, 1, 60, 'http', 2000, '2026-01-01 00:00:00')",
        (chance.choice([None, *range(10**6, 10**6 + 50)]), chance.choice(TEXTS)),
    )


def _between(kuma: sqlite3.Connection, chance: random.Random) -> None:
    """Rows that are long, up to those that need pages of their own."""
    text = chance.choice("xé\x7f🏭") * chance.choice([1, 900, 5000, 70_000])
    which = chance.randrange(1, MONITORS)
    kuma.execute("UPDATE monitor SET description = ? WHERE id >= ? LIMIT 3", (text, which))


def _do(sql: str) -> Callable[[sqlite3.Connection, random.Random], object]:
    return lambda kuma, chance: kuma.execute(sql, {"n": chance.randrange(1, MONITORS)})


EDITS: dict[str, Callable[[sqlite3.Connection, random.Random], object]] = {
    "insert": _insert,
    "long texts": _between,
    "rename": _do("UPDATE monitor SET name = name || '!' WHERE id = :n"),
    "delete": _do("DELETE FROM monitor WHERE id BETWEEN :n AND :n + 7"),
    "delete the first": _do("DELETE FROM monitor WHERE id IN (SELECT min(id) FROM monitor)"),
    "delete the last": _do("DELETE FROM monitor WHERE id IN (SELECT max(id) FROM monitor)"),
    "move": _do("UPDATE monitor SET id = id + 10000 WHERE id = :n"),
    "real": _do("UPDATE monitor SET timeout = 0.1 + 0.2 WHERE id = :n"),
    "runtime column": _do("UPDATE monitor SET dns_last_result = 'x' WHERE id = :n"),
    "dangling": _do("UPDATE monitor SET parent = 99999 WHERE id = :n"),
    "none dangling": _do("UPDATE monitor SET parent = NULL WHERE parent = 99999"),
    "link": _do("INSERT INTO monitor_tag (monitor_id, tag_id, value) VALUES (:n, 1, 'v')"),
    "no link": _do("DELETE FROM monitor_tag WHERE monitor_id = :n"),
    "heartbeats": _do(
        "INSERT INTO heartbeat (monitor_id, status, time, duration) SELECT id, 1, '2026', 1 "
        "FROM monitor LIMIT 50"
    ),
    "checkpoint": _do("PRAGMA wal_checkpoint(PASSIVE)"),
    "log emptied": _do("PRAGMA wal_checkpoint(TRUNCATE)"),
    "vacuum": _do("VACUUM"),
    "column": lambda kuma, chance: kuma.execute(
        f"ALTER TABLE monitor ADD COLUMN c{chance.getrandbits(60)} INTEGER DEFAULT 7"
    ),
}


@pytest.mark.parametrize("seed", range(by_tier(1, 12)))
@pytest.mark.parametrize("how", [{}, {"page_size": 1024}, {"page_size": 65536}, {"auto_vacuum": 2}])
def test_whatever_was_edited_the_bytes_are_the_same(
    seed: int, how: dict[str, int], tmp_path: Path
) -> None:
    chance = random.Random(seed)
    with _kuma(tmp_path, **how) as kuma:
        kuma.execute("PRAGMA foreign_keys = OFF")
        dumps = Dumps(tmp_path, tmp_path)
        dumps.next()
        for _step in range(5):
            for name in chance.choices(sorted(EDITS), k=chance.randrange(1, 4)):
                with contextlib.suppress(sqlite3.IntegrityError):
                    EDITS[name](kuma, chance)
            dumps.require_exact()


def test_only_rows_of_changed_pages_are_read(kuma: sqlite3.Connection, dumps: Dumps) -> None:
    with counted() as rows:
        dumps.next()
        dumps.hashed()
    assert not rows.keys() & {"monitor", "monitor_tag"}
    kuma.execute("UPDATE monitor SET name = 'new name' WHERE id = 60")
    with counted() as rows:
        dumps.hashed()
    assert 0 < rows["monitor"] < 10
    with counted() as rows:
        strict = dumps.next(strictly=True)
    assert 0 < rows["monitor"] < 10
    assert not rows["monitor_tag"]
    assert b'"new name"' in strict["tables/monitor.jsonl"]


@pytest.mark.parametrize("emptied", [False, True], ids=["log in use", "log read to its end"])
def test_a_reader_is_told_of_its_own_instant(
    kuma: sqlite3.Connection, dumps: Dumps, emptied: bool
) -> None:
    """Kuma commits, copies its log into the database and begins it anew while the reader reads."""
    kuma.execute("UPDATE monitor SET name = 'before' WHERE id = 7")
    if emptied:
        kuma.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with dumps.store.read() as reader:
        expected = hashed(reader)
    with dumps.store.read(dumps.last) as reader:
        for number in range(30):
            kuma.execute("UPDATE monitor SET name = ? WHERE id % 3 = 0", (f"after {number}",))
            kuma.execute("PRAGMA wal_checkpoint(PASSIVE)")
        with counted() as rows:
            assert hashed(reader) == expected
        assert 0 < rows["monitor"] < 10
    assert dumps.hashed() != expected


def test_without_a_proof_all_rows_are_read(kuma: sqlite3.Connection, dumps: Dumps) -> None:
    """Kuma commits whenever a reader begins: so it is never sure which frames that sees."""
    readable = SqliteStore._readable

    def raced(store: SqliteStore) -> sqlite3.Connection:
        kuma.execute("INSERT INTO heartbeat (monitor_id, status, time) VALUES (1, 1, '2026')")
        return readable(store)

    with (
        mock.patch.object(SqliteStore, "_readable", raced),
        dumps.store.read(dumps.last) as reader,
        counted() as rows,
    ):
        found = hashed(reader)
    assert rows["monitor"] == MONITORS
    assert found == dumps.hashed()


def _of_another_recipe(dumps: Dumps) -> None:
    notes = remembered.read(notes_of(dumps.last))
    old = notes["monitor"]
    notes["monitor"] = remembered.Leaves(
        "other", TableEntry(old.entry.rows, "0" * 64, "0" * 64), old.tree, old.content, old.runtime
    )
    notes_of(dumps.last).unlink()
    remembered.write(notes_of(dumps.last), notes)


def _altered(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


HARM: dict[str, Callable[[Dumps], object]] = {
    "a line altered": lambda dumps: _altered(dumps.last / "tables" / "monitor.jsonl"),
    "a runtime line altered": lambda dumps: _altered(dumps.last / "runtime" / "monitor.jsonl"),
    "lines gone": lambda dumps: (dumps.last / "tables" / "monitor.jsonl").unlink(),
    "lines cut": lambda dumps: (dumps.last / "tables" / "monitor.jsonl").write_bytes(b"["),
    "notes altered": lambda dumps: _altered(notes_of(dumps.last)),
    "notes gone": lambda dumps: notes_of(dumps.last).unlink(),
    "of another recipe": _of_another_recipe,
}


@pytest.mark.parametrize("harm", sorted(HARM))
def test_a_damaged_earlier_dump_changes_nothing(
    kuma: sqlite3.Connection, dumps: Dumps, harm: str
) -> None:
    kuma.execute("UPDATE monitor SET name = 'new name' WHERE id = 60")
    HARM[harm](dumps)
    dumps.require_exact()


def test_other_lines_of_the_same_rows_are_not_taken(
    kuma: sqlite3.Connection, dumps: Dumps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later version of the program may write a row in another way."""
    monkeypatch.setattr(remembered, "__version__", "later")
    with dumps.store.read(dumps.last) as reader:
        prepared(reader)
        assert reader.known(select(reader.schema, "monitor")) is None


@pytest.mark.parametrize(
    ("key", "end"),
    [
        ("INTEGER PRIMARY KEY DESC", ""),
        ("INT PRIMARY KEY", ""),
        ("INTEGER PRIMARY KEY", "WITHOUT ROWID"),
    ],
)
def test_a_table_whose_ids_are_no_rowids_is_read(key: str, end: str, tmp_path: Path) -> None:
    """A leaf's first rowid tells nothing about its ids then."""
    path = create(tmp_path / "kuma.db", wal=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        found = connection.execute("SELECT name FROM pragma_table_info('tag')")
        columns = ", ".join(name for (name,) in found if name != "id")
        connection.execute("DROP TABLE tag")
        connection.execute(f"CREATE TABLE tag (id {key}, {columns}) {end}")
        connection.executemany(
            "INSERT INTO tag (id, name, color) VALUES (?, ?, 'red')",
            ((1000 - number, "x" * 300) for number in range(200)),
        )
        dumps = Dumps(tmp_path, tmp_path)
        dumps.next()
        connection.execute("UPDATE tag SET name = 'y' WHERE id = 900")
        dumps.require_exact()


def test_reading_pages_drops_no_lock(kuma: sqlite3.Connection, tmp_path: Path) -> None:
    """To close a descriptor of kuma.db in this process would give the lock away."""
    kuma.execute("BEGIN IMMEDIATE")
    kuma.execute("UPDATE monitor SET name = 'not committed' WHERE id = 60")
    Dumps(tmp_path, tmp_path).next()
    other = (
        "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
    )
    done = subprocess.run(
        [sys.executable, "-c", other, str(tmp_path / "kuma.db")], capture_output=True, check=False
    )
    assert b"database is locked" in done.stderr
    kuma.execute("ROLLBACK")


def test_a_process_that_cannot_start_costs_nothing_else(
    kuma: sqlite3.Connection, dumps: Dumps, monkeypatch: pytest.MonkeyPatch
) -> None:
    kuma.execute("UPDATE monitor SET name = 'new name' WHERE id = 60")
    for program in ("/bin/false", "/nowhere"):
        monkeypatch.setattr(sys, "executable", program)
        dumps.require_exact()


def test_another_file_in_the_databases_place_proves_nothing(
    kuma: sqlite3.Connection, dumps: Dumps, tmp_path: Path
) -> None:
    reading = Pages(tmp_path / "kuma.db")
    (tmp_path / "kuma.db").rename(tmp_path / "aside.db")
    create(tmp_path / "kuma.db", wal=True)
    with pages.ended(reading):
        connection, header = reading.opened(dumps.store._readable)
        connection.close()
    assert not header


def tree(*leaves: tuple[int, str]) -> Tree:
    """Of leaves with one row each: its first rowid, and a letter for its bytes."""
    hashes = b"".join(name.encode() * pages.HASH for _first, name in leaves)
    return Tree(hashes, array("q", (f for f, _name in leaves)), array("q", [1] * len(leaves)))


def test_steps_follow_the_rows() -> None:
    old = tree((1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e"))
    assert steps(old, old) == [Old(0, 5)]
    changed = tree((1, "a"), (2, "b"), (3, "x"), (4, "d"), (5, "e"))
    assert steps(old, changed) == [Old(0, 2), New(2, 3), Old(3, 5)]
    fewer = tree((1, "a"), (3, "c"), (5, "e"))
    assert steps(old, fewer) == [Old(0, 1), Old(2, 3), Old(4, 5)]
    more = tree((1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e"), (6, "x"), (7, "y"))
    assert steps(old, more) == [Old(0, 5), New(5, 7)]
    assert between(more, New(5, 7)) == (6, 2**63 - 1)
    assert between(changed, New(2, 3)) == (3, 3)
    assert steps(old, tree((1, "x"), (2, "y"), (3, "c"))) is None
    assert steps(old, tree((1, "d"), (2, "b"))) is None
