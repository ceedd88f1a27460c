"""Kuma's files beside its rows: wherever they lie, and when the leader has lost them."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import sqlite3
import subprocess
from array import array
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from replicator_kuma.base.errors import ShrinkRefused, SnapshotShrinks, StateError
from replicator_kuma.base.folders import Folder
from replicator_kuma.replication.apply import staging
from replicator_kuma.replication.instance import Instance, Outcome
from tests.support import cycles, databases
from tests.support.cycles import db, follow, lead, left_behind, rename
from tests.support.effects import dies_at
from tests.support.instances import RecordingKuma
from tests.support.states import edit_state

NEW = b"another logo"
LOGO = "upload/logo2.png"
HOST = "docker-tls/docker.example"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")


def new_logo(leader: Instance) -> None:
    """A row and a logo that replicas do not have."""
    rename(db(leader), 3, "two")
    (leader.data_dir / LOGO).write_bytes(NEW)
    lead(leader)


def is_as_before(replica: Instance, kuma: RecordingKuma) -> None:
    assert "stop" not in kuma.log
    assert cycles.name_of(db(replica), 3) != "two"
    assert replica.state.load().applying.pending is None
    assert left_behind(replica) == []


@pytest.fixture
def mounted(replica: Instance) -> Iterator[Path]:
    """The replica's upload folder is a file system of its own, with what was in it."""
    place = replica.data_dir / "upload"
    before = (place / "logo2.png").read_bytes()
    call = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs", str(place)]
    subprocess.run(call, check=True, timeout=10)
    try:
        (place / "logo2.png").write_bytes(before)
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True, timeout=10)


@as_root
def test_a_mounted_folder_gets_its_files(
    leader: Instance, replica: Instance, mounted: Path
) -> None:
    new_logo(leader)
    assert follow(replica).outcome is Outcome.APPLIED
    assert (replica.data_dir / LOGO).read_bytes() == NEW
    assert (replica.data_dir / LOGO).stat().st_dev == mounted.stat().st_dev
    assert follow(replica).outcome is Outcome.NOTHING
    assert left_behind(replica) == []


@as_root
def test_a_read_only_mount_is_noticed_before_anything_stops(
    leader: Instance, replica: Instance, kuma: RecordingKuma, mounted: Path
) -> None:
    new_logo(leader)
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True, timeout=10)
    with pytest.raises(StateError, match="Read-only file system") as raised:
        follow(replica)
    assert str(mounted) in raised.value.hint
    is_as_before(replica, kuma)
    subprocess.run(["mount", "-o", "remount,rw", str(mounted)], check=True, timeout=10)
    assert follow(replica).outcome is Outcome.APPLIED
    assert (replica.data_dir / LOGO).read_bytes() == NEW


@as_root
def test_a_full_mount_is_noticed_before_anything_stops(
    leader: Instance, replica: Instance, kuma: RecordingKuma, mounted: Path
) -> None:
    new_logo(leader)
    with (mounted / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    with pytest.raises(StateError, match="No space left"):
        follow(replica)
    is_as_before(replica, kuma)


@as_root
def test_a_logo_that_is_a_mount_itself_is_noticed_before_anything_stops(
    leader: Instance, replica: Instance, kuma: RecordingKuma, tmp_path: Path
) -> None:
    new_logo(leader)
    (tmp_path / "own.png").write_bytes(b"mine")
    call = ["mount", "--bind", str(tmp_path / "own.png"), str(replica.data_dir / LOGO)]
    subprocess.run(call, check=True, timeout=10)
    try:
        with pytest.raises(StateError, match="busy") as raised:
            follow(replica)
        assert "mount its folder instead" in raised.value.hint
        is_as_before(replica, kuma)
    finally:
        subprocess.run(["umount", "-l", str(replica.data_dir / LOGO)], check=True, timeout=10)


@as_root
def test_a_logo_that_cannot_be_changed_is_noticed_before_anything_stops(
    leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    new_logo(leader)
    place = replica.data_dir / LOGO
    if not set_immutable(place, on=True):
        pytest.skip("this file system knows no immutable files")
    try:
        with pytest.raises(StateError, match="not permitted"):
            follow(replica)
        is_as_before(replica, kuma)
    finally:
        set_immutable(place, on=False)


def set_immutable(path: Path, *, on: bool) -> bool:
    size = array("l").itemsize
    flags = array("l", [0])
    with path.open("rb") as file:
        try:
            fcntl.ioctl(file, 2 << 30 | size << 16 | ord("f") << 8 | 1, flags, True)
            flags[0] = flags[0] | 0x10 if on else flags[0] & ~0x10
            fcntl.ioctl(file, 1 << 30 | size << 16 | ord("f") << 8 | 2, flags, True)
        except OSError:
            return False
    return True


@pytest.mark.parametrize("kind", ["file", "link that leads nowhere"])
def test_a_folder_that_cannot_be_is_noticed_before_anything_stops(
    leader: Instance, replica: Instance, kuma: RecordingKuma, kind: str
) -> None:
    new_logo(leader)
    place = replica.data_dir / "upload"
    shutil.rmtree(place)
    if kind == "file":
        place.touch()
    else:
        place.symlink_to("nowhere")
    with pytest.raises(StateError, match="cannot put Kuma's files in place"):
        follow(replica)
    is_as_before(replica, kuma)
    place.unlink()
    assert follow(replica).outcome is Outcome.APPLIED
    assert (replica.data_dir / LOGO).read_bytes() == NEW


def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No rename into upload/ from outside it, as between two file systems."""
    real = Folder.move

    def move(folder: Folder, name: str, to: Folder, place: str) -> None:
        if to.shown.endswith("/upload") and "/upload" not in f"{folder.shown}/":
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        real(folder, name, to, place)

    monkeypatch.setattr(Folder, "move", move)


@pytest.mark.parametrize("step", ["opening the transaction", "committed", "files in place"])
def test_dead_with_files_on_another_file_system(
    leader: Instance, replica: Instance, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The next run has the old rows and the old logo, or the new ones, and goes on."""
    elsewhere(monkeypatch)
    new_logo(leader)

    dies_at(step, lambda: follow(replica))
    assert (cycles.name_of(db(replica), 3) == "two") is (step != "opening the transaction")
    assert ((replica.data_dir / LOGO).read_bytes() == NEW) is (step == "files in place")
    follow(replica)
    assert cycles.name_of(db(replica), 3) == "two"
    assert (replica.data_dir / LOGO).read_bytes() == NEW
    assert left_behind(replica) == []


def test_what_0_3_0_staged_for_another_file_system_is_copied_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It failed at that rename for ever, with the rows committed."""
    elsewhere(monkeypatch)
    staged = tmp_path / staging.FOLDER / LOGO
    staged.parent.mkdir(parents=True)
    staged.write_bytes(cycles.LOGO)
    (tmp_path / "upload").mkdir()
    staging.finish(tmp_path, [(LOGO, hashlib.sha256(cycles.LOGO).hexdigest())])
    assert (tmp_path / LOGO).read_bytes() == cycles.LOGO
    assert sorted(path.name for path in tmp_path.iterdir()) == ["upload"]


# ------------------------------------------------------------------ a leader without its files


@pytest.mark.parametrize("loss", ["folder", "file", "link"])
def test_replicas_keep_a_logo_that_the_leader_lost(
    leader: Instance, replica: Instance, kuma: RecordingKuma, loss: str
) -> None:
    if loss == "folder":
        shutil.rmtree(leader.data_dir / "upload")
    else:
        (leader.data_dir / LOGO).unlink()
    if loss == "link":
        (leader.data_dir / LOGO).symlink_to("/nowhere")
    rename(db(leader), 3, "two")
    result = lead(leader)
    assert result.outcome is Outcome.PUBLISHED
    assert any(LOGO in warning for warning in result.warnings)
    assert follow(replica).outcome is Outcome.APPLIED
    assert cycles.name_of(db(replica), 3) == "two"
    assert (replica.data_dir / LOGO).read_bytes() == cycles.LOGO
    kuma.log.clear()
    for _ in range(2):
        assert follow(replica, reconcile=True).outcome is Outcome.NOTHING
    assert kuma.log == []
    cycles.take_over(replica)
    assert follow(leader, reconcile=True).outcome is Outcome.APPLIED
    assert (leader.data_dir / LOGO).read_bytes() == cycles.LOGO


def test_certificates_that_the_leader_lost_are_kept(leader: Instance, replica: Instance) -> None:
    for instance in (leader, replica):
        (instance.data_dir / HOST).mkdir(parents=True)
        for name in ("ca.pem", "cert.pem", "key.pem"):
            (instance.data_dir / HOST / name).write_bytes(name.encode())
    lead(leader)
    follow(replica)
    shutil.rmtree(leader.data_dir / "docker-tls")
    rename(db(leader), 3, "two")
    assert sum(HOST in warning for warning in lead(leader).warnings) == 3
    follow(replica)
    assert (replica.data_dir / HOST / "key.pem").read_bytes() == b"key.pem"


def test_a_logo_that_no_row_names_any_more_goes(leader: Instance, replica: Instance) -> None:
    databases.edit(db(leader), "UPDATE status_page SET icon = '/icon.svg' WHERE id = 2")
    lead(leader)
    follow(replica)
    assert not (replica.data_dir / LOGO).exists()


def test_a_logo_of_before_1_13_travels(leader: Instance, replica: Instance) -> None:
    databases.edit(
        db(leader), "UPDATE status_page SET icon = '/upload/logo.png?t=1640000000000' WHERE id = 1"
    )
    (leader.data_dir / "upload" / "logo.png").write_bytes(NEW)
    lead(leader)
    follow(replica)
    assert (replica.data_dir / "upload" / "logo.png").read_bytes() == NEW
    assert (replica.data_dir / LOGO).read_bytes() == cycles.LOGO


def give_logos(instance: Instance, count: int) -> None:
    with closing(sqlite3.connect(db(instance))) as connection, connection:
        for number in range(100, 100 + count):
            name = f"logo{number}.png"
            databases.insert(
                connection,
                "status_page",
                id=number,
                slug=f"page-{number}",
                title=f"p {number}",
                icon=f"/upload/{name}",
                theme="light",
            )
            (instance.data_dir / "upload" / name).write_bytes(name.encode())


@pytest.mark.parametrize(("logos", "gone", "asks"), [(9, 5, True), (9, 4, False), (8, 9, False)])
def test_half_of_ten_files_wait_for_a_person_on_the_leader(
    leader: Instance, logos: int, gone: int, asks: bool
) -> None:
    """(The leader has one logo more.) So few that nobody has to be asked are told all the same."""
    give_logos(leader, logos)
    lead(leader)
    for path in sorted((leader.data_dir / "upload").iterdir())[:gone]:
        path.unlink()
    rename(db(leader), 3, "two")
    if asks:
        with pytest.raises(ShrinkRefused, match=f"{gone} of {logos + 1} files"):
            lead(leader)
    result = lead(leader, allow_shrink=asks)
    assert result.outcome is Outcome.PUBLISHED
    assert len(result.warnings) == gone
    rename(db(leader), 3, "three")
    assert lead(leader).outcome is Outcome.PUBLISHED


def test_a_leader_that_lost_its_state_too_counts_what_it_published(leader: Instance) -> None:
    """A container made anew, with its database elsewhere."""
    give_logos(leader, 9)
    lead(leader)
    shutil.rmtree(leader.data_dir / "replicator")
    shutil.rmtree(leader.data_dir / "upload")
    with pytest.raises(ShrinkRefused, match="10 of 10 files"):
        lead(leader)
    assert lead(leader, allow_shrink=True).outcome is Outcome.PUBLISHED


def test_half_of_ten_files_wait_for_a_person_on_a_replica(
    leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    """Also of a leader that did not ask: one of another version."""
    give_logos(leader, 9)
    lead(leader)
    follow(replica)
    databases.edit(db(leader), "UPDATE status_page SET icon = '/icon.svg'")
    edit_state(leader.state, published_files=())
    lead(leader)
    kuma.log.clear()
    with pytest.raises(SnapshotShrinks, match="10 of 10 files"):
        follow(replica)
    assert kuma.log == []
    assert (replica.data_dir / LOGO).exists()
    assert follow(replica, allow_shrink=True).outcome is Outcome.APPLIED
    assert not (replica.data_dir / LOGO).exists()
