"""Hostile archives: whatever is in them, nothing lands outside, and nothing odd lands at all."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from replicator_kuma.adapters.repository import Limits
from replicator_kuma.adapters.repository.restic.extract import NotTar, extract
from replicator_kuma.base.errors import RepositoryError, SnapshotRefused
from tests.adapters.repository.places import read_tree


def archive(*members: tarfile.TarInfo) -> io.BytesIO:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size) if member.isreg() else None)
    made.seek(0)
    return made


def member(name: str, size: int = 3, **values: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    for key, value in values.items():
        setattr(info, key, value)
    return info


def take(stream: io.BytesIO, into: Path, limits: Limits = Limits()) -> None:  # noqa: B008
    extract(stream, into, lambda name: not name.startswith("no"), limits)


@pytest.mark.parametrize(
    "name",
    [
        *("/etc/passwd", "../up", "a/../../up", "a//b", "a/./b", "..", "a/..", "//a"),
        "nothing",
        "x" * 300 + "/../y",
        "a\udcff/../b",
    ],
)
def test_names_that_are_no_names_below_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(SnapshotRefused):
        take(archive(member("first"), member(name)), tmp_path / "into")
    assert read_tree(tmp_path) == {}


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
        tarfile.CONTTYPE,
        b"Z",
    ],
)
def test_only_regular_files_are_taken(tmp_path: Path, kind: bytes) -> None:
    odd = member("a", size=0, type=kind, linkname="/etc/passwd")
    with pytest.raises(SnapshotRefused, match="no regular file"):
        take(archive(odd), tmp_path / "into")
    assert list(tmp_path.rglob("*")) == [tmp_path / "into"]


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("./a", "a")])
def test_a_name_comes_once(tmp_path: Path, names: tuple[str, str]) -> None:
    with pytest.raises(SnapshotRefused, match="comes twice"):
        take(archive(*map(member, names)), tmp_path / "into")
    assert read_tree(tmp_path) == {}


def test_folders_alone_make_nothing(tmp_path: Path) -> None:
    take(archive(member("../x", 0, type=tarfile.DIRTYPE)), tmp_path / "into")
    assert list((tmp_path / "into").iterdir()) == []


def test_limits_count_before_anything_is_written(tmp_path: Path) -> None:
    big = archive(member("a", 10), member("b", 10))
    take(big, tmp_path / "fits", Limits(files=2, bytes=20))
    assert read_tree(tmp_path / "fits") == {"a": b"x" * 10, "b": b"x" * 10}
    for limits in (Limits(files=1, bytes=20), Limits(files=2, bytes=19)):
        big.seek(0)
        with pytest.raises(SnapshotRefused, match="more than"):
            take(big, tmp_path / "into", limits)
        assert read_tree(tmp_path / "into") == {}


def test_a_flood_of_folders_ends(tmp_path: Path) -> None:
    folders = [member(f"f{number}", 0, type=tarfile.DIRTYPE) for number in range(5)]
    with pytest.raises(SnapshotRefused, match="entries"):
        take(archive(*folders), tmp_path / "into", Limits(files=2))


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    info = member("a", pax_headers={"SCHILY.xattr.user.x": "y" * (2 << 20)})
    with pytest.raises(SnapshotRefused, match="header of"):
        take(archive(info), tmp_path / "into")


@pytest.mark.parametrize("cut", [0, 1, 511, 700, 1024, 1300, 1536])
def test_a_cut_archive_is_none(tmp_path: Path, cut: int) -> None:
    whole = archive(member("a", 600), member("b", 600)).getvalue()
    with pytest.raises(NotTar):
        take(io.BytesIO(whole[:cut]), tmp_path / "into")
    assert read_tree(tmp_path) == {}


def test_what_was_taken_can_be_taken_back(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("stays")
    stream = archive(member("a"), member("b/c/d"))
    taken = extract(stream, tmp_path, lambda _name: True, Limits())
    assert sorted(read_tree(tmp_path)) == ["a", "b/c/d", "mine"]
    taken.remove()
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]


def test_a_link_that_waits_in_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "into").mkdir()
    (tmp_path / "into" / "a").symlink_to(tmp_path / "outside")
    with pytest.raises(RepositoryError, match="cannot write"):
        take(archive(member("a")), tmp_path / "into")
    assert not (tmp_path / "outside").exists()


def test_permissions_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        take(archive(member("a/b")), tmp_path / "into")
    finally:
        os.umask(before)
    modes = [path.stat().st_mode & 0o777 for path in (tmp_path / "into").rglob("*")]
    assert sorted(modes) == [0o600, 0o700]
