"""Local entities: rows that come from the leader once, and are the replica's own from then on."""

from __future__ import annotations

from pathlib import Path

import pytest

from replicator_kuma.config.build import read_policy
from replicator_kuma.config.settings import Settings, Strategy
from replicator_kuma.dump import catalog
from replicator_kuma.replication.instance import Instance, Outcome
from tests.support import cycles, databases
from tests.support.compare import config_differences, orphans
from tests.support.cycles import count, db, follow, lead, name_of, rename
from tests.support.folder_repository import FolderRepository
from tests.support.instances import RecordingKuma

PROXY = (
    "INSERT INTO proxy (id, user_id, protocol, host, port, auth, active, created_date) "
    "VALUES ({id}, 1, 'http', '{host}', 3128, 0, 1, '2025-01-01 00:00:00')"
)


def choose(
    replica: Instance, tables: str = "", strategy: Strategy = Strategy.SNAPSHOT, mode: str = ""
) -> Instance:
    """The replica with settings as the program reads them."""
    chosen = Settings.load(
        {
            "DATA_DIR": str(replica.data_dir),
            "REPLICATOR_MODE": mode or "RESTORE_LOCAL_ENTITY_REPLICATION",
            "REPLICATOR_LOCAL_ENTITIES": tables,
            "RESTORE_MERGE_STRATEGY": strategy.value,
        }
    )
    replica.policy = read_policy(chosen)
    replica.tables = catalog.choose(chosen.include, chosen.exclude)
    return replica


@pytest.fixture(params=[Strategy.SNAPSHOT, Strategy.NOTIFICATIONS_INSERT_MERGE])
def replica(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    leader: Instance,
    repository: FolderRepository,
    kuma: RecordingKuma,
) -> Instance:
    """A new instance that has taken the leader's first snapshot, with proxies of its own then."""
    databases.edit(db(leader), "UPDATE monitor SET proxy_id = 1 WHERE id IN (5, 6)")
    lead(leader)
    folder = tmp_path / "replica"
    folder.mkdir()
    databases.create(folder / "kuma.db")
    made = cycles.instance(folder, repository, name="replica", kuma=kuma)
    choose(made, strategy=request.param)
    assert follow(made).outcome is Outcome.APPLIED
    settled(made)
    kuma.log.clear()
    return made


def settled(replica: Instance) -> None:
    """Nothing is left to do, nothing is called drift, and nobody asks for more than a listing."""
    repository, kuma = replica.repository, replica.kuma
    assert isinstance(repository, FolderRepository)
    assert isinstance(kuma, RecordingKuma)
    log = kuma.log.count("stop")
    follow(replica)  # may fetch once, to see that what differs is the replica's own
    repository.calls.clear()
    for reconcile in (False, False, True):
        result = follow(replica, reconcile=reconcile)
        assert result.outcome is Outcome.NOTHING
        assert result.sentence.endswith("is applied; nothing newer")
    assert repository.calls == ["snapshots"] * 3
    assert kuma.log.count("stop") == log
    assert replica.state.load().drift is None
    assert orphans(db(replica)) == []


def hosts(instance: Instance) -> dict[int, str]:
    return dict(databases.query(db(instance), "SELECT id, host FROM proxy ORDER BY id"))


def used(instance: Instance, column: str = "proxy_id") -> set[int]:
    """The rows that monitors refer to."""
    sql = f"SELECT DISTINCT {column} FROM monitor WHERE {column} IS NOT NULL"
    return {row[0] for row in databases.query(db(instance), sql)}


def newer(leader: Instance, replica: Instance, *statements: str) -> str:
    """Change the leader, replicate, and return the replica's sentence."""
    databases.edit(db(leader), *statements)
    lead(leader)
    sentence = follow(replica).sentence
    settled(replica)
    return sentence


def test_they_come_once_with_all_that_refers_to_them(leader: Instance, replica: Instance) -> None:
    assert config_differences(db(replica), db(leader)) == []
    assert used(replica) == used(leader) == {1}
    assert dict(replica.state.load().following.arrived) == {"proxy": (1, 2), "remote_browser": (1,)}


def test_then_they_are_the_replica_s_own(
    leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    databases.edit(
        db(replica),
        "UPDATE proxy SET host = 'mine.example' WHERE id = 1",
        "UPDATE remote_browser SET url = 'ws://mine:3000'",
    )
    settled(replica)
    assert kuma.log == []
    sentence = newer(
        leader,
        replica,
        "UPDATE proxy SET host = 'theirs.example'",
        "UPDATE remote_browser SET url = 'ws://theirs:3000'",
    )
    assert sentence == "the rows equal 1.2; nothing to do"
    assert newer(leader, replica, "UPDATE monitor SET name = 'newer' WHERE id = 3").startswith(
        "applied 1.3 of leader: 1 monitor changed, "
    )
    assert hosts(replica) == {1: "mine.example", 2: "proxy2.example"}
    assert databases.query(db(replica), "SELECT url FROM remote_browser") == [("ws://mine:3000",)]
    assert name_of(db(replica), 3) == "newer"


def test_what_the_leader_makes_later_comes_too(leader: Instance, replica: Instance) -> None:
    newer(
        leader,
        replica,
        PROXY.format(id=3, host="third.example"),
        "UPDATE monitor SET proxy_id = 3 WHERE id = 4",
    )
    assert hosts(replica)[3] == "third.example"
    assert used(replica) == {1, 3}


def test_what_the_leader_deletes_goes(leader: Instance, replica: Instance) -> None:
    databases.edit(db(replica), "UPDATE proxy SET host = 'mine.example'")
    newer(
        leader,
        replica,
        "UPDATE monitor SET proxy_id = NULL",
        "DELETE FROM proxy WHERE id = 1",
        "DELETE FROM remote_browser",
    )
    assert hosts(replica) == {2: "mine.example"}
    assert count(db(replica), "remote_browser") == 0
    assert used(replica) == set()


def test_what_is_deleted_here_does_not_come_again(
    leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    # as Kuma does it
    databases.edit(
        db(replica), "UPDATE monitor SET proxy_id = NULL", "DELETE FROM proxy WHERE id = 1"
    )
    settled(replica)
    assert kuma.log == []
    newer(leader, replica, "UPDATE monitor SET name = 'newer', interval = 77 WHERE id = 5")
    assert hosts(replica) == {2: "proxy2.example"}
    assert used(leader) == {1}
    assert used(replica) == set()
    assert name_of(db(replica), 5) == "newer"


def test_what_is_made_here_stays(leader: Instance, replica: Instance, kuma: RecordingKuma) -> None:
    databases.edit(db(replica), PROXY.format(id=70, host="mine.example"))
    settled(replica)
    assert kuma.log == []
    newer(leader, replica, "UPDATE monitor SET name = 'newer' WHERE id = 3")
    newer(leader, replica, "UPDATE monitor SET proxy_id = NULL", "DELETE FROM proxy WHERE id = 2")
    assert hosts(replica) == {1: "proxy1.example", 70: "mine.example"}


def test_rows_that_are_not_its_own_still_drift(leader: Instance, replica: Instance) -> None:
    databases.edit(db(replica), "UPDATE proxy SET host = 'mine.example'")
    rename(db(replica), 3, "mine")
    heals = replica.policy().heal
    for _ in range(2):
        follow(replica)
    state = replica.state.load()
    assert (state.drift is not None, name_of(db(replica), 3) == "mine") == (
        not heals,
        not heals,
    )
    assert isinstance(replica.repository, FolderRepository)
    replica.repository.calls.clear()
    follow(replica)
    assert replica.repository.calls == ["snapshots"], "asked once for the same rows"
    follow(replica, reconcile=True)
    assert name_of(db(replica), 3) == name_of(db(leader), 3)
    assert set(hosts(replica).values()) == {"mine.example"}
    settled(replica)


def test_a_repository_that_is_away_makes_no_drift_of_what_is_its_own(
    leader: Instance, replica: Instance
) -> None:
    from replicator_kuma.base.errors import RepositoryUnreachable

    assert isinstance(replica.repository, FolderRepository)
    databases.edit(db(replica), "UPDATE proxy SET host = 'mine.example'")
    replica.repository.fail["fetch"] = RepositoryUnreachable("no network")
    with pytest.raises(RepositoryUnreachable):
        follow(replica)
    settled(replica)


def test_without_memory_nothing_of_its_own_goes(
    leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    """A container made anew whose state is gone."""
    databases.edit(
        db(replica),
        "UPDATE proxy SET host = 'mine.example' WHERE id = 1",
        PROXY.format(id=70, host="mine too.example"),
    )
    replica.state.path.unlink()
    settled(replica)
    assert kuma.log == []
    newer(leader, replica, "UPDATE monitor SET proxy_id = NULL", "DELETE FROM proxy")
    # what equalled the leader's had come from there; nobody can tell where proxy 1 came from
    assert hosts(replica) == {1: "mine.example", 70: "mine too.example"}


def test_what_came_is_known_also_where_the_process_that_applied_it_ended(
    leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    kuma.up = False  # a person stopped it: the apply waits for its start to be confirmed
    databases.edit(db(leader), PROXY.format(id=3, host="third.example"))
    lead(leader)
    follow(replica)
    assert replica.state.load().applying.pending is not None
    kuma.up = True
    settled(replica)
    databases.edit(db(replica), "DELETE FROM proxy WHERE id = 3")
    newer(leader, replica, "UPDATE monitor SET name = 'newer' WHERE id = 3")
    assert 3 not in hosts(replica)


def test_an_ordinary_replica_gets_the_leader_s_rows_again(
    leader: Instance, replica: Instance
) -> None:
    databases.edit(
        db(replica),
        "UPDATE proxy SET host = 'mine.example' WHERE id = 1",
        PROXY.format(id=70, host="mine too.example"),
    )
    choose(replica, mode="RESTORE")
    assert follow(replica).outcome is Outcome.APPLIED
    assert config_differences(db(replica), db(leader)) == []
    assert replica.state.load().following.arrived == ()
    settled(replica)


# --- more tables ------------------------------------------------------------------------------


@pytest.fixture
def wider(leader: Instance, replica: Instance) -> Instance:
    """Its Docker hosts and notifications are its own, its proxies are not."""
    strategy = Strategy.NOTIFICATIONS_INSERT_MERGE if replica.policy().heal else Strategy.SNAPSHOT
    choose(replica, "docker_host,notification", strategy)
    databases.edit(db(replica), "UPDATE proxy SET host = 'mine.example'")
    assert follow(replica).outcome is Outcome.APPLIED
    assert hosts(replica) == hosts(leader)
    settled(replica)
    return replica


def test_docker_hosts_and_notifications_may_be_the_replica_s_own(
    leader: Instance, wider: Instance
) -> None:
    databases.edit(
        db(wider),
        "UPDATE docker_host SET docker_daemon = 'https://mine.example:2376' WHERE id = 2",
        "UPDATE notification SET name = 'mine' WHERE id = 1",
    )
    settled(wider)
    newer(
        leader,
        wider,
        "UPDATE docker_host SET name = 'theirs'",
        "UPDATE notification SET name = 'theirs'",
        "UPDATE proxy SET host = 'theirs.example'",
    )
    assert hosts(wider) == {1: "theirs.example", 2: "theirs.example"}
    assert count(db(wider), "docker_host", "name = 'theirs'") == 0
    assert count(db(wider), "notification", "name = 'theirs'") == 0
    assert count(db(wider), "docker_host", "docker_daemon LIKE '%mine%'") == 1


def test_alerts_of_a_notification_that_was_deleted_here_stay_away(
    leader: Instance, wider: Instance
) -> None:
    assert count(db(wider), "monitor_notification", "notification_id = 1")
    databases.edit(
        db(wider),
        "DELETE FROM monitor_notification WHERE notification_id = 1",
        "DELETE FROM notification WHERE id = 1",
        "UPDATE monitor SET docker_host = NULL WHERE docker_host = 2",
        "DELETE FROM docker_host WHERE id = 2",
    )
    settled(wider)
    newer(leader, wider, "UPDATE monitor SET name = 'newer' WHERE id = 3")
    assert count(db(wider), "notification", "id = 1") == 0
    assert count(db(wider), "monitor_notification", "notification_id = 1") == 0
    assert count(db(wider), "monitor_notification", "notification_id = 2") == count(
        db(leader), "monitor_notification", "notification_id = 2"
    )
    assert used(wider, "docker_host") == set()


def test_the_keys_of_a_docker_host_of_its_own_stay_too(leader: Instance, wider: Instance) -> None:
    for side, text in ((leader, b"theirs"), (wider, b"mine")):
        folder = side.data_dir / "docker-tls" / "docker.example"
        folder.mkdir(parents=True)
        (folder / "ca.pem").write_bytes(text)
    settled(wider)
    newer(leader, wider, "UPDATE monitor SET name = 'newer' WHERE id = 3")
    assert (wider.data_dir / "docker-tls/docker.example/ca.pem").read_bytes() == b"mine"
