"""What replicator-kuma v1 and v2 left in a repository is recognised, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.adapters.repository.earlier import V1_FOLDER, V2_FOLDER, earlier_in
from replicator_kuma.adapters.repository.pair import Pair
from tests.adapters.repository.places import connect, label, make_dump
from tests.support import weak_repository
from tests.support.databases import build
from tests.support.earlier_versions import stored, v1_publishes, v2_publishes

Publish = Callable[[Path, Path, Path, Path], object]
PUBLISH: dict[str, Publish] = {"v1": v1_publishes, "v2": v2_publishes}


def entry(folder: str, at: str = "2025-05-01T10:00:00Z", **more: Any) -> dict[str, Any]:
    return {"id": "a" * 64, "paths": [folder], "time": at, "hostname": "leader", **more}


def test_the_newest_of_both_is_named() -> None:
    older, newer = entry(V1_FOLDER), entry(V2_FOLDER, "2026-05-01T10:00:00Z", hostname="fra\x1b-1")
    found = earlier_in([newer, older], lambda _id: True)
    assert found is not None
    assert str(found) == (
        "the repository holds snapshots of replicator-kuma v2 (the last one by fra\\x1b-1, "
        "2026-05-01T10:00:00Z), which this version does not read"
    )


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"paths": None, "tags": None},
        entry("/srv/backup/current"),
        entry(V1_FOLDER),
        entry(V2_FOLDER, tags=["somebody-else"]),
        {**entry(V2_FOLDER), "paths": [V2_FOLDER, "/etc"]},
    ],
)
def test_another_programs_snapshot_is_none_of_theirs(other: dict[str, Any]) -> None:
    assert earlier_in([other], lambda _id: False) is None


@pytest.mark.restic
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_real_repository_of_theirs_is_recognised_while_it_has_none_of_ours(
    version: str, restic: Path, tmp_path: Path
) -> None:
    place = weak_repository.make(tmp_path / "repository")
    build(tmp_path / "kuma.db", "1.23" if version == "v1" else "2.3", monitors=2)
    repository = connect(restic, place, tmp_path)
    assert repository.snapshots("default").earlier is None
    PUBLISH[version](tmp_path / "kuma.db", tmp_path / "root", restic, place)
    listing = repository.snapshots("default")
    assert list(listing) == []
    assert listing.earlier is not None
    assert (listing.earlier.version, listing.earlier.host) == (version, "leader")
    second = connect(restic, weak_repository.make(tmp_path / "second"), tmp_path)
    second.name = "repository 2"
    assert Pair(second, repository).snapshots("default").earlier == listing.earlier
    make_dump(tmp_path / "dump")
    repository.publish(tmp_path / "dump", label(1))
    assert repository.snapshots("default").earlier is None


@pytest.mark.restic
def test_a_folder_that_only_has_the_name_that_v1_uses_is_left_alone(
    restic: Path, tmp_path: Path
) -> None:
    place = weak_repository.make(tmp_path / "repository")
    (tmp_path / "root" / V1_FOLDER[1:]).mkdir(parents=True)
    (tmp_path / "root" / V1_FOLDER[1:] / "photos.zip").write_bytes(b"mine")
    stored(tmp_path / "root", restic, place, V1_FOLDER)
    assert connect(restic, place, tmp_path).snapshots("default").earlier is None
