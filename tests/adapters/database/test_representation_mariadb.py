"""How MariaDB holds the values of another engine, compared with what a real server does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pymysql
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from replicator_kuma.adapters.database.mariadb.collation import ask, general_ci
from replicator_kuma.adapters.database.mariadb.values import MariadbRepresentation
from replicator_kuma.dump.kuma_columns import COLUMNS
from replicator_kuma.dump.schema import Column
from replicator_kuma.dump.transform.represent import Misfit
from tests.support.clock import untraced_seconds
from tests.support.fixtures import ROOT as FIXTURES
from tests.support.fixtures import needs_fixtures
from tests.support.mariadb import Database, Server
from tests.support.nasty import BROKEN_UTF8 as BROKEN
from tests.support.nasty import TEXTS
from tests.support.tools import ROOT

KUMAS = ROOT / "tests" / "schemas" / "2.3-mariadb.sql"
MORE = (
    "datetime(3)", "datetime(6)", "timestamp(3)", "date", "time(3)", "char(5)", "tinytext",
    "tinytext CHARACTER SET utf8mb3", "tinytext CHARACTER SET latin1", "mediumtext", "float",
    "double unsigned", "double(10,3)", "mediumint", "bigint unsigned", "varbinary(5)", "tinyblob",
    "varchar(5) CHARACTER SET latin1", "varchar(5) CHARACTER SET ascii",
    "varchar(5) COLLATE utf8mb4_bin", "enum('it''s','a,b','Été')",
)  # fmt: skip
"""Types that a later Kuma, or an operator's own hand, could give a column."""
STRICT = "STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION"


@dataclass(frozen=True)
class Columns:
    """One column of each type, each in a table `t<number>` of its own."""

    columns: Sequence[Column] = field(repr=False)
    cursor: Any = field(repr=False)

    def store(self, number: int, value: Any) -> Any:
        """What reads back of a value; raises pymysql.err.Error, or Warning for what is warned."""
        self.cursor.connection.rollback()
        # what is no UTF-8 goes as bytes, as a driver would have to
        if isinstance(value, str) and not _plain(value):
            value = value.encode("utf-8", "surrogateescape")
        self.cursor.execute(f"INSERT INTO t{number} VALUES (%s)", (value,))
        self.cursor.execute("SELECT @@warning_count")  # the warnings' texts may be no UTF-8
        if self.cursor.fetchone()[0]:
            raise Warning(value)
        self.cursor.execute(f"SELECT v FROM t{number}")
        return self.cursor.fetchone()[0]


def _plain(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def declared(database: Database) -> list[str]:
    """Each type of Kuma's columns once, and more."""
    sql = (
        "SELECT DISTINCT column_type, character_set_name, collation_name "
        "FROM information_schema.columns WHERE table_schema = ? ORDER BY 1, 2, 3"
    )
    kumas = [
        f"{kind} CHARACTER SET {charset} COLLATE {collation}" if charset else kind
        for kind, charset, collation in database.query(sql, (database.name,))
    ]
    assert len(kumas) >= 30
    return [*kumas, *MORE]


@pytest.fixture(scope="module")
def columns(mariadb: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Columns]:
    folder: Path = tmp_path_factory.mktemp("columns")
    types = declared(mariadb.database("a3_kuma", folder / "kuma").load(KUMAS))
    database = mariadb.database("a3_values", folder / "values")
    for number, kind in enumerate(types):
        database.edit(f"CREATE TABLE t{number} (v {kind} NULL DEFAULT NULL)")
    sql = (
        "SELECT column_type, character_set_name, collation_name FROM information_schema.columns "
        "WHERE table_schema = ? AND table_name = ?"
    )
    found = []
    for number in range(len(types)):
        ((kind, charset, collation),) = database.query(sql, (database.name, f"t{number}"))
        found.append(Column("v", kind, False, None, charset or "", collation or ""))
    options = {"sql_mode": STRICT, "autocommit": False}
    with closing(database.connect(**options)) as connection, connection.cursor() as cursor:
        cursor.execute("SET time_zone = '+00:00'")
        yield Columns(found, cursor)


moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)) | st.datetimes(
    datetime(1969, 12, 31), datetime(2038, 1, 20)
)
dates = st.builds(
    lambda at, joint, kind, end: f"{at:%Y}".rjust(4, "0") + f"-{at:%m-%d}{joint}{at:{kind}}{end}",
    moments,
    st.sampled_from("T "),
    st.sampled_from(("%H:%M", "%H:%M:%S", "%H:%M:%S.000", "%H:%M:%S.%f")),
    st.sampled_from(("", "", "Z", "+00:00", "-00:00", "+02:00", "-1130", " ", "x")),
)
spans = st.from_regex(r"-?[0-9]{1,3}:[0-7][0-9](:[0-7][0-9](\.[0-9]{1,7})?)?", fullmatch=True)
numerals = st.from_regex(r"[ ]?[+-]?[0-9]{0,20}\.?[0-9]{0,5}(e[+-]?[0-9]{1,3})?[ x]?",
                         fullmatch=True)  # fmt: skip
numbers = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.builds(lambda bits, by: 2**bits + by, st.sampled_from((7, 8, 15, 16, 23, 24, 31, 32, 53)),
              st.integers(-2, 2)).flatmap(lambda n: st.sampled_from((n, -n))),
    st.floats(allow_nan=False),
    st.floats(allow_nan=False, width=32),
    st.integers(-(10**6), 10**6).map(lambda n: n / 100),
    st.integers(-(2**40), 2**40).map(float),
)  # fmt: skip
lengths = st.sampled_from((1, 2, 4, 5, 6, 10, 20, 25, 30, 32, 50, 51, 64, 85, 127, 128, 150, 200,
                           250, 255, 2000, 16384, 21845, 32768, 65535))  # fmt: skip
long = st.builds(
    lambda char, length, by, end: char * max(length + by, 0) + end,
    st.sampled_from(("a", "é", "日", "🧪", " ", "\x00")),
    lengths,
    st.integers(-1, 1),
    st.sampled_from(("", " ", "é")),
)
words = st.sampled_from(
    ("1", "2C", "2c ", "3", "2ç", "GOOGLE", "Ümami", "", "it's", "IT'S", "a,b", "ete", "2", "true")
)
values = st.one_of(
    numbers,
    numerals,
    dates,
    spans,
    words,
    long,
    st.text(st.characters(codec="utf-8")),
    st.sampled_from(TEXTS),
    st.binary(max_size=6),
    # as bytes a server takes surrogates, and its drivers choke on them
    st.sampled_from([r.decode("utf-8", "surrogateescape") for r in BROKEN if b"\xed" not in r]),
)


def exactly(value: Any) -> tuple[type, str]:
    """1 and 1.0, 0.0 and -0.0 are not the same in a dump."""
    return type(value), repr(value)


def changes(columns: Columns, number: int, value: Any) -> bool:
    """Whether the server refuses a value, warns of it, or gives another back."""
    try:
        return exactly(columns.store(number, value)) != exactly(value)
    except (pymysql.err.Error, Warning):
        return True
    except (ValueError, OverflowError):  # PyMySQL itself: an infinity
        return True


def likely(column: Column) -> st.SearchStrategy[Any]:
    """Values that a column of this type is most likely to be given, right and nearly right."""
    kind = column.type
    if kind.startswith(("date", "timestamp")):
        return dates
    if kind.startswith("time"):
        return spans
    if kind.startswith("enum"):
        return words
    return long if column.charset or "bin" in kind or "blob" in kind else numbers | numerals


@settings(max_examples=1000, deadline=None)
@given(data=st.data())
def test_what_is_accepted_reads_back_equal_and_what_is_refused_would_not(
    columns: Columns, data: st.DataObject
) -> None:
    number = data.draw(st.integers(0, len(columns.columns) - 1))
    column = columns.columns[number]
    value = data.draw(likely(column) | values)
    convert = MariadbRepresentation().converter("monitor", column)
    assert convert is not None, column
    said = misfit = None
    try:
        said = convert(value)
    except Misfit as caught:
        said, misfit = caught.fitting, caught
    if misfit is not None:
        assert changes(columns, number, value), (column.type, misfit)
        if said is None:
            return
    assert exactly(columns.store(number, said)) == exactly(said), column.type
    assert exactly(convert(said)) == exactly(said), column.type


def plain_column(kind: str, charset: str = "utf8mb4") -> Column:
    return Column("v", kind, False, None, charset, f"{charset}_general_ci")


def outcome(column: Column, value: Any) -> Any:
    """What the column holds of a value, or the reason why it does not, and what is left."""
    convert = MariadbRepresentation().converter("monitor", column)
    assert convert is not None
    try:
        return convert(value)
    except Misfit as misfit:
        return str(misfit), misfit.fitting


FRACTION = "has a fraction where only whole numbers fit"
RANGE = "is out of the column's range"
SECONDS = "has fractions of a second"


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("datetime", "2031-05-01T10:00", "2031-05-01 10:00:00"),
        ("datetime", "2031-05-01T10:00:00.000Z", "2031-05-01 10:00:00"),
        ("datetime", "2031-05-01 10:00:00+00:00", "2031-05-01 10:00:00"),
        ("datetime", "2031-05-01", "2031-05-01 00:00:00"),
        ("datetime", "0000-00-00 00:00:00", "0000-00-00 00:00:00"),
        ("datetime", "2031-05-01 10:00:00.5", (SECONDS, "2031-05-01 10:00:00")),
        ("datetime(3)", "2031-05-01 10:00:00.5", "2031-05-01 10:00:00.500"),
        ("datetime(3)", "2031-05-01 10:00:00.1234", (SECONDS, "2031-05-01 10:00:00.123")),
        ("datetime", "2031-05-01 10:00:00+02:00",
         ("has an offset that is not UTC", "2031-05-01 08:00:00")),
        ("datetime", "2031-02-30 10:00:00", ("is no date", None)),
        ("datetime", 1935568800000, ("is no date", None)),
        ("datetime", "", ("is no date", None)),
        ("timestamp", "2038-01-19 03:14:08", (RANGE, None)),
        ("date", "2031-05-01 10:00", ("has a time where only a date fits", "2031-05-01")),
        ("time", "02:00", "02:00:00"),
        ("time", "2:00:00.000", "02:00:00"),
        ("time", "25:61", ("is no time", None)),
        ("time", "839:00", (RANGE, None)),
        ("int(10) unsigned", 2**32, (RANGE, None)),
        ("int(10) unsigned", -1, (RANGE, None)),
        ("int(11)", 20.0, 20),
        ("int(11)", 20.5, (FRACTION, 20)),
        ("int", "12", 12),
        ("int(11)", "twelve", ("is no number", None)),
        ("int(11)", b"12", ("is no number", None)),
        ("int(11)", float("inf"), ("is infinite", None)),
        ("tinyint(1)", 1, 1),
        ("tinyint(1)", 128, (RANGE, None)),
        ("double", 48, 48.0),
        ("double", -0.0, 0.0),
        ("double", float("-inf"), (RANGE, None)),
        ("double", 2**53 + 1, ("has more digits than the column holds", 2.0**53)),
        ("double", "1e400", (RANGE, None)),
        ("enum('1','2c','3')", "2C", "2c"),
        ("enum('1','2c','3')", 3, "3"),
        ("enum('1','2c','3')", "2", ("is none of the values that the column takes", None)),
        ("varchar(4)", "abcde", ("has 5 characters where 4 fit", "abcd")),
        ("varchar(4)", "abcd ", ("has 5 characters where 4 fit", "abcd")),
        ("varchar(4)", "🧪🧪🧪🧪", "🧪🧪🧪🧪"),
        ("varchar(4)", 5, "5"),
        ("varchar(4)", b"abc", ("is binary where text belongs", "abc")),
        ("varchar(4)", b"\xff", ("is binary where text belongs", None)),
        ("varchar(9)", "caf\udce9", ("is no UTF-8", "caf?")),
        ("text", "é" * 32_768, ("has 65536 bytes where 65535 fit", "é" * 32_767)),
        ("longtext", "é" * 32_768, "é" * 32_768),
        ("text", '{"json": [1, 2]}', '{"json": [1, 2]}'),
        ("geometry of tomorrow", "x", None),
    ],
)  # fmt: skip
def test_a_value_becomes_or_does_not_fit(kind: str, value: Any, expected: Any) -> None:
    if expected is None:
        assert MariadbRepresentation().converter("monitor", plain_column(kind)) is None
    else:
        assert exactly(outcome(plain_column(kind), value)) == exactly(expected)


def test_a_reason_shows_no_value() -> None:
    secret = "S3CRET" * 20_000
    for kind in ("int(11)", "double", "datetime", "time", "enum('1')", "varchar(9)", "text"):
        reason, _fitting = outcome(plain_column(kind), secret)
        assert "S3CRET" not in reason


def test_characters_that_a_charset_lacks_become_question_marks() -> None:
    lacks = "has characters that the column does not hold"
    narrow = plain_column("varchar(9)", "utf8mb3")
    assert outcome(narrow, "日本🧪") == (lacks, "日本?")
    assert outcome(plain_column("varchar(9)", "latin1"), "€ł\x81") == (lacks, "€?\x81")
    assert outcome(plain_column("varchar(2)", "ascii"), "éa") == (lacks, "?a")


def from_server(columns: Columns) -> MariadbRepresentation:
    def query(sql: str, texts: Sequence[str]) -> Sequence[Sequence[Any]]:
        columns.cursor.execute(sql, tuple(texts))
        found: Sequence[Sequence[Any]] = columns.cursor.fetchall()
        return found

    return MariadbRepresentation(ask(query))


def test_general_ci_is_exact_for_each_character(columns: Columns) -> None:
    texts = [chr(code) for code in range(0x10000) if not 0xD800 <= code < 0xE000]
    texts += ["\U00010000", "🧪", "\U0010ffff"]
    for charset in ("utf8mb4", "utf8mb3"):
        known = [t for t in texts if charset == "utf8mb4" or t < "\U00010000"]
        exact = from_server(columns).fold(plain_column("text", charset), known)
        mine = ["" if text == " " else general_ci(text) for text in known]
        differ = [
            (text, weight)
            for text, weight, near in zip(known, exact, mine, strict=True)
            if near.encode("utf-16-be") != (b"\xff\xfd" if text > "\uffff" else weight)
        ]
        assert differ == [], charset
        if charset == "utf8mb4":
            assert set(exact[-3:]) == {b"\xff\xfd"}


COLLATIONS = ("utf8mb4_general_ci", "utf8mb4_unicode_ci", "utf8mb4_unicode_520_nopad_ci",
              "utf8mb4_bin", "utf8mb4_nopad_bin", "utf8mb4_uca1400_ai_ci")  # fmt: skip

ODD = "aAäÄ sSßﬀfF\u0131\u0130日🧪😀\u0301\u200b\x00"


@settings(max_examples=300, deadline=None)
@given(
    collation=st.sampled_from(COLLATIONS),
    text=st.text(st.sampled_from(ODD), max_size=4),
    other=st.text(st.sampled_from(ODD), max_size=4),
)
@example(collation="utf8mb4_general_ci", text="Admin", other="admin ")
@example(collation="utf8mb4_bin", text="a", other="a ")
def test_texts_fold_alike_where_a_server_takes_them_for_one(
    columns: Columns, collation: str, text: str, other: str
) -> None:
    column = Column("v", "varchar(9)", False, None, "utf8mb4", collation)
    one, two = from_server(columns).fold(column, [text, other])
    columns.cursor.execute(
        f"SELECT CONVERT(%s USING utf8mb4) COLLATE {collation} = %s", (text, other)
    )
    assert (one == two) is bool(columns.cursor.fetchone()[0])
    if collation == "utf8mb4_general_ci" or collation.endswith("_bin"):
        near, by = MariadbRepresentation().fold(column, [text, other])
        assert (near == by) is (one == two)


def test_text_that_no_server_takes_folds_to_itself(columns: Columns) -> None:
    column = plain_column("varchar(9)")
    folded = from_server(columns).fold(column, ["a", "\udcff", "A", "\udcff"])
    assert folded[0] == folded[2] != folded[1] == folded[3]


def test_many_texts_are_asked_for_in_batches(columns: Columns) -> None:
    texts = [f"name {number}" for number in range(1200)]
    assert len(set(from_server(columns).fold(plain_column("varchar(9)"), texts))) == 1200


@pytest.mark.parametrize(
    ("kind", "one", "other", "expected"),
    [
        ("datetime", "2031-05-01T10:00", "2031-05-01 10:00:00", True),
        ("datetime(3)", "2031-05-01 10:00:00.000", "2031-05-01 10:00:00", True),
        ("timestamp", "2031-05-01 10:00:00Z", "2031-05-01 10:00:01", False),
        ("time", "02:00", "02:00:00", True),
        ("int(10) unsigned", 1, 1.0, True),
        ("tinyint(1)", 1, 0, False),
        ("double", 48, 48.0, True),
        ("double", "48", 48.0, False),
    ],
)
def test_values_mean_the_same_by_the_columns_type(
    kind: str, one: Any, other: Any, expected: bool
) -> None:
    same = MariadbRepresentation().same(plain_column(kind))
    assert same is not None
    assert same(one, other) is same(other, one) is expected


def test_text_means_the_same_only_where_it_is_equal() -> None:
    for kind in ("varchar(255)", "text", "longtext", "enum('1','2c','3')", "blob"):
        assert MariadbRepresentation().same(plain_column(kind)) is None


@needs_fixtures
@pytest.mark.parametrize("state", ["leader-1", "leader-2"])
def test_what_a_real_mariadb_holds_stays_as_it_is(
    mariadb: Server, tmp_path: Path, state: str
) -> None:
    database = mariadb.database("held", tmp_path)
    database.load(FIXTURES / "2.3.2-mariadb" / f"{state}.sql.gz")
    looked_at = 0
    for table, known in COLUMNS.items():
        for name, column in known.items():
            convert = MariadbRepresentation().converter(table, column)
            assert convert is not None
            for (value,) in database.query(f'SELECT "{name}" FROM "{table}"'):
                if value is not None:
                    looked_at += 1
                    assert exactly(convert(value)) == exactly(value), (table, name)
    assert looked_at > 1000


def test_converting_ten_thousand_monitors_takes_well_under_half_a_second() -> None:
    row: dict[str, Any] = {
        "int": 7, "tin": 1, "sma": 1, "dou": 48.5, "enu": "2c", "var": "text", "tex": "text",
        "dat": "2031-05-01T10:00",
    }  # fmt: skip
    pairs = [
        (MariadbRepresentation().converter("monitor", column), row[column.type[:3]])
        for column in COLUMNS["monitor"].values()
    ]

    def work() -> None:
        for _ in range(10_000):
            for convert, value in pairs:
                assert convert is not None
                convert(value)

    assert untraced_seconds(work) < 1.0  # 0.2 s on a machine of its own


def test_a_text_far_longer_than_any_value_of_an_enum_is_none_of_them(columns: Columns) -> None:
    """Nine million letters weigh more than max_allowed_packet: a server says NULL of them."""
    for held in (from_server(columns), MariadbRepresentation()):
        convert = held.converter("monitor", plain_column("enum('1','2c','3')"))
        assert convert is not None
        for value in ("a" * 9_000_000, "2c" * 200):
            with pytest.raises(Misfit, match="none of the values"):
                convert(value)
        assert convert("2C" + " " * 1000) == "2c"


def test_a_text_that_a_server_does_not_weigh_is_like_no_other(columns: Columns) -> None:
    texts = ["A", "a" * 9_000_000, "a ", "b"]
    first, long, second, other = from_server(columns).fold(plain_column("longtext"), texts)
    assert first == second
    assert len({first, long, other}) == 3
