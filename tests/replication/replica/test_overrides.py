"""A replica with rules of its own: what they change, and that nothing ever fights over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from replicator_kuma.base.errors import ReplicatorError, SettingsError, SnapshotMisfit
from replicator_kuma.config.settings import Strategy
from replicator_kuma.dump.transform.policy import Policy
from replicator_kuma.replication.instance import Instance, Outcome
from tests.support import cycles, databases
from tests.support.compare import config_differences, damage, orphans
from tests.support.cycles import count, db, follow, lead, left_behind, publish
from tests.support.folder_repository import FolderRepository
from tests.support.instances import RecordingKuma
from tests.support.rules import EVERY_RULE, NO_TAG, PAUSED, column, rules, tagged


def restarted(replica: Instance, kuma: RecordingKuma) -> Instance:
    """The same instance as a new process has it."""
    assert isinstance(replica.repository, FolderRepository)
    again = cycles.instance(replica.data_dir, replica.repository, name=replica.name, kuma=kuma)
    again.policy, again.tables = replica.policy, replica.tables
    return again


@pytest.mark.parametrize("strategy", list(Strategy))
def test_rules_cause_no_restore_loop(
    strategy: Strategy, leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    tagged(leader)
    lead(leader)
    rules(replica, EVERY_RULE, strategy)
    assert follow(replica).outcome is Outcome.APPLIED
    assert kuma.log == ["stop", "start", "ready?"]
    assert column(db(replica), 5, "active") == 0
    assert column(db(replica), 8, "timeout || typeof(timeout)") == "7.0real"
    assert column(db(replica), 8, "interval || typeof(interval)") == "61integer"
    for there in (replica, restarted(replica, kuma)):
        for reconcile in (False, True, False):
            result = follow(there, reconcile=reconcile)
            assert (result.outcome, "differ" in result.sentence) == (Outcome.NOTHING, False)
    assert kuma.log == ["stop", "start", "ready?"], "one restart, for one change"
    assert orphans(db(replica)) == damage(db(replica)) == left_behind(replica) == []


@pytest.mark.parametrize("strategy", [Strategy.DEFAULT, Strategy.NOTIFICATIONS_INSERT_MERGE])
def test_what_somebody_changes_is_healed_to_what_the_rule_says(
    strategy: Strategy, replica: Instance, kuma: RecordingKuma
) -> None:
    rules(replica, PAUSED, strategy)
    follow(replica)
    assert follow(replica).outcome is Outcome.NOTHING
    databases.edit(db(replica), "UPDATE monitor SET active = 1 WHERE id = 5")
    assert follow(replica).outcome is Outcome.APPLIED
    assert column(db(replica), 5, "active") == 0
    assert follow(replica).outcome is Outcome.NOTHING
    assert kuma.log.count("stop") == 2


def test_a_changed_file_is_a_change_and_another_comment_is_none(
    leader: Instance, replica: Instance, repository: FolderRepository, kuma: RecordingKuma
) -> None:
    file = rules(replica, "")
    assert follow(replica).outcome is Outcome.NOTHING
    repository.calls.clear()
    file.write_text("# soon\n\n")
    assert follow(replica).outcome is Outcome.NOTHING
    assert "fetch" not in repository.calls
    file.write_text(PAUSED)
    result = follow(replica)
    assert result.outcome is Outcome.APPLIED
    assert result.changes is not None
    assert "1 monitor changed" in result.changes.sentence()
    repository.calls.clear()
    file.write_text(f"# paused here\n{PAUSED.replace('false', '0')}\n")
    assert follow(replica).outcome is Outcome.NOTHING
    assert "fetch" not in repository.calls
    file.write_text(PAUSED.replace("active = false", "interval = 3600"))
    assert follow(replica).outcome is Outcome.APPLIED
    assert column(db(replica), 5, "active || ' ' || interval") == "1 3600"
    file.unlink()
    replica.policy = Policy  # the variable is not set any more
    assert follow(replica).outcome is Outcome.APPLIED
    assert config_differences(db(leader), db(replica)) == []
    assert kuma.log.count("stop") == 3


def test_a_skipped_tag_takes_its_monitors_along_and_brings_them_back(
    leader: Instance, replica: Instance
) -> None:
    away = tagged(leader)
    assert len(away) > 1
    lead(leader)
    history = count(db(replica), "heartbeat")
    file = rules(replica, NO_TAG)
    result = follow(replica)
    assert result.outcome is Outcome.APPLIED
    assert [w for w in result.warnings if f"{len(away)} rows of monitor left out" in w]
    listed = ",".join(map(str, away))
    for table in ("monitor_tag", "monitor_notification", "monitor_group", "heartbeat"):
        assert count(db(replica), table, f"monitor_id IN ({listed})") == 0, table
        assert count(db(replica), table) > 0, table
    assert count(db(replica), "stat_daily", f"monitor_id IN ({listed})") == 0
    assert count(db(replica), "monitor") == 12 - len(away)
    assert count(db(replica), "heartbeat") == history - 2 * len(away)
    assert orphans(db(replica)) == damage(db(replica)) == []
    assert follow(replica, reconcile=True).outcome is Outcome.NOTHING
    file.write_text("")
    assert follow(replica).outcome is Outcome.APPLIED
    assert config_differences(db(leader), db(replica), link_ids=False) == []


def test_a_monitor_that_gets_the_tag_goes_and_one_that_loses_it_comes(
    leader: Instance, replica: Instance
) -> None:
    tagged(leader)
    lead(leader)
    rules(replica, NO_TAG)
    follow(replica)
    here = count(db(replica), "monitor", "id = 8")
    there = count(db(leader), "monitor_tag", "monitor_id = 8 AND tag_id = 5")
    assert (here, there) == (1, 0)
    databases.edit(
        db(leader),
        "DELETE FROM monitor_tag WHERE tag_id = 5",
        "INSERT INTO monitor_tag (monitor_id, tag_id, value) VALUES (8, 5, '')",
    )
    lead(leader)
    assert follow(replica).outcome is Outcome.APPLIED
    left = databases.query(db(replica), "SELECT id FROM monitor ORDER BY id")
    assert [row[0] for row in left] == [*range(1, 8), *range(9, 13)]
    assert orphans(db(replica)) == []


def test_references_to_what_is_skipped_go_as_the_page_says(
    leader: Instance, replica: Instance
) -> None:
    databases.edit(
        db(leader),
        "UPDATE monitor SET proxy_id = 1, docker_host = 2, remote_browser = 1 WHERE id = 4",
    )
    lead(leader)
    children = count(db(leader), "monitor", "parent = 1")
    assert children > 0
    rules(
        replica,
        '[[rule]]\ntable = "monitor"\nwhere = { id = 1 }\nskip = true\n'
        + "".join(
            f'[[rule]]\ntable = "{table}"\nskip = true\n'
            for table in ("proxy", "docker_host", "remote_browser", "notification", "tag")
        )
        + '[[rule]]\ntable = "status_page"\nwhere = { slug = "internal" }\nskip = true\n'
        + '[[rule]]\ntable = "maintenance"\nskip = true\n',
    )
    assert follow(replica).outcome is Outcome.APPLIED
    assert count(db(replica), "monitor") == 11
    referring = "parent = 1 OR proxy_id OR docker_host OR remote_browser"
    assert count(db(replica), "monitor", referring) == 0
    assert count(db(replica), "monitor", "parent IS NULL") >= children
    for table in ("notification", "monitor_notification", "tag", "monitor_tag", "maintenance"):
        assert count(db(replica), table) == 0, table
    assert count(db(replica), "maintenance_status_page") == 0
    assert count(db(replica), "group", "status_page_id = 2") == 0
    assert count(db(replica), "group", "status_page_id = 1") > 0
    assert count(db(replica), "incident") == 1
    assert not (replica.data_dir / "upload" / "logo2.png").exists(), "its page is not here"
    assert orphans(db(replica)) == damage(db(replica)) == []
    assert follow(replica, reconcile=True).outcome is Outcome.NOTHING


def test_a_leader_s_edit_of_what_a_rule_sets_is_no_change_here(
    leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    rules(replica, PAUSED)
    follow(replica)
    kuma.log.clear()
    databases.edit(db(leader), "UPDATE monitor SET active = NOT active WHERE id = 5")
    assert lead(leader).outcome is Outcome.PUBLISHED
    result = follow(replica)
    assert (result.outcome, str(result.position)) == (Outcome.NOTHING, "1.2")
    assert kuma.log == []
    databases.edit(db(leader), "UPDATE monitor SET type = 'http' WHERE id = 5")
    lead(leader)
    assert follow(replica).outcome is Outcome.APPLIED
    assert column(db(replica), 5, "active") == column(db(leader), 5, "active")


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        (PAUSED.replace("type", "typ"), SettingsError, "monitor has no column 'typ'"),
        (
            PAUSED.replace("active = false", "proxy_id = 99"),
            SettingsError,
            "there is no such proxy",
        ),
        (
            '[[rule]]\ntable = "status_page"\nset = { slug = "same" }\n',
            SnapshotMisfit,
            "slug is the same to this database",
        ),
    ],
)
def test_a_file_that_is_wrong_changes_nothing_until_it_is_mended(
    text: str,
    error: type[ReplicatorError],
    words: str,
    leader: Instance,
    replica: Instance,
    kuma: RecordingKuma,
) -> None:
    file = rules(replica, PAUSED)
    follow(replica)
    kuma.log.clear()
    before = cycles.copy_of(db(replica))
    publish(leader, "renamed", 2)
    file.write_text(text)
    for _again in range(2):
        with pytest.raises(error, match=words) as caught:
            follow(replica)
        assert caught.value.exit_code == (3 if error is SettingsError else 21)
        assert config_differences(before, db(replica)) == []
        assert (kuma.log, kuma.up, left_behind(replica)) == ([], True, [])
    file.write_text(PAUSED)
    assert follow(replica).outcome is Outcome.APPLIED
    assert cycles.name_of(db(replica), 2) == "renamed"
    assert column(db(replica), 5, "active") == 0


def test_a_reference_that_a_rule_sets_to_a_row_that_is_there_stands(replica: Instance) -> None:
    rules(replica, PAUSED.replace("active = false", "proxy_id = 2, parent = 11"))
    assert follow(replica).outcome is Outcome.APPLIED
    assert column(db(replica), 5, "proxy_id || ' ' || parent") == "2 11"
    assert orphans(db(replica)) == damage(db(replica)) == []
    assert follow(replica, reconcile=True).outcome is Outcome.NOTHING


def test_another_docker_host_has_its_own_certificates(replica: Instance) -> None:
    """The leader has none for it: those that lie here stay, and are no change."""
    folder = replica.data_dir / "docker-tls" / "here.example"
    folder.mkdir(parents=True)
    (folder / "ca.pem").write_text("of this replica")
    text = '[[rule]]\ntable = "docker_host"\nwhere = { name = "there" }\n'
    rules(replica, text + 'set = { docker_daemon = "https://here.example:2376" }\n')
    assert follow(replica).outcome is Outcome.APPLIED
    assert follow(replica, reconcile=True).outcome is Outcome.NOTHING
    assert (folder / "ca.pem").read_text() == "of this replica"


def test_a_replica_that_starts_with_rules_never_has_the_rows_that_they_skip(
    tmp_path: Path, leader: Instance, repository: FolderRepository
) -> None:
    away = tagged(leader)
    lead(leader)
    folder = tmp_path / "new"
    databases.create(folder / "kuma.db")
    new = cycles.instance(folder, repository, name="new")
    rules(new, NO_TAG)
    assert follow(new).outcome is Outcome.APPLIED
    assert count(db(new), "monitor") == 12 - len(away)
    assert orphans(db(new)) == []
