"""One canonical form: equal rows are equal bytes, however they lie on disk."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest

from replicator_kuma.dump.catalog import TABLES
from replicator_kuma.dump.files import hash_file
from replicator_kuma.dump.format import Dump, accepts
from replicator_kuma.dump.manifest import MANIFEST
from tests.support.databases import VERSIONS, build, create, edit, insert, query
from tests.support.dumps import digest_of, dump_of


@pytest.fixture(scope="module")
def leader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = build(tmp_path_factory.mktemp("leader") / "kuma.db", monitors=60, heartbeats=2)
    (path.parent / "upload").mkdir()
    (path.parent / "upload" / "logo2.png").write_bytes(b"\x89PNG\r\n pixels")
    return path


def copied(leader: Path, target: Path, rows: str = "") -> Path:
    """The same rows in another database, inserted in another order."""
    with closing(sqlite3.connect(target, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("ATTACH ? AS source", (str(leader),))
        connection.execute("BEGIN")
        for name in TABLES:
            connection.execute(f'DELETE FROM main."{name}"')
            connection.execute(f'INSERT INTO main."{name}" SELECT * FROM source."{name}" {rows}')
        connection.execute("COMMIT")
    return target


@pytest.mark.parametrize("version", VERSIONS)
def test_dump_has_every_row_of_every_table(version: str, tmp_path: Path) -> None:
    path = build(tmp_path / "kuma.db", version, monitors=30)
    dump = dump_of(path, tmp_path / "dump")
    dump.verify()
    for name, entry in dump.manifest.tables.items():
        where = "WHERE type = 'general'" if name == "setting" else ""
        assert [(entry.rows,)] == query(path, f'SELECT count(*) FROM "{name}" {where}'), name
        assert len(list(dump.lines(name))) == entry.rows
    assert set(dump.manifest.tables) == set(TABLES) - (
        {"remote_browser"} if version == "1.23" else set()
    )
    assert dump.manifest.monitors == 30


def test_dump_files(leader: Path, tmp_path: Path) -> None:
    dump = dump_of(leader, tmp_path / "dump")
    names = {str(p.relative_to(dump.folder)) for p in dump.folder.rglob("*") if p.is_file()}
    assert all(map(accepts, names))
    assert "files/upload/logo2.png" in names
    for table, entry in dump.manifest.tables.items():
        assert (f"runtime/{table}.jsonl" in names) == bool(entry.runtime)
        assert dump.columns(table)[: len(TABLES[table].key)] == TABLES[table].key
        rest = dump.columns(table)[len(TABLES[table].key) :]
        assert list(rest) == sorted(rest)
    assert dump.columns("monitor", "runtime") == ("dns_last_result",)
    assert dump.columns("monitor_tag", "runtime") == ("id",)


def test_files_are_private(leader: Path, tmp_path: Path) -> None:
    dump = dump_of(leader, tmp_path / "dump")
    for path in dump.folder.rglob("*"):
        if "files" not in path.parts:
            assert path.stat().st_mode & 0o077 == 0, path


def test_no_setting_but_the_chosen_ones(leader: Path, tmp_path: Path) -> None:
    dump = dump_of(leader, tmp_path / "dump")
    assert dump.columns("setting") == ("key", "type", "value")
    keys = [json.loads(line)[0] for line, _runtime in dump.lines("setting")]
    assert keys == ["entryPage", "keepDataPeriodDays", "steamAPIKey"]
    everything = b"".join(p.read_bytes() for p in dump.folder.rglob("*") if p.is_file())
    assert b"jwt" not in everything
    assert b"cloudflared" not in everything


def test_a_dump_has_no_time_host_or_path(leader: Path, tmp_path: Path) -> None:
    one, two = dump_of(leader, tmp_path / "one"), dump_of(leader, tmp_path / "deep" / "two")
    for path in one.folder.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (two.folder / path.relative_to(one.folder)).read_bytes()
    manifest = (one.folder / MANIFEST).read_text()
    assert str(tmp_path) not in manifest
    assert os.uname().nodename not in manifest
    names = ["digest", "engine", "files", "format", "schema", "settings", "tables"]
    assert list(json.loads(manifest)) == names


def test_a_manifest_opens_as_it_was_written(leader: Path, tmp_path: Path) -> None:
    dump = dump_of(leader, tmp_path / "dump")
    opened = Dump.open(dump.folder)
    assert opened.manifest == dump.manifest
    assert list(opened.manifest.tables) == [n for n in TABLES if n in dump.manifest.tables]
    assert re.fullmatch("[0-9a-f]{64}", opened.manifest.digest)
    assert opened.manifest.rows == sum(e.rows for e in dump.manifest.tables.values())


def test_vacuum_changes_nothing(leader: Path, tmp_path: Path) -> None:
    path = copied(leader, create(tmp_path / "kuma.db"))
    before = digest_of(path)
    edit(path, "DELETE FROM heartbeat", "DROP INDEX monitor_time_index")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("VACUUM")
    assert digest_of(path) == before == digest_of(leader)


@pytest.mark.parametrize("page_size", [512, 1024, 65536])
@pytest.mark.parametrize("auto_vacuum", [0, 1, 2])
def test_page_layout_changes_nothing(
    leader: Path, tmp_path: Path, page_size: int, auto_vacuum: int
) -> None:
    path = create(tmp_path / "kuma.db", page_size=page_size, auto_vacuum=auto_vacuum)
    copied(leader, path, "ORDER BY id DESC")
    assert query(path, "PRAGMA page_size") == [(page_size,)]
    assert query(path, "PRAGMA auto_vacuum") == [(auto_vacuum,)]
    assert digest_of(path) == digest_of(leader)


@pytest.mark.parametrize("order", ["ORDER BY id DESC", "ORDER BY random()"])
def test_order_of_insertion_changes_nothing(leader: Path, tmp_path: Path, order: str) -> None:
    path = copied(leader, create(tmp_path / "kuma.db"), order)
    one, two = dump_of(leader, tmp_path / "one"), dump_of(path, tmp_path / "two")
    assert one.manifest.tables == two.manifest.tables  # also what lies outside the digest


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
def test_text_encoding_changes_nothing(tmp_path: Path, encoding: str) -> None:
    digests = set()
    for name in ("UTF-8", encoding):
        path = create(tmp_path / name / "kuma.db", encoding=name)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for text in ("plain", "ünïcödé 🧪", "\U0010ffff", 'quote " and \\', "line\r\nend"):
                insert(connection, "tag", name=text, color="", created_date="2025-01-01")
        assert query(path, "PRAGMA encoding") == [(name,)]
        digests.add(digest_of(path))
    assert len(digests) == 1


def test_wal_mode_changes_nothing(leader: Path, tmp_path: Path) -> None:
    path = copied(leader, create(tmp_path / "kuma.db", wal=True))
    assert query(path, "PRAGMA journal_mode") == [("wal",)]
    assert digest_of(path) == digest_of(leader)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE monitor SET dns_last_result = 'other'",
        "UPDATE user SET twofa_last_token = '123456'",
        "UPDATE maintenance SET last_start_date = '2025-05-05'",
        "UPDATE status_page SET modified_date = '2025-05-05'",
        "UPDATE monitor_tag SET id = id + 1000",
        "UPDATE monitor_group SET id = 1000 - id",
        "UPDATE monitor_notification SET id = -id",
        "UPDATE status_page_cname SET id = id + 1000",
        "UPDATE setting SET id = id + 1000",
        "UPDATE setting SET value = 'x' WHERE key = 'jwtSecret'",
        "INSERT INTO setting (key, value) VALUES ('neverHeardOf', 'x')",
        "DELETE FROM heartbeat",
        "DELETE FROM sqlite_sequence",
        "CREATE INDEX extra ON monitor (name)",
    ],
)
def test_what_is_no_change(leader: Path, tmp_path: Path, change: str) -> None:
    path = copied(leader, create(tmp_path / "kuma.db"))
    before = digest_of(path)
    edit(path, change)
    assert digest_of(path) == before


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE monitor SET name = name || ' ' WHERE id = 7",
        "UPDATE monitor SET description = NULL WHERE description = 'null'",
        "UPDATE monitor SET description = CAST(description AS BLOB) WHERE id = 1",
        "UPDATE monitor SET timeout = 38.4 WHERE id = 1",
        "UPDATE monitor SET id = 1000 WHERE id = 60",
        "UPDATE monitor_tag SET value = value || 'x' WHERE id = 1",
        "UPDATE setting SET value = '181' WHERE key = 'keepDataPeriodDays'",
        "UPDATE setting SET type = NULL WHERE key = 'keepDataPeriodDays'",
        "DELETE FROM monitor_tag WHERE id = 5",
        "INSERT INTO monitor_tag (monitor_id, tag_id, value) VALUES (1, 1, 'again')",
        "INSERT INTO setting (key, value) VALUES ('checkBeta', 'true')",
        "ALTER TABLE monitor ADD COLUMN brand_new TEXT",
    ],
)
def test_what_is_a_change(leader: Path, tmp_path: Path, change: str) -> None:
    path = copied(leader, create(tmp_path / "kuma.db"))
    before = digest_of(path)
    edit(path, change)
    assert digest_of(path) != before


def test_a_link_twice_is_two_rows(leader: Path, tmp_path: Path) -> None:
    """Rows of an unkeyed table that tie are there as often as they are."""
    path = copied(leader, create(tmp_path / "kuma.db"))
    link = "INSERT INTO monitor_tag (monitor_id, tag_id, value) VALUES (1, 12, 'same')"
    digests = [digest_of(path)]
    for _ in range(3):
        edit(path, link)
        digests.append(digest_of(path))
    assert len(set(digests)) == 4


def test_digest_is_that_of_an_older_run(tmp_path: Path) -> None:
    """Pinned: a digest that changes makes every leader publish and every replica restart."""
    path = create(tmp_path / "kuma.db", "1.23")
    edit(
        path,
        "INSERT INTO user (id, username, password) VALUES (1, 'admin', NULL)",
        "INSERT INTO tag (id, name, color, created_date) VALUES (1, 'é🧪', x'00ff', 0.1)",
        "INSERT INTO tag (id, name, color, created_date) VALUES (2, 'x', '', 9e999)",
    )
    dump = dump_of(path, tmp_path / "dump")
    lines = (dump.folder / "tables" / "tag.jsonl").read_bytes().splitlines()
    assert lines == [
        b'["id","color","created_date","name"]',
        b'[1,{"blob":"AP8="},0.1,"\\u00e9\\ud83e\\uddea"]',
        b'[2,"",{"real":"inf"},"x"]',
    ]
    assert dump.manifest.digest == (
        "7b0e5ba85a3413766331cb1e12fa19b3c0bb5800cfb6e2a57f7b009df8308568"
    )


def test_hash_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    (tmp_path / "link").symlink_to(file)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    assert hash_file(file).startswith("ba7816bf")
    for name in ("link", "folder", "pipe", "absent", "file/below"):
        assert hash_file(tmp_path / name) == "", name


def test_memory_does_not_grow_with_rows(tmp_path: Path) -> None:
    peaks = []
    for monitors in (500, 5_000):
        path = build(tmp_path / str(monitors) / "kuma.db", monitors=monitors)
        digest_of(path)  # imports, and what is cached, are no growth
        tracemalloc.start()
        dump_of(path, tmp_path / str(monitors) / "dump")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.3 + 200_000, peaks
