"""Lines that SQLite makes are the bytes that Python makes, whatever the rows hold."""

from __future__ import annotations

import contextlib
import math
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator_kuma.adapters.database import Row
from replicator_kuma.adapters.database.sqlite import lines
from replicator_kuma.adapters.database.sqlite.reader import SqliteReader
from replicator_kuma.adapters.database.sqlite.store import SqliteStore
from replicator_kuma.dump.audit import audited
from replicator_kuma.dump.catalog import FILE_COLUMNS, TABLES
from replicator_kuma.dump.format import write_tables
from replicator_kuma.dump.select import Select, select
from tests.dump.test_properties import Rows, anything, contents, database
from tests.support.databases import build, create, edit
from tests.support.nasty import BROKEN_UTF8, TEXTS

tenths = st.integers(-(10**11), 10**11).map(lambda k: k / 10)
TYPES = {"timeout": "DOUBLE", "description": "TEXT", "weight": "INTEGER"}
floats = st.one_of(
    tenths, tenths.map(lambda x: math.nextafter(x, math.inf)), st.floats(allow_nan=False)
)


@contextlib.contextmanager
def python_only() -> Iterator[None]:
    with mock.patch.object(SqliteReader, "lines", return_value=None):
        yield


@contextlib.contextmanager
def sqlite_only() -> Iterator[None]:
    """No row is read to be encoded in Python, but those of tables with files and of `setting`."""
    rows = SqliteReader.rows

    def few(reader: SqliteReader, chosen: Select, *keys: Any) -> Iterator[Row]:
        assert chosen.table in (*FILE_COLUMNS, "setting")
        return rows(reader, chosen, *keys)

    with (
        mock.patch.object(SqliteReader, "rows", few),
        mock.patch.object(SqliteReader, "_row", mock.Mock(return_value=None)),
    ):
        yield


def dumped(path: Path, name: str) -> dict[str, bytes]:
    """The bytes of each file of a dump."""
    folder = path.parent / name
    folder.mkdir()
    with SqliteStore(path.parent).read() as reader:
        for table in TABLES:
            reader.dangling(select(reader.schema, table))
        write_tables(folder, reader, reader.schema.require(TABLES))
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def require_equal(path: Path) -> None:
    with python_only():
        expected = dumped(path, "python")
    assert dumped(path, "sqlite") == expected


@given(contents())
def test_any_rows_give_equal_bytes(rows: Rows) -> None:
    with tempfile.TemporaryDirectory() as name:
        require_equal(database(Path(name) / "data", rows))


@given(
    st.lists((anything | floats).filter(lambda value: value is not None), min_size=1, max_size=8),
    st.sampled_from(sorted(TYPES)),
)
def test_values_stored_under_another_type_give_equal_bytes(found: list[Any], column: str) -> None:
    """A column's type was changed under its rows, so that it does not tell what they hold."""
    with tempfile.TemporaryDirectory() as name:
        path = create(Path(name) / "kuma.db")
        typed, typeless = f'"{column}" {TYPES[column]}', f'"{column}"'
        _retype(path, typed, typeless)
        _monitors(path, column, found)
        _retype(path, typeless, typed)
        require_equal(path)


def _retype(path: Path, old: str, new: str) -> None:
    sql = "UPDATE sqlite_master SET sql = replace(sql, ?, ?) WHERE name = 'monitor'"
    edit(path, "PRAGMA writable_schema = ON", (sql, (f"{old} ", f"{new} ")))


def _monitors(path: Path, column: str, found: Iterable[Any]) -> None:
    """A monitor for each value; text that is no UTF-8 by surrogateescape."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for value in found:
            text = isinstance(value, str)
            names = ", ".join(dict.fromkeys((column, "timeout", "created_date")))
            mark = "CAST(? AS TEXT)" if text else "?"
            rest = "" if column == "timeout" else ", 48"
            connection.execute(
                f"INSERT INTO monitor ({names}) VALUES ({mark}{rest}, '2026')",
                (value.encode("utf-8", "surrogateescape") if text else value,),
            )


def test_every_character_gives_equal_bytes(tmp_path: Path) -> None:
    """All code points, each byte that is no UTF-8, and what hurts; of these SQLite makes most."""
    path = create(tmp_path / "data" / "kuma.db")
    every = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x110000))))
    blocks = [every[at : at + 4096] for at in range(0, len(every), 4096)]
    control = [f"a{chr(code)}b" for code in (*range(32), 127, 0x2028)]
    good = [*blocks, *control, *TEXTS]
    _monitors(path, "description", good)
    with sqlite_only():
        made = dumped(path, "sqlite only")
    bad = [*(bytes([byte]) for byte in range(128, 256)), *BROKEN_UTF8]
    _monitors(path, "name", (raw.decode("utf-8", "surrogateescape") for raw in bad))
    require_equal(path)
    all_lines = (path.parent / "sqlite" / "tables" / "monitor.jsonl").read_bytes()
    assert all_lines.startswith(made["tables/monitor.jsonl"])
    assert all_lines.count(b"\n") == 1 + len(good) + len(bad)


@given(st.lists(floats, max_size=300))
def test_floats_give_equal_bytes(found: list[float]) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = create(Path(name) / "kuma.db")
        _monitors(path, "timeout", [*found, 0.0, -0.0, 0.1, 1e9, 1e9 - 0.1, 0.1 + 0.2, 38.4])
        require_equal(path)


def test_an_ordinary_database_is_encoded_in_sqlite(tmp_path: Path) -> None:
    """As it is dumped, and as it is checked and published; each timeout is a float."""
    path = build(tmp_path / "data" / "kuma.db", monitors=60)
    edit(
        path,
        "UPDATE monitor SET timeout = id * 8 / 10.0",
        "DELETE FROM status_page_cname",
        "DELETE FROM monitor_tag WHERE id NOT IN "
        "(SELECT min(id) FROM monitor_tag GROUP BY monitor_id, tag_id)",
    )
    with sqlite_only(), SqliteStore(path.parent).read() as reader:
        for audit in (None, audited):
            write_tables(None, reader, reader.schema.require(TABLES), audit)
    require_equal(path)


ODD: dict[str, tuple[str, ...]] = {
    "two links of one key": (
        "INSERT INTO monitor_tag (monitor_id, tag_id, value) SELECT monitor_id, tag_id, v "
        "FROM monitor_tag, (SELECT 'z' AS v UNION SELECT 'é' UNION SELECT value FROM monitor_tag)",
    ),
    "a blob": ("UPDATE monitor SET description = x'00ff' WHERE id = 31",),
    "an empty blob": ("UPDATE monitor SET weight = x'' WHERE id = 1",),
    "a blob as an id's neighbour": ("UPDATE monitor_tag SET value = x'41' WHERE id = 7",),
    "a computed column of JSON": ("ALTER TABLE monitor ADD COLUMN more AS (json('[1, 2]'))",),
    "more columns than a function takes arguments": tuple(
        f"ALTER TABLE monitor ADD COLUMN more{n} TEXT DEFAULT '[{n}]'" for n in range(150)
    ),
    "a column that hides the rowid": ("ALTER TABLE monitor ADD COLUMN _ROWID_ INTEGER DEFAULT 5",),
    "a table without rowids": (
        "CREATE TABLE new (id INTEGER PRIMARY KEY, name TEXT, color TEXT, created_date) "
        "WITHOUT ROWID",
        "INSERT INTO new SELECT id, name, color, created_date FROM tag",
        "DROP TABLE tag",
        "ALTER TABLE new RENAME TO tag",
    ),
    "references that dangle": (
        "UPDATE monitor SET parent = 999, user_id = 999 WHERE id % 3 = 0",
        "UPDATE monitor_tag SET tag_id = 999 WHERE id % 5 = 0",
    ),
}


@pytest.mark.parametrize("odd", ODD)
def test_odd_tables_give_equal_bytes(tmp_path: Path, odd: str) -> None:
    path = build(tmp_path / "data" / "kuma.db", monitors=60)
    edit(path, "PRAGMA foreign_keys = OFF", *ODD[odd])
    require_equal(path)


def test_a_database_in_utf_16_gives_equal_bytes(tmp_path: Path) -> None:
    path = create(tmp_path / "data" / "kuma.db", encoding="UTF-16le")
    _monitors(path, "name", TEXTS)
    require_equal(path)


def test_another_json_of_sqlite_is_not_used(tmp_path: Path) -> None:
    """A build whose json_array() gives other bytes, in one character, is found out."""
    path = build(tmp_path / "data" / "kuma.db", monitors=5)
    with closing(sqlite3.connect(path)) as connection:
        assert lines.as_python(connection)
        (array,) = connection.execute("SELECT json_array('\u2028')").fetchone()
        assert array == '["\u2028"]'
        connection.create_function("json_array", -1, lambda *_: "[]")
        assert not lines.as_python(connection)
