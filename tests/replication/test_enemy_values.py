"""An enemy's values are values: whatever is in them, an engine writes them and runs none of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.adapters.repository import Label, Position
from replicator_kuma.base.errors import NotAsWritten, SnapshotRefused
from replicator_kuma.dump.catalog import TABLES
from replicator_kuma.replication.instance import Outcome
from tests.support import databases
from tests.support.cycles import fill, follow, lead
from tests.support.dumps import dump_of, rewrite
from tests.support.engines import Engine, MariadbEngine, SqliteEngine
from tests.support.folder_repository import FolderRepository
from tests.support.instances import RecordingKuma, make_instance
from tests.support.mariadb import Server

INJECTIONS = (
    "'); DROP TABLE monitor; --",
    "'; DELETE FROM user; --",
    '"; DELETE FROM user; --',
    "`; DELETE FROM user; --",
    "\\'; DELETE FROM user; -- ",
    "\\\\'; DELETE FROM user; -- ",
    "1 OR 1=1",
    "/*!50000 DROP TABLE user */",
    "%s %(x)s %d {0} ? :name $1",
    "x' || (SELECT password FROM user) || 'y",
    "x', (SELECT password FROM user LIMIT 1), 'y",
    "\x00'; DELETE FROM user; --",
    "\u0000\u001a\u00bf'; DELETE FROM user; --",
    "</style><script>alert(1)</script>",
    "{{constructor.constructor('return process')()}}",
    "'" * 51,
    "\\" * 51,
)
KEPT = ("tag", "user", "monitor", "notification", "heartbeat", "setting")


@pytest.fixture(params=["sqlite", "mariadb"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        yield SqliteEngine(tmp_path / "replica")
        return
    server: Server = request.getfixturevalue("mariadb")
    yield MariadbEngine("mariadb", lambda: server.database("enemy", tmp_path / "replica"))


def test_sql_and_html_in_values_travel_as_they_are(engine: Engine, tmp_path: Path) -> None:
    engine.build(monitors=3, heartbeats=2)
    repository = FolderRepository(tmp_path / "repository")
    repository.init()
    (tmp_path / "leader").mkdir()
    database = fill(tmp_path / "leader", monitors=20)
    names = [f"{text} {number}" for number, text in enumerate(INJECTIONS)]
    for number, name in enumerate(names, 1):
        databases.edit(
            database,
            ("UPDATE monitor SET name = ?, description = ? WHERE id = ?", (name, name, number)),
        )
    page = "</style><script>" + "".join(INJECTIONS)
    databases.edit(
        database,
        ("UPDATE status_page SET custom_css = ?, footer_text = ?", (page, page)),
        ("UPDATE setting SET value = ? WHERE \"key\" = 'entryPage'", (page,)),
        ("UPDATE user SET username = ?", (INJECTIONS[0],)),
    )
    lead(make_instance(tmp_path / "leader", repository, name="leader"))
    beats = engine.query("SELECT count(*) FROM heartbeat WHERE monitor_id <= 3")
    replica = make_instance(engine.data_dir, repository, name="replica", store=engine.store())
    assert follow(replica, reconcile=True).outcome is Outcome.APPLIED

    assert set(KEPT) <= set(engine.columns())
    found = engine.query("SELECT name, description FROM monitor WHERE id <= 17 ORDER BY id")
    assert found == [(name, name) for name in names]
    assert engine.query("SELECT custom_css, footer_text FROM status_page WHERE id = 1") == [
        (page, page)
    ]
    assert engine.query("SELECT value FROM setting WHERE \"key\" = 'entryPage'") == [(page,)]
    assert engine.query("SELECT id, username FROM user") == [(1, INJECTIONS[0])]
    assert engine.query("SELECT count(*) FROM heartbeat WHERE monitor_id <= 3") == beats
    again = make_instance(engine.data_dir, repository, name="replica", store=engine.store())
    assert follow(again, reconcile=True).outcome is Outcome.NOTHING
    shutil.rmtree(tmp_path / "leader")


WRONG: dict[str, tuple[str, Any]] = {
    "text in numbers": ("monitor", "'; DROP TABLE monitor; --"),
    "a blob": ("monitor", {"blob": "AP8="}),
    "infinity": ("monitor", {"real": "-inf"}),
    "bytes that are no UTF-8": ("monitor", "\udcff"),
    "a number in texts": ("setting", -(2**63)),
    "a long text": ("setting", "x" * 70_000),
}


@pytest.mark.parametrize(("table", "value"), WRONG.values(), ids=WRONG)
def test_wrong_types_are_refused_or_written_as_they_are(
    table: str, value: Any, engine: Engine, tmp_path: Path
) -> None:
    """In every column but the key at once. Nothing half, and only errors that are documented."""
    engine.build(monitors=3)
    genuine = SqliteEngine(tmp_path / "leader")
    genuine.build(monitors=3)
    dump = dump_of(genuine.path, tmp_path / "dump")
    keys = len(TABLES[table].key)

    def bend(lines: list[bytes]) -> list[bytes]:
        row = json.loads(lines[1])
        row[keys:] = [value] * len(row[keys:])
        text = json.dumps(row, separators=(",", ":")).encode() + b"\n"
        return [lines[0], text, *lines[2:]]

    made = rewrite(dump, table, bend)
    repository = FolderRepository(tmp_path / "repository")
    repository.init()
    manifest = made.manifest
    repository.add(
        made.folder,
        Label("default", Position(1, 1), manifest.digest, manifest.fingerprint, "w", "l"),
    )
    before = {name: engine.rowset(name) for name in KEPT}
    kuma, ends = RecordingKuma(), []
    for _cycle in range(2):
        store = engine.store()
        replica = make_instance(engine.data_dir, repository, name="replica", store=store, kuma=kuma)
        try:
            ends.append(follow(replica).outcome.name)
        except (SnapshotRefused, NotAsWritten) as error:
            ends.append(type(error).__name__)
        if ends[-1] not in ("APPLIED", "NOTHING"):
            assert {name: engine.rowset(name) for name in KEPT} == before
    assert ends[0] != "APPLIED" or ends[1] == "NOTHING"
    assert kuma.log.count("stop") <= 1, ends  # it is not tried again
    assert kuma.up
