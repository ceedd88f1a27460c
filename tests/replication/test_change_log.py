"""What cycles keep for the page and the API: the last listing and the last change sets."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.adapters.repository import Label, Position, Snapshot
from replicator_kuma.replication import change_log
from replicator_kuma.replication.change_log import ChangeLog, ChangeReader
from replicator_kuma.replication.change_sets import Entry
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.workspace import preview_workspace
from replicator_kuma.reports.changes import entries
from tests.support import cycles, databases
from tests.support.cycles import db, follow, lead, publish, roll_back_to, take_over
from tests.support.folder_repository import FolderRepository


def kept(instance: Instance, most: int = 50, since: str | None = None) -> list[dict[str, Any]]:
    """What a page would read, in a new process."""
    after = Position.parse(since) if since else None
    return ChangeReader(instance.state.name).entries(most, after)


def logged(instance: Instance) -> list[dict[str, Any]]:
    """What `log --json` prints."""
    with preview_workspace(instance) as reader:
        found = entries(reader, reader.repository.snapshots("default"))
        return [
            {**entry.as_dict(), "changes": list(entry.changes()), "left_out": 0} for entry in found
        ]


def keeping(instance: Instance) -> Instance:
    """The instance, as `run` has it with REPLICATOR_HTTP."""
    instance.change_log = ChangeLog(instance.state.name)
    return instance


@pytest.fixture
def published(leader: Instance) -> Instance:
    lead(keeping(leader))
    publish(leader, "two")
    cycles.delete_monitor(db(leader), 4)
    databases.edit(db(leader), 'UPDATE notification SET config = \'{"token": "s3cret"}\'')
    lead(leader)
    cycles.add_monitor(db(leader), 77)
    lead(leader)
    return leader


def test_a_leader_keeps_what_log_would_print(
    published: Instance, repository: FolderRepository
) -> None:
    printed = logged(published)
    repository.calls.clear()
    found = kept(published)
    assert repository.calls == []
    # the oldest one has no older one in both: in other words
    assert found[:-1] == printed[:-1]
    assert found[-1]["notes"] == ["the first snapshot of this fleet"]
    assert found[-1] == {**printed[-1], "notes": found[-1]["notes"]}
    assert "s3cret" not in json.dumps(found)
    assert [entry["snapshot"]["position"] for entry in kept(published, most=2)] == ["1.4", "1.3"]
    assert [e["snapshot"]["position"] for e in kept(published, since="1.2")] == ["1.4", "1.3"]


def test_a_replica_keeps_what_came_with_each_snapshot_that_it_took(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    keeping(replica)
    publish(leader, "two")
    follow(replica)
    cycles.add_monitor(db(leader), 77)
    publish(leader, "three")
    publish(leader, "four")
    repository.calls.clear()
    follow(replica)
    assert repository.calls.count("fetch") == 1
    found = kept(replica)
    assert [(entry["snapshot"]["position"], entry["since"]) for entry in found] == [
        ("1.4", "1.2"),
        ("1.2", "1.1"),
    ]
    assert found[0]["sentence"].startswith("1 monitor added")
    assert "«added 77»" in [change["name"] for change in found[0]["changes"]]
    follow(replica, reconcile=True)
    assert kept(replica) == found


def test_the_first_snapshot_that_a_replica_takes_lists_no_rows(
    leader: Instance, repository: FolderRepository, tmp_path: Path
) -> None:
    lead(leader)
    other = keeping(cycles.another(tmp_path / "other", leader, repository))
    databases.edit(db(other), "DELETE FROM monitor WHERE id = 3")
    follow(other, reconcile=True)
    (found,) = kept(other)
    assert (found["since"], found["changes"]) == (None, [])
    assert found["notes"] == ["the first snapshot that this instance took"]


def test_a_rollback_leaves_what_its_snapshot_was_published_with(published: Instance) -> None:
    before = kept(published)
    roll_back_to(published, "1.2")
    assert kept(published)[1:] == before
    newest = kept(published)[0]
    assert newest["snapshot"]["position"] == "1.5"
    assert newest["notes"] == ["published by a rollback, or with --allow-shrink: monitors may go"]


def test_a_promote_is_kept(leader: Instance, replica: Instance) -> None:
    take_over(keeping(replica))
    (found,) = kept(replica)
    assert found["snapshot"]["position"] == "2.1"
    assert any(note.startswith("another writer") for note in found["notes"])


def test_the_last_listing_is_known_in_the_next_process(
    published: Instance, repository: FolderRepository
) -> None:
    seen = ChangeReader(published.state.name).seen()
    assert seen is not None
    listed = repository.snapshots("default")
    assert list(seen.listing) == list(listed)
    assert [one.label for one in seen.listing] == [one.label for one in listed]


def test_a_listing_without_news_moves_only_its_time(replica: Instance) -> None:
    keeping(replica)
    follow(replica)
    path = replica.state.folder / change_log.LISTING
    before = path.stat()
    reader = ChangeReader(replica.state.name)
    first = reader.seen()
    follow(replica)
    after = path.stat()
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)
    second = reader.seen()
    assert first is not None
    assert second is not None
    assert second.at > first.at


def test_nobody_else_may_read_it(published: Instance) -> None:
    folder = published.state.folder
    assert stat.S_IMODE((folder / change_log.FOLDER).stat().st_mode) == 0o700
    files = [folder / change_log.LISTING, *(folder / change_log.FOLDER).iterdir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_without_http_nothing_is_kept(leader: Instance) -> None:
    lead(leader)
    publish(leader, "two")
    assert kept(leader) == []
    assert not (leader.state.folder / change_log.LISTING).exists()


def labelled(sequence: int, digest: str = "d" * 64) -> Snapshot:
    label = Label("default", Position(1, sequence), digest, "5" * 16, "w", "beta")
    return Snapshot(f"{sequence:064x}", label, "2031-05-01T10:00:00Z")


def test_only_the_newest_are_kept(leader: Instance) -> None:
    leader.state.prepare()
    written = ChangeLog(leader.state.name)
    folder = leader.state.folder / change_log.FOLDER
    for sequence in range(1, change_log.MOST + 6):
        written.changed(Entry(labelled(sequence)))
    (folder / ".1.9-dead.json.tmp").touch()
    written.changed(Entry(labelled(99)))
    assert len(list(folder.iterdir())) == change_log.MOST
    positions = [entry["snapshot"]["position"] for entry in kept(leader)]
    assert (positions[0], positions[1], positions[-1]) == ("1.99", "1.55", "1.7")


def test_a_huge_change_set_is_cut(published: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_log, "MOST_CHANGES", 2)
    for number in range(100, 105):
        cycles.add_monitor(db(published), number)
    lead(published)
    newest = kept(published)[0]
    assert len(newest["changes"]) == 2
    assert newest["left_out"] >= 3
    assert newest["sentence"].startswith("5 monitors added")


@pytest.mark.parametrize(
    "break_it",
    [
        lambda path: path.write_bytes(b"\xff{"),
        lambda path: path.write_text("[1]"),
        lambda path: path.write_text('{"snapshots": [{"id": 1, "tags": 7}]}'),
        lambda path: path.write_text("[" * 100_000),
        lambda path: path.unlink(),
    ],
    ids=["no text", "a list", "other types", "deep", "gone"],
)
def test_what_was_damaged_is_left_out(
    published: Instance, break_it: Callable[[Path], object]
) -> None:
    folder = published.state.folder
    newest = max((folder / change_log.FOLDER).iterdir())
    break_it(newest)
    break_it(folder / change_log.LISTING)
    found = [entry["snapshot"]["position"] for entry in kept(published)]
    assert found == ["1.3", "1.2", "1.1"]
    assert ChangeReader(published.state.name).seen() is None


def test_a_cycle_goes_on_where_nothing_can_be_kept(leader: Instance) -> None:
    leader.state.prepare()
    for name in (change_log.LISTING, change_log.FOLDER):
        place = leader.state.folder / name
        place.mkdir() if name == change_log.LISTING else place.touch()
    assert lead(keeping(leader)).position == Position(1, 1)
    assert kept(leader) == []


def test_a_reader_sees_what_comes(published: Instance) -> None:
    reader = ChangeReader(published.state.name)
    for number in range(200, 205):
        cycles.add_monitor(db(published), number)
        lead(published)
        newest = reader.entries(1)[0]
        assert newest["changes"][0]["name"] == f"«added {number}»"
        assert reader.entries(1)[0] == newest
