"""A replica needs to read the repository, and nothing else: with real restics and real servers."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.adapters.repository.restic.client import Timeouts
from replicator_kuma.base.errors import RepositoryUnreachable
from replicator_kuma.replication.state.file import StateFile
from tests.adapters.repository import places
from tests.cli.conftest import World
from tests.support import weak_repository
from tests.support.databases import build, edit, query
from tests.support.folder_repository import FolderRepository
from tests.support.gate import reading_only
from tests.support.supervised import Side
from tests.support.tools import rclone, restic_014, restic_018
from tests.support.waiting import wait_until

pytestmark = pytest.mark.restic


@dataclass
class Ways:
    """The same repository, as the leader and as a replica reach it."""

    leader: str
    replica: str
    refused: Callable[[], list[str]] = list
    """what a replica has tried to write"""

    @property
    def by_mode(self) -> dict[str, str]:
        return {"BACKUP": self.leader, "RESTORE": self.replica}


@contextlib.contextmanager
def through_rest(scratch: Path, published: Path) -> Iterator[Ways]:
    """rest-server that only appends, a private repository; the replicas come through a gate."""
    shutil.copytree(published, scratch / "rest" / places.USER / "fleet")
    with (
        places.rest(scratch, "--append-only", "--private-repos") as behind,
        reading_only(behind) as gate,
    ):
        path = f"{places.USER}/fleet"
        yield Ways(
            places.rest_url(behind, path),
            places.rest_url(gate.address, path),
            lambda: gate.refused,
        )


@contextlib.contextmanager
def through_s3(scratch: Path, published: Path) -> Iterator[Ways]:
    """Two S3 servers over one bucket: the second one's key may not write."""
    shutil.copytree(published, scratch / "s3" / "bucket" / "fleet")
    with places.s3(scratch) as writing, places.s3(scratch, "--read-only") as reading:
        yield Ways(f"{writing}/bucket/fleet", f"{reading}/bucket/fleet")


@contextlib.contextmanager
def through_a_mount(scratch: Path, published: Path) -> Iterator[Ways]:
    """A folder on a file system that is read-only."""
    with places.tmpfs(scratch / "small", "64m") as folder:
        place = shutil.copytree(published, folder / "repository")
        places.remount_read_only(folder)
        yield Ways(str(place), str(place))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A leader's data directory in ``leader``, and beside it the repository where it is 1.1."""
    folder = tmp_path_factory.mktemp("published")
    build(folder / "leader" / "kuma.db", "2.3", monitors=12)
    side = Side(folder, "leader", "BACKUP", restic_014())
    weak_repository.make(folder / "repository")
    side.command("backup")
    return folder


@pytest.fixture
def fleet(
    published: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> World:
    for name in ("REPLICATOR_FLEET", "REPLICATOR_STATE_DIR", "NTFY_URL", "RESTIC_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    for name, value in places.environment("unused").items():
        monkeypatch.setenv(name, value)
    made = World(tmp_path, capsys, monkeypatch, FolderRepository(tmp_path / "none"))
    shutil.copytree(published / "leader", made.leader)
    build(made.replica / "kuma.db", "2.3", monitors=3)
    return made


PLACES: dict[str, tuple[Any, Callable[[], Path]]] = {
    "rest 0.14": (through_rest, restic_014),
    "rest 0.18": (through_rest, restic_018),
    "s3 0.14": (through_s3, restic_014),
    "mount 0.18": (through_a_mount, restic_018),
}


@pytest.mark.parametrize(("through", "restic"), PLACES.values(), ids=PLACES)
def test_every_command_of_a_replica_works_without_a_write(
    through: Any,
    restic: Callable[[], Path],
    fleet: World,
    published: Path,
    tmp_path: Path,
) -> None:
    fleet.monkeypatch.setenv("REPLICATOR_RESTIC", str(restic()))
    with through(tmp_path, published / "repository") as ways:
        fleet.reach = ways.by_mode
        assert [row["position"] for row in fleet.on_replica("snapshots", "--json").json] == ["1.1"]
        assert fleet.on_replica("diff", "--json").json["changes"]
        doctor = fleet.on_replica("doctor")
        assert doctor.code == 0, doctor.out
        done = fleet.on_replica("restore", "--now", "-v")
        assert (done.code, done.out.partition(":")[0]) == (0, "applied 1.1 of leader"), done.err
        report = fleet.on_replica("status", "--json").json
        assert (report["applied"]["position"], report["behind"]) == ("1.1", 0)
        assert fleet.on_replica("init").code == 0  # it is there: nothing to make
        monitors = query(fleet.replica / "kuma.db", "SELECT count(*) FROM monitor")
        assert monitors == [(12,)]
        assert ways.refused() == []


def test_a_leader_publishes_by_appending_and_what_may_only_read_does_not(
    fleet: World, published: Path, tmp_path: Path
) -> None:
    """A thief of such a replica's credential publishes nothing: the gate does refuse."""
    fleet.monkeypatch.setenv("REPLICATOR_RESTIC", str(restic_018()))
    with through_rest(tmp_path, published / "repository") as ways:
        edit(fleet.leader / "kuma.db", "UPDATE monitor SET name = 'edited' WHERE id = 1")
        fleet.reach = {"BACKUP": ways.replica}
        assert fleet.on_leader("backup").code != 0
        assert ways.refused() != []
        fleet.reach = ways.by_mode
        assert fleet.on_leader("backup").code == 0
        assert fleet.on_leader("snapshots", "--json").json[-1]["monitors"] == 12


def test_an_s3_key_without_write_stores_nothing(published: Path, tmp_path: Path) -> None:
    with through_s3(tmp_path, published / "repository") as ways:
        patient = Timeouts(publish=300, lock=1)
        repository = places.connect(restic_014(), ways.replica, tmp_path, patient)
        begin = time.monotonic()
        with pytest.raises(RepositoryUnreachable, match=r"client\.PutObject: Internal Error"):
            repository.publish(places_dump(tmp_path), places.label(2))
        assert time.monotonic() - begin < 120
        assert [str(s.position) for s in repository.snapshots("default")] == ["1.1"]


@pytest.mark.parametrize("restic", [restic_014, restic_018])
def test_what_rclone_may_not_write_is_told_at_once(
    restic: Callable[[], Path], published: Path, tmp_path: Path
) -> None:
    """As restic's backend; its refusals are in lines of its own."""
    with through_a_mount(tmp_path, published / "repository") as ways:
        programs = f"{rclone().parent}:{os.environ['PATH']}"
        reach = {"PATH": programs, "RCLONE_CONFIG": "/dev/null"}
        patient = Timeouts(publish=300, lock=1)
        place = f"rclone:{ways.replica}"
        repository = places.connect(restic(), place, tmp_path, patient, **reach)
        begin = time.monotonic()
        with pytest.raises(RepositoryUnreachable, match=r"rclone: .*read-only file system"):
            repository.publish(places_dump(tmp_path), places.label(2))
        assert time.monotonic() - begin < 120
        assert [str(s.position) for s in repository.snapshots("default")] == ["1.1"]


def places_dump(scratch: Path) -> Path:
    places.make_dump(scratch / "dump")
    return scratch / "dump"


def test_a_supervised_replica_follows_without_a_write(published: Path, tmp_path: Path) -> None:
    side = Side(tmp_path, "replica", "RESTORE", restic_018(), notes=tmp_path / "kuma")
    build(side.database, "2.3", monitors=4)
    with through_rest(tmp_path, published / "repository") as ways:
        side.environment |= places.environment(ways.replica, PATH=os.environ["PATH"])
        del side.environment["RESTIC_PASSWORD_FILE"]
        side.run()
        try:

            def applied() -> bool:
                return StateFile(side.data_dir / "replicator").load().following.applied is not None

            wait_until(applied, "1.1 is applied and confirmed", deadline=60)
        finally:
            side.stop()
        assert query(side.database, "SELECT count(*) FROM monitor") == [(12,)]
        assert ways.refused() == []
