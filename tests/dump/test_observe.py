"""The live instance as a dump: its files are there whole, or the reason is told."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.base.errors import DatabaseError, StateError
from replicator_kuma.base.folders import Folder
from replicator_kuma.dump.format import Dump
from replicator_kuma.replication import observe as observing
from replicator_kuma.replication.instance import Instance, Outcome
from replicator_kuma.replication.observe import observe
from tests.support.databases import build, edit
from tests.support.fleet import Fleet

LOGO = "upload/logo2.png"
CA = "docker-tls/docker.example/ca.pem"


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    fleet = Fleet(tmp_path)
    build(fleet.leader_db, monitors=12)
    for name, content in ((LOGO, b"pixels"), (CA, b"certificate")):
        path = fleet.leader.data_dir / name
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    return fleet


@pytest.fixture
def leader(fleet: Fleet) -> Instance:
    return fleet.leader


def test_files_that_rows_name_and_no_others(leader: Instance, tmp_path: Path) -> None:
    for name in ("upload/logo9.png", "upload/x.txt", "docker-tls/other/ca.pem", "db-config.json"):
        (leader.data_dir / name).parent.mkdir(exist_ok=True)
        (leader.data_dir / name).write_bytes(b"not named")
    observation = observe(leader, tmp_path / "dump")
    assert set(observation.manifest.files) == {LOGO, CA}
    assert observe(leader).manifest == observation.manifest
    dump = Dump.open(tmp_path / "dump")
    dump.verify()
    assert (dump.folder / "files" / CA).read_bytes() == b"certificate"
    assert (dump.folder / "files" / CA).stat().st_mode & 0o777 == 0o600
    assert observation.users == 1
    assert observation.monitors == 12
    assert not observation.unset


def test_a_file_that_is_not_there_is_left_out(leader: Instance) -> None:
    (leader.data_dir / LOGO).unlink()
    assert set(observe(leader).manifest.files) == {CA}


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_what_is_no_file_is_none(leader: Instance, kind: str, tmp_path: Path) -> None:
    path = leader.data_dir / LOGO
    path.unlink()
    if kind == "link":
        path.symlink_to(leader.data_dir / "kuma.db")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    assert set(observe(leader).manifest.files) == {CA}
    assert set(observe(leader, tmp_path / "dump").manifest.files) == {CA}


def test_a_certificate_may_be_a_link_as_in_a_mounted_secret(
    leader: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kubernetes changes such files by turning one link, two links away."""
    folder, content = leader.data_dir / "docker-tls" / "docker.example", b"certificate"
    (folder / "ca.pem").unlink()
    (folder / "..one").mkdir()
    (folder / "..one" / "ca.pem").write_bytes(content)
    (folder / "..data").symlink_to("..one")
    (folder / "ca.pem").symlink_to("..data/ca.pem")
    assert observe(leader).manifest.files[CA] == hashlib.sha256(content).hexdigest()
    monkeypatch.setattr("replicator_kuma.adapters.database.sqlite.store._SETTLE_NS", 0)
    before = observing.fingerprint(leader)
    (folder / "..two").mkdir()
    (folder / "..two" / "ca.pem").write_bytes(b"another")
    (folder / "..data").unlink()
    (folder / "..data").symlink_to("..two")
    assert observing.fingerprint(leader) != before
    assert observe(leader).manifest.files[CA] == hashlib.sha256(b"another").hexdigest()


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (Path.unlink, f"{LOGO}, which a status page names, is not there: replicas keep"),
        (lambda path: path.unlink() or path.mkdir(), f"{LOGO}, .* is no regular file"),
        (lambda path: path.unlink() or path.symlink_to("logo9.png"), f"{LOGO}, .* is a link"),
    ],
    ids=["gone", "folder", "link"],
)
def test_a_file_that_rows_name_and_that_does_not_travel_is_told_once(
    fleet: Fleet, break_it: Callable[[Path], object], told: str
) -> None:
    fleet.publish()
    break_it(fleet.leader.data_dir / LOGO)
    result = fleet.publish()
    assert result.outcome is Outcome.PUBLISHED
    assert len(result.warnings) == 1
    assert re.match(told, result.warnings[0])
    assert fleet.publish().outcome is Outcome.NOTHING


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("UPDATE status_page SET icon = '/upload/brand.svg?t=1' WHERE id = 2", "upload/brand.svg"),
        ("UPDATE status_page SET icon = '/upload/LOGO2.png' WHERE id = 2", "upload/LOGO2.png"),
        ("UPDATE status_page SET icon = '/upload/a' || char(27) || 'b' WHERE id = 2", "upload/a"),
    ],
)
def test_a_name_that_is_not_carried_is_told(fleet: Fleet, statement: str, name: str) -> None:
    edit(fleet.leader_db, statement)
    (warning,) = fleet.publish().warnings
    assert warning.startswith(name)
    assert "is not carried" in warning
    assert "\x1b" not in warning


def test_certificates_that_are_gone_are_told_by_what_was_published(fleet: Fleet) -> None:
    fleet.publish()
    (fleet.leader.data_dir / CA).unlink()
    (warning,) = fleet.publish().warnings
    assert warning.startswith(f"{CA}, which a Docker host names, is not there any more")


def failing_open(name: str, code: int) -> Callable[..., int]:
    opened = os.open

    def fail(path: Any, *args: Any, **kwargs: Any) -> int:
        if str(path).endswith(name):
            raise OSError(code, os.strerror(code), str(path))
        return opened(path, *args, **kwargs)

    return fail


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_an_unreadable_file_is_no_missing_one(
    fleet: Fleet, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Published without it, every replica would delete its own."""
    fleet.publish()
    before = list(fleet.repository.folder.iterdir())
    edit(fleet.leader_db, "UPDATE tag SET color = '#123' WHERE id = 1")
    monkeypatch.setattr(os, "open", failing_open("logo2.png", code))
    with pytest.raises(DatabaseError, match=f"cannot read Kuma's file {LOGO}"):
        fleet.publish()
    assert list(fleet.repository.folder.iterdir()) == before


def test_no_space_for_a_dump_is_a_state_error(
    leader: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "open", failing_open("monitor.jsonl", errno.ENOSPC))
    with pytest.raises(StateError, match="cannot write a dump"):
        observe(leader, tmp_path / "dump")
    assert not (tmp_path / "dump").exists()


def changing(
    leader: Instance, times: int, monkeypatch: pytest.MonkeyPatch, change: Callable[[int], object]
) -> list[int]:
    """Run ``change`` after the rows were read, so often."""
    once, seen = observing._observe_once, list[int]()

    def read(*arguments: Any) -> observing.Observation:
        found = once(*arguments)
        seen.append(1)
        if len(seen) <= times:
            change(len(seen))
        return found

    monkeypatch.setattr(observing, "_observe_once", read)
    return seen


def test_a_file_that_changes_meanwhile_is_read_again(
    leader: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logo = leader.data_dir / LOGO
    seen = changing(leader, 1, monkeypatch, lambda n: logo.write_bytes(b"new" * n))
    dump = tmp_path / "dump"
    observe(leader, dump)
    assert len(seen) == 2
    assert (dump / "files" / LOGO).read_bytes() == b"new"
    Dump.open(dump).verify()


def test_a_file_that_always_changes_is_an_error(
    leader: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logo = leader.data_dir / LOGO
    seen = changing(leader, 99, monkeypatch, lambda n: logo.write_bytes(b"x" * n))
    with pytest.raises(DatabaseError, match="changed all the time"):
        observe(leader, tmp_path / "dump")
    assert len(seen) == 3
    assert not (tmp_path / "dump").exists()


def test_a_file_that_nobody_names_may_change(
    leader: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = leader.data_dir / "upload" / "logo9.png"
    seen = changing(leader, 9, monkeypatch, lambda n: other.write_bytes(b"x" * n))
    observe(leader)
    assert len(seen) == 1


def test_a_file_that_goes_while_files_are_listed(
    leader: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = Folder.names

    def names(folder: Folder) -> list[str]:
        found = listed(folder)
        if "logo2.png" in found:
            (leader.data_dir / LOGO).unlink()
        return found

    monkeypatch.setattr(Folder, "names", names)
    assert [name for name, _stat in observing.file_stats(leader.data_dir)] == [CA]


def test_fingerprint_tells_files_of_chosen_tables(
    leader: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replicator_kuma.adapters.database.sqlite.store._SETTLE_NS", 0)
    before = observing.fingerprint(leader)
    assert before
    assert observing.fingerprint(leader) == before
    (leader.data_dir / LOGO).write_bytes(b"other")
    after = observing.fingerprint(leader)
    assert after != before
    leader.tables = leader.tables - {"docker_host", "monitor"}
    chosen = observing.fingerprint(leader)
    assert chosen != after
    (leader.data_dir / CA).write_bytes(b"another")
    assert observing.fingerprint(leader) == chosen


def test_dangling_references_are_reported_once_published(fleet: Fleet) -> None:
    edit(fleet.leader_db, "INSERT INTO monitor_tag (monitor_id, tag_id) VALUES (1, 999)")
    result = fleet.publish()
    assert result.outcome is Outcome.PUBLISHED
    assert result.warnings == (
        "monitor_tag.tag_id: 1 row points to a missing tag; the row is left out",
    )


def test_a_copy_that_fails_leaves_no_file_open(
    leader: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error holds its frames, and they would hold the file, until somebody collects them."""
    real = Path.mkdir

    def full(path: Path, *arguments: Any, **options: Any) -> None:
        if "files" in path.parts:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(StateError) as raised:
        observe(leader, tmp_path / "dump")
    held = [os.path.realpath(entry) for entry in Path("/proc/self/fd").iterdir()]
    assert raised.value.__cause__ is not None
    assert not [name for name in held if name.startswith(str(leader.data_dir))]
