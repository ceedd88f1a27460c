"""One suite over every place that a repository may have, with both restics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from replicator_kuma.adapters.repository import Position
from replicator_kuma.adapters.repository.restic.client import ResticRepository
from replicator_kuma.base.errors import RepositoryMissing
from tests.adapters.repository.places import (
    connect,
    label,
    make_dump,
    read_tree,
    rest,
    rest_url,
    s3,
)

pytestmark = pytest.mark.restic


@pytest.fixture(params=["folder", "rest", "s3"])
def empty(
    request: pytest.FixtureRequest, restic: Path, tmp_path: Path
) -> Iterator[ResticRepository]:
    """A place where nothing was ever initialised."""
    if request.param == "folder":
        yield connect(restic, tmp_path / "new", tmp_path)
    elif request.param == "rest":
        with rest(tmp_path) as address:
            yield connect(restic, rest_url(address), tmp_path)
    else:
        with s3(tmp_path) as url:
            yield connect(restic, f"{url}/bucket/fleet", tmp_path)


def test_what_goes_in_comes_out(empty: ResticRepository, tmp_path: Path) -> None:
    for call in (lambda: empty.snapshots("default"), empty.check_access):
        with pytest.raises(RepositoryMissing):
            call()
    assert empty.init() is True
    assert empty.init() is False
    empty.check_access()
    assert list(empty.snapshots("default")) == []

    # Not in order, and one of another fleet: the order is by position.
    make_dump(tmp_path / "dump", "older")
    empty.publish(tmp_path / "dump", label(1, epoch=2))
    content = make_dump(tmp_path / "dump", "newer")
    empty.publish(tmp_path / "dump", label(12, leader="other, leader"))
    found = empty.snapshots("default")
    assert [snapshot.position for snapshot in found] == [Position(1, 12), Position(2, 1)]
    assert found[0].label == label(12, leader="other, leader")
    assert all(len(snapshot.id) == 64 for snapshot in found)
    assert list(empty.snapshots("other")) == []

    names = set[str]()

    def accept(name: str) -> bool:
        names.add(name)
        return True

    empty.fetch(found[0], tmp_path / "into", accept)
    assert read_tree(tmp_path / "into") == content
    assert names == set(content)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "into").rglob("*")}
    assert modes == {0o600, 0o700}
    assert (tmp_path / "into").stat().st_mode & 0o777 == 0o700
