"""Values survive exactly, with their type, and the same row is the same bytes."""

from __future__ import annotations

import math
import sqlite3
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator_kuma.dump import values
from tests.support import nasty

INTEGERS = (0, 1, -1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63))
FLOATS = (
    *(0.0, -0.0, 1.0, -1.5, 0.1, 1 / 3, 48 * 0.8, 1e15, 1e16, 1e22, 1e23, 5e-324),
    *(2.2250738585072014e-308, 2.225073858507201e-308, 1.7976931348623157e308),
    *(float("inf"), float("-inf")),
)
BLOBS = (b"", b"\x00", b"\xff" * 3, bytes(range(256)), b"text")
SURROGATES = tuple(raw.decode("utf-8", "surrogateescape") for raw in nasty.BROKEN_UTF8)


def identical(one: Any, two: Any) -> bool:
    """Equal in type and in every bit."""
    if type(one) is not type(two):
        return False
    if isinstance(one, float):
        return struct.pack("<d", one) == struct.pack("<d", two)
    return bool(one == two)


def back(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return values.row(values.decode(values.encode(row)), len(row))


@pytest.mark.parametrize("value", [*INTEGERS, *FLOATS, *BLOBS, None, *nasty.TEXTS, *SURROGATES])
def test_round_trip(value: Any) -> None:
    (found,) = back((value,))
    assert identical(found, value)


def test_a_row_is_one_line_of_ascii() -> None:
    odd: tuple[values.Value, ...] = (*nasty.TEXTS, *SURROGATES, *BLOBS)
    for value in odd:
        line = values.encode((1, value, None))
        assert line.isascii()
        assert b"\n" not in line
        assert b"\r" not in line


def test_values_that_look_alike_are_told_apart() -> None:
    alike = (0, 0.0, -0.0, "0", "", None, "null", "NULL", b"", b"0")
    lines = [values.encode((value,)) for value in alike]
    assert len(set(lines)) == len(lines)
    assert values.encode((1,)) == b"[1]"
    assert values.encode((1.0,)) == b"[1.0]"


def test_a_text_that_looks_like_a_tag_stays_text() -> None:
    for text in ('{"blob":"AA=="}', '{"real":"inf"}'):
        assert back((text,)) == (text,)


def test_an_infinity_beside_a_blob() -> None:
    assert back((math.inf, b"\x00", -math.inf, "x")) == (math.inf, b"\x00", -math.inf, "x")


def test_sqlite_gives_back_what_was_decoded() -> None:
    """Through a database, so that no difference between Python's and SQLite's values hides."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (v)")
    for value in (*INTEGERS, *FLOATS, *BLOBS, *nasty.TEXTS):
        connection.execute("DELETE FROM t")
        connection.execute("INSERT INTO t VALUES (?)", back((value,)))
        (found,) = connection.execute("SELECT v FROM t").fetchone()
        assert found == value
        assert type(found) is type(value)
    connection.close()


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        values.encode((math.nan,))


def test_what_no_database_holds_is_refused() -> None:
    with pytest.raises(TypeError, match="does not hold a set"):
        values.encode(({1},))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "line",
    [
        b'[{"blob":"A"}]',
        b'[{"blob":"AA=="\n}',
        b'[{"blob":1}]',
        b'[{"blob":"AA==","more":1}]',
        b'[{"real":"nan"}]',
        b'[{"real":"1.5"}]',
        b'[{"other":"x"}]',
        b"[{}]",
        b"[NaN]",
        b"[Infinity]",
        b"[-Infinity]",
        b"[1,]",
        b"[1",
        b"",
        b"[\xff]",
        b"[" * 100_000,
        b'[{"blob":' * 50_000,
        b"[" + b"9" * 5_000 + b"]",
    ],
)
def test_malformed_lines_are_refused(line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (each has another reason; none is another error)
        values.row(values.decode(line), 1)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{}", "unknown tagged"),
        (b'"x"', "no|not an array"),
        (b"null", "not an array"),
        (b"[1,2]", "not an array of 1"),
        (b"[]", "not an array of 1"),
        (b"[[1]]", "a list is no value"),
        (b"[true]", "a bool is no value"),
        (b"[9223372036854775808]", "more than 64 bits"),
        (b"[-9223372036854775809]", "more than 64 bits"),
        (b'["\\ud800"]', "lone surrogate"),
        (b'["\\udbff x"]', "lone surrogate"),
        (b'["\\udc00"]', "lone surrogate"),
    ],
)
def test_well_formed_lines_that_are_no_row_are_refused(line: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        values.row(values.decode(line), 1)


@pytest.mark.parametrize(
    "line",
    [
        b"[ 1]",
        b"[1.50]",
        b"[1e2]",
        b"[-0]",
        b'["\\u0041"]',
        b'["\\/"]',
        b'[{"blob":"AA==","blob":"AA=="}]',
        b'[{"blob":"AB=="}]',
        b'["\\udcc3\\udca9"]',
        b"[1e400]",
    ],
)
def test_another_spelling_of_a_row_is_no_canonical_line(line: bytes) -> None:
    """A leader writes each row in one way; a line in another way was not made by one."""
    with pytest.raises(ValueError, match="canonical"):
        values.canonical_rows([line], 1)


@pytest.mark.parametrize("value", [*INTEGERS, *FLOATS, *BLOBS, None, *nasty.TEXTS, *SURROGATES])
def test_what_was_encoded_is_canonical(value: Any) -> None:
    ((found,),) = values.canonical_rows([values.encode((value,))], 1)
    assert identical(found, value)


def test_is_plain() -> None:
    assert all(values.is_plain(text) for text in nasty.TEXTS)
    assert not any(values.is_plain(text) for text in SURROGATES)


anything = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(codec="utf-8")),
    st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    st.binary(),
)


@given(st.lists(anything, max_size=8).map(tuple))
def test_any_row_round_trips_as_canonical(row: tuple[Any, ...]) -> None:
    line = values.encode(row)
    (found,) = values.canonical_rows([line], len(row))
    assert all(identical(a, b) for a, b in zip(found, row, strict=True))
    assert values.encode(found) == line


@given(st.lists(anything, min_size=1, max_size=8), st.integers(0, 9))
def test_one_value_of_a_line_is_found_without_the_rest(row: list[Any], column: int) -> None:
    line = values.encode(row)
    if column < len(row):
        assert values.raw(line, column) == values.encode([row[column]])[1:-1]
    else:
        with pytest.raises(ValueError, match="column"):
            values.raw(line, column)


@given(st.lists(anything, min_size=1, max_size=4), st.lists(anything, min_size=1, max_size=4))
def test_equal_lines_are_equal_rows(one: list[Any], two: list[Any]) -> None:
    same = len(one) == len(two) and all(map(identical, one, two))
    assert (values.encode(one) == values.encode(two)) == same


@given(st.lists(st.lists(anything, min_size=1, max_size=3), min_size=1, max_size=5))
def test_rows_at_once_are_the_same_bytes_as_one_by_one(rows: list[list[Any]]) -> None:
    assert values.encode_rows(rows) == b"".join(values.encode(row) + b"\n" for row in rows)


def test_rows_at_once_whose_texts_look_like_their_borders() -> None:
    rows: list[list[Any]] = [["],["], [b"x", "[1],[2]"], [math.inf], ["],", "[", "],[],["]]
    assert values.encode_rows(rows) == b"".join(values.encode(row) + b"\n" for row in rows)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_row_or_a_value_error(line: bytes) -> None:
    try:
        (row,) = values.canonical_rows([line], 1)
    except ValueError:
        return
    assert values.encode(row) == line
