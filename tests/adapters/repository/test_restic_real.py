"""Real failures of real restics: each an error of its kind, none looks like "nothing yet"."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from replicator_kuma.adapters.repository import Limits, Position, Snapshot
from replicator_kuma.adapters.repository.restic.client import ResticRepository, Timeouts
from replicator_kuma.base.errors import (
    MachineError,
    PublishIncomplete,
    RepositoryDamaged,
    RepositoryError,
    RepositoryLocked,
    RepositoryMissing,
    RepositoryUnreachable,
    SnapshotNotFound,
    SnapshotRefused,
    WrongPassword,
)
from tests.adapters.repository import places
from tests.adapters.repository.places import connect, label
from tests.support.waiting import wait_until

pytestmark = pytest.mark.restic

SHORT = Timeouts(first_call=3, listing=3, publish=20, fetch=20, lock=1)


def any_name(_name: str) -> bool:
    return True


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 255
    path.write_bytes(content)


def packs(place: Path) -> list[Path]:
    """The repository's packs, the one with the files' content last."""
    found = [path for path in (place / "data").rglob("*") if path.is_file()]
    return sorted(found, key=lambda path: path.stat().st_size)


def only(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_the_version_is_known(repository: ResticRepository) -> None:
    assert repository.version() in ("0.14.0", "0.18.0", "0.18.1")


def test_both_versions_read_each_others_snapshots(
    repository: ResticRepository, dump: Path, tmp_path: Path
) -> None:
    repository.publish(dump, label(2))
    found = repository.snapshots("default")
    assert [snapshot.label for snapshot in found] == [label(1), label(2)]
    for snapshot in found:
        into = tmp_path / snapshot.id
        repository.fetch(snapshot, into, any_name)
        assert places.read_tree(into) == places.read_tree(dump)


def test_wrong_password(restic: Path, place: Path, dump: Path, tmp_path: Path) -> None:
    wrong = connect(restic, place, tmp_path, RESTIC_PASSWORD="not this")
    for call in (lambda: wrong.snapshots("default"), lambda: wrong.publish(dump, label(2))):
        with pytest.raises(WrongPassword) as caught:
            call()
        assert "not this" not in str(caught.value)
    with pytest.raises(WrongPassword):
        wrong.init()


def test_no_password_at_all(restic: Path, place: Path, tmp_path: Path) -> None:
    with pytest.raises(WrongPassword):
        connect(restic, place, tmp_path, RESTIC_PASSWORD="").check_access()


def test_the_repository_is_gone(repository: ResticRepository, place: Path, dump: Path) -> None:
    (snapshot,) = repository.snapshots("default")
    shutil.rmtree(place)
    with pytest.raises(RepositoryMissing):
        repository.snapshots("default")
    with pytest.raises(RepositoryMissing):
        repository.publish(dump, label(2))
    with pytest.raises(RepositoryMissing):
        repository.fetch(snapshot, dump / "into", any_name)
    assert not place.exists()


def test_a_lost_config_is_not_replaced_by_a_second_repository(
    repository: ResticRepository, place: Path
) -> None:
    (place / "config").unlink()
    with pytest.raises(RepositoryDamaged):
        repository.init()
    assert not (place / "config").exists()


def test_two_of_one_instance_that_initialise_at_once_end_with_one_repository(
    restic: Path, dump: Path, tmp_path: Path
) -> None:
    def init(name: str) -> bool:
        variables = places.environment(tmp_path / "new")
        return ResticRepository(restic, variables, tmp_path / "cache", name).init()

    with ThreadPoolExecutor() as pool:
        assert sorted(pool.map(init, ("one", "two"))) == [False, True]
    repository = connect(restic, tmp_path / "new", tmp_path)
    repository.publish(dump, label(1))
    assert len(repository.snapshots("default")) == 1


def test_a_folder_with_a_file_in_its_place(restic: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no repository\n")
    with pytest.raises(RepositoryUnreachable):
        connect(restic, tmp_path / "file", tmp_path, SHORT).snapshots("default")


def test_broken_labels_are_reported_and_ignored(
    repository: ResticRepository, restic: Path, place: Path, dump: Path
) -> None:
    tags = "replicator-kuma,fleet=default,epoch=one"
    variables = places.environment(place)
    call = [str(restic), "backup", "--quiet", "--no-cache", "--tag", tags, str(dump)]
    subprocess.run(call, env=variables, check=True, timeout=30)
    found = repository.snapshots("default")
    assert [snapshot.label for snapshot in found] == [label(1)]
    assert len(found.warnings) == 1
    other = repository.snapshots("else")
    assert (list(other), list(other.warnings)) == ([], [])


def test_a_read_only_repository_can_be_read(
    restic: Path, template: Path, dump: Path, tmp_path: Path
) -> None:
    with places.tmpfs(tmp_path / "small", "64m") as folder:
        shutil.copytree(template, folder / "repository")
        places.remount_read_only(folder)
        repository = connect(restic, folder / "repository", tmp_path)
        (snapshot,) = repository.snapshots("default")
        repository.fetch(snapshot, tmp_path / "into", any_name)
        with pytest.raises(RepositoryUnreachable, match="read-only file system"):
            repository.publish(dump, label(2))
        with pytest.raises(RepositoryError, match="read-only file system"):
            connect(restic, folder / "new", tmp_path).init()
        assert len(repository.snapshots("default")) == 1


def test_a_full_disk(restic: Path, template: Path, dump: Path, tmp_path: Path) -> None:
    (dump / "files" / "noise").write_bytes(os.urandom(4 << 20))
    with places.tmpfs(tmp_path / "small", "3m") as folder:
        shutil.copytree(template, folder / "repository")
        repository = connect(restic, folder / "repository", tmp_path)
        with pytest.raises(RepositoryUnreachable, match="no space left on device"):
            repository.publish(dump, label(2))
        assert [snapshot.label for snapshot in repository.snapshots("default")] == [label(1)]


def test_no_room_for_what_is_fetched(repository: ResticRepository, tmp_path: Path) -> None:
    (snapshot,) = repository.snapshots("default")
    with places.tmpfs(tmp_path / "small", "64k") as folder:
        with pytest.raises(MachineError, match="No space left") as caught:
            repository.fetch(snapshot, folder / "into", any_name)
        assert str(folder) in caught.value.hint
        assert places.read_tree(folder) == {}


@pytest.mark.parametrize("which", [0, -1], ids=["trees", "content"])
def test_a_deleted_pack(
    repository: ResticRepository, place: Path, tmp_path: Path, which: int
) -> None:
    (snapshot,) = repository.snapshots("default")
    packs(place)[which].unlink()
    with pytest.raises(RepositoryDamaged):
        repository.fetch(snapshot, tmp_path / "into", any_name)
    assert places.read_tree(tmp_path / "into") == {}


def test_altered_content(repository: ResticRepository, place: Path, tmp_path: Path) -> None:
    (snapshot,) = repository.snapshots("default")
    flip(packs(place)[-1], 20)
    with pytest.raises(RepositoryDamaged):
        repository.fetch(snapshot, tmp_path / "into", any_name)
    assert places.read_tree(tmp_path / "into") == {}


def test_over_an_altered_tree_restic_keeps_silent_and_is_asked_again(
    repository: ResticRepository, place: Path, tmp_path: Path
) -> None:
    (snapshot,) = repository.snapshots("default")
    flip(packs(place)[0], 20)
    with pytest.raises(RepositoryDamaged):
        repository.fetch(snapshot, tmp_path / "into", any_name)
    assert places.read_tree(tmp_path / "into") == {}


def test_a_folder_without_files_is_no_damage(
    repository: ResticRepository, dump: Path, tmp_path: Path
) -> None:
    for name in ("files/none", "nothing"):
        (dump / name).mkdir()
    repository.publish(dump, label(2))
    repository.fetch(repository.snapshots("default")[-1], tmp_path / "into", any_name)
    assert places.read_tree(tmp_path / "into") == places.read_tree(dump)


def test_a_damaged_index(
    repository: ResticRepository, place: Path, dump: Path, tmp_path: Path
) -> None:
    (snapshot,) = repository.snapshots("default")
    only(place / "index").write_bytes(b"garbage" * 20)
    with pytest.raises(RepositoryDamaged):
        repository.fetch(snapshot, tmp_path / "into", any_name)
    with pytest.raises(RepositoryDamaged):
        repository.publish(dump, label(2))
    assert len(repository.snapshots("default")) == 1


def test_a_lost_index(repository: ResticRepository, place: Path, tmp_path: Path) -> None:
    (snapshot,) = repository.snapshots("default")
    only(place / "index").unlink()
    with pytest.raises(RepositoryDamaged):
        repository.fetch(snapshot, tmp_path / "into", any_name)


@pytest.mark.parametrize("content", [b"", b"garbage" * 20], ids=["empty", "garbage"])
def test_a_damaged_snapshot_does_not_look_like_none(
    repository: ResticRepository, place: Path, content: bytes
) -> None:
    only(place / "snapshots").write_bytes(content)
    with pytest.raises(RepositoryDamaged, match="1 could not be read"):
        repository.snapshots("default")


def test_a_damaged_config_is_not_a_missing_one(repository: ResticRepository, place: Path) -> None:
    flip(place / "config", 40)
    with pytest.raises(RepositoryDamaged):
        repository.snapshots("default")
    with pytest.raises(RepositoryDamaged):
        repository.init()


def test_an_unknown_snapshot(repository: ResticRepository, tmp_path: Path) -> None:
    unknown = Snapshot("ab" * 32, label(9), "")
    with pytest.raises(SnapshotNotFound):
        repository.fetch(unknown, tmp_path / "into", any_name)


@pytest.mark.parametrize(
    ("accept", "limits"),
    [
        (lambda name: name != "manifest.json", Limits()),
        (any_name, Limits(files=2)),
        (any_name, Limits(bytes=1000)),
    ],
    ids=["name", "files", "bytes"],
)
def test_limits_end_a_fetch(
    repository: ResticRepository, tmp_path: Path, accept: Callable[[str], bool], limits: Limits
) -> None:
    (snapshot,) = repository.snapshots("default")
    with pytest.raises(SnapshotRefused):
        repository.fetch(snapshot, tmp_path / "into", accept, limits)
    assert places.read_tree(tmp_path / "into") == {}


def test_a_dump_that_restic_could_not_read_whole_is_incomplete(
    repository: ResticRepository, dump: Path
) -> None:
    places.need_root()
    # /proc/self/mem of another process: even root gets an I/O error at its first byte.
    subprocess.run(["touch", str(dump / "hole")], check=True, timeout=5)
    subprocess.run(["mount", "--bind", "/proc/1/mem", str(dump / "hole")], check=True, timeout=5)
    try:
        with pytest.raises(PublishIncomplete):
            repository.publish(dump, label(2))
    finally:
        subprocess.run(["umount", "-l", str(dump / "hole")], check=True, timeout=5)
    # It is there, under its position: a leader must not use that position again.
    assert [snapshot.position for snapshot in repository.snapshots("default")] == [
        Position(1, 1),
        Position(1, 2),
    ]


@pytest.fixture
def locker(restic: Path, place: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another restic that holds the exclusive lock, and does not move."""
    call = [str(restic), "prune", "--quiet", "--no-cache"]
    with subprocess.Popen(call, env=places.environment(place), stdout=subprocess.DEVNULL) as other:
        try:
            # Its file has a longer name until it is whole.
            locks = place / "locks"
            wait_until(lambda: any(len(p.name) == 64 for p in locks.iterdir()), "lock", every=0.001)
            other.send_signal(signal.SIGSTOP)
            assert other.poll() is None
            yield other
        finally:
            other.kill()


def test_a_live_lock_is_waited_for_and_respected(
    locker: subprocess.Popen[bytes], repository: ResticRepository, dump: Path, tmp_path: Path
) -> None:
    with pytest.raises(RepositoryLocked):
        repository.publish(dump, label(2))
    assert locker.poll() is None
    (snapshot,) = repository.snapshots("default")
    repository.fetch(snapshot, tmp_path / "into", any_name)
    assert places.read_tree(tmp_path / "into") == places.read_tree(dump)


def test_a_lock_that_goes_is_no_failure(
    locker: subprocess.Popen[bytes], restic: Path, place: Path, dump: Path, tmp_path: Path
) -> None:
    seen = []

    def release(error: Exception, _pause: float) -> None:
        seen.append(type(error))
        locker.send_signal(signal.SIGCONT)
        assert locker.wait(30) == 0

    repository = ResticRepository(
        restic, places.environment(place), tmp_path / "cache", "here", on_retry=release
    )
    repository.publish(dump, label(2))
    assert seen == [RepositoryLocked]
    assert len(repository.snapshots("default")) == 2


def test_a_stale_lock_is_removed(
    locker: subprocess.Popen[bytes], repository: ResticRepository, place: Path, dump: Path
) -> None:
    locker.kill()
    locker.wait(10)
    assert any((place / "locks").iterdir())
    repository.publish(dump, label(2))
    assert len(repository.snapshots("default")) == 2
    assert not any((place / "locks").iterdir())


def test_a_rest_server_that_goes_and_comes_back(
    restic: Path, template: Path, dump: Path, tmp_path: Path
) -> None:
    shutil.copytree(template, tmp_path / "rest" / "fleet")
    with places.rest(tmp_path) as address:
        url = places.rest_url(address)
        repository = connect(restic, url, tmp_path, SHORT)
        assert repository.init() is False
    with pytest.raises(RepositoryUnreachable, match="refuses connections") as caught:
        repository.snapshots("default")
    assert places.USER_PASSWORD not in str(caught.value)
    with pytest.raises(RepositoryUnreachable):
        connect(restic, url, tmp_path, SHORT).init()
    with places.rest(tmp_path) as address:
        again = connect(restic, places.rest_url(address), tmp_path)
        again.publish(dump, label(2))
        assert len(again.snapshots("default")) == 2


def test_a_rest_server_that_only_appends_is_enough(
    restic: Path, dump: Path, tmp_path: Path
) -> None:
    with places.rest(tmp_path, "--append-only") as address:
        repository = connect(restic, places.rest_url(address), tmp_path)
        assert repository.init() is True
        repository.publish(dump, label(1))
        (snapshot,) = repository.snapshots("default")
        repository.fetch(snapshot, tmp_path / "into", any_name)
        assert places.read_tree(tmp_path / "into") == places.read_tree(dump)


def test_wrong_credentials_are_not_an_empty_place(restic: Path, tmp_path: Path) -> None:
    with places.rest(tmp_path) as address:
        wrong = connect(restic, places.rest_url(address, password="wr0ng"), tmp_path)
        for call in (lambda: wrong.snapshots("default"), wrong.init):
            with pytest.raises(RepositoryUnreachable, match="401") as caught:
                call()
            assert "wr0ng" not in str(caught.value)


def test_s3_with_wrong_keys_or_no_bucket(restic: Path, tmp_path: Path) -> None:
    with places.s3(tmp_path) as url:
        bucket = f"{url}/bucket/fleet"
        for repository, words in (
            (connect(restic, bucket, tmp_path, AWS_SECRET_ACCESS_KEY="wr0ng" * 4), "signature"),
            (connect(restic, bucket, tmp_path, AWS_ACCESS_KEY_ID="N0B0DY" * 3), "Access Key Id"),
            (connect(restic, f"{url}/none/fleet", tmp_path), "bucket does not exist"),
        ):
            with pytest.raises(RepositoryUnreachable, match=words):
                repository.snapshots("default")
    with pytest.raises(RepositoryUnreachable, match="refuses connections"):
        connect(restic, bucket, tmp_path, SHORT).snapshots("default")


def test_a_host_that_nobody_knows(restic: Path, tmp_path: Path) -> None:
    with pytest.raises(RepositoryUnreachable):
        connect(restic, "rest:http://nobody.invalid/x/", tmp_path, SHORT).snapshots("default")


def test_a_web_server_that_is_no_repository(restic: Path, tmp_path: Path) -> None:
    # Its answer to the list of keys is no list; restic then says "wrong password".
    port = places.free_port()
    server = [shutil.which("python3") or "", "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    (tmp_path / "config").write_text("hello")
    (tmp_path / "keys").mkdir()
    repository = connect(restic, f"rest:http://127.0.0.1:{port}/", tmp_path, SHORT)
    with (
        places.serving([*server, "--directory", str(tmp_path)], port, tmp_path),
        pytest.raises(RepositoryUnreachable),
    ):
        repository.snapshots("default")
