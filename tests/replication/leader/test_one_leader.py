"""One leader, whatever clocks, networks, disks and people do: see docs/leaders.md."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.errors import (
    Fenced,
    ReplicatorError,
    RepositoryDamaged,
    RepositoryLost,
    RepositoryUnreachable,
    SchemaMismatch,
    ShrinkRefused,
    SnapshotRefused,
    TwoLeaders,
)
from replicator_kuma.config.settings import Settings
from replicator_kuma.replication.actions import Backup
from replicator_kuma.replication.instance import Instance, Run
from replicator_kuma.replication.runner import run
from replicator_kuma.reports import terminal
from replicator_kuma.reports.status import status
from tests.support import cycles, databases
from tests.support.cycles import (
    another,
    db,
    follow,
    lead,
    positions,
    publish,
    rename,
    spoil_newest,
    take_over,
)
from tests.support.folder_repository import FolderRepository
from tests.support.states import edit_state

YEAR = 365 * 86_400.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets every wall clock off by so many seconds."""
    real, skew = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + skew[0])

    def off_by(seconds: float) -> None:
        skew[0] = seconds

    return off_by


# --- clocks -----------------------------------------------------------------------------------

SKEWS = [(10, 0), (-30, 30), (-56, 0)]


@pytest.mark.parametrize(("before", "after"), SKEWS)
def test_positions_alone_decide_whose_clock_is_years_ahead_or_behind(
    leader: Instance, replica: Instance, clock: Callable[[float], None], before: int, after: int
) -> None:
    clock(before * YEAR)
    publish(leader, "two")
    clock(after * YEAR)
    follow(replica)
    take_over(replica)
    clock(before * YEAR)
    rename(db(leader), 3, "three")
    with pytest.raises(Fenced, match=r"2\.1"):
        lead(leader)
    clock(after * YEAR)
    rename(db(replica), 3, "four")
    assert lead(replica).position == Position(2, 2)
    clock(before * YEAR)
    assert follow(leader).position == Position(2, 2)
    assert cycles.name_of(db(leader), 3) == "four"


@pytest.mark.parametrize(("before", "after"), SKEWS)
def test_a_leader_asks_after_its_clock_has_jumped(
    leader: Instance,
    replica: Instance,
    clock: Callable[[float], None],
    before: int,
    after: int,
) -> None:
    """Nothing has changed here, so only the hourly question could tell it of the other."""
    clock(before * YEAR)
    leader.started = time.time()
    lead(leader, verify=True)
    take_over(replica)
    clock(after * YEAR)
    leader.started = time.time()
    with pytest.raises(Fenced, match="replica leads fleet default now, at"):
        lead(leader)


# --- how a fence shows ------------------------------------------------------------------------


def test_a_fence_is_told_once_also_behind_a_network_that_flaps(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    run(leader, "BACKUP", Backup().run, Run())
    take_over(replica)
    for _ in range(4):
        edit_state(leader.state, verified_at=0.0)
        with pytest.raises(Fenced):
            run(leader, "BACKUP", Backup().run, Run())
        repository.fail["snapshots"] = RepositoryUnreachable("no network")
        with pytest.raises(RepositoryUnreachable):
            run(leader, "BACKUP", Backup().run, Run())
        leader.told.clear()  # the replicator restarts
    sent = leader.notifier.sent  # type: ignore[attr-defined]
    fenced = [text for text in sent if "replica has published position 2.1" in text]
    assert len(fenced) == 1
    assert "replica leads fleet default now, at 2.1" in fenced[0]
    assert (
        "Three ways: follow the other, by REPLICATOR_MODE=RESTORE here and a restart; " in fenced[0]
    )
    assert "stop it first" in fenced[0]
    assert len([text for text in sent if "no network" in text]) == 1


def test_a_fence_is_in_the_status_and_in_its_exit_code(leader: Instance, replica: Instance) -> None:
    take_over(replica)
    with pytest.raises(Fenced):
        lead(leader, verify=True)
    environ = {"DATA_DIR": str(leader.data_dir), "REPLICATOR_MODE": "BACKUP"}
    told = status(Settings.load(environ))
    lines = dict(terminal.lines(told))
    assert "replica leads fleet default now, at 2.1" in lines["fenced"]
    assert "replicator promote" in lines["to do"]
    assert told.exit_code == Fenced.exit_code
    follows = status(Settings.load(environ | {"REPLICATOR_MODE": "RESTORE"}))
    assert follows.exit_code == 0, "as a replica it has nothing to publish"


def test_where_nobody_leads_that_is_said(
    leader: Instance, replica: Instance, repository: FolderRepository, tmp_path: Path
) -> None:
    rename(db(leader), 3, "two")
    second = another(tmp_path / "second", leader, repository)
    edit_state(second.state, published=leader.state.load().leading.published, writer="second's")
    repository.before["publish"] = lambda: _publish_beside(repository, second)
    with pytest.raises(Fenced, match="at the same time"):
        lead(leader)
    with pytest.raises(Fenced, match="nobody leads fleet default now: epoch 1 has two writers"):
        lead(leader)
    with pytest.raises(TwoLeaders):
        follow(replica)
    assert take_over(leader).position == Position(2, 1)
    assert follow(replica).position == Position(2, 1)


def _publish_beside(repository: FolderRepository, second: Instance) -> None:
    import dataclasses

    newest = repository.snapshots("default")[-1]
    label = dataclasses.replace(
        newest.label, position=Position(1, 2), writer="second's", leader=second.name
    )
    repository.add(repository.folder / newest.id, label)


# --- networks ---------------------------------------------------------------------------------


@pytest.fixture
def split(leader: Instance, repository: FolderRepository, tmp_path: Path) -> FolderRepository:
    """A copy of the repository on the leader's side of a split; the leader publishes there."""
    copy = FolderRepository(tmp_path / "copy-of-repository")
    shutil.copytree(repository.folder, copy.folder)
    leader.repository = copy
    for name in ("on its side", "of the split"):
        publish(leader, name)
    assert positions(copy) == ["1.1", "1.2", "1.3"]
    return copy


def test_a_leader_back_from_a_split_is_fenced_by_who_was_promoted_meanwhile(
    leader: Instance, replica: Instance, repository: FolderRepository, split: FolderRepository
) -> None:
    take_over(replica)
    leader.repository = repository
    for _ in range(2):
        with pytest.raises(Fenced, match=r"replica leads fleet default now, at 2\.1"):
            lead(leader, verify=True)
    assert positions(repository) == ["1.1", "2.1"]
    assert follow(leader).position == Position(2, 1)


def test_a_leader_back_from_a_split_in_which_nobody_was_promoted_begins_no_second_story(
    leader: Instance, replica: Instance, repository: FolderRepository, split: FolderRepository
) -> None:
    """What it published was never seen here: 1.2 and 1.3 would get other contents."""
    leader.repository = repository
    rename(db(leader), 3, "back")
    for _ in range(2):
        with pytest.raises(RepositoryLost, match=r"is 1\.1, but 1\.3"):
            lead(leader)
    assert positions(repository) == ["1.1"]
    assert take_over(leader, force=True).position == Position(2, 1)
    assert follow(replica).position == Position(2, 1)
    assert cycles.name_of(db(replica), 3) == "back"


# --- disks ------------------------------------------------------------------------------------


def test_an_old_image_of_the_leader_s_disk_publishes_no_old_rows(
    leader: Instance, replica: Instance, repository: FolderRepository, tmp_path: Path
) -> None:
    """State and database of last week: its later self has published since."""
    image = another(tmp_path / "image", leader, repository, state=True)
    image.name = leader.name
    for name in ("two", "three"):
        publish(leader, name)
    for _ in range(2):
        with pytest.raises(Fenced, match=r"another instance of this name, has published.* 1\.3"):
            lead(image, verify=True)
    rename(db(image), 3, "four")
    with pytest.raises(Fenced):
        lead(image)
    assert positions(repository) == ["1.1", "1.2", "1.3"]
    assert follow(replica).position == Position(1, 3)
    assert take_over(image).position == Position(2, 1)  # with the rows of its later self
    assert cycles.name_of(db(image), 3) == "three"


def test_an_old_database_under_today_s_state_is_an_edit_and_guarded(
    leader: Instance, replica: Instance, tmp_path: Path
) -> None:
    old = cycles.copy_of(db(leader))
    cycles.add_monitor(db(leader), 77)
    lead(leader)
    shutil.copyfile(old, db(leader))
    assert lead(leader).position == Position(1, 3)
    assert follow(replica).position == Position(1, 3)
    databases.edit(db(leader), "DELETE FROM monitor WHERE id > 2")
    with pytest.raises(ShrinkRefused):
        lead(leader)


def test_two_of_one_name_and_one_state_do_not_both_lead(
    leader: Instance, replica: Instance, repository: FolderRepository, tmp_path: Path
) -> None:
    twin = another(tmp_path / "twin", leader, repository, state=True)
    twin.name = leader.name
    rename(db(twin), 3, "of the twin")
    assert lead(twin).position == Position(1, 2)
    rename(db(leader), 3, "of the first")
    for _ in range(2):
        with pytest.raises(Fenced, match="another instance of this name"):
            lead(leader)
    assert follow(replica).position == Position(1, 2)


# --- promotes ---------------------------------------------------------------------------------


def _fetch_fails(_leader: Instance, repository: FolderRepository) -> None:
    repository.fail["read"] = RepositoryUnreachable("no answer")


def _damaged(_leader: Instance, repository: FolderRepository) -> None:
    for call in ("read", "fetch"):
        repository.fail[call] = RepositoryDamaged("a pack is missing")


def _not_what_its_manifest_says(_leader: Instance, repository: FolderRepository) -> None:
    spoil_newest(repository)


def _other_schema(leader: Instance, repository: FolderRepository) -> None:
    databases.edit(db(leader), "DELETE FROM knex_migrations WHERE name LIKE '%gamedig-v4-to-v5%'")
    lead(leader)


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (_fetch_fails, RepositoryUnreachable),
        (_damaged, RepositoryDamaged),
        (_not_what_its_manifest_says, SnapshotRefused),
        (_other_schema, SchemaMismatch),
    ],
)
def test_a_newest_that_cannot_be_taken_is_left_out_only_by_force(
    leader: Instance,
    replica: Instance,
    repository: FolderRepository,
    spoil: Callable[[Instance, FolderRepository], None],
    error: type[ReplicatorError],
) -> None:
    before = cycles.name_of(db(replica), 3)
    publish(leader, "in the snapshot that cannot be read")
    spoil(leader, repository)
    newest = positions(repository)
    with pytest.raises(error):
        take_over(replica)
    assert positions(repository) == newest
    spoil(leader, repository)
    result = take_over(replica, force=True)
    assert (result.position, "with its own rows" in result.sentence) == (Position(2, 1), True)
    assert cycles.name_of(db(replica), 3) == before
    with pytest.raises(Fenced):
        lead(leader, verify=True)


def test_of_two_promotes_at_once_one_leads_and_the_other_is_fenced(
    leader: Instance, replica: Instance, repository: FolderRepository, tmp_path: Path
) -> None:
    other = another(tmp_path / "other", replica, repository)
    third = another(tmp_path / "third", replica, repository)
    for made in (other, third):
        follow(made, reconcile=True)
    publish(leader, "two")

    def meanwhile() -> None:
        rename(db(other), 4, "of the other")
        take_over(other, force=True)

    repository.before["publish"] = meanwhile
    with pytest.raises(Fenced, match=r"other published 2\.1 at the same time"):
        take_over(replica)
    for _ in range(2):
        with pytest.raises(Fenced):
            lead(replica)
    with pytest.raises((TwoLeaders, RepositoryLost)):
        follow(third)
    assert take_over(other).position == Position(3, 1)  # whichever is to stay
    assert follow(third).position == Position(3, 1)
    assert follow(replica).position == Position(3, 1)
    with pytest.raises(Fenced, match=r"3\.1"):
        lead(leader, verify=True)
