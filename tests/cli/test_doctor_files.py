"""`doctor` on Kuma's files: what rows name and is not there, and where files cannot come."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import World
from tests.support.databases import edit

LOGO = "upload/logo2.png"


def lines(world: World, check: str, *, leader: bool = False) -> list[str]:
    done = (world.on_leader if leader else world.on_replica)("doctor", "--json")
    found = [entry for entry in done.json["findings"] if entry["check"] == check]
    return [f"{entry['level']} {entry['message']} {entry['hint']}" for entry in found]


def test_it_names_each_file_that_is_not_there(world: World) -> None:
    upload = world.leader / "upload"
    shutil.rmtree(upload, ignore_errors=True)
    edit(
        world.leader / "kuma.db",
        "UPDATE status_page SET icon = '/upload/logo2.png?t=1' WHERE id = 2",
        "UPDATE status_page SET icon = '/upload/brand.svg' WHERE id = 1",
        "UPDATE monitor SET database_connection_string = "
        "'postgres://u:canary-pw@h/db?sslmode=verify-ca&sslrootcert=/etc/ssl/own.pem' WHERE id = 1",
    )
    (world.leader / "docker-tls" / "docker.example").mkdir(parents=True)
    (world.leader / "docker-tls" / "docker.example" / "ca.pem").touch()
    found = " | ".join(lines(world, "files", leader=True))
    assert f"WARN {LOGO}, which a status page names, is not there" in found
    assert "WARN upload/brand.svg, which a status page names, is not carried" in found
    assert "docker-tls/docker.example has only ca.pem" in found
    assert "WARN monitor 1 names a file of this machine: /etc/ssl/own.pem" in found
    assert "canary-pw" not in found


def test_it_says_that_all_is_there(world: World) -> None:
    (world.leader / "upload").mkdir(exist_ok=True)
    (world.leader / LOGO).touch()
    assert lines(world, "files", leader=True)[0].startswith("OK each that rows name is here")
    assert lines(world, "folders of files") == ["OK upload takes files "]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_it_finds_a_mount_and_one_that_is_read_only(world: World) -> None:
    place = world.replica / "upload"
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(place)], check=True, timeout=10)
    try:
        assert (
            "OK upload takes files (on another file system" in lines(world, "folders of files")[0]
        )
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True, timeout=10)
        (found,) = lines(world, "folders of files")
        assert found.startswith("FAIL")
        assert "Read-only file system" in found
        assert f"Mount {place} so that it can be written" in found
        assert list(place.iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True, timeout=10)


def test_it_says_that_a_folder_is_a_link(world: World, tmp_path: Path) -> None:
    shutil.rmtree(world.replica / "upload", ignore_errors=True)
    (tmp_path / "elsewhere").mkdir()
    (world.replica / "upload").symlink_to(tmp_path / "elsewhere")
    (found,) = lines(world, "folders of files")
    assert found.startswith("OK upload, a link, takes files")


@pytest.mark.skipif(os.geteuid() != 0, reason="others follow each link")
def test_it_says_that_root_does_not_go_by_another_user_s_link(world: World) -> None:
    home = world.folder / "home"
    home.mkdir()
    world.replica.rename(world.folder / "real")
    (home / "data").symlink_to(world.folder / "real")
    world.replica.symlink_to(home / "data")
    os.chown(home, 12345, 12345)
    (found,) = lines(world, "data directory")
    assert found.startswith("FAIL")
    assert "Set DATA_DIR to the folder itself" in found
