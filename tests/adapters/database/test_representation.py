"""How SQLite holds the values of another engine, compared with what SQLite really does."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from replicator_kuma.adapters.database.sqlite.values import SqliteRepresentation, affinity
from replicator_kuma.dump.schema import Column
from replicator_kuma.dump.transform.represent import Misfit
from tests.support import nasty
from tests.support.clock import untraced_seconds
from tests.support.fixtures import ROOT, SQLITE, needs_fixtures

TYPES = (
    "INTEGER", "integer", "INT", "SMALLINT", "bigint", "BOOLEAN", "boolean", "DATETIME", "datetime",
    "TIME", "DATE", "timestamp", "NUMERIC", "DOUBLE", "float", "REAL", "TEXT", "VARCHAR",
    "VARCHAR(255)", "VARCHAR2(250)", "CLOB", "BLOB", "", "FLOATING POINT", "CHARINT",
)  # fmt: skip
"""Types that Kuma's columns have in SQLite, and some to try the rules on."""

numerals = st.one_of(
    st.integers().map(str),
    st.floats(allow_nan=False).map(repr),
    st.from_regex(r"[ \t\n\v\f\r]?[+-]?[0-9]{0,20}\.?[0-9]{0,20}([eE][+-]?[0-9]{1,3})?[ ]?",
                  fullmatch=True),
    st.sampled_from(("12", "007", "1e400", "-0", "0x10", "1_000", "12\x00", "1e1234567890123",
                     "1e-1234567890123", "1e" + "9" * 25, "-1e-" + "9" * 25,
                     "9223372036854775808", "٣", "Infinity", "nan", "+", "e5", "1e", ". 5")),
)  # fmt: skip
texts = st.text(st.characters(codec="utf-8"))
held = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from((0, 1, 2**53 + 1, 2**62 + 1, -(2**63), 2**63 - 1)),
    st.floats(allow_nan=False),
    st.integers(-(2**70), 2**70).map(float),
    numerals,
    texts,
    st.sampled_from(nasty.TEXTS),
    st.binary(max_size=9),
)


def convert(declared: str, value: Any) -> Any:
    how = SqliteRepresentation().converter("monitor", Column("c", declared))
    return value if how is None else how(value)


def stored(declared: str, value: Any) -> Any:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE TABLE t (c {declared})")
        connection.execute("INSERT INTO t VALUES (?)", (value,))
        return connection.execute("SELECT c FROM t").fetchone()[0]


def exactly(value: Any) -> tuple[type, str]:
    """1 and 1.0, 0.0 and -0.0 are not the same in a dump."""
    return type(value), repr(value)


@settings(max_examples=1500, deadline=None)
@given(declared=st.sampled_from(TYPES), value=held)
@example(declared="INTEGER", value=48.0)
@example(declared="NUMERIC", value="12")
@example(declared="TEXT", value=5)
@example(declared="REAL", value=-0.0)
@example(declared="DOUBLE", value=48)
def test_a_value_becomes_what_sqlite_stores_for_it(declared: str, value: Any) -> None:
    real = stored(declared, value)
    try:
        said = convert(declared, value)
    except Misfit as misfit:
        said = misfit.fitting
        assert exactly(said) != exactly(value)
    assert exactly(said) == exactly(real)
    assert exactly(convert(declared, said)) == exactly(said)


@pytest.mark.parametrize(
    ("declared", "value", "fitting"),
    [
        ("DOUBLE", 2**53 + 1, 2.0**53),
        ("TEXT", 0.1 + 0.2, "0.3"),
        ("INTEGER", 2**63, None),
        ("NUMERIC", "12345678901234567890", 12345678901234567000.0),
    ],
)
def test_a_number_that_would_lose_digits_does_not_fit(
    declared: str, value: Any, fitting: Any
) -> None:
    with pytest.raises(Misfit) as caught:
        convert(declared, value)
    assert exactly(caught.value.fitting) == exactly(fitting)
    assert str(value) not in str(caught.value)


def test_text_that_is_no_utf8_is_held_as_it_is() -> None:
    for raw in nasty.BROKEN_UTF8:
        text = raw.decode("utf-8", "surrogateescape")
        assert convert("TEXT", text) == convert("DATETIME", text) == text


def same(declared: str, a: Any, b: Any) -> bool:
    compare = SqliteRepresentation().same(Column("c", declared))
    assert compare is not None
    assert compare(a, b) is compare(b, a)
    return compare(a, b)


@pytest.mark.parametrize(
    "spelling",
    [
        "2031-05-01T10:00",
        "2031-05-01 10:00",
        "2031-05-01 10:00:00.000",
        "2031-05-01T10:00:00Z",
        "2031-05-01T12:00:00.000+02:00",
    ],
)
def test_dates_are_the_same_by_their_instant(spelling: str) -> None:
    assert same("DATETIME", spelling, "2031-05-01 10:00:00")
    assert not same("DATETIME", spelling, "2031-05-01 10:00:01")
    assert not same("DATETIME", spelling, "2031-05-01 10:00:00.001")
    assert not same("DATETIME", spelling, 1935568800)


def test_what_is_no_date_is_the_same_as_itself_only() -> None:
    for value in ("", "tomorrow", "2031-02-30 10:00:00", "10:00", 5, b"x"):
        assert same("datetime", value, value)
        assert not same("datetime", value, "2031-05-01 10:00:00")
    assert not same("DATETIME", 5, 5.0)


def test_times_are_the_same_without_their_seconds() -> None:
    assert same("TIME", "02:00", "02:00:00")
    assert same("TIME", "2:00", "02:00:00.0")
    assert not same("TIME", "02:00", "02:00:01")
    assert not same("TIME", "02:00", "-02:00")


def test_numbers_are_the_same_by_value_and_texts_are_none() -> None:
    for declared in ("INTEGER", "bigint", "BOOLEAN", "DOUBLE", "float"):
        assert same(declared, 48, 48.0)
        assert not same(declared, 48, 49)
        assert not same(declared, 1, "1")
        assert not same(declared, 2**53 + 1, 2.0**53)


@pytest.mark.parametrize("declared", ["TEXT", "VARCHAR(255)", "VARCHAR2(250)", "", "BLOB"])
def test_text_is_the_same_only_where_it_is_equal(declared: str) -> None:
    assert SqliteRepresentation().same(Column("c", declared)) is None


def test_unique_compares_texts_as_they_are() -> None:
    given_texts = ["Admin", "admin", "admin "]
    assert list(SqliteRepresentation().fold(Column("c", "TEXT"), given_texts)) == given_texts


@needs_fixtures
@pytest.mark.parametrize("version", SQLITE)
def test_what_real_databases_hold_stays_as_it_is(version: str) -> None:
    representation = SqliteRepresentation()
    looked_at = 0
    path = ROOT / version / "leader-1.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        for (table,) in tables.fetchall():
            for column in connection.execute(f'PRAGMA table_info("{table}")').fetchall():
                how = representation.converter(table, Column(column[1], column[2]))
                for (value,) in connection.execute(
                    f'SELECT "{column[1]}" FROM "{table}" WHERE "{column[1]}" IS NOT NULL'
                ):
                    looked_at += 1
                    assert exactly(how(value) if how else value) == exactly(value), column[1]
    assert looked_at > 1000


def test_converting_ten_thousand_monitors_takes_well_under_half_a_second() -> None:
    kinds = ["INTEGER"] * 40 + ["TEXT"] * 55 + ["DATETIME"] * 4 + ["DOUBLE"] * 10
    row = [7] * 40 + ["text"] * 55 + ["2031-05-01 10:00:00"] * 4 + [48.5] * 10
    representation = SqliteRepresentation()
    hows = [representation.converter("monitor", Column("c", kind)) for kind in kinds]

    def work() -> None:
        for _ in range(10_000):
            for how, value in zip(hows, row, strict=True):
                assert how is not None
                how(value)

    assert untraced_seconds(work) < 1.0  # 0.2 s on a machine of its own


def test_affinity_goes_by_sqlites_rules() -> None:
    for declared in TYPES:
        as_real = {"INTEGER": 5, "NUMERIC": 5, "REAL": 5.0, "TEXT": "5.0", "BLOB": 5.0}
        assert exactly(stored(declared, 5.0)) == exactly(as_real[affinity(declared)]), declared
