"""Kuma's files around a transaction: staged beside their place, renamed after the commit.

Renaming is the only step between the commit and Kuma's start. It can be done twice: what is staged
is moved, what is not staged any more has been.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from replicator_kuma.dump.files import hash_file
from replicator_kuma.errors import StateError
from replicator_kuma.state import sync_folder

FOLDER = ".replicator-staging"
"""In Kuma's data directory, so on the file system of the files' places."""

FileChanges = Iterable[tuple[str, str | None]]


def stage(data_dir: Path, dump: Path, files: FileChanges) -> None:
    """Copy the files to come from a dump folder to the staging folder, durably.

    Raises StateError; nothing that Kuma sees has changed then.
    """
    discard(data_dir)
    wanted = [name for name, sha256 in files if sha256 is not None]
    if not wanted:
        return
    try:
        for name in wanted:
            target = data_dir / FOLDER / name
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copyfile(dump / "files" / name, target)
            target.chmod(0o600 if name.startswith("docker-tls/") else 0o644)
            _like(target, data_dir)
        sync_tree(data_dir / FOLDER)
        sync_folder(data_dir)
    except OSError as error:
        discard(data_dir)
        raise StateError(f"cannot stage Kuma's files in {data_dir}: {error}") from error


def _like(path: Path, pattern: Path) -> None:
    """Give a file the owner of Kuma's data directory: Kuma need not run as root."""
    if os.geteuid() == 0:
        stat = pattern.stat()
        os.chown(path, stat.st_uid, stat.st_gid)


def finish(data_dir: Path, files: FileChanges) -> None:
    """Put staged files in their places and delete those that go; can be repeated.

    Raises StateError; what is staged stays so until all are in their places.
    """
    try:
        for name, sha256 in files:
            _place(data_dir, name, sha256)
    except OSError as error:
        raise StateError(f"cannot put Kuma's files in place in {data_dir}: {error}") from error
    discard(data_dir)


def _place(data_dir: Path, name: str, sha256: str | None) -> None:
    place, staged = data_dir / name, data_dir / FOLDER / name
    if sha256 is None:
        place.unlink(missing_ok=True)
    elif hash_file(staged) == sha256:  # else another apply was about to stage its own, and died
        for folder in reversed(place.relative_to(data_dir).parents[:-1]):
            if not (data_dir / folder).exists():
                (data_dir / folder).mkdir(mode=0o755)
                _like(data_dir / folder, data_dir)
                sync_folder((data_dir / folder).parent)
        staged.replace(place)
    if place.parent.exists():
        sync_folder(place.parent)


def discard(data_dir: Path) -> None:
    """Forget what was staged."""
    shutil.rmtree(data_dir / FOLDER, ignore_errors=True)


def link_or_copy(source: str, target: str) -> str:
    """A second name for a file that nobody writes to again; a copy where links do not exist."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        Path(target).chmod(0o600)
    return target


def sync_tree(folder: Path) -> None:
    """Make a folder's files and names durable."""
    for path in folder.rglob("*"):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    sync_folder(folder)
