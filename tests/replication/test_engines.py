"""Fleets of two engines: what comes over, what is no change, and what is refused before a stop."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from replicator_kuma.adapters.database.detect import open_store
from replicator_kuma.base.errors import DatabaseError, SnapshotMisfit
from replicator_kuma.dump.catalog import SETTINGS
from replicator_kuma.dump.transform.policy import Policy
from replicator_kuma.replication.instance import Instance, Outcome
from tests.support import databases
from tests.support.cycles import db, follow, lead, rename, state_of, take_over
from tests.support.folder_repository import FolderRepository
from tests.support.instances import RecordingKuma, make_instance
from tests.support.mariadb import Database, Server
from tests.support.mariadb_build import copy_rows, create

RESTART = ["stop", "start", "ready?"]


@pytest.fixture
def leader(leader: Instance) -> Instance:
    databases.edit(
        db(leader), "UPDATE maintenance SET start_date = '2031-05-01T10:00', start_time = '02:00'"
    )
    return leader


@pytest.fixture
def database(tmp_path: Path, mariadb: Server) -> Database:
    """A MariaDB as Kuma's first start leaves it."""
    return create(mariadb.database("engines", tmp_path / "replica"))


@pytest.fixture
def replica(database: Database, repository: FolderRepository) -> Instance:
    return make_instance(
        database.data_dir, repository, name="replica", store=open_store(database.data_dir)
    )


def kuma(of: Instance) -> RecordingKuma:
    assert isinstance(of.kuma, RecordingKuma)
    return of.kuma


def start_dates(database: Database) -> list[tuple[object, ...]]:
    return database.query("SELECT start_date, start_time FROM maintenance")


def test_rows_arrive_in_the_form_of_the_other_engine_once(
    leader: Instance, replica: Instance, database: Database
) -> None:
    lead(leader)
    result = follow(replica)
    assert result.outcome is Outcome.APPLIED
    assert start_dates(database) == [("2031-05-01 10:00:00", "02:00:00")]
    assert kuma(replica).log == RESTART
    for reconcile in (False, True, True):
        assert follow(replica, reconcile=reconcile).outcome is Outcome.NOTHING
    assert kuma(replica).log == RESTART


def test_without_its_state_a_replica_of_another_engine_sees_no_change(
    leader: Instance, replica: Instance
) -> None:
    lead(leader)
    follow(replica)
    replica.state.path.unlink()
    assert follow(replica).outcome is Outcome.NOTHING
    assert kuma(replica).log == RESTART


def test_one_edit_comes_over_as_one_change(
    leader: Instance, replica: Instance, database: Database
) -> None:
    lead(leader)
    follow(replica)
    rename(db(leader), 3, "renamed")
    lead(leader)
    result = follow(replica)
    assert result.changes is not None
    assert result.changes.sentence() == "1 monitor changed"
    assert database.query("SELECT name FROM monitor WHERE id = 3") == [("renamed",)]


def test_roles_change_without_a_restart_of_who_has_the_rows(
    leader: Instance, replica: Instance, database: Database
) -> None:
    """The way from SQLite to MariaDB (docs/databases.md), and the old leader as a replica."""
    lead(leader)
    follow(replica)
    before = databases.query(db(leader), "SELECT start_date, start_time FROM maintenance")
    assert take_over(replica).position is not None
    result = follow(leader)
    assert (result.outcome, kuma(leader).log) == (Outcome.NOTHING, [])
    after = databases.query(db(leader), "SELECT start_date, start_time FROM maintenance")
    assert before == after == [("2031-05-01T10:00", "02:00")]
    database.edit(("UPDATE monitor SET name = ? WHERE id = 3", ("from MariaDB",)))
    assert lead(replica).outcome is Outcome.PUBLISHED
    result = follow(leader)
    assert result.changes is not None
    assert result.changes.sentence() == "1 monitor changed"
    after = databases.query(db(leader), "SELECT start_date, start_time FROM maintenance")
    assert before == after
    assert kuma(leader).log == RESTART


def test_a_leader_that_moved_to_another_engine_publishes_no_change(
    leader: Instance, mariadb: Server, tmp_path: Path, repository: FolderRepository
) -> None:
    lead(leader)
    moved = create(mariadb.database("moved", leader.data_dir))
    copy_rows(db(leader), moved)
    leader.store = open_store(leader.data_dir)
    assert leader.store.engine == "mariadb"
    assert lead(leader, verify=True).outcome is Outcome.NOTHING
    repository.calls.clear()
    assert lead(leader).outcome is Outcome.NOTHING
    assert repository.calls == [], "what was found alike is remembered"
    assert lead(leader, verify=True).outcome is Outcome.NOTHING
    moved.edit(("UPDATE monitor SET name = ? WHERE id = 3", ("changed there",)))
    result = lead(leader)
    assert result.outcome is Outcome.PUBLISHED
    assert result.changes is not None
    assert result.changes.sentence() == "1 monitor changed"
    assert state_of(leader.data_dir).leading.published is not None


LONG = "n" * 200


def test_what_does_not_fit_is_named_before_anything_stops(
    leader: Instance, replica: Instance, database: Database
) -> None:
    lead(leader)
    follow(replica)
    databases.edit(
        db(leader),
        ("UPDATE monitor SET name = ? WHERE id = 3", (LONG,)),
        "UPDATE incident SET last_updated_date = '2031-05-01 10:00:00.123' WHERE id = 1",
        "INSERT INTO user (username, password) VALUES ('ADMIN', 'x')",
    )
    lead(leader)
    with pytest.raises(SnapshotMisfit) as caught:
        follow(replica)
    message = str(caught.value)
    assert "monitor 3" in message
    assert "name" in message
    assert "incident 1" in message
    assert "last_updated_date" in message
    assert "«ADMIN»" in message
    assert "«admin»" in message
    assert caught.value.exit_code == 21
    assert kuma(replica).log == RESTART
    assert database.query("SELECT count(*) FROM user") == [(1,)]


def test_an_operator_may_have_it_cut(
    leader: Instance, replica: Instance, database: Database
) -> None:
    replica.policy = lambda: Policy(truncate=True)
    databases.edit(
        db(leader),
        ("UPDATE monitor SET name = ? WHERE id = 3", (LONG,)),
        "UPDATE incident SET last_updated_date = '2031-05-01 10:00:00.123' WHERE id = 1",
    )
    lead(leader)
    result = follow(replica)
    assert result.outcome is Outcome.APPLIED
    assert database.query("SELECT name FROM monitor WHERE id = 3") == [("n" * 150,)]
    sql = "SELECT last_updated_date FROM incident WHERE id = 1"
    assert database.query(sql) == [("2031-05-01 10:00:00",)]
    assert len([warning for warning in result.warnings if warning.startswith("cut to fit")]) == 2
    assert result.sentence.endswith("; 2 values cut to fit")
    assert follow(replica, reconcile=True).outcome is Outcome.NOTHING


def test_what_no_cut_makes_fit_is_refused_all_the_same(
    leader: Instance, replica: Instance, database: Database
) -> None:
    replica.policy = lambda: Policy(truncate=True)
    databases.edit(db(leader), "INSERT INTO user (username, password) VALUES ('ADMIN', 'x')")
    lead(leader)
    with pytest.raises(SnapshotMisfit, match="is the same to this database"):
        follow(replica)
    assert database.query("SELECT count(*) FROM user") == [(0,)]
    assert kuma(replica).log == []


@pytest.mark.parametrize("key", [-5, 2**33])
def test_a_key_out_of_range_is_a_misfit_too(leader: Instance, replica: Instance, key: int) -> None:
    lead(leader)
    follow(replica)
    row = (key, "x", "red", "2025-01-01 00:00:00")
    databases.edit(
        db(leader), ("INSERT INTO tag (id, name, color, created_date) VALUES (?,?,?,?)", row)
    )
    lead(leader)
    with pytest.raises(SnapshotMisfit, match=r"tag .*id "):
        follow(replica)


def test_what_was_cut_here_does_not_become_the_fleet_s_without_a_word(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    replica.policy = lambda: Policy(truncate=True)
    databases.edit(db(leader), ("UPDATE monitor SET name = ? WHERE id = 3", (LONG,)))
    lead(leader)
    follow(replica)
    with pytest.raises(SnapshotMisfit, match="monitor 3") as caught:
        take_over(replica)
    assert "promote --force" in caught.value.hint
    assert lead(leader, verify=True).outcome is Outcome.NOTHING
    assert take_over(replica, force=True).outcome is Outcome.PUBLISHED


def test_a_fraction_that_was_cut_makes_it_no_other_monitor(
    leader: Instance, replica: Instance
) -> None:
    replica.policy = lambda: Policy(truncate=True)
    databases.edit(
        db(leader), "UPDATE monitor SET created_date = created_date || '.5' WHERE id = 3"
    )
    lead(leader)
    follow(replica)
    take_over(replica, force=True)
    sql = "SELECT count(*) FROM heartbeat WHERE monitor_id = 3"
    before = databases.query(db(leader), sql)
    result = follow(leader)
    assert result.changes is not None
    assert result.changes.sentence() == "1 monitor changed"
    assert databases.query(db(leader), sql) == before != [(0,)]


def test_a_leader_that_moved_publishes_new_keys_and_new_files(
    leader: Instance, mariadb: Server
) -> None:
    (leader.data_dir / "upload" / "logo2.png").unlink()
    lead(leader)
    moved = create(mariadb.database("moved", leader.data_dir))
    copy_rows(db(leader), moved)
    leader.store = open_store(leader.data_dir, settings=SETTINGS | {"trustProxy"})
    assert lead(leader, verify=True).outcome is Outcome.PUBLISHED
    leader.store = open_store(leader.data_dir)
    lead(leader, verify=True)
    assert lead(leader, verify=True).outcome is Outcome.NOTHING
    (leader.data_dir / "upload" / "logo2.png").write_bytes(b"new")
    assert lead(leader, verify=True).outcome is Outcome.PUBLISHED


def test_kuma_is_not_stopped_for_a_login_that_may_not_write(
    leader: Instance, replica: Instance, database: Database
) -> None:
    lead(leader)
    with closing(database.server.connect()) as root, root.cursor() as cursor:
        for host in ("localhost", "127.0.0.1"):
            cursor.execute(f"REVOKE ALL ON engines.* FROM engines@'{host}'")
            cursor.execute(f"GRANT SELECT ON engines.* TO engines@'{host}'")
    with pytest.raises(DatabaseError, match="nothing can be written to") as caught:
        follow(replica)
    assert "GRANT" in caught.value.hint
    assert kuma(replica).log == []
