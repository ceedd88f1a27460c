"""forget, prune, check and stats of both restics, on a folder and on rest-server."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from replicator_kuma.adapters.repository.restic import maintenance
from replicator_kuma.adapters.repository.restic.client import Timeouts
from replicator_kuma.adapters.repository.restic.maintenance import KeptRepository
from replicator_kuma.base.errors import (
    RepositoryDamaged,
    RepositoryLocked,
    RepositoryMissing,
    RepositoryUnreachable,
)
from tests.adapters.repository import places
from tests.adapters.repository.places import connect, environment, label, make_dump, rest, rest_url
from tests.support.tools import restic_018
from tests.support.waiting import wait_until

pytestmark = pytest.mark.restic


@pytest.fixture(scope="session")
def three(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the positions 1.1 to 1.3, and one of another fleet."""
    scratch = tmp_path_factory.mktemp("three")
    shutil.copytree(template, scratch / "repository", copy_function=shutil.copyfile)
    repository = connect(restic_018(), scratch / "repository", scratch)
    for sequence in (2, 3):
        make_dump(scratch / "dump", f"number {sequence}")
        repository.publish(scratch / "dump", label(sequence))
    repository.publish(scratch / "dump", label(1, fleet="blue"))
    return scratch


@pytest.fixture
def place(three: Path, tmp_path: Path) -> Path:
    """A copy of it, where rest-server would serve it as the fleet's."""
    folder = tmp_path / "rest" / "fleet"
    shutil.copytree(three / "repository", folder, copy_function=shutil.copyfile)
    for path in folder.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    return folder


def ids_of(repository: KeptRepository) -> list[str]:
    return [snapshot.id for snapshot in repository.snapshots("default")]


def test_what_is_forgotten_is_gone_and_the_rest_stays_whole(
    repository: KeptRepository, three: Path, tmp_path: Path
) -> None:
    ids = ids_of(repository)
    before = repository.size()
    assert list(repository.forget("default", ids[:2])) == []
    assert repository.prune() is True
    assert repository.size() < before
    for part in (1, 2):
        repository.check(part, 2)
    (left,) = repository.snapshots("default")
    assert left.id == ids[2]
    repository.fetch(left, tmp_path / "into", lambda _name: True)
    assert places.read_tree(tmp_path / "into") == places.read_tree(three / "dump")
    assert len(repository.snapshots("blue")) == 1


def test_nothing_to_forget_asks_nobody(tmp_path: Path) -> None:
    repository = connect(tmp_path / "no-restic", tmp_path / "nowhere", tmp_path)
    assert list(repository.forget("default", [])) == []


@pytest.mark.parametrize("name", ["latest", "abcd1234", "", "--keep-last=1", "A" * 64])
def test_only_full_ids_are_given_to_forget(tmp_path: Path, name: str) -> None:
    repository = connect(tmp_path / "no-restic", tmp_path / "nowhere", tmp_path)
    with pytest.raises(ValueError, match="full ids"):
        repository.forget("default", ["a" * 64, name])


def test_append_only_refuses_and_harms_nothing(restic: Path, place: Path, tmp_path: Path) -> None:
    with rest(tmp_path, "--append-only") as address:
        repository = connect(restic, rest_url(address), tmp_path)
        ids = ids_of(repository)
        assert list(repository.forget("default", ids[:2])) == ids[:2]
        assert ids_of(repository) == ids
        repository.check(1, 1)
        assert repository.size() > 300_000
        # nor is what a credential that may has left for prune
        connect(restic, place, tmp_path).forget("default", ids[1:2])
        assert repository.prune() is False


@pytest.mark.parametrize("how", ["altered", "gone"])
def test_damage_is_found_by_the_part_that_holds_it(
    repository: KeptRepository, place: Path, how: str
) -> None:
    pack = max((place / "data").glob("*/*"), key=lambda path: path.stat().st_size)
    if how == "gone":
        pack.unlink()
    else:
        data = bytearray(pack.read_bytes())
        data[len(data) // 2] ^= 1
        pack.write_bytes(data)
    found: list[RepositoryDamaged] = []
    for part in (1, 2, 3):
        try:
            repository.check(part, 3)
        except RepositoryDamaged as error:
            found.append(error)
    assert found
    assert "restic check --read-data" in found[0].hint
    assert "\n" not in str(found[0])


def test_a_network_that_fails_in_the_middle_of_a_check_is_no_damage(tmp_path: Path) -> None:
    """restic's last word is the same: "repository contains errors"."""
    script = tmp_path / "restic"
    script.write_text(
        '#!/bin/sh\n[ "$1" = version ] && echo "restic 0.18.0 compiled" && exit 0\n'
        'echo "Load(<data/0a1b>, 0, 0) failed: dial tcp: connection refused" >&2\n'
        'echo "Fatal: repository contains errors" >&2\nexit 1\n'
    )
    script.chmod(0o700)
    repository = connect(script, tmp_path / "nowhere", tmp_path)
    with pytest.raises(RepositoryUnreachable):
        repository.check(1, 2)


def test_a_stale_lock_is_removed_and_a_living_one_is_waited_for(
    restic: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "LOCK_PATIENCE", 0.5)
    quick = Timeouts(first_call=30, listing=30, publish=60, fetch=60, lock=1)
    repository = connect(restic, place, tmp_path, quick)
    # the lock of a restic that was killed
    hold = subprocess.Popen(
        [restic, "backup", "--stdin", "--no-cache", "-q"],
        env=environment(place),
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: any((place / "locks").iterdir()), "it holds a lock")
        with pytest.raises(RepositoryLocked):
            repository.prune()
        hold.kill()
        hold.wait(10)
        assert any((place / "locks").iterdir())
        assert repository.prune() is True
    finally:
        hold.kill()
        hold.communicate(timeout=10)


def test_a_repository_that_is_not_there_has_no_housekeeping(restic: Path, tmp_path: Path) -> None:
    repository = connect(restic, tmp_path / "nowhere", tmp_path)
    for call in (repository.prune, lambda: repository.check(1, 1), repository.size):
        with pytest.raises(RepositoryMissing):
            call()


def test_a_fetch_whose_pack_a_prune_has_moved_succeeds_with_the_new_index(
    place: Path, three: Path, tmp_path: Path
) -> None:
    """restic read the index, then a prune repacked: the next restic reads the new one."""
    writer = connect(restic_018(), place, tmp_path / "writer")
    ids = ids_of(writer)
    # a restic that meets the repository as it was before the prune, once
    calls = tmp_path / "calls"
    script = tmp_path / "restic"
    gone = "Load(<data/0a1b2c>, 0, 0) returned error, retrying after 1s: open /x: no such file"
    script.write_text(
        f'#!/bin/sh\nif [ "$1" = dump ] && ! [ -e {calls} ]; then touch {calls}\n'
        f'echo "{gone} or directory" >&2; exit 1; fi\nexec {restic_018()} "$@"\n'
    )
    script.chmod(0o700)
    reader = connect(script, place, tmp_path / "reader")
    writer.forget("default", ids[:2])
    writer.prune()
    (left,) = reader.snapshots("default")
    reader.fetch(left, tmp_path / "into", lambda _name: True)
    assert calls.exists()
    assert places.read_tree(tmp_path / "into") == places.read_tree(three / "dump")
