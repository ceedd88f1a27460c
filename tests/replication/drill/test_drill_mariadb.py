"""Drills of an instance on MariaDB: a scratch database of their own on the same server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from replicator_kuma.adapters.database.detect import open_store
from replicator_kuma.adapters.database.mariadb.scratch import MARK, name_for
from replicator_kuma.adapters.kuma.throwaway import ThrowAway
from replicator_kuma.base.errors import (
    AlreadyRunning,
    DatabaseError,
    DatabaseUnreachable,
    DrillFailed,
    SettingsError,
)
from replicator_kuma.dump.format import Dump
from replicator_kuma.replication.drill.drill import drill, steps
from replicator_kuma.replication.instance import Instance
from tests.replication.drill.test_drill import killed_in_the_middle
from tests.support import mariadb_build
from tests.support.cycles import LOGO, lead, left_behind
from tests.support.dumps import rewrite
from tests.support.folder_repository import FolderRepository
from tests.support.instances import make_instance
from tests.support.mariadb import Database, Embedded, Server, short_folder
from tests.support.mariadb_fleet import Rows

NAME = "drilled"
SCRATCH = f"replicator_drill_{NAME}"


def as_root(server: Server, *statements: str) -> None:
    with closing(server.connect(sql_mode="")) as root, root.cursor() as cursor:
        for sql in statements:
            cursor.execute(sql)


def there(server: Server) -> list[str]:
    """The tables of the scratch database; empty where there is none."""
    with closing(server.connect()) as root, root.cursor() as cursor:
        sql = "SELECT table_name FROM information_schema.tables WHERE table_schema = %s"
        cursor.execute(sql, (SCRATCH,))
        return [row[0] for row in cursor.fetchall()]


def databases(server: Server) -> set[str]:
    with closing(server.connect()) as root, root.cursor() as cursor:
        cursor.execute("SHOW DATABASES")
        return {row[0] for row in cursor.fetchall()}


@pytest.fixture
def database(mariadb: Server, tmp_path: Path) -> Iterator[Database]:
    made = mariadb.database(NAME, tmp_path / "leader")
    mariadb_build.build(made, monitors=12, heartbeats=2)
    yield made
    as_root(mariadb, f"DROP DATABASE IF EXISTS {SCRATCH}")


@pytest.fixture
def leader(database: Database, repository: FolderRepository) -> Instance:
    folder = database.data_dir
    (folder / "upload").mkdir()
    (folder / "upload" / "logo2.png").write_bytes(LOGO)
    made = make_instance(folder, repository, name="leader", store=open_store(folder))
    lead(made)
    return made


@pytest.fixture
def allowed(leader: Instance, mariadb: Server) -> Instance:
    """A leader whose login may make the scratch, and nothing else."""
    for host in ("localhost", "127.0.0.1"):
        pattern = SCRATCH.replace("_", "\\_")
        as_root(mariadb, f"GRANT ALL PRIVILEGES ON `{pattern}`.* TO '{NAME}'@'{host}'")
    return leader


def test_the_scratch_is_a_database_of_its_own_and_goes(
    allowed: Instance, database: Database, mariadb: Server
) -> None:
    database.edit("CREATE TRIGGER t AFTER INSERT ON tag FOR EACH ROW UPDATE user SET active = 0")
    rows, names = Rows.of(database), databases(mariadb)
    course = steps(allowed)
    for _ in range(3):
        next(course)
    assert set(there(mariadb)) == {MARK, *database.columns()}
    loaded = Database(mariadb, SCRATCH, database.data_dir)
    sql = "SELECT * FROM monitor ORDER BY id"
    assert loaded.query(sql) == database.query(sql) != []
    assert loaded.query("SELECT count(*) FROM heartbeat") == [(0,)]
    assert list(course) == [None] * 0
    state = allowed.state.load()
    assert state.upkeep.drill is not None
    assert state.upkeep.drill.ok, state.upkeep.drill.sentence
    assert Rows.of(database) == rows
    assert databases(mariadb) == names
    assert left_behind(allowed) == []


def test_a_login_that_may_not_make_it_is_told_which_grant_it_needs(
    leader: Instance, mariadb: Server
) -> None:
    with pytest.raises(DatabaseError, match=r"could not make it.*1044") as caught:
        drill(leader)
    assert leader.state.load().upkeep.drill is None, "none took place"
    grant = re.search(r"GRANT .*?;", caught.value.hint)
    assert grant is not None
    as_root(mariadb, grant[0])
    assert drill(leader).as_dict()["monitors"] == 12


def test_another_s_database_of_that_name_is_left_alone(allowed: Instance, mariadb: Server) -> None:
    as_root(mariadb, f"CREATE DATABASE {SCRATCH}", f"CREATE TABLE {SCRATCH}.precious (id INT)")
    with pytest.raises(DatabaseError, match="no drill made it"):
        drill(allowed)
    assert there(mariadb) == ["precious"]


def test_what_a_killed_drill_left_is_dropped_by_the_next_cycle(
    allowed: Instance, mariadb: Server
) -> None:
    names = databases(mariadb)
    killed_in_the_middle(allowed)
    assert MARK in there(mariadb)
    lead(allowed)
    assert databases(mariadb) == names
    assert left_behind(allowed) == []


def test_two_drills_do_not_share_a_scratch(allowed: Instance, mariadb: Server) -> None:
    """Also where they have other state directories, as two containers have."""
    other = make_instance(
        allowed.data_dir.parent / "other", allowed.repository, store=allowed.store
    )
    course = steps(allowed)
    for _ in range(3):
        next(course)
    with pytest.raises(AlreadyRunning, match=SCRATCH):
        drill(other)
    assert MARK in there(mariadb)
    assert list(course) == []


def test_a_damaged_snapshot_fails_and_leaves_nothing(
    allowed: Instance, repository: FolderRepository, mariadb: Server
) -> None:
    (note,) = repository.folder.glob("*.json")
    rewrite(Dump.open(note.with_suffix("")), "tag", lambda lines: lines[:-1])
    names = databases(mariadb)
    with pytest.raises(DrillFailed, match="failed to fetch"):
        drill(allowed)
    assert databases(mariadb) == names


def test_a_throw_away_kuma_is_for_sqlite(allowed: Instance, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="boots on SQLite only"):
        drill(allowed, None, ThrowAway(["node"], tmp_path, {}, 1))


def test_long_names_have_a_place_too() -> None:
    assert name_for("kuma") == "replicator_drill_kuma"
    assert len(name_for("k" * 64)) <= 64
    assert name_for("k" * 64) != name_for("k" * 63)


def test_a_database_inside_kuma_is_drilled_while_kuma_runs(
    repository: FolderRepository, tmp_path: Path
) -> None:
    with short_folder() as folder:
        with Embedded(folder / "data") as server:
            mariadb_build.build(server.kuma(), monitors=12, heartbeats=1)
            made = make_instance(server.folder, repository, store=open_store(server.folder))
            lead(made)
            assert made.store.embedded
            names = databases(server)
            assert drill(made).as_dict()["monitors"] == 12
            assert databases(server) == names
        with pytest.raises(DatabaseUnreachable) as caught:
            drill(made)
        assert "start Kuma" in caught.value.hint
