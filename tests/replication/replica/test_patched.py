"""A replica makes the next dump of the one it keeps and the snapshot's patch, or fetches it all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.adapters.repository.pair import Pair
from replicator_kuma.base.errors import RepositoryDamaged, RepositoryUnreachable, SnapshotRefused
from replicator_kuma.dump import patch
from replicator_kuma.dump.manifest import MANIFEST, PATCH
from replicator_kuma.replication import published_dump
from replicator_kuma.replication.apply import checkpoints
from replicator_kuma.replication.instance import Hint, Instance, Outcome
from tests.adapters.repository.places import read_tree
from tests.support.cycles import (
    another,
    db,
    follow,
    lead,
    left_behind,
    name_of,
    publish,
    rename,
    take_over,
)
from tests.support.dumps import edit_manifest
from tests.support.effects import dies_at
from tests.support.folder_repository import FolderRepository

PATCHED, WHOLE, TRIED = (
    ["snapshots", "read"],
    ["snapshots", "fetch"],
    ["snapshots", "read", "fetch"],
)


def followed(
    replica: Instance, repository: FolderRepository, hint: Hint | None = None
) -> list[str]:
    """What a cycle asks for that applies the newest snapshot, named "new name"."""
    repository.calls.clear()
    result = follow(replica, hint=hint)
    asked = repository.calls.copy()
    assert (result.outcome, name_of(db(replica), 3)) == (Outcome.APPLIED, "new name")
    assert left_behind(replica) == []
    assert keeps_the_newest(replica, repository)
    return asked if hint is None else sorted(asked, reverse=True)


def keeps_the_newest(replica: Instance, repository: FolderRepository) -> bool:
    newest = repository.snapshots("default")[-1]
    return read_tree(kept(replica)) == read_tree(repository.folder / newest.id)


def kept(instance: Instance) -> Path:
    return instance.state.folder / published_dump.FOLDER


def hint_of_newest(repository: FolderRepository) -> Hint:
    newest = repository.snapshots("default")[-1]
    return Hint(newest.position, newest.id)


def newest_folder(repository: FolderRepository) -> Path:
    return repository.folder / repository.snapshots("default")[-1].id


@pytest.mark.parametrize("told", [False, True])
def test_each_change_is_read_as_a_patch(
    leader: Instance, replica: Instance, repository: FolderRepository, told: bool
) -> None:
    for name in ("one", "two", "new name"):
        publish(leader, name)
        hint = hint_of_newest(repository) if told else None
        repository.calls.clear()
        assert follow(replica, hint=hint).outcome is Outcome.APPLIED
        assert sorted(repository.calls, reverse=True) == PATCHED
        assert name_of(db(replica), 3) == name
        assert keeps_the_newest(replica, repository)
    modes = {path.stat().st_mode & 0o777 for path in (kept(replica), *kept(replica).rglob("*"))}
    assert modes == {0o700, 0o600}


def test_a_logo_travels_in_a_patch(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    logo = next((leader.data_dir / "upload").iterdir())
    logo.write_bytes(b"\\x89PNG another")
    publish(leader, "new name")
    assert followed(replica, repository) == PATCHED
    assert (replica.data_dir / "upload" / logo.name).read_bytes() == b"\\x89PNG another"


def test_who_missed_a_snapshot_fetches_the_whole(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    publish(leader, "one")
    publish(leader, "new name")
    assert followed(replica, repository) == WHOLE


def test_who_missed_a_snapshot_and_is_told_tries_no_patch(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    publish(leader, "one")
    publish(leader, "new name")
    assert followed(replica, repository, hint_of_newest(repository)) == WHOLE


@pytest.mark.parametrize("told", [False, True])
def test_a_snapshot_without_a_patch_is_fetched(
    leader: Instance, replica: Instance, repository: FolderRepository, told: bool
) -> None:
    """As 0.3.0 publishes it, or after a change that is too large. Who is told cannot know that."""
    published_dump.forget(leader.state.folder)
    publish(leader, "new name")
    assert repository.snapshots("default")[-1].label.base == ""
    assert PATCH not in json.loads((newest_folder(repository) / MANIFEST).read_text())
    hint = hint_of_newest(repository) if told else None
    assert followed(replica, repository, hint) == (TRIED if told else WHOLE)


def test_a_dump_that_is_too_large_is_not_kept(
    leader: Instance,
    replica: Instance,
    repository: FolderRepository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(published_dump, "affordable", lambda _state, size: size <= 1000)
    for name in ("one", "new name"):
        publish(leader, name)
        repository.calls.clear()
        assert follow(replica).outcome is Outcome.APPLIED
        assert not kept(replica).exists()
    assert repository.calls == WHOLE


def _cut(folder: Path) -> None:
    path = folder / "tables" / "monitor.jsonl"
    os.truncate(path, path.stat().st_size // 2)


def _altered(folder: Path) -> None:
    path = folder / "tables" / "user.jsonl"
    path.write_bytes(path.read_bytes().replace(b"a", b"b"))


def _linked_file(folder: Path) -> None:
    path = folder / "tables" / "user.jsonl"
    path.unlink()
    path.symlink_to("/dev/zero")


def _no_folder(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("x")


@pytest.mark.parametrize(
    ("harm", "asked"),
    [
        (shutil.rmtree, WHOLE),
        (lambda folder: (folder / MANIFEST).unlink(), WHOLE),
        (_no_folder, WHOLE),
        (_cut, TRIED),
        (_altered, TRIED),
        (_linked_file, TRIED),
    ],
    ids=["gone", "no manifest", "no folder", "cut", "altered", "a file is a link"],
)
def test_a_kept_dump_that_was_harmed_costs_a_fetch_and_is_replaced(
    leader: Instance,
    replica: Instance,
    repository: FolderRepository,
    harm: Callable[[Path], object],
    asked: list[str],
) -> None:
    harm(kept(replica))
    publish(leader, "new name")
    assert followed(replica, repository) == asked


def _another_row(raw: dict[str, Any]) -> None:
    raw[PATCH]["lines"]["tables/monitor.jsonl"][0][2] = ["[1]"]


HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "no patch": lambda raw: raw.pop(PATCH),
    "another row": _another_row,
    "another base": lambda raw: raw[PATCH].update(base="0" * 64),
    "too large": lambda raw: raw[PATCH].update(base="0" * patch.MOST_MANIFEST),
}


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("what", HOSTILE)
def test_a_patch_that_lies_costs_a_fetch(
    leader: Instance, replica: Instance, repository: FolderRepository, what: str, told: bool
) -> None:
    publish(leader, "new name")
    edit_manifest(newest_folder(repository), HOSTILE[what])
    hint = hint_of_newest(repository) if told else None
    assert followed(replica, repository, hint) == TRIED


def test_a_manifest_of_another_snapshot_is_not_taken(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    """All of it is right, but its digest is not the one of the listed tags."""
    publish(leader, "new name")
    other = newest_folder(repository)
    publish(leader, "other name")
    shutil.rmtree(newest_folder(repository))
    shutil.copytree(other, newest_folder(repository))
    for hint in (None, hint_of_newest(repository)):
        with pytest.raises(SnapshotRefused):
            follow(replica, hint=hint)
    assert name_of(db(replica), 3) not in ("new name", "other name")


def test_a_manifest_in_a_damaged_pack_costs_a_fetch(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    publish(leader, "new name")
    repository.fail["read"] = RepositoryDamaged("a pack is gone")
    assert followed(replica, repository) == TRIED


def test_a_repository_that_does_not_answer_is_not_asked_for_more(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    publish(leader, "new name")
    repository.calls.clear()
    repository.fail["read"] = RepositoryUnreachable("no network")
    with pytest.raises(RepositoryUnreachable):
        follow(replica)
    assert repository.calls == PATCHED
    assert followed(replica, repository) == PATCHED, "the next cycle goes on as ever"


def test_of_two_repositories_the_other_one_gives_the_patch(
    leader: Instance, replica: Instance, repository: FolderRepository, tmp_path: Path
) -> None:
    second = FolderRepository(tmp_path / "second", "repository 2")
    second.init()
    for one in (leader, replica):
        one.repositories = (repository, second)
        one.repository = one.pair = Pair(repository, second, patience=5)
    lead(leader, verify=True)
    publish(leader, "new name")
    second.calls.clear()
    repository.fail["read"] = RepositoryDamaged("a pack is gone")
    assert followed(replica, repository) == PATCHED
    assert second.calls == PATCHED


@pytest.mark.parametrize("step", ["the manifest is read", "the published dump before is forgotten"])
def test_a_death_on_the_way_leaves_nothing_wrong(
    leader: Instance, replica: Instance, repository: FolderRepository, step: str
) -> None:
    publish(leader, "one")
    dies_at(step, lambda: follow(replica))
    follow(replica)
    publish(leader, "new name")
    asked = followed(replica, repository)
    # what was forgotten comes back with the next whole snapshot
    assert asked == (PATCHED if step == "the manifest is read" else WHOLE)


def test_who_is_promoted_publishes_a_patch_of_what_it_followed(
    leader: Instance, replica: Instance, repository: FolderRepository, tmp_path: Path
) -> None:
    third = another(tmp_path / "third", replica, repository)
    publish(leader, "one")
    follow(replica)
    follow(third)
    take_over(replica)
    rename(db(replica), 3, "new name")
    repository.calls.clear()
    follow(third)
    assert repository.calls == PATCHED
    lead(replica)
    assert followed(third, repository) == PATCHED


def test_who_leads_no_more_follows_from_what_it_published(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    take_over(replica)
    rename(db(replica), 3, "new name")
    lead(replica)
    assert followed(leader, repository) == PATCHED


def test_a_full_disk_takes_the_kept_dump_before_a_checkpoint(
    leader: Instance, replica: Instance
) -> None:
    publish(leader, "one")
    follow(replica)
    full = OSError(28, "No space left on device")
    error = RepositoryUnreachable("x")
    error.__cause__ = full
    numbers = [one.number for one in checkpoints.readable(replica.state.folder)]
    assert checkpoints.make_room(replica.state.folder, error) is True
    assert not kept(replica).exists()
    assert [one.number for one in checkpoints.readable(replica.state.folder)] == numbers
    assert checkpoints.make_room(replica.state.folder, error) is True
    assert [one.number for one in checkpoints.readable(replica.state.folder)] == numbers[1:]
