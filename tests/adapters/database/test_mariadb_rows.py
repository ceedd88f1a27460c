"""Rows come out of our decoder as they come out of PyMySQL's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymysql.connections import MySQLResult
from pymysql.protocol import MysqlPacket

from replicator_kuma.adapters.database.db_config import read_login
from replicator_kuma.adapters.database.mariadb.connection import Link
from replicator_kuma.adapters.database.mariadb.decoder import row_decoder
from tests.support.mariadb import Server

TEXT, INTEGER, DOUBLE, DATE, BLOB = (
    ("utf8", None),
    ("ascii", int),
    ("ascii", float),
    ("ascii", None),
    (None, None),
)
OTHERS = (("latin-1", None), ("ascii", lambda text: f"<{text}>"), (None, len))
"""None of Kuma's columns is read so, but PyMySQL may be asked to"""


def packet(values: list[bytes | None]) -> MysqlPacket:
    """A row as a server sends it."""
    return MysqlPacket(b"".join(map(sent, values)), "utf8")


def sent(value: bytes | None) -> bytes:
    if value is None:
        return b"\xfb"
    size = len(value)
    if size < 251:
        return bytes([size]) + value
    if size < 1 << 16:
        return b"\xfc" + size.to_bytes(2, "little") + value
    if size < 1 << 24:
        return b"\xfd" + size.to_bytes(3, "little") + value
    return b"\xfe" + size.to_bytes(8, "little") + value


def by_pymysql(columns: list[Any], values: list[bytes | None]) -> tuple[Any, ...]:
    nobody: Any = None
    result: Any = MySQLResult(nobody)
    result.converters = columns
    return tuple(result._read_row_from_packet(packet(values)))


def a_value(column: Any) -> st.SearchStrategy[bytes | None]:
    if column is INTEGER:
        some = st.integers(-(2**63), 2**64).map(lambda n: str(n).encode())
    elif column is DOUBLE:
        some = st.floats(allow_nan=False, allow_infinity=False).map(lambda x: repr(x).encode())
    elif column is TEXT:
        some = st.text(max_size=400).map(str.encode)
    elif column is BLOB:
        some = st.binary(max_size=400)
    else:
        some = st.text(st.characters(max_codepoint=127), max_size=300).map(str.encode)
    return st.none() | some


@given(st.data(), st.lists(st.sampled_from((TEXT, INTEGER, DOUBLE, DATE, BLOB, *OTHERS))))
def test_a_row_is_what_pymysql_makes_of_it(data: st.DataObject, columns: list[Any]) -> None:
    values = [data.draw(a_value(column)) for column in columns]
    ours, theirs = row_decoder(columns)(packet(values)), by_pymysql(columns, values)
    assert ours == theirs
    assert list(map(type, ours)) == list(map(type, theirs))


@pytest.mark.parametrize("size", [0, 250, 251, 65_535, 65_536, 2**24 - 1, 2**24])
def test_a_value_may_have_any_length(size: int) -> None:
    values = [b"7", b"x" * size, None, b"y"]
    columns = [INTEGER, TEXT, TEXT, BLOB]
    assert row_decoder(columns)(packet(values)) == (7, "x" * size, None, b"y")


@pytest.mark.parametrize(
    "raw",
    [b"", b"\x01", b"\x017\x02a", b"\x017\x01a\x00", b"\x017\xff", b"\x01a\x01b", b"\x017\x01\xff"],
    ids=["nothing", "no value", "cut off", "too long", "no length", "no integer", "no UTF-8"],
)
def test_bytes_that_are_no_row_are_an_error(raw: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        row_decoder([INTEGER, TEXT])(MysqlPacket(raw, "utf8"))


def test_a_long_result_survives_another_question_in_its_midst(
    mariadb: Server, tmp_path: Path
) -> None:
    """More rows than are taken at once: what the server still has to send is kept."""
    mariadb.database("rows", tmp_path)
    login = read_login(tmp_path, {})
    assert login is not None
    link = Link(login)
    try:
        first = link.stream("SELECT seq FROM seq_1_to_1000")
        second = link.stream("SELECT seq FROM seq_1_to_500")
        found = [next(first), next(second), next(first)]
        assert link.value("SELECT 7") == 7
        assert [*found[::2], *first] == [(n,) for n in range(1, 1001)]
        assert [found[1], *second] == [(n,) for n in range(1, 501)]
        left = link.stream("SELECT seq FROM seq_1_to_1000")
        next(left)
        del left
        assert link.value("SELECT 8") == 8
    finally:
        link.close()
