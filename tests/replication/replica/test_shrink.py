"""Guards against mass deletion, on a leader, on replicas that follow it, and in a promote."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.errors import ShrinkRefused, SnapshotRefused, SnapshotShrinks
from replicator_kuma.dump.transform.overrides import Overrides
from replicator_kuma.dump.transform.policy import Policy
from replicator_kuma.replication.actions import Backup, Restore
from replicator_kuma.replication.instance import Instance, Outcome, Run
from replicator_kuma.replication.replica.preview import preview as previewed
from replicator_kuma.replication.runner import run
from replicator_kuma.replication.shrink import Limit
from tests.support import cycles, databases
from tests.support.cycles import (
    add_monitor,
    another,
    count,
    db,
    follow,
    hold_at,
    lead,
    publish,
    rename,
    take_over,
)
from tests.support.folder_repository import FolderRepository, dies_in
from tests.support.instances import RecordingKuma

OFF = Limit(None)


def keep(instance: Instance, monitors: int) -> None:
    """Delete all monitors but the first."""
    rows = databases.query(db(instance), "SELECT id FROM monitor ORDER BY id")
    for (number,) in rows[monitors:]:
        cycles.delete_monitor(db(instance), number)


def shrink_unasked(leader: Instance, monitors: int) -> Position | None:
    """A leader that asks nobody: another limit, an older version, another hand."""
    keep(leader, monitors)
    asked, leader.shrink_limit = leader.shrink_limit, OFF
    try:
        return lead(leader).position
    finally:
        leader.shrink_limit = asked


def without(monitors: Iterable[int]) -> Policy:
    """Rules that leave these out."""
    rule = '[[rule]]\ntable = "monitor"\nwhere = {{ id = {} }}\nskip = true\n'
    return Policy(overrides=Overrides.parse("".join(map(rule.format, monitors))))


def shrunk(repository: FolderRepository) -> dict[str, str]:
    """Position and mark of each snapshot."""
    found = repository.snapshots("default")
    repository.calls.pop()
    return {str(s.position): str(s.label.shrunk or "") for s in found}


# --- a replica --------------------------------------------------------------------------------


def test_a_replica_keeps_its_rows_and_follows_again_when_a_later_snapshot_fits(
    leader: Instance, replica: Instance, repository: FolderRepository, kuma: RecordingKuma
) -> None:
    kept = cycles.copy_of(db(leader))
    shrink_unasked(leader, 6)
    repository.calls.clear()
    for reconcile in (False, True):  # as by schedule, and at a start of `replicator run`
        with pytest.raises(SnapshotShrinks, match=r"1\.2 of leader would take 6 of 12 monitors"):
            follow(replica, reconcile=reconcile)
    assert (count(db(replica), "monitor"), kuma.log) == (12, [])
    assert repository.calls == ["snapshots", "snapshots"], "its tags are enough to refuse it"
    assert "6 of 12" in replica.state.load().following.shrink
    shutil.copyfile(kept, db(leader))
    lead(leader)
    assert follow(replica).position == Position(1, 3)
    assert replica.state.load().following.shrink == ""


def test_a_person_may_say_so_on_the_replica(leader: Instance, replica: Instance) -> None:
    shrink_unasked(leader, 0)
    with pytest.raises(SnapshotShrinks) as refused:
        follow(replica)
    assert "replicator restore --now --allow-shrink" in refused.value.hint
    assert follow(replica, reconcile=True, allow_shrink=True).outcome is Outcome.APPLIED
    assert count(db(replica), "monitor") == 0
    assert replica.state.load().following.shrink == ""
    assert follow(replica).outcome is Outcome.NOTHING


def test_what_a_person_names_is_meant(leader: Instance, replica: Instance) -> None:
    shrink_unasked(leader, 3)
    with pytest.raises(SnapshotShrinks):
        follow(replica)
    assert hold_at(replica, "1.2").outcome is Outcome.APPLIED
    assert follow(replica).outcome is Outcome.NOTHING


def test_the_mark_is_carried_on_over_skipped_and_forgotten_snapshots(
    leader: Instance, replica: Instance, repository: FolderRepository, tmp_path: Path
) -> None:
    late = another(tmp_path / "late", replica, repository)
    follow(late, reconcile=True)
    keep(leader, 3)
    lead(leader, allow_shrink=True)
    for name in ("two", "three"):
        publish(leader, name, 1)
    assert shrunk(repository) == {"1.1": "", "1.2": "1.2", "1.3": "1.2", "1.4": "1.2"}
    for found in repository.snapshots("default")[:-1]:
        (repository.folder / f"{found.id}.json").unlink()
    assert follow(replica).position == Position(1, 4)
    assert take_over(replica).position == Position(2, 1)
    assert shrunk(repository) == {"1.4": "1.2", "2.1": "1.2"}
    assert follow(late).position == Position(2, 1)


def test_the_mark_survives_a_repository_that_was_emptied(
    leader: Instance, replica: Instance, repository: FolderRepository, tmp_path: Path
) -> None:
    late = another(tmp_path / "late", replica, repository)
    follow(late, reconcile=True)
    keep(leader, 3)
    lead(leader, allow_shrink=True)
    follow(replica)
    shutil.rmtree(repository.folder)
    repository.init()
    take_over(replica, force=True)
    assert shrunk(repository) == {"2.1": "1.2"}
    assert follow(late).position == Position(2, 1)


def test_what_was_allowed_before_what_it_has_allows_nothing_more(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    keep(leader, 6)
    lead(leader, allow_shrink=True)
    follow(replica)
    shrink_unasked(leader, 0)
    assert shrunk(repository)["1.3"] == "1.2"
    with pytest.raises(SnapshotShrinks, match="6 of 6"):
        follow(replica)


def test_small_steps_that_were_skipped_are_one_large_one(
    leader: Instance, replica: Instance
) -> None:
    """What counts is what would go here, however many snapshots it took."""
    for monitors in (9, 7, 6):
        keep(leader, monitors)
        lead(leader)
    with pytest.raises(SnapshotShrinks, match=r"1\.4 of leader would take 6 of 12"):
        follow(replica)


def test_monitors_that_others_replace_are_gone_too(
    leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    """The counts say nothing: as many are there as before, and all history would go."""
    leader.shrink_limit = OFF
    databases.edit(db(leader), "UPDATE monitor SET created_date = '2031-01-01' WHERE id < 6")
    cycles.delete_monitor(db(leader), 12)
    add_monitor(db(leader), 99)
    lead(leader)
    with pytest.raises(SnapshotShrinks, match="6 of 12"):
        follow(replica)
    assert kuma.log == []
    assert follow(replica, allow_shrink=True, reconcile=True).outcome is Outcome.APPLIED


def test_what_rules_leave_out_is_no_deletion_and_counts_as_there(
    leader: Instance, replica: Instance
) -> None:
    most = without(range(4, 13))
    replica.policy = lambda: without([12])
    follow(replica)
    assert count(db(replica), "monitor") == 11
    replica.policy = lambda: most
    publish(leader, "a newer snapshot and other rules at once", 1)
    follow(replica)
    assert count(db(replica), "monitor") == 3
    for number in (2, 3):  # most of what is here, few of the fleet's
        cycles.delete_monitor(db(leader), number)
    lead(leader)
    follow(replica)
    assert count(db(replica), "monitor") == 1


def test_a_replica_that_rules_thinned_is_still_guarded(leader: Instance, replica: Instance) -> None:
    most = without(range(4, 13))
    replica.policy = lambda: most
    follow(replica)
    shrink_unasked(leader, 3)  # none of those that are here
    with pytest.raises(SnapshotShrinks, match="9 of 12"):
        follow(replica)


def test_rows_of_its_own_are_nobody_s_deletion(leader: Instance, replica: Instance) -> None:
    replica.policy = lambda: Policy(local=frozenset({"notification"}))
    follow(replica)
    databases.edit(db(leader), "DELETE FROM notification", "DELETE FROM monitor_notification")
    lead(leader)
    assert follow(replica).outcome is Outcome.APPLIED


def test_a_leader_that_replicates_no_monitors_any_more_takes_none_away(
    leader: Instance, replica: Instance
) -> None:
    """Its label counts none, and its dump holds no table of them: what is here stays."""
    leader.tables = frozenset({"tag", "user"})
    databases.edit(db(leader), "UPDATE user SET timezone = 'Europe/Paris'")
    lead(leader)
    with pytest.raises(SnapshotRefused) as refused:  # the replica still wants these tables
        follow(replica)
    assert not isinstance(refused.value, SnapshotShrinks)
    replica.tables = leader.tables
    assert follow(replica).outcome is Outcome.APPLIED
    assert count(db(replica), "monitor") == 12


def test_a_new_replica_has_nothing_to_lose(
    leader: Instance, repository: FolderRepository, tmp_path: Path
) -> None:
    shutil.copytree(leader.data_dir, tmp_path / "new")
    keep(leader, 1)
    lead(leader)
    new = cycles.instance(tmp_path / "new", repository, name="new")
    assert follow(new).outcome is Outcome.APPLIED
    assert count(db(new), "monitor") == 1


def test_a_leader_that_follows_now_is_guarded_by_what_it_published(
    leader: Instance, replica: Instance
) -> None:
    take_over(replica)
    shrink_unasked(replica, 1)
    with pytest.raises(SnapshotShrinks):
        follow(leader)


def test_rows_put_right_are_not_guarded(replica: Instance) -> None:
    for number in range(100, 130):
        add_monitor(db(replica), number)
    assert follow(replica, reconcile=True).outcome is Outcome.APPLIED
    assert count(db(replica), "monitor") == 12


def test_a_limit_of_its_own(leader: Instance, replica: Instance) -> None:
    replica.shrink_limit = OFF
    shrink_unasked(leader, 0)
    assert follow(replica).outcome is Outcome.APPLIED


def test_it_is_told_once(leader: Instance, replica: Instance) -> None:
    shrink_unasked(leader, 1)
    for _ in range(3):
        with pytest.raises(SnapshotShrinks):
            run(replica, "RESTORE", Restore().run, Run())
    sent = replica.notifier.sent  # type: ignore[attr-defined]
    assert len([text for text in sent if "would take 11 of 12" in text]) == 1
    assert "restore --now --allow-shrink" in sent[-1]


# --- a leader ---------------------------------------------------------------------------------


def test_a_leader_marks_only_what_it_would_have_refused(
    leader: Instance, repository: FolderRepository
) -> None:
    lead(leader, allow_shrink=True)
    rename(db(leader), 3, "two")
    lead(leader, allow_shrink=True)
    keep(leader, 2)
    with pytest.raises(ShrinkRefused):
        run(leader, "BACKUP", Backup().run, Run())
    lead(leader, allow_shrink=True)
    assert shrunk(repository) == {"1.1": "", "1.2": "", "1.3": "1.3"}


def test_a_lost_leader_takes_back_without_a_question(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    """Nothing is there that could go; and what it takes back, it goes on with."""
    keep(leader, 2)
    lead(leader, allow_shrink=True)
    db(leader).unlink()
    databases.create(db(leader))
    assert lead(leader).outcome is Outcome.APPLIED
    rename(db(leader), 1, "goes on")
    assert lead(leader).position == Position(1, 3)
    assert shrunk(repository)["1.3"] == "1.2"
    assert follow(replica).position == Position(1, 3)


# --- a promote --------------------------------------------------------------------------------


def test_a_promote_does_not_take_what_would_take_most_monitors(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    shrink_unasked(leader, 2)
    with pytest.raises(SnapshotShrinks) as refused:
        take_over(replica)
    assert "promote --force" in refused.value.hint
    assert count(db(replica), "monitor") == 12
    result = take_over(replica, force=True)
    assert "with its own rows (1.2 could not be taken)" in result.sentence
    assert count(db(replica), "monitor") == 12
    assert shrunk(repository) == {"1.1": "", "1.2": "", "2.1": ""}
    assert follow(leader).outcome is Outcome.APPLIED
    assert count(db(leader), "monitor") == 12


def test_a_replica_that_rules_had_thinned_is_promoted_with_the_fleet_s_rows(
    leader: Instance, replica: Instance
) -> None:
    most = without(range(4, 13))
    replica.policy = lambda: most
    follow(replica)
    assert count(db(replica), "monitor") == 3
    take_over(replica)
    assert count(db(replica), "monitor") == 12
    assert follow(leader).outcome is Outcome.NOTHING


def test_a_promote_that_is_forced_with_few_rows_marks_them_as_meant(
    leader: Instance, replica: Instance, repository: FolderRepository, tmp_path: Path
) -> None:
    """The newest cannot be read, and rules have left few monitors here: a person wants these."""
    other = another(tmp_path / "other", replica, repository)
    follow(other, reconcile=True)
    most = without(range(4, 13))
    replica.policy = lambda: most
    follow(replica)
    publish(leader, "lost with the snapshot", 1)
    newest = repository.snapshots("default")[-1]
    (repository.folder / newest.id / "manifest.json").write_text("{}")
    with pytest.raises(SnapshotRefused):
        take_over(replica)
    take_over(replica, force=True)
    assert shrunk(repository)["2.1"] == "2.1"
    assert follow(other).position == Position(2, 1)
    assert count(db(other), "monitor") == 3


def test_a_killed_publish_that_was_allowed_is_known_again(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    """Its snapshot is there, its note is not: the mark is the snapshot's."""
    keep(leader, 2)
    dies_in(repository, "after", "publish", lambda: lead(leader, allow_shrink=True))
    rename(db(leader), 1, "goes on")
    assert lead(leader).position == Position(1, 3)
    assert shrunk(repository)["1.3"] == "1.2"
    assert follow(replica).position == Position(1, 3)


def test_the_last_word_of_the_tags_is_the_dump_s(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    """Tags that count more monitors than the dump holds let nothing pass."""
    shrink_unasked(leader, 2)
    newest = repository.snapshots("default")[-1]
    label = dataclasses.replace(newest.label, monitors=12)
    (repository.folder / f"{newest.id}.json").unlink()
    repository.add(repository.folder / newest.id, label)
    with pytest.raises(SnapshotShrinks, match="10 of 12"):
        follow(replica)


def test_a_preview_of_what_is_refused_may_be_looked_at(leader: Instance, replica: Instance) -> None:
    shrink_unasked(leader, 2)
    with previewed(replica) as preview:
        assert preview.plan.summary.tables["monitor"].deleted == 10


def test_half_of_what_rules_left_here_may_be_few_of_the_fleet_s(
    leader: Instance, replica: Instance
) -> None:
    for number in range(100, 120):
        add_monitor(db(leader), number)
    lead(leader)
    skipped = without(range(100, 120))
    replica.policy = lambda: skipped
    follow(replica)
    assert count(db(replica), "monitor") == 12
    for number in range(7, 13):
        cycles.delete_monitor(db(leader), number)
    lead(leader)
    assert follow(replica).outcome is Outcome.APPLIED
    assert count(db(replica), "monitor") == 6
