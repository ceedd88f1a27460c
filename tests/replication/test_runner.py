"""How a cycle's end is noted and told."""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.adapters.notify import Change, Kind
from replicator_kuma.base.errors import (
    MachineError,
    RepositoryLocked,
    RepositoryUnreachable,
    StateError,
)
from replicator_kuma.replication.instance import CycleResult, Instance, Outcome
from replicator_kuma.replication.runner import recorded
from replicator_kuma.replication.state.file import StateFile
from tests.support.folder_repository import FolderRepository
from tests.support.instances import make_instance


class Told:
    """A notifier that keeps the titles."""

    def __init__(self) -> None:
        self.titles: list[str] = []

    def send(
        self,
        kind: Kind,
        title: str,
        message: str,
        *,
        urgent: bool = False,
        change: Change | None = None,
    ) -> None:
        self.titles.append(title)

    def close(self, timeout: float = 2.0) -> None:
        """Nothing."""


def fine() -> CycleResult:
    return CycleResult(Outcome.NOTHING, "all well")


def away() -> CycleResult:
    raise RepositoryUnreachable("no route")


def full(*_arguments: object, **_changes: Any) -> None:
    raise StateError("cannot write state.json: No space left on device")


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    return make_instance(tmp_path / "i", FolderRepository(tmp_path / "repository"))


def test_a_full_disk_is_told_once_although_nothing_can_be_noted(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance.notifier = told = Told()
    recorded(instance, "BACKUP", fine)
    with monkeypatch.context() as context:
        context.setattr(StateFile, "save", full)
        for _ in range(3):
            with pytest.raises(StateError):
                recorded(instance, "BACKUP", fine)
    assert told.titles == ["backup fails"]
    recorded(instance, "BACKUP", fine)
    recorded(instance, "BACKUP", fine)
    assert told.titles == ["backup fails", "backup works again"]


def test_what_comes_back_on_a_full_disk_is_told_although_nobody_can_note_that_it_did(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance.notifier = told = Told()
    ends = (away, fine)
    for end in ends:
        with contextlib.suppress(RepositoryUnreachable):
            recorded(instance, "BACKUP", end)
    monkeypatch.setattr(StateFile, "save", full)
    for _ in range(3):
        with pytest.raises(RepositoryUnreachable):
            recorded(instance, "BACKUP", away)
    assert told.titles == ["backup fails", "backup works again", "backup fails"]


def test_the_end_of_what_could_not_be_noted_begins_the_hour_of_what_flaps(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance.notifier = told = Told()
    with monkeypatch.context() as context:
        context.setattr(StateFile, "save", full)
        with pytest.raises(RepositoryUnreachable):
            recorded(instance, "BACKUP", away)
    for end in (fine, away, fine):
        with contextlib.suppress(RepositoryUnreachable):
            recorded(instance, "BACKUP", end)
    assert told.titles == ["backup fails", "backup works again"]


def test_a_kind_that_could_not_be_noted_is_not_told_again_after_another(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance.notifier = told = Told()
    recorded(instance, "BACKUP", fine)
    with pytest.raises(RepositoryUnreachable):
        recorded(instance, "BACKUP", away)
    with monkeypatch.context() as context:
        context.setattr(StateFile, "save", full)
        with pytest.raises(StateError):
            recorded(instance, "BACKUP", fine)
    for _ in range(2):
        with pytest.raises(RepositoryUnreachable):
            recorded(instance, "BACKUP", away)
    with monkeypatch.context() as context:
        context.setattr(StateFile, "save", full)
        with pytest.raises(StateError):
            recorded(instance, "BACKUP", fine)
    assert told.titles == ["backup fails"] * 2


def test_the_first_error_is_the_one_to_show(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance.notifier = told = Told()
    monkeypatch.setattr(StateFile, "save", full)
    with pytest.raises(RepositoryUnreachable):
        recorded(instance, "RESTORE", away)
    assert told.titles == ["restore fails"]


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (OSError(errno.ENOSPC, "x", "/a/dump"), "No space left on device: /a/dump"),
        (OSError(errno.EROFS, "x"), "Read-only file system"),
        (OSError(errno.EMFILE, "x"), "Too many open files"),
        (MemoryError(), "the machine has no memory left"),
    ],
)
def test_what_the_machine_refuses_is_no_bug(
    instance: Instance, raised: Exception, said: str
) -> None:
    def refused() -> CycleResult:
        raise raised

    with pytest.raises(MachineError, match=said) as caught:
        recorded(instance, "RESTORE", refused)
    assert caught.value.__cause__ is raised
    last = instance.state.load().outcome.last
    assert last is not None
    assert (last.exit_code, last.error) == (28, "MachineError")


def test_any_other_end_is_a_bug_all_the_same(instance: Instance) -> None:
    def broken() -> CycleResult:
        raise FileNotFoundError(errno.ENOENT, "No such file")

    with pytest.raises(FileNotFoundError):
        recorded(instance, "RESTORE", broken)
    last = instance.state.load().outcome.last
    assert last is not None
    assert last.exit_code == 1


def test_no_memory_for_the_note_hides_no_error(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance.notifier = told = Told()

    def starved(*_arguments: object, **_changes: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(StateFile, "save", starved)
    with pytest.raises(RepositoryUnreachable):
        recorded(instance, "RESTORE", away)
    assert told.titles == ["restore fails"]


def test_what_flaps_for_a_day_is_a_handful_of_messages(instance: Instance) -> None:
    """It fails at every other cycle: that is told once an hour at most, as is its end."""
    instance.notifier = told = Told()
    for number in range(24 * 10):
        work = away if number % 2 else fine
        with contextlib.suppress(RepositoryUnreachable):
            recorded(instance, "RESTORE", work, lambda n=number: 1e9 + 360 * n)  # type: ignore[misc]
    assert 2 <= len(told.titles) <= 2 * 24
    assert told.titles[:2] == ["restore fails", "restore works again"]
    last = instance.state.load().outcome.last
    assert last is not None
    assert not last.ok


def test_what_fails_twice_in_a_row_is_told_also_after_a_recovery(instance: Instance) -> None:
    instance.notifier = told = Told()
    for number, work in enumerate((away, fine, away, away, away, fine)):
        with contextlib.suppress(RepositoryUnreachable):
            recorded(instance, "RESTORE", work, lambda n=number: 1e9 + 60 * n)  # type: ignore[misc]
    assert told.titles == ["restore fails", "restore works again"] * 2


def test_kinds_that_take_turns_are_told_once_each(instance: Instance) -> None:
    def locked() -> CycleResult:
        raise RepositoryLocked("locked")

    instance.notifier = told = Told()
    for work in (away, locked) * 5:
        with contextlib.suppress(RepositoryUnreachable, RepositoryLocked):
            recorded(instance, "RESTORE", work)
    assert told.titles == ["restore fails"] * 2
