"""The state directory, used by its descriptor, so that nobody can replace it.

It is in DATA_DIR, where Kuma's user may rename it and make a link or folder with its name. The
directory belongs to this user, mode 0700: nobody else changes its content. So only its name is
looked up with care, once. Then its path is `/proc/self/fd/N`; `text.named` shows its name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import stat
import threading
from collections.abc import Sequence
from pathlib import Path

from replicator_kuma.base.errors import StateError
from replicator_kuma.base.folders import ANCHOR, FOLDER, Folder
from replicator_kuma.base.text import name_folder

_NO_MORE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
KEPT_BYTES = 256 * 1024**2
"""What may be kept of one kind to save time, however full the disk is."""
_SHARE = 20
"""More than that may be kept as one part of so many of what is free on the disk."""
_anchors: dict[str, int] = {}
_lock = threading.Lock()


def anchored(path: Path, *, make: bool = False) -> Path:
    """A path to this user's own folder by its descriptor; it stays valid if the name changes.

    If the folder does not exist, returns the path itself; with ``make``, creates the folder (its
    parent has to exist: a mistyped DATA_DIR must not be created). The process keeps the descriptor;
    it opens a new one if the owner deleted or moved the folder.

    Raises StateError for a link, for another user's folder, and if the folder cannot be used;
    OSError if the machine has no descriptors or memory left.
    """
    shown = str(path.absolute())
    try:
        if ANCHOR.match(shown):  # anchored already, or below such a folder
            if make:
                path.mkdir(mode=0o700, exist_ok=True)
            return path
        with _lock:
            descriptor = _own_folder(path.absolute(), make)
            known = _anchors.get(shown)
            if known is not None and os.path.sameopenfile(known, descriptor):
                os.close(descriptor)
                descriptor = known
            _anchors[shown] = descriptor
            name_folder(descriptor, shown)
            return Path(f"/proc/self/fd/{descriptor}")
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not make:
            return path
        if error.errno in _NO_MORE:  # the machine's fault (`os_errors.refusal`), not the folder's
            raise
        raise unusable(f"cannot use the state directory {path}", error) from error


def affordable(state: Path, size: int) -> bool:
    """Whether the state directory may keep so many bytes that only save time. Raises OSError."""
    disk = os.statvfs(state)
    return size <= max(KEPT_BYTES, disk.f_bavail * disk.f_frsize // _SHARE)


def unusable(what: str, error: OSError) -> StateError:
    """The error for an OSError in the state directory; its hint says what to do about it."""
    return StateError(f"{what}: {error.strerror or str(error)[:300]}", hint=_hint(error))


def _hint(error: OSError) -> str:
    match error.errno:
        case errno.EACCES | errno.EPERM:
            return (
                f"This is user {os.geteuid()}: run as the user that the folder belongs to, "
                "or set REPLICATOR_STATE_DIR."
            )
        case errno.EROFS:
            return "Set REPLICATOR_STATE_DIR to a folder that can be written to."
        case errno.ELOOP:
            return "Set REPLICATOR_STATE_DIR to the folder itself, or remove the link."
        case errno.ENOSPC | errno.EDQUOT:
            return "Make room where the state directory is. Try: df -h, df -i"
        case errno.EIO:
            return "The disk of the state directory fails: look at dmesg."
    return "Check REPLICATOR_STATE_DIR, and DATA_DIR, in which it lies by default."


def below(path: Path) -> Folder | None:
    """A state directory, only for reading; also another user's; None if there is none.

    Raises OSError, also for a link.
    """
    try:
        if ANCHOR.match(str(path)):
            return Folder.open(path)
        with Folder.open(path.absolute().parent) as parent:
            found = parent.stat(path.name)
            if found is not None and stat.S_ISLNK(found.st_mode):
                raise OSError(errno.ELOOP, "the state directory is a link", str(path))
            return parent.folder(path.name)
    except (FileNotFoundError, NotADirectoryError):
        return None


def read(path: Path, name: str) -> bytes | None:
    """The content of a small file of any user's state directory; None if there is none.

    Raises OSError if it cannot be read, or is a link or no regular file.
    """
    with contextlib.ExitStack() as stack:
        folder = below(path)
        if folder is None:
            return None
        stack.enter_context(folder)
        file = folder.open_regular(name)
        return None if file is None else stack.enter_context(file).read()


def real_path(path: Path) -> Path:
    """The current real path, for a program without our descriptors."""
    found = ANCHOR.match(str(path))
    return Path(f"{Path(found[0]).readlink()}{str(path)[found.end() :]}") if found else path


def handed_on(arguments: Sequence[str]) -> tuple[int, ...]:
    """The descriptors that a child with these arguments needs."""
    found = (ANCHOR.match(argument) for argument in arguments)
    return tuple({int(anchor[1]) for anchor in found if anchor})


def _own_folder(path: Path, make: bool) -> int:
    with Folder.open(path.parent) as parent:
        name = path.name
        if make:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, mode=0o700, dir_fd=parent.descriptor)
        found = os.stat(name, dir_fd=parent.descriptor, follow_symlinks=False)
        if stat.S_ISLNK(found.st_mode):
            raise StateError(
                f"the state directory {path} is a link, and is not used",
                hint="Set REPLICATOR_STATE_DIR to the folder itself, or remove the link.",
            )
        _require_own(found, path)
        descriptor = os.open(name, FOLDER, dir_fd=parent.descriptor)
    try:
        found = os.fstat(descriptor)
        _require_own(found, path)
        _refuse_links(descriptor, path)
        if found.st_mode & 0o7777 != 0o700:
            os.fchmod(descriptor, 0o700)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _require_own(found: os.stat_result, path: Path) -> None:
    uid = os.geteuid()
    if found.st_uid == uid:
        return
    again = f"run as user {found.st_uid}, or " if uid == 0 else ""
    raise StateError(
        f"the state directory {path} belongs to user {found.st_uid}, and this is user {uid}",
        hint=f"If it ran as that user before, {again}give the folder to this user (look first "
        f"what is in it): chown -Rh {uid}:{os.getegid()} {shlex.quote(str(path))}\n"
        "Or set REPLICATOR_STATE_DIR to a folder of this user's own.",
    )


def _refuse_links(descriptor: int, path: Path) -> None:
    """Raise an error for links: a former owner may have put them there; ours has none."""
    for name in os.listdir(descriptor):
        try:
            found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        except FileNotFoundError:
            continue
        if stat.S_ISLNK(found.st_mode):
            raise StateError(
                f"{path / name} is a link, and the replicator makes none: the folder is not used",
                hint=f"Find out who made it, then: rm {shlex.quote(str(path / name))}",
            )
