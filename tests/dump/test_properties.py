"""Any rows that SQLite can hold: dump, plan, apply, and compare in SQL."""

from __future__ import annotations

import functools
import math
import sqlite3
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from replicator_kuma.adapters.database.sqlite.store import SqliteStore
from replicator_kuma.dump import format as formats
from replicator_kuma.dump import plan as plans
from replicator_kuma.dump.catalog import TABLES
from replicator_kuma.dump.format import Dump, LineReader
from replicator_kuma.dump.plan import Plan, plan
from replicator_kuma.dump.select import select
from replicator_kuma.replication.apply.transaction import execute, verify
from tests.support import compare
from tests.support.databases import build, create, edit, query, quoted
from tests.support.dumps import digest_of, dump_of

Rows = dict[str, list[dict[str, Any]]]

text = st.text(st.characters(codec="utf-8"), max_size=12)
broken = st.binary(max_size=6).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
anything = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.sampled_from([0.0, -0.0, 1.0, 5e-324, 2.0**53, 9.3e18, "0", "1.0", "1e400", "null", " 1 "]),
    text,
    broken,
    st.binary(max_size=6),
)
ids = st.integers(1, 6) | st.sampled_from([-1, 0, 2**63 - 1])
CHOICES: Mapping[tuple[str, str], Sequence[Any]] = {
    ("monitor", "snmp_version"): ["1", "2c", "3", None],
    ("monitor", "created_date"): ["2025-01-01", "2025-01-02", 5, 5.5],
    ("status_page", "analytics_type"): ["google", "umami", None],
}
REFERENCES = {(t, c): p for t, c, p in compare.REFERENCES}
UNIQUE = {"user": "username", "status_page": "slug", "status_page_cname": "domain"}


def _columns() -> dict[str, list[tuple[str, bool]]]:
    with tempfile.TemporaryDirectory() as folder:
        path = create(Path(folder) / "kuma.db")
        return {
            name: [
                (row[1], bool(row[3])) for row in query(path, f"PRAGMA table_info({quoted(name)})")
            ]
            for name in TABLES
        }


COLUMNS = _columns()


Columns = Mapping[str, Sequence[tuple[str, bool]]]
"""Of each table the names of its columns, and whether each needs a value."""


@st.composite
def contents(
    draw: st.DrawFn,
    columns: Columns = COLUMNS,
    ids: st.SearchStrategy[int] = ids,
    texts: st.SearchStrategy[Any] = anything,
    value: Callable[[str, str], st.SearchStrategy[Any]] = lambda _table, _column: anything,
    choices: Mapping[tuple[str, str], Sequence[Any]] = CHOICES,
) -> Rows:
    """Rows of every table whose references hold; a few values a row, of any kind."""
    rows: Rows = {}

    def row(name: str, number: int) -> dict[str, Any] | None:
        row: dict[str, Any] = {"id": number}
        some = draw(st.sets(st.sampled_from([c for c, _n in columns[name]]), max_size=5))
        for column, notnull in columns[name]:
            parent = REFERENCES.get((name, column))
            if column == "id" or (name, parent) == ("monitor", "monitor"):
                continue
            if parent is not None:
                there = [p["id"] for p in rows[parent]] + ([] if notnull else [None])
                if not there:
                    return None
                row[column] = draw(st.sampled_from(there))
            elif UNIQUE.get(name) == column:
                row[column] = f"{draw(st.sampled_from('abc'))}{number}"
            elif (name, column) in choices:
                row[column] = draw(st.sampled_from(choices[name, column]))
            elif column in some or notnull:
                found = draw(value(name, column))
                row[column] = "" if found is None and notnull else found
            else:
                row[column] = None
        return row

    for name in TABLES:
        if name == "setting":
            keys = sorted(draw(st.sets(st.sampled_from(compare.SETTINGS), max_size=3)))
            rows[name] = [{"key": k, "value": draw(texts), "type": draw(texts)} for k in keys]
            continue
        found = [row(name, number) for number in sorted(draw(st.sets(ids, max_size=3)))]
        rows[name] = [each for each in found if each is not None]
    for monitor in rows["monitor"]:  # itself, a cycle, a child before its parent: all may be
        monitor["parent"] = draw(st.sampled_from([None, *(m["id"] for m in rows["monitor"])]))
    return rows


def database(folder: Path, rows: Rows, *, backwards: bool = False, page_size: int = 4096) -> Path:
    path = create(folder / "kuma.db", page_size=page_size)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        for name, found in reversed(rows.items()) if backwards else rows.items():
            for row in reversed(found) if backwards else found:
                _insert(connection, name, row)
        connection.execute("COMMIT")
    return path


def _insert(connection: sqlite3.Connection, name: str, row: dict[str, Any]) -> None:
    marks, given_values = [], []
    for value in row.values():
        try:
            if isinstance(value, str):
                value.encode()
            marks.append("?")
            given_values.append(value)
        except UnicodeEncodeError:
            marks.append("CAST(? AS TEXT)")
            given_values.append(value.encode("utf-8", "surrogateescape"))
    names = ", ".join(map(quoted, row))
    connection.execute(
        f"INSERT INTO {quoted(name)} ({names}) VALUES ({', '.join(marks)})", given_values
    )


def carry_out(live: Path, wanted: Path, folder: Path) -> Plan:
    """Plan and apply as a replica does, without Kuma and the state file around it."""
    target = dump_of(wanted, folder / "wanted")
    target.verify()
    todo = plan(dump_of(live, folder / "live"), target, folder / "plan")
    with SqliteStore(live.parent).write() as writer:
        for table in todo.tables:
            writer.sweep(select(writer.schema, table.name))
        execute(writer, todo)
        verify(writer, todo, target.manifest)
    return todo


@given(contents())
def test_any_rows_reach_a_fresh_replica(rows: Rows) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        leader, replica = database(folder / "a", rows), create(folder / "b" / "kuma.db")
        carry_out(replica, leader, folder)
        assert compare.config_differences(replica, leader) == []
        assert compare.orphans(replica) == []
        assert compare.damage(replica) == []
        assert digest_of(replica) == digest_of(leader)


@given(contents(), contents())
def test_apply_of_plan_of_a_and_b_is_b(a: Rows, b: Rows) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        live, wanted = database(folder / "a", a), database(folder / "b", b)
        (folder / "before.db").write_bytes(live.read_bytes())
        todo = carry_out(live, wanted, folder)
        assert compare.config_differences(live, wanted) == []
        assert compare.local_differences(live, folder / "before.db") == []
        assert compare.staying_differences(live, folder / "before.db") == []
        assert compare.damage(live) == []
        assert digest_of(live) == digest_of(wanted)
        assert todo.empty == (todo.base == todo.target)
        again = carry_out(live, wanted, folder / "again")
        assert again.empty
        assert again.size == 0


@given(contents(), st.sampled_from([512, 4096, 32768]))
def test_digest_knows_no_order_and_no_pages(rows: Rows, page_size: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one = database(folder / "a", rows)
        two = database(folder / "b", rows, backwards=True, page_size=page_size)
        assert digest_of(one) == digest_of(two)
        with closing(sqlite3.connect(two, isolation_level=None)) as connection:
            connection.execute("VACUUM")
        assert digest_of(one) == digest_of(two)
        assert compare.config_differences(one, two) == []


@given(st.floats(allow_nan=False))
def test_digest_knows_every_float_and_no_spelling_of_it(number: float) -> None:
    """A neighbour is another digest; the same double from another spelling is not."""

    def digest(value: float) -> str:
        path = create(folder / "kuma.db")
        columns = "id, name, created_date, timeout"
        edit(path, (f"INSERT INTO monitor ({columns}) VALUES (1, 'x', '2025', ?)", (value,)))
        return digest_of(path)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        expected = digest(number)
        assert digest(float(f"{number:.17e}")) == expected
        neighbour = math.nextafter(number, 1.0)
        assert (digest(neighbour) == expected) == (neighbour == number)


@functools.cache
def _forty() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        return build(Path(name) / "kuma.db", monitors=40).read_bytes()


EDITS = {
    "delete": "DELETE FROM monitor WHERE id = ?",
    "rename": "UPDATE monitor SET name = name || 'x' WHERE id = ?",
    "runtime": "UPDATE monitor SET dns_last_result = 'x' WHERE id = ?",
    "add": "INSERT OR IGNORE INTO monitor (id, created_date, timeout) VALUES (? + 20, '2026', 1)",
}
edits = st.lists(st.tuples(st.sampled_from(sorted(EDITS)), st.integers(1, 40)), max_size=4)


@given(edits, edits, st.sampled_from([40, 500, 3_000, 100_000]))
def test_a_plan_is_the_same_if_equal_lines_are_compared_by_blocks(
    here: list[tuple[str, int]], there: list[tuple[str, int]], block: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        live, wanted = (
            _edited(Path(name) / side, changes) for side, changes in (("a", here), ("b", there))
        )
        with mock.patch.object(LineReader, "skip_alike"):
            expected = plan(live, wanted, Path(name) / "line by line")
        with mock.patch.object(plans, "_ALIKE", 1), mock.patch.object(formats, "_BLOCK", block):
            found = plan(live, wanted, Path(name) / "by blocks")
        assert found.tables == expected.tables
        lines, wanted_lines = (
            {file.name: file.read_bytes() for file in made.folder.iterdir()}
            for made in (found, expected)
        )
        assert lines == wanted_lines


def _edited(folder: Path, changes: list[tuple[str, int]]) -> Dump:
    folder.mkdir()
    path = folder / "kuma.db"
    path.write_bytes(_forty())
    edit(path, *((EDITS[kind], (number,)) for kind, number in changes))
    return dump_of(path, folder / "dump")
