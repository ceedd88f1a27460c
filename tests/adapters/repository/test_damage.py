"""Each file of a repository, damaged: with both restics that is never "unreachable"."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from replicator_kuma.adapters.repository import Snapshot
from replicator_kuma.adapters.repository.restic.maintenance import KeptRepository
from replicator_kuma.base.errors import (
    ReplicatorError,
    RepositoryDamaged,
    RepositoryMissing,
    WrongPassword,
)
from tests.adapters.repository import places
from tests.adapters.repository.places import QUICK, environment, label

pytestmark = pytest.mark.restic


def delete(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[40] ^= 255
    path.write_bytes(content)


FILES: dict[str, Callable[[Path], Path]] = {
    # the trees' packs are far smaller than the one with the files' content
    "content": lambda place: max((place / "data").glob("*/*"), key=lambda p: p.stat().st_size),
    "tree": lambda place: min((place / "data").glob("*/*"), key=lambda p: p.stat().st_size),
    "index": lambda place: next((place / "index").iterdir()),
    "key": lambda place: next((place / "keys").iterdir()),
    "config": lambda place: place / "config",
}

# What a fetch ends with, and a check.
DAMAGED = RepositoryDamaged
TABLE: list[tuple[str, Callable[[Path], None], type[ReplicatorError]]] = [
    ("content", delete, DAMAGED),
    ("content", truncate, DAMAGED),
    ("content", flip, DAMAGED),
    ("tree", truncate, DAMAGED),
    ("index", delete, DAMAGED),
    ("index", truncate, DAMAGED),
    ("key", delete, WrongPassword),  # "no key found": restic knows no difference
    ("key", truncate, DAMAGED),
    ("key", flip, DAMAGED),
    ("config", delete, RepositoryMissing),
    ("config", empty, DAMAGED),
    ("config", flip, DAMAGED),
]


def opened(restic: Path, place: str | Path, scratch: Path) -> KeptRepository:
    cache = scratch / "cache"
    return KeptRepository(
        restic, environment(place), cache, "here", QUICK, sleep=lambda _seconds: None
    )


def only_snapshot(place: Path) -> Snapshot:
    (path,) = (place / "snapshots").iterdir()
    return Snapshot(path.name, label(1), "")


@pytest.mark.parametrize(
    ("file", "how", "kind"), TABLE, ids=[f"{file}-{how.__name__}" for file, how, _kind in TABLE]
)
def test_damage_is_called_so_by_a_fetch_and_by_a_check(
    restic: Path,
    place: Path,
    tmp_path: Path,
    file: str,
    how: Callable[[Path], None],
    kind: type[ReplicatorError],
) -> None:
    repository = opened(restic, place, tmp_path)
    snapshot = only_snapshot(place)
    how(FILES[file](place))
    with pytest.raises(kind) as fetched:
        repository.fetch(snapshot, tmp_path / "into", lambda _name: True)
    assert places.read_tree(tmp_path / "into") == {}
    with pytest.raises(kind) as checked:
        repository.check(1, 1)
    for caught in (fetched, checked):
        assert not caught.value.retryable
        assert type(caught.value) is kind
        assert "\n" not in str(caught.value)
    if kind is RepositoryDamaged:
        assert "docs/repository.md" in fetched.value.hint


@pytest.mark.parametrize("blob", [0, 1, 2, 3])
def test_each_tree_of_a_snapshot_is_missed(
    restic: Path, place: Path, tmp_path: Path, blob: int
) -> None:
    """Over one that is damaged `dump` ends well: after nothing of it, or with nothing after it."""
    snapshot = only_snapshot(place)
    pack = FILES["tree"](place)
    begins = offsets(restic, place, pack)
    assert len(begins) == 4, "the root, files, files/upload, tables"
    content = bytearray(pack.read_bytes())
    content[begins[blob] + 20] ^= 255
    pack.write_bytes(content)
    with pytest.raises(RepositoryDamaged):
        opened(restic, place, tmp_path).fetch(snapshot, tmp_path / "into", lambda _name: True)
    assert places.read_tree(tmp_path / "into") == {}


def offsets(restic: Path, place: Path, pack: Path) -> list[int]:
    """Where the blobs of a pack begin, by restic's own index."""
    (index,) = (place / "index").iterdir()
    call = [str(restic), "cat", "index", index.name, "--no-lock", "--no-cache"]
    done = subprocess.run(call, env=environment(place), check=True, capture_output=True)
    packs = json.loads(done.stdout)["packs"]
    (blobs,) = (each["blobs"] for each in packs if each["id"] == pack.name)
    return sorted(blob["offset"] for blob in blobs)


@pytest.mark.parametrize("how", [delete, truncate])
def test_a_prune_that_misses_a_pack_calls_it_damage(
    restic: Path, place: Path, tmp_path: Path, how: Callable[[Path], None]
) -> None:
    how(FILES["content"](place))
    with pytest.raises(RepositoryDamaged):
        opened(restic, place, tmp_path).prune()
