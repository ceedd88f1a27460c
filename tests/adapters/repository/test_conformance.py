"""One suite over every place that a repository may have, with both restics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from replicator_kuma.adapters.repository import Position
from replicator_kuma.adapters.repository.restic.client import ResticRepository
from replicator_kuma.base.errors import (
    Interrupted,
    ReplicatorError,
    RepositoryMissing,
    SnapshotRefused,
)
from tests.adapters.repository.places import (
    connect,
    label,
    make_dump,
    read_tree,
    rest,
    rest_url,
    s3,
)
from tests.support import weak_repository

pytestmark = pytest.mark.restic


@pytest.fixture(params=["folder", "rest", "s3"])
def empty(
    request: pytest.FixtureRequest, restic: Path, tmp_path: Path
) -> Iterator[tuple[ResticRepository, Path]]:
    """A place where nothing was ever initialised, and the folder where its files will be."""
    if request.param == "folder":
        yield connect(restic, tmp_path / "new", tmp_path), tmp_path / "new"
    elif request.param == "rest":
        with rest(tmp_path) as address:
            yield connect(restic, rest_url(address), tmp_path), tmp_path / "rest" / "fleet"
    else:
        with s3(tmp_path) as url:
            folder = tmp_path / "s3" / "bucket" / "fleet"
            yield connect(restic, f"{url}/bucket/fleet", tmp_path), folder


def test_one_is_created_where_none_was(empty: tuple[ResticRepository, Path]) -> None:
    repository, _folder = empty
    for call in (lambda: repository.snapshots("default"), repository.check_access):
        with pytest.raises(RepositoryMissing):
            call()
    assert repository.init() is True
    assert repository.init() is False
    repository.check_access()
    assert list(repository.snapshots("default")) == []


def test_what_goes_in_comes_out(empty: tuple[ResticRepository, Path], tmp_path: Path) -> None:
    repository, folder = empty
    weak_repository.make(folder)
    # Not in order, and one of another fleet: the order is by position.
    make_dump(tmp_path / "dump", "older")
    repository.publish(tmp_path / "dump", label(1, epoch=2))
    content = make_dump(tmp_path / "dump", "newer")
    told = repository.publish(tmp_path / "dump", label(12, leader="other, leader"))
    found = repository.snapshots("default")
    # restic 0.14 tells a part of the id only
    assert told == ("" if repository.version().startswith("0.14.") else found[0].id)
    assert [snapshot.position for snapshot in found] == [Position(1, 12), Position(2, 1)]
    assert found[0].label == label(12, leader="other, leader")
    assert all(len(snapshot.id) == 64 for snapshot in found)
    assert list(repository.snapshots("other")) == []

    names = set[str]()

    def accept(name: str) -> bool:
        names.add(name)
        return True

    repository.fetch(found[0], tmp_path / "into", accept)
    assert read_tree(tmp_path / "into") == content
    assert names == set(content)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "into").rglob("*")}
    assert modes == {0o600, 0o700}
    assert (tmp_path / "into").stat().st_mode & 0o777 == 0o700

    for name, whole in content.items():
        assert repository.read(found[0], name, len(whole)) == whole
    with pytest.raises(SnapshotRefused, match="more than"):
        repository.read(found[0], "manifest.json", 5)
    with pytest.raises(Interrupted):
        repository.read(found[0], "manifest.json", 100, unwanted=lambda: True)
    for snapshot, name in ((found[0], "nothing.json"), (replace(found[0], id="0" * 64), "x")):
        with pytest.raises(ReplicatorError):
            repository.read(snapshot, name, 100)
