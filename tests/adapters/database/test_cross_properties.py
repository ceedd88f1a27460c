"""Any rows that fit: from SQLite to MariaDB and back, and between any two states, on a real server.

What is equal is judged by tests/support/plain.py and compare.py, not by the code under test.
"""

from __future__ import annotations

import itertools
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from replicator_kuma.dump.catalog import TABLES
from replicator_kuma.dump.format import Dump, write_tables
from replicator_kuma.dump.manifest import Manifest, write_manifest
from replicator_kuma.dump.plan import Plan, plan
from replicator_kuma.dump.select import select
from replicator_kuma.dump.transform.policy import Policy
from replicator_kuma.dump.transform.translate import Terms, translate
from replicator_kuma.replication.apply.transaction import execute, verify
from tests.dump.test_properties import COLUMNS as IN_SQLITE
from tests.dump.test_properties import Rows, database
from tests.dump.test_properties import contents as any_contents
from tests.support import compare
from tests.support.databases import create, schema_sql
from tests.support.engines import Engine, MariadbEngine, SqliteEngine
from tests.support.mariadb import Server
from tests.support.plain import plain

few = settings(
    max_examples=200 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 10,
    deadline=None,
    # each example takes half a second: to make a failing one smaller would take minutes
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
_TABLE = re.compile(r"CREATE TABLE `(\w+)` \((.*?)\n\) ENGINE", re.DOTALL)
_COLUMN = re.compile(r"^  `(\w+)` (\w+)(?:\((.*?)\))?( unsigned)?(.*)$", re.MULTILINE)
_BITS = {"tinyint": 8, "smallint": 16, "int": 32, "bigint": 64}


@dataclass(frozen=True)
class Declared:
    """One column of MariaDB's schema; ``notnull`` where either engine says so."""

    name: str
    kind: str
    arguments: str
    unsigned: bool
    notnull: bool


def _declared() -> dict[str, list[Declared]]:
    return {
        table: [
            Declared(
                name,
                kind,
                arguments,
                bool(unsigned),
                "NOT NULL" in rest or (name, True) in IN_SQLITE.get(table, ()),
            )
            for name, kind, arguments, unsigned, rest in _COLUMN.findall(body)
        ]
        for table, body in _TABLE.findall(schema_sql("2.3-mariadb"))
    }


COLUMNS = {name: found for name, found in _declared().items() if name in TABLES}

letters = st.characters(codec="utf-8")
moments = st.builds(
    lambda moment, form: moment.strftime(form),
    st.datetimes(min_value=datetime(1000, 1, 1)),
    st.sampled_from(
        ["%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S.000"]
    ),
)
spans = st.builds(
    lambda h, m, s: f"{h:02}:{m:02}{s}",
    st.integers(0, 23), st.integers(0, 59), st.sampled_from(["", ":00", ":59"]),
)  # fmt: skip


def fitting(column: Declared) -> st.SearchStrategy[Any]:
    """Values that this column holds without loss, in forms that Kuma writes on SQLite."""
    kind = column.kind
    if kind in _BITS:
        half = 2 ** (_BITS[kind] - 1)
        return st.integers(0, 2 * half - 1) if column.unsigned else st.integers(-half, half - 1)
    if kind in ("double", "float"):
        return st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)
    if kind in ("datetime", "timestamp"):
        return moments
    if kind == "time":
        return spans
    if kind == "enum":
        return st.sampled_from([member.strip("'") for member in column.arguments.split(",")])
    length = int(column.arguments) if column.arguments else 60
    full = st.text(letters, min_size=min(length, 60), max_size=min(length, 60))
    return st.text(letters, max_size=min(length, 12)) | full


def contents() -> st.SearchStrategy[Rows]:
    """Rows of every table whose references hold, that MariaDB holds without loss."""
    kinds = {(name, c.name): c for name, found in COLUMNS.items() for c in found}
    return any_contents(
        {name: [(c.name, c.notnull) for c in found] for name, found in COLUMNS.items()},
        st.integers(1, 6) | st.sampled_from([2**31, 2**32 - 2]),
        st.none() | st.text(letters, max_size=12),
        lambda table, column: fitting(kinds[table, column]),
        {},
    )


# ------------------------------------------------------------------ two engines


@pytest.fixture
def maria(mariadb: Server, tmp_path: Path) -> MariadbEngine:
    made = MariadbEngine("mariadb", lambda: mariadb.database("properties", tmp_path / "mariadb"))
    made.create()
    return made


def cleared(maria: MariadbEngine) -> MariadbEngine:
    """As Kuma's first start leaves it, without making its tables anew."""
    tables = [*TABLES, *compare.HISTORY]
    emptied = [f'DELETE FROM "{table}"' for table in tables if table != "setting"]
    keys = ", ".join(f"'{key}'" for key in compare.SETTINGS)
    maria.edit(*emptied, f'DELETE FROM setting WHERE "key" IN ({keys})')
    return maria


def dumped(engine: Engine, folder: Path) -> Dump:
    folder.mkdir(parents=True)
    store = engine.store()
    with store.read() as reader:
        schema = reader.schema
        entries, _named = write_tables(folder, reader, schema.require(TABLES))
    manifest = Manifest(store.engine, schema.fingerprint, schema.migrations, entries, {})
    write_manifest(folder, manifest)
    return Dump(folder, manifest)


_numbers = itertools.count()


def carry_out(live: Engine, wanted: Engine, folder: Path) -> Plan:
    """Translate, plan and apply as a replica does, without Kuma and the state file around it."""
    here = folder / f"carried-{next(_numbers)}"
    target = dumped(wanted, here / "wanted")
    target.verify()
    own, store = dumped(live, here / "live"), live.store()
    with store.read() as reader:
        terms = Terms(reader.schema, store.representation, Policy())
        came = translate(target, own, terms, here / "translated").dump
    todo = plan(own, came, here / "plan")
    with store.write() as writer:
        for table in todo.tables:
            writer.sweep(select(writer.schema, table.name))
        execute(writer, todo)
        verify(writer, todo, came.manifest)
    return todo


def sqlite(folder: Path, rows: Rows | None = None) -> SqliteEngine:
    if rows is None:
        create(folder / "kuma.db")
    else:
        database(folder, rows)
    return SqliteEngine(folder)


def differences(one: Engine, two: Engine, folder: Path, *, meaning: bool = True) -> list[str]:
    """Between two engines; ``meaning`` compares each value as MariaDB shows it."""
    ours = plain(one, folder / "ours.db", as_mariadb=meaning)
    return compare.config_differences(
        ours, plain(two, folder / "theirs.db", as_mariadb=meaning)
    )  # fmt: skip


@pytest.fixture
def work() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@few
@given(contents())
def test_any_rows_reach_mariadb_and_come_back(maria: MariadbEngine, work: Path, rows: Rows) -> None:
    folder = Path(tempfile.mkdtemp(dir=work))
    leader, back = sqlite(folder / "leader", rows), sqlite(folder / "back")
    replica = cleared(maria)
    carry_out(replica, leader, folder)
    shown = plain(replica, folder / "shown.db")
    expected = plain(leader, folder / "expected.db", as_mariadb=True)
    assert compare.config_differences(shown, expected) == []
    assert compare.orphans(shown) == []
    assert carry_out(replica, leader, folder).size == 0
    carry_out(back, replica, folder)
    assert differences(back, replica, folder, meaning=False) == []
    assert differences(back, leader, folder) == []
    # home again: what means the same stays as the leader wrote it
    before = dumped(leader, folder / "before").manifest.digest
    assert carry_out(leader, replica, folder).size == 0
    assert dumped(leader, folder / "after").manifest.digest == before


@few
@given(contents(), contents())
def test_plan_of_a_and_b_applied_in_mariadb_is_b(
    maria: MariadbEngine, work: Path, a: Rows, b: Rows
) -> None:
    folder = Path(tempfile.mkdtemp(dir=work))
    one, two = sqlite(folder / "a", a), sqlite(folder / "b", b)
    replica = cleared(maria)
    carry_out(replica, one, folder)
    replica.edit(
        "INSERT INTO heartbeat (monitor_id, status, time) "
        "SELECT id, 1, '2030-01-01 00:00:00' FROM monitor",
        "UPDATE monitor SET dns_last_result = 'of the replica'",
        "UPDATE \"user\" SET twofa_last_token = '424242'",
    )
    before = plain(replica, folder / "before.db")
    carry_out(replica, two, folder)
    assert differences(replica, two, folder) == []
    now = plain(replica, folder / "now.db")
    own = [*compare.staying_differences(now, before), *compare.local_differences(now, before)]
    assert own == []
    again = carry_out(replica, two, folder)
    assert again.empty
    assert again.size == 0


@few
@given(contents(), contents())
def test_plan_of_a_and_b_from_mariadb_is_b_in_sqlite(
    maria: MariadbEngine, work: Path, a: Rows, b: Rows
) -> None:
    folder = Path(tempfile.mkdtemp(dir=work))
    live, wanted = sqlite(folder / "a", a), sqlite(folder / "b", b)
    leader = cleared(maria)
    carry_out(leader, wanted, folder)
    before = plain(live, folder / "before.db")
    carry_out(live, leader, folder)
    assert differences(live, leader, folder) == []
    now = plain(live, folder / "now.db")
    own = [*compare.staying_differences(now, before), *compare.local_differences(now, before)]
    assert own == []
    assert compare.damage(live.path) == []
    assert carry_out(live, leader, folder).size == 0
