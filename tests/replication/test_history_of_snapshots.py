"""What `replicator log` tells of the snapshots of a fleet."""

from __future__ import annotations

import dataclasses
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.errors import RepositoryUnreachable
from replicator_kuma.replication.change_sets import Entry
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.workspace import preview_workspace
from replicator_kuma.reports.changes import entries
from tests.support import cycles, databases
from tests.support.cycles import db, lead, publish, take_over
from tests.support.folder_repository import FolderRepository


def told(
    instance: Instance, most: int | None = None, since: str | None = None
) -> list[tuple[str, str, list[str]]]:
    """(position, sentence, lines and notes) of each entry."""
    with preview_workspace(instance) as reader:
        snapshots = reader.repository.snapshots("default")
        after = Position.parse(since) if since else None
        return [
            (str(e.snapshot.position), e.sentence, [*e.notes, *e.lines()])
            for e in entries(reader, snapshots, most, after)
        ]


@pytest.fixture
def published(leader: Instance) -> Instance:
    lead(leader)
    publish(leader, "two")
    cycles.delete_monitor(db(leader), 4)
    databases.edit(db(leader), 'UPDATE notification SET config = \'{"token": "s3cret"}\'')
    lead(leader)
    cycles.add_monitor(db(leader), 77)
    lead(leader)
    return leader


def test_each_change_monitor_by_monitor_newest_first(
    published: Instance, repository: FolderRepository
) -> None:
    repository.calls.clear()
    found = told(published)
    assert repository.calls.count("fetch") == 4
    assert [position for position, _sentence, _lines in found] == ["1.4", "1.3", "1.2", "1.1"]
    assert found[0][1].startswith("1 monitor added")
    assert found[0][2][0] == "monitor 77 «added 77» added"
    assert found[1][2][0].startswith("monitor 4 ")
    assert any("config ••• → •••" in line for line in found[1][2])
    assert "s3cret" not in str(found)
    assert found[2][1] == "1 monitor changed"
    assert found[3][1].startswith("12 monitors, ")
    assert found[3][2] == ["the oldest snapshot that is kept"]
    assert not list(published.state.folder.glob("preview-*"))


def test_no_more_is_fetched_than_is_asked_for(
    published: Instance, repository: FolderRepository
) -> None:
    repository.calls.clear()
    assert [position for position, *_ in told(published, most=2)] == ["1.4", "1.3"]
    assert repository.calls.count("fetch") == 3
    repository.calls.clear()
    assert [position for position, *_ in told(published, since="1.3")] == ["1.4"]
    assert repository.calls.count("fetch") == 2
    repository.calls.clear()
    assert told(published, since="1.4") == []
    assert repository.calls.count("fetch") == 0


def test_two_dumps_lie_on_the_disk_at_a_time(published: Instance) -> None:
    with preview_workspace(published) as reader:
        for _ in entries(reader, reader.repository.snapshots("default")):
            dumps = [p for p in reader.work.iterdir() if (p / "manifest.json").exists()]
            assert len(dumps) <= 2


def test_one_that_cannot_be_read_is_said_and_passed_over(
    published: Instance, repository: FolderRepository
) -> None:
    for one in repository.snapshots("default"):
        if one.position in (Position(1, 3), Position(1, 1)):
            with (repository.folder / one.id / "tables" / "tag.jsonl").open("a") as file:
                file.write("[]\n")
    newest, third, second, first = told(published)
    assert newest[1].startswith("1 monitor added, 1 deleted")
    assert third[0] == "1.3"
    assert third[2][0].startswith("cannot be read: ")
    assert second[2] == ["no older one can be read"]
    assert first[2][0].startswith("cannot be read: ")


def test_a_repository_that_fails_is_no_snapshot_that_fails(
    published: Instance, repository: FolderRepository
) -> None:
    repository.fail["fetch"] = RepositoryUnreachable("no network")
    with pytest.raises(RepositoryUnreachable):
        told(published)


def test_another_schema_is_said_and_what_can_be_compared_is(
    published: Instance, repository: FolderRepository
) -> None:
    databases.edit(
        db(published),
        "ALTER TABLE tag ADD COLUMN shape TEXT",
        "INSERT INTO knex_migrations (name, batch) VALUES ('2099-01-01-0000-shapes.js', 9)",
    )
    publish(published, "after the upgrade")
    newest = told(published, most=1)[0]
    assert newest[1] == "1 monitor changed"
    assert newest[2][0].startswith("another schema: that of Uptime Kuma ")
    assert newest[2][1] == "tag is not compared, it has other columns: +shape"
    assert newest[2][2].startswith("monitor 3 ")


def test_who_published_and_by_whose_word(
    published: Instance, replica_of: Callable[[], Instance]
) -> None:
    databases.edit(db(published), "DELETE FROM monitor WHERE id > 3")
    lead(published, allow_shrink=True)
    assert (
        told(published, most=1)[0][2][0]
        == "published by a rollback, or with --allow-shrink: monitors may go"
    )
    take_over(replica_of())
    newest = told(published, most=1)[0]
    assert newest[2] == ["another writer: leader had published before"]
    assert newest[1] == "no change"


def test_two_snapshots_of_one_position_and_another_engine(
    published: Instance, repository: FolderRepository
) -> None:
    newest = repository.snapshots("default")[-1]
    label = dataclasses.replace(newest.label, writer="rival", leader="there", engine="mariadb")
    repository.add(repository.folder / newest.id, label)
    text = str(told(published, most=1)[0][2])
    assert "two snapshots are 1.4" in text
    assert "another engine: " in text


@pytest.fixture
def replica_of(
    tmp_path: Path, filled: Path, repository: FolderRepository
) -> Callable[[], Instance]:
    def make() -> Instance:
        import shutil

        shutil.copytree(filled, tmp_path / "second")
        return cycles.instance(tmp_path / "second", repository, name="second")

    return make


def test_memory_does_not_grow_with_what_changed(leader: Instance) -> None:
    lead(leader)

    def peak() -> int:
        with preview_workspace(leader) as reader:
            tracemalloc.start()
            try:
                found = entries(reader, reader.repository.snapshots("default"), 1)
                assert sum(1 for entry in found for _ in entry.lines()) > 0
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    def grow(number: int) -> None:
        rows: list[tuple[str, Any]] = [
            ("INSERT INTO tag (name, color) VALUES (?, '#fff')", (f"{i:0200d}",))
            for i in range(number)
        ]
        databases.edit(db(leader), *rows)
        lead(leader)

    grow(200)
    few = peak()
    grow(8000)
    assert peak() < few + 2_000_000


def test_an_entry_without_a_plan_has_no_lines(leader: Instance) -> None:
    lead(leader)
    snapshot = leader.repository.snapshots("default")[0]
    assert list(Entry(snapshot).changes()) == []
