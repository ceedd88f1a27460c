"""A real restic with a user's environment around it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from replicator_kuma.adapters.repository.restic.failures import classify
from replicator_kuma.adapters.repository.restic.maintenance import KeptRepository
from replicator_kuma.adapters.repository.restic.process import Ended
from replicator_kuma.base.errors import (
    MachineError,
    RepositoryUnreachable,
    ResticMissing,
    WrongPassword,
)
from replicator_kuma.base.secret_variables import Mask
from replicator_kuma.config.settings import Need, Settings
from tests.adapters.repository.places import PASSWORD, environment, label, make_dump, tmpfs
from tests.support import weak_repository

BASE = {"PATH": os.environ["PATH"], "REPLICATOR_MODE": "BACKUP"}


def repository(restic: Path, scratch: Path, values: dict[str, str]) -> KeptRepository:
    settings = Settings.load({**BASE, **values}, {}, (Need.REPOSITORY,))
    cache = scratch / "state" / "cache"
    return KeptRepository(restic, settings.restic_environment, cache, "here")


def test_a_listing_is_of_all_hosts(restic: Path, place: Path, tmp_path: Path) -> None:
    values = {**environment(place), "RESTIC_HOST": "another-machine"}
    found = repository(restic, tmp_path, values)
    make_dump(tmp_path / "dump")
    found.publish(tmp_path / "dump", label(7))
    assert label(7).position in [one.label.position for one in found.snapshots("default")]


def test_a_password_command_that_fails_is_no_wrong_password(
    restic: Path, place: Path, tmp_path: Path
) -> None:
    values = environment(place)
    del values["RESTIC_PASSWORD"]
    values["RESTIC_PASSWORD_COMMAND"] = 'sh -c "echo no such credential: $WHERE >&2; exit 3"'
    values["WHERE"] = "/run/credentials"
    with pytest.raises(WrongPassword) as caught:
        repository(restic, tmp_path, values).check_access()
    assert "exit status 3: no such credential: /run/credentials" in str(caught.value)
    assert "RESTIC_PASSWORD_COMMAND" in caught.value.hint
    assert "another password" not in caught.value.hint
    values["RESTIC_PASSWORD_COMMAND"] = "echo not it"
    with pytest.raises(WrongPassword) as caught:
        repository(restic, tmp_path, values).check_access()
    assert "another password" in caught.value.hint
    (tmp_path / "credential").write_text(PASSWORD)
    values |= {"HERE": str(tmp_path), "RESTIC_PASSWORD_COMMAND": 'sh -c "cat $HERE/credential"'}
    repository(restic, tmp_path, values).check_access()


def test_a_password_command_that_says_nothing_is_no_wrong_password(
    restic: Path, place: Path, tmp_path: Path
) -> None:
    values = environment(place)
    del values["RESTIC_PASSWORD"]
    values["RESTIC_PASSWORD_COMMAND"] = "true"
    with pytest.raises(WrongPassword) as caught:
        repository(restic, tmp_path, values).check_access()
    assert "RESTIC_PASSWORD_COMMAND" in caught.value.hint
    assert "another password" not in caught.value.hint


def test_where_a_password_command_looked_is_shown(
    restic: Path, place: Path, tmp_path: Path
) -> None:
    values = environment(place)
    del values["RESTIC_PASSWORD"]
    values["CREDENTIALS_DIRECTORY"] = str(tmp_path / "credentials")
    values["VAULT_TOKEN"] = "hvs.canary"
    command = 'echo with $VAULT_TOKEN >&2; cat "$CREDENTIALS_DIRECTORY"/restic'
    values["RESTIC_PASSWORD_COMMAND"] = f"sh -c '{command}'"
    with pytest.raises(WrongPassword) as caught:
        repository(restic, tmp_path, values).check_access()
    assert f"{tmp_path}/credentials/restic: No such file" in str(caught.value)
    assert "hvs.canary" not in str(caught.value)


# What is in the file, and which password restic takes it for.
FILES = {
    "mark": (b"\xef\xbb\xbfbattery\r\n", "battery"),
    "blank line": (b"battery\n\n", "battery"),
    "blanks": (b" \tbattery \n", "battery"),
    "no-break space": ("battery\u00a0\n".encode(), "battery"),
    "utf-16": ("battery\r\n".encode("utf-16"), "battery"),
    "utf-16 be": (b"\xfe\xff" + "battery".encode("utf-16-be"), "battery"),
    "blank within": (b"battery staple\n", "battery staple"),
    "separator": (b"battery\x1c\n", "battery\x1c"),
}


@pytest.mark.parametrize(("raw", "password"), FILES.values(), ids=FILES)
def test_a_second_password_s_file_is_read_as_restic_reads_it(
    restic: Path, raw: bytes, password: str, tmp_path: Path
) -> None:
    (tmp_path / "password").write_bytes(raw)
    weak_repository.make(tmp_path / "two", password=password)
    file = str(tmp_path / "password")
    base = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    subprocess.run(
        [restic, "cat", "config", "-q", "--no-cache", "-r", tmp_path / "two"],
        env={**base, "RESTIC_PASSWORD_FILE": file},
        check=True,
        timeout=30,
    )
    values = {
        **BASE,
        "RESTIC_REPOSITORY": str(tmp_path / "one"),
        "RESTIC_PASSWORD": "x",
        "REPLICATOR_REPOSITORY_2": str(tmp_path / "two"),
        "REPLICATOR_PASSWORD_2_FILE": file,
    }
    found = Settings.load(values, {}, (Need.REPOSITORY,)).second_environment
    KeptRepository(restic, found, None, "here").check_access()


@pytest.mark.parametrize("kind", ["a file", "missing", "read-only"])
def test_restic_has_a_place_for_temporary_files(
    restic: Path, place: Path, tmp_path: Path, kind: str
) -> None:
    away = tmp_path / "tmp"
    if kind == "a file":
        away.touch()
    elif kind == "read-only":
        away.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", away], check=True, timeout=10)
    try:
        found = repository(restic, tmp_path, {**environment(place), "TMPDIR": str(away)})
        make_dump(tmp_path / "dump")
        found.publish(tmp_path / "dump", label(7))
        names = [path.name for path in (tmp_path / "state").iterdir()]
        assert names == ["cache"], "restic leaves nothing of it"
    finally:
        if kind == "read-only":
            subprocess.run(["umount", "-l", away], check=True, timeout=10)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_full_folder_for_temporary_files_is_the_machine_s(
    restic: Path, place: Path, tmp_path: Path
) -> None:
    with tmpfs(tmp_path / "small", "64k") as small:
        (small / "ballast").write_bytes(bytes(shutil.disk_usage(small).free))
        found = repository(restic, tmp_path, {**environment(place), "TMPDIR": str(small)})
        make_dump(tmp_path / "dump")
        with pytest.raises(MachineError, match="no space left on device") as caught:
            found.publish(tmp_path / "dump", label(7))
        assert "TMPDIR" in caught.value.hint
        (small / "ballast").unlink()
    found.publish(tmp_path / "dump", label(7))


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("read-only file system", "read-only"),
        ("permission denied", "permission"),
        ("no space left on device", "Make room"),
    ],
)
def test_what_a_file_system_refuses_is_no_matter_of_the_network(said: str, hint: str) -> None:
    ended = Ended(1, f"Fatal: unable to open config file: stat /repo/config: {said}")
    error = classify("list snapshots", ended, 60, Mask({})).error
    assert type(error) is RepositoryUnreachable  # exit code 5, as ever
    assert hint in error.hint
    assert "network" not in error.hint
    ended = Ended(1, f"Fatal: Write: write /t/restic-temp-pack-185005331: {said}")
    error = classify("publish", ended, 60, Mask({})).error
    assert type(error) is MachineError
    assert "TMPDIR" in error.hint


def test_a_restic_without_permission_is_not_one_to_install(place: Path, tmp_path: Path) -> None:
    binary = tmp_path / "restic"
    binary.touch(mode=0o600)
    with pytest.raises(ResticMissing, match="Permission denied") as caught:
        repository(binary, tmp_path, environment(place)).check_access()
    assert "permission" in caught.value.hint


def test_a_relative_repository_in_a_file_is_meant_from_here(
    restic: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.parent)
    (tmp_path / "where").write_text(f"{place.name}\n")
    values = environment(place)
    del values["RESTIC_REPOSITORY"]
    values["RESTIC_REPOSITORY_FILE"] = str(tmp_path / "where")
    found = repository(restic, tmp_path, values)
    make_dump(tmp_path / "dump")
    found.publish(tmp_path / "dump", label(7))
    assert label(7).position in [one.label.position for one in found.snapshots("default")]
