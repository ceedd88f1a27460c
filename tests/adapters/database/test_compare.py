"""The judge of the other tests: each difference that it must see, it sees."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import compare
from tests.support.databases import build, edit, query

Judge = Callable[[Path, Path], list[str]]

SEEN: list[tuple[str, Judge]] = [
    ("UPDATE monitor SET description = 5.0 WHERE id = 1", compare.config_differences),
    ("UPDATE monitor SET description = CAST(description AS BLOB)", compare.config_differences),
    ("UPDATE monitor SET name = name || ' ' WHERE id = 1", compare.config_differences),
    ("UPDATE monitor_tag SET id = 999 WHERE id = 1", compare.config_differences),
    ("DELETE FROM tag WHERE id = 12", compare.config_differences),
    ("UPDATE setting SET value = '1' WHERE key = 'entryPage'", compare.config_differences),
    ("UPDATE status_page SET modified_date = '2030'", compare.config_differences),
    ("UPDATE setting SET value = '1' WHERE key = 'jwtSecret'", compare.local_differences),
    ("INSERT INTO setting (key) VALUES ('another')", compare.local_differences),
    ("DELETE FROM knex_migrations WHERE id = 1", compare.local_differences),
    ("UPDATE monitor SET dns_last_result = 'x' WHERE id = 1", compare.staying_differences),
    ("UPDATE user SET twofa_last_token = 'x'", compare.staying_differences),
    ("UPDATE heartbeat SET msg = msg || 'x' WHERE id = 1", compare.staying_differences),
    ("DELETE FROM stat_daily WHERE monitor_id = 2", compare.staying_differences),
    ("UPDATE monitor_tls_info SET id = 999 WHERE id = 1", compare.staying_differences),
]


@pytest.mark.parametrize(("change", "judge"), SEEN)
def test_a_difference_is_seen(change: str, judge: Judge, tmp_path: Path) -> None:
    one = build(tmp_path / "kuma.db", monitors=10, heartbeats=2)
    two = tmp_path / "other.db"
    shutil.copyfile(one, two)
    assert judge(one, two) == []
    edit(two, change)
    assert judge(one, two) != []
    assert judge(two, one) != []


@pytest.mark.parametrize(("table", "column", "parent"), compare.REFERENCES)
def test_an_orphan_is_seen(table: str, column: str, parent: str, tmp_path: Path) -> None:
    path = build(tmp_path / "kuma.db", monitors=10, heartbeats=2)
    assert compare.orphans(path) == []
    edit(path, f'UPDATE "{table}" SET "{column}" = 9999 WHERE id = (SELECT min(id) FROM "{table}")')
    assert compare.orphans(path) == [f"{table}.{column}: 1 point to no {parent}"]


def test_damage_is_seen(tmp_path: Path) -> None:
    path = build(tmp_path / "kuma.db", monitors=10)
    assert compare.damage(path) == []
    edit(path, "UPDATE sqlite_sequence SET seq = 3 WHERE name = 'monitor'")
    assert compare.damage(path) == ["monitor has id 10 above its counter 3"]
    edit(path, "INSERT INTO sqlite_sequence SELECT * FROM sqlite_sequence WHERE name = 'tag'")
    assert len(compare.damage(path)) == 2
    edit(path, "INSERT INTO monitor_tag (monitor_id, tag_id) VALUES (1, 999)")
    assert len(compare.damage(path)) == 3


def test_the_same_call_makes_the_same_rows(tmp_path: Path) -> None:
    """No default that is the time of day: tests that compare two databases would fail at times."""
    one = build(tmp_path / "one" / "kuma.db", monitors=10, heartbeats=2)
    for table in ("monitor", "tag", "group", "incident", "api_key", "status_page", "proxy"):
        sql = f"SELECT count(*) FROM \"{table}\" WHERE created_date <> '2025-01-01 00:00:00'"
        assert query(one, sql) == [(0,)], table
