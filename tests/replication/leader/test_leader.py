"""The leader's cycle through real files."""

from __future__ import annotations

import dataclasses
import shutil
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.adapters.database import Reader
from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.errors import (
    DatabaseCorrupt,
    DatabaseMissing,
    DatabaseUnset,
    PublishIncomplete,
    ReplicatorError,
    RepositoryLocked,
    RepositoryUnreachable,
    ShrinkRefused,
    WrongPassword,
)
from replicator_kuma.replication import published_dump
from replicator_kuma.replication.instance import Instance, Outcome
from replicator_kuma.replication.leader import publish
from replicator_kuma.replication.observe import Observed, observed_dump
from tests.support import cycles, databases
from tests.support.compare import config_differences
from tests.support.cycles import db, lead, positions, rename
from tests.support.folder_repository import FolderRepository, dies_in
from tests.support.states import edit_state

AfterTheDump = Callable[[Callable[[], None]], None]


def test_the_first_publish_is_1_1(leader: Instance, repository: FolderRepository) -> None:
    result = lead(leader)
    assert (result.outcome, result.position) == (Outcome.PUBLISHED, Position(1, 1))
    assert result.sentence.startswith("published 1.1: 12 monitors, ")
    assert repository.calls == ["snapshots", "publish", "snapshots"]
    assert leader.notifier.sent == [f"backup: {result.sentence}"]  # type: ignore[attr-defined]
    state = leader.state.load()
    assert state.leading.publishing is None
    assert state.leading.published is not None
    assert state.leading.published.snapshot == repository.snapshots("default")[0].id


@pytest.mark.parametrize(("edited", "reads"), [(False, 2), (True, 1)])
def test_rows_that_were_seen_to_change_are_read_once(
    leader: Instance, monkeypatch: pytest.MonkeyPatch, edited: bool, reads: int
) -> None:
    """Else they are hashed first, since most cycles find nothing."""
    lead(leader)
    rename(db(leader), 1, "another")
    counted, read = list[str](), leader.store.read

    def counting(earlier: Path | None = None) -> AbstractContextManager[Reader]:
        counted.append("read")
        return read(earlier)

    monkeypatch.setattr(leader.store, "read", counting)
    told = leader.under(dataclasses.replace(leader.run, edited=edited))
    assert lead(told).outcome is Outcome.PUBLISHED
    assert len(counted) == reads
    assert lead(told).outcome is Outcome.NOTHING


def test_a_check_that_ends_badly_after_the_dump_publishes_nothing(
    leader: Instance, repository: FolderRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    lead(leader)
    rename(db(leader), 1, "another")
    dumped, check = threading.Event(), leader.store.check

    def observed(*arguments: Any, **options: Any) -> Observed:
        found = observed_dump(*arguments, **options)
        dumped.set()
        return found

    def damaged(_tables: object = None) -> None:
        assert dumped.wait(60)
        raise DatabaseCorrupt("page 7")

    monkeypatch.setattr(publish, "observed_dump", observed)
    monkeypatch.setattr(leader.store, "check", damaged)
    with pytest.raises(DatabaseCorrupt, match="page 7"):
        lead(leader)
    assert positions(repository) == ["1.1"]
    monkeypatch.setattr(leader.store, "check", check)
    assert lead(leader).outcome is Outcome.PUBLISHED


def test_nothing_changed_calls_nothing(leader: Instance, repository: FolderRepository) -> None:
    lead(leader)
    repository.calls.clear()
    for _ in range(3):
        result = lead(leader)
        assert (result.outcome, result.sentence) == (
            Outcome.NOTHING,
            "nothing changed since 1.1",
        )
    assert repository.calls == []


def test_the_repository_is_asked_now_and_then(
    leader: Instance, repository: FolderRepository
) -> None:
    lead(leader)
    repository.calls.clear()
    leader.verify_every = 0.0
    assert lead(leader).outcome is Outcome.NOTHING
    leader.verify_every = 3600.0
    assert lead(leader, verify=True).outcome is Outcome.NOTHING
    assert repository.calls == ["snapshots", "snapshots"]
    future = leader.state.load().leading.verified_at + 86_400
    edit_state(leader.state, verified_at=future)  # the clock was set back since
    assert lead(leader).outcome is Outcome.NOTHING
    assert repository.calls == ["snapshots"] * 3
    assert leader.state.load().leading.verified_at < future


def test_a_change_is_published_at_the_next_sequence(
    leader: Instance, repository: FolderRepository
) -> None:
    lead(leader)
    rename(db(leader), 3, "new name")
    result = lead(leader)
    assert result.sentence.startswith("published 1.2: 1 monitor changed; now 12 monitors")
    (leader.data_dir / "upload" / "logo2.png").write_bytes(b"another logo")
    assert lead(leader).sentence.startswith("published 1.3: 1 file; now")
    assert positions(repository) == ["1.1", "1.2", "1.3"]


def test_runtime_columns_and_links_saved_anew_are_nothing(
    leader: Instance, repository: FolderRepository
) -> None:
    lead(leader)
    databases.edit(
        db(leader),
        "UPDATE monitor SET dns_last_result = 'another'",
        "UPDATE user SET twofa_last_token = '123456'",
        "UPDATE maintenance SET last_start_date = '2031-01-01'",
        "UPDATE monitor_group SET id = id + 1000",
        "UPDATE status_page_cname SET id = id + 50",
        "UPDATE monitor_notification SET id = id + 500",
    )
    assert lead(leader, verify=True).outcome is Outcome.NOTHING
    assert positions(repository) == ["1.1"]


@pytest.fixture
def after_the_dump(monkeypatch: pytest.MonkeyPatch) -> AfterTheDump:
    """Gets what is done once, when the next dump is made and nothing is decided yet."""
    todo: list[Callable[[], None]] = []

    def dumped(*given: Any, **named: Any) -> Observed:
        seen = observed_dump(*given, **named)
        if todo:
            todo.pop()()
        return seen

    monkeypatch.setattr(publish, "observed_dump", dumped)
    return todo.append


def test_a_change_while_the_repository_is_asked_is_not_lost(
    leader: Instance, after_the_dump: AfterTheDump
) -> None:
    """What makes a check cheap is read before the rows are, never after."""
    lead(leader)
    prints = ["a"]
    leader.store.fingerprint = lambda: prints[0]  # type: ignore[method-assign]

    def kuma_writes() -> None:
        rename(db(leader), 3, "changed meanwhile")
        prints[0] = "b"

    after_the_dump(kuma_writes)
    assert lead(leader, verify=True).outcome is Outcome.NOTHING
    assert lead(leader).outcome is Outcome.PUBLISHED


def test_the_rows_are_read_while_the_repository_is_asked(
    leader: Instance, repository: FolderRepository, after_the_dump: AfterTheDump
) -> None:
    """Each waits for the other to begin: one after another, neither would go on."""
    lead(leader)
    both = threading.Barrier(2, timeout=30)

    def meet() -> None:
        both.wait()

    rename(db(leader), 3, "new name")
    after_the_dump(meet)
    repository.before["snapshots"] = meet
    assert lead(leader).outcome is Outcome.PUBLISHED


def test_what_changed_is_told_without_fetching_the_snapshot_before(
    leader: Instance, repository: FolderRepository
) -> None:
    lead(leader)
    repository.calls.clear()
    for name in ("new name", "newer name"):
        rename(db(leader), 3, name)
        assert ": 1 monitor changed; now 12 monitors" in lead(leader).sentence
    assert repository.calls == ["snapshots", "publish", "snapshots"] * 2
    folder = leader.state.folder / "published"
    modes = {path.stat().st_mode & 0o777 for path in (folder, *folder.rglob("*"))}
    assert modes == {0o700, 0o600}


@pytest.mark.parametrize("harm", ["gone", "altered", "of another publish", "too large"])
def test_a_kept_dump_that_is_not_the_snapshot_before_is_fetched(
    leader: Instance,
    repository: FolderRepository,
    harm: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if harm == "too large":
        monkeypatch.setattr(published_dump, "affordable", lambda _state, size: size <= 1000)
    lead(leader)
    kept = leader.state.folder / "published"
    if harm == "of another publish":
        shutil.copytree(kept, tmp_path / "old")
        rename(db(leader), 4, "other name")
        lead(leader)
    if harm != "altered":
        shutil.rmtree(kept, ignore_errors=True)
    if harm == "of another publish":
        shutil.move(tmp_path / "old", kept)
    if harm == "altered":
        with (kept / "tables" / "tag.jsonl").open("a") as file:
            file.write("[]\n")
    repository.calls.clear()
    rename(db(leader), 3, "new name")
    assert ": 1 monitor changed; now 12 monitors" in lead(leader).sentence
    assert repository.calls == ["snapshots", "publish", "snapshots", "fetch"]


def test_dangling_references_are_warned_of(leader: Instance) -> None:
    databases.edit(
        db(leader),
        "INSERT INTO monitor_tag (monitor_id, tag_id, value) VALUES (3, 4711, 'x')",
        "UPDATE monitor SET proxy_id = 4711 WHERE id = 2",
    )
    result = lead(leader)
    assert any("monitor_tag.tag_id: 1 row" in warning for warning in result.warnings)
    assert any("monitor.proxy_id: 1 row" in warning for warning in result.warnings)


@pytest.mark.parametrize(
    "error",
    [
        RepositoryUnreachable("no network"),
        PublishIncomplete("read in part"),
        RepositoryLocked("locked"),
        WrongPassword("wrong"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("there", [True, False], ids=["stored", "not stored"])
def test_a_failed_publish_burns_its_position(
    leader: Instance, repository: FolderRepository, error: ReplicatorError, there: bool
) -> None:
    lead(leader)
    rename(db(leader), 3, "new name")

    def fails() -> None:
        raise error

    (repository.after if there else repository.before)["publish"] = fails
    with pytest.raises(type(error)):
        lead(leader)
    assert leader.state.load().leading.burned == Position(1, 2)
    # the next one must not take what stands there, perhaps in part, for what it would publish
    assert lead(leader).position == Position(1, 3)
    assert positions(repository) == (["1.1", "1.2", "1.3"] if there else ["1.1", "1.3"])
    assert lead(leader, verify=True).outcome is Outcome.NOTHING


def test_a_partial_newest_is_not_forgotten_by_a_second_failure(
    leader: Instance, repository: FolderRepository
) -> None:
    lead(leader)
    rename(db(leader), 3, "new name")

    def partial() -> None:
        raise PublishIncomplete("read in part")

    repository.after["publish"] = partial
    with pytest.raises(PublishIncomplete):
        lead(leader)
    repository.fail["publish"] = RepositoryUnreachable("no network")
    with pytest.raises(RepositoryUnreachable):
        lead(leader)
    assert lead(leader).position == Position(1, 4)


def test_a_partial_newest_is_covered_although_the_change_is_taken_back(
    leader: Instance, repository: FolderRepository
) -> None:
    lead(leader)
    before = cycles.name_of(db(leader), 3)
    rename(db(leader), 3, "new name")

    def partial() -> None:
        raise PublishIncomplete("read in part")

    repository.after["publish"] = partial
    with pytest.raises(PublishIncomplete):
        lead(leader)
    rename(db(leader), 3, before)
    assert lead(leader).position == Position(1, 3)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_around_the_publish(
    leader: Instance, repository: FolderRepository, moment: str
) -> None:
    """Between the intent and restic's beginning, or between restic's end and the note."""
    lead(leader)
    rename(db(leader), 3, "new name")
    dies_in(repository, moment, "publish", lambda: lead(leader))
    intent = leader.state.load().leading.publishing
    assert intent is not None
    assert intent.position == Position(1, 2)
    result = lead(leader)
    if moment == "after":
        assert result.sentence == "nothing changed since 1.2"
        assert positions(repository) == ["1.1", "1.2"]
    else:
        assert result.position == Position(1, 3)
        assert positions(repository) == ["1.1", "1.3"]
    assert leader.state.load().leading.publishing is None


def test_killed_in_the_very_first_publish(leader: Instance, repository: FolderRepository) -> None:
    dies_in(repository, "after", "publish", lambda: lead(leader))
    rename(db(leader), 3, "new name")
    assert lead(leader).position == Position(1, 2)


def test_an_orphaned_restic_ends_late(leader: Instance, repository: FolderRepository) -> None:
    """Its snapshot appears after the killed leader has come back and looked."""
    lead(leader)
    late = repository.snapshots("default")[0]
    intent = cycles.mark((1, 2), writer=leader.state.load().writer, digest="old content")
    edit_state(leader.state, publishing=intent)
    rename(db(leader), 3, "new name")
    assert lead(leader).position == Position(1, 3)
    label = dataclasses.replace(late.label, position=Position(1, 2), digest="old content")
    repository.add(repository.folder / late.id, label)
    assert lead(leader, verify=True).sentence == "nothing changed since 1.3"
    rename(db(leader), 3, "newer name")
    assert lead(leader).position == Position(1, 4)


def test_what_is_judged_is_what_is_published(
    leader: Instance, repository: FolderRepository, after_the_dump: AfterTheDump
) -> None:
    """Monitors that go once the rows are read are the next cycle's matter."""
    lead(leader)
    rename(db(leader), 3, "new name")
    after_the_dump(lambda: databases.edit(db(leader), "DELETE FROM monitor WHERE id > 2"))
    result = lead(leader)
    assert (result.position, repository.snapshots("default")[-1].label.monitors) == (
        Position(1, 2),
        12,
    )
    with pytest.raises(ShrinkRefused):
        lead(leader)
    after_the_dump(lambda: databases.edit(db(leader), "DELETE FROM user"))
    assert lead(leader, allow_shrink=True).position == Position(1, 3)
    with pytest.raises(DatabaseUnset):
        lead(leader, allow_shrink=True)
    assert positions(repository) == ["1.1", "1.2", "1.3"]


def test_a_lost_database_is_taken_back(leader: Instance) -> None:
    lead(leader)
    kept = cycles.copy_of(db(leader))
    db(leader).unlink()
    (leader.data_dir / "upload" / "logo2.png").unlink()
    with pytest.raises(DatabaseMissing, match=r"1\.1, is this instance's own"):
        lead(leader)  # by a single command: its DATA_DIR may be mistyped
    leader.supervised = True
    result = lead(leader)
    assert result.outcome is Outcome.WAITING
    assert "taking it back once Kuma has made an empty one" in result.sentence
    databases.create(db(leader))  # Kuma's own start
    result = lead(leader)
    assert result.outcome is Outcome.APPLIED
    assert config_differences(db(leader), kept) == []
    assert (leader.data_dir / "upload" / "logo2.png").read_bytes() == cycles.LOGO
    assert lead(leader).sentence == "nothing changed since 1.1"
    rename(db(leader), 3, "goes on")
    assert lead(leader).position == Position(1, 2)


def test_a_lost_disk_takes_its_state_along(leader: Instance, repository: FolderRepository) -> None:
    lead(leader)
    kept = cycles.copy_of(db(leader))
    shutil.rmtree(leader.data_dir)
    anew = cycles.instance(leader.data_dir, repository, name="leader")
    anew.supervised = True
    assert lead(anew).outcome is Outcome.WAITING
    databases.create(db(anew))
    assert lead(anew).outcome is Outcome.APPLIED
    assert config_differences(db(anew), kept) == []
    rename(db(anew), 3, "goes on")
    assert lead(anew).position == Position(1, 2)
    assert len({s.label.writer for s in repository.snapshots("default")}) == 1


def test_a_kuma_that_was_never_set_up_publishes_nothing(
    tmp_path: Path, repository: FolderRepository
) -> None:
    fresh = cycles.instance(tmp_path / "fresh", repository, name="fresh")
    databases.create(db(fresh))
    with pytest.raises(DatabaseUnset):
        lead(fresh)
    assert positions(repository) == []
