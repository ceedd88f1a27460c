"""Kuma's files around a transaction: staged beside their place, renamed after the commit.

Renaming is the only step between the commit and Kuma's start. It can be repeated: a file that is
no longer staged is in its place. A rename must not fail, so all that it needs is tried before
the transaction. A file is staged in the data directory if a rename from there works, else in
its target folder (a mount, or a link to another file system).
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from replicator_kuma.base.effects import effect
from replicator_kuma.base.errors import StateError
from replicator_kuma.base.folders import Folder, LinkRefused
from replicator_kuma.dump.files import open_regular
from replicator_kuma.replication.state.file import sync

FOLDER = ".replicator-staging"
"""In Kuma's data directory or in a file's target folder; no other program reads it."""

FileChanges = Iterable[tuple[str, str | None]]

_TRIAL = re.compile(r"\.replicator-[0-9a-f]{16}\.tmp")
_GET_FLAGS = 2 << 30 | array.array("l").itemsize << 16 | ord("f") << 8 | 1
_PAGES = "group,incident,maintenance_status_page,monitor_group,status_page,status_page_cname"
"""status_page and all tables that refer to it, for REPLICATOR_EXCLUDE_TABLES"""
_FIXED = 0x10 | 0x20
"""FS_IMMUTABLE_FL, FS_APPEND_FL: not even root can replace such a file"""


class StagedLost(StateError):
    """Staged files are gone or changed: the rows were written, but their files were not."""

    hint = "Who else writes in Kuma's data directory? The next cycle brings the files anew."


def stage(data_dir: Path, dump: Path, files: FileChanges) -> None:
    """Copy new files from a dump folder to a staging folder, durably.

    Raises StateError if a file could not be renamed into its place, or deleted, after the commit;
    then nothing that Kuma sees has changed.
    """
    discard(data_dir)
    name = ""
    try:
        with Folder.open(data_dir) as data:
            for name, sha256 in files:
                with _near(data, name) as (near, rest):
                    if sha256 is None:
                        if "/" not in rest:  # else its folder is not there
                            _try(near, rest)
                    elif _try_to_place(data, near, rest):
                        _stage(data, name, data, name, dump)
                    else:
                        _stage(near, rest, data, name, dump)
    except OSError as error:
        discard(data_dir)
        raise _unplaceable(data_dir, name, error) from error


def _unplaceable(
    data_dir: Path, name: str, error: OSError, more: str = "; nothing was changed"
) -> StateError:
    what = f"cannot put Kuma's files in place in {data_dir}: {name}: {error.strerror}{more}"
    return StateError(what, hint=_hint(error, data_dir / name))


def _hint(error: OSError, place: Path) -> str:
    """The hint for a file that cannot be put in its place."""
    # monitors refer to Docker hosts: their table cannot be excluded
    logo = place.name.startswith("logo")
    without = f", or do without status pages: REPLICATOR_EXCLUDE_TABLES={_PAGES}" if logo else ""
    match error.errno:
        case errno.EROFS:
            return f"Mount {place.parent} so that it can be written{without}."
        case errno.ENOSPC | errno.EDQUOT:
            return f"Free some space for {place.parent}."
        case errno.EBUSY:
            return f"Something is mounted on {place}: mount its folder instead{without}."
        case errno.EISDIR | errno.ENOTDIR | errno.EEXIST:
            return f"{place} is to be a file, and {place.parent} a folder: move away what is there."
    if isinstance(error, LinkRefused):
        return (
            f"Mount the folder on {place.parent} (mount --bind) instead of the link, or run the "
            "replicator as Kuma's own user."
        )
    return f"Let the user that runs replicator-kuma write in {place.parent} (chattr -i, if set)."


def can_place(data_dir: Path, name: str) -> bool:
    """Whether a rename from the data directory to this place works; False: stage in its folder.

    Raises StateError if the file cannot be put there at all. Needs no lock.
    """
    for again in (True, False):
        try:
            with Folder.open(data_dir) as data, _near(data, name) as (near, rest):
                return _try_to_place(data, near, rest)
        except FileNotFoundError as error:  # a cycle has deleted our trial file
            if not again:
                raise _unplaceable(data_dir, name, error) from error
        except OSError as error:
            raise _unplaceable(data_dir, name, error) from error
    raise AssertionError("unreachable")


@contextlib.contextmanager
def _near(data: Folder, name: str) -> Iterator[tuple[Folder, str]]:
    """The nearest existing folder above a file, and the rest of the path from there."""
    near, parts = data.folder(""), name.split("/")
    try:
        while len(parts) > 1:
            try:
                below = near.folder(parts[0])
            except FileNotFoundError:
                if near.stat(parts[0]) is not None:  # a dangling link
                    raise
                break
            near.close()
            near, parts = below, parts[1:]
        yield near, "/".join(parts)
    finally:
        near.close()


def _try(near: Folder, rest: str) -> None:
    """Raise OSError if no file could be put in this place, or deleted there."""
    if "/" not in rest:
        _replaceable(near, rest)
    near.remove(_trial(near))


def _try_to_place(data: Folder, near: Folder, rest: str) -> bool:
    """Whether a rename from the data directory works; raises OSError if no way works."""
    _try(near, rest)
    trial = _trial(data)
    try:
        data.move(trial, near, trial)
    except OSError as error:
        data.remove(trial)
        if error.errno != errno.EXDEV:
            raise
        return False
    near.remove(trial)
    return True


def _trial(folder: Folder) -> str:
    """Create an empty file; returns its new name."""
    name = f".replicator-{secrets.token_hex(8)}.tmp"
    folder.create(name)
    return name


def _replaceable(folder: Folder, name: str) -> None:
    """Raise OSError if a rename or unlink could not replace this file."""
    found = folder.stat(name)
    if found is None:
        return
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
    if folder.is_mount(name):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), name)
    above, uid = os.fstat(folder.descriptor), os.geteuid()
    sticky = above.st_mode & stat.S_ISVTX and uid not in (0, above.st_uid, found.st_uid)
    if sticky or (stat.S_ISREG(found.st_mode) and _fixed(folder, name)):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), name)


def _fixed(folder: Folder, name: str) -> bool:
    """Whether a file is immutable (chattr +i, +a); False if that cannot be read."""
    flags = array.array("l", [0])
    try:
        with folder.open_file(name) or contextlib.nullcontext() as file:
            if file is not None:
                fcntl.ioctl(file.fileno(), _GET_FLAGS, flags, True)
    except OSError:  # not every file system has flags
        return False
    return bool(flags[0] & _FIXED)


def _stage(holder: Folder, rest: str, data: Folder, name: str, dump: Path) -> None:
    """Copy a file to a staging folder, with the owner of Kuma's data directory."""
    source = open_regular(dump / "files" / name)
    if source is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    staged = f"{FOLDER}/{rest}"
    with source:
        mode = 0o600 if name.startswith("docker-tls/") else 0o644
        holder.make(staged.rpartition("/")[0], 0o700).close()
        holder.write(staged, lambda file: shutil.copyfileobj(source, file), mode, data.owner)


def finish(data_dir: Path, files: FileChanges) -> None:
    """Put staged files in their places, and delete files that the plan removes; can be repeated.

    Raises StateError; then the staged files stay staged for the next attempt. Raises StagedLost
    for a file that is neither staged nor in its place; all other files are in place then.
    """
    lost, name = [], ""
    try:
        with Folder.open(data_dir) as data:
            for name, sha256 in files:
                if sha256 is None:
                    _delete(data, name)
                elif not _place(data, name, sha256):
                    lost.append(name)
    except OSError as error:
        raise _unplaceable(data_dir, name, error, "") from error
    effect("files in place")
    discard(data_dir)
    if lost:
        raise StagedLost(
            f"what was staged is gone or changed: {', '.join(lost)} did not come into place "
            f"in {data_dir}"
        )


def _delete(data: Folder, name: str) -> None:
    with contextlib.suppress(NotADirectoryError):
        data.remove(name)


def _place(data: Folder, name: str, sha256: str) -> bool:
    """Whether the file is in its place now."""
    above, _, last = name.rpartition("/")
    for holder, rest in _staged(data, name):
        with holder:
            # a file with another hash is left from an apply that died while staging
            if _hash(holder, rest) == sha256:
                with data.make(above, 0o755, data.owner) as folder:
                    _move(holder, rest, folder, last, data)
                return True
    return _hash(data, name) == sha256


def _move(holder: Folder, rest: str, folder: Folder, last: str, data: Folder) -> None:
    try:
        holder.move(rest, folder, last)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # staged by 0.3.0, or a mount came since: copy it into the target folder
        file = holder.open_file(rest)
        if file is None:
            raise
        with file, folder.make(FOLDER, 0o700) as staged:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            staged.write(last, lambda target: shutil.copyfileobj(file, target), mode, data.owner)
            staged.move(last, folder, last)


def _staged(data: Folder, name: str) -> Iterator[tuple[Folder, str]]:
    """Each staging folder that may hold a file, and the file's name there."""
    for at in range(name.count("/") + 1):
        parts = name.split("/")
        above, rest = "/".join(parts[:at]), "/".join(parts[at:])
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), data.folder(above) as near:
            if _is_folder(near, FOLDER):
                yield near.folder(FOLDER), rest


def _is_folder(folder: Folder, name: str) -> bool:
    found = folder.stat(name)
    return found is not None and stat.S_ISDIR(found.st_mode)


def _hash(folder: Folder, name: str) -> str:
    """SHA-256 in hex; empty if there is no such file."""
    file = folder.open_file(name)
    if file is None:
        return ""
    with file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _holders(data: Folder) -> Iterator[Folder]:
    """Each folder that may contain a staging folder."""
    yield data.folder("")
    for name in ("upload", "docker-tls"):
        with contextlib.suppress(OSError), data.folder(name) as folder:
            yield folder.folder("")
            for host in folder.names() if name == "docker-tls" else ():
                if host != FOLDER:
                    with contextlib.suppress(OSError):
                        yield folder.folder(host)


def is_staged(data_dir: Path) -> bool:
    """Whether any file is staged."""
    with contextlib.suppress(OSError), Folder.open(data_dir) as data:
        for holder in _holders(data):
            with holder:
                if _is_folder(holder, FOLDER):
                    return True
    return False


def discard(data_dir: Path) -> None:
    """Delete all staged files."""
    with contextlib.suppress(OSError), Folder.open(data_dir) as data:
        for holder in _holders(data):
            with holder, contextlib.suppress(OSError):
                holder.remove_tree(FOLDER)
                for name in filter(_TRIAL.fullmatch, holder.names()):
                    holder.remove(name)


def sync_tree(folder: Path) -> None:
    """Make a folder's files and names durable."""
    for path in (*folder.rglob("*"), folder):
        sync(path)
