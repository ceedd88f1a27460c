"""Safe work in folders that another user may change at the same time.

DATA_DIR belongs to Kuma's user, and the state directory is in it. If the replicator runs as root,
that user could replace any name there by a link, and root would read, overwrite or give away the
link's target. So no path there is looked up twice:

- A folder is opened once, part by part, and then used by its descriptor (`Folder`).
- A link is followed only if nobody but root could have made it (`_trusted`). A process that is
  not root follows every link: it has no more rights than Kuma's user.
- A new file gets an unpredictable name, is made with O_EXCL, and is given to its owner by its
  descriptor, before a rename puts it in its place.
- The state directory belongs to this user: see state_directory.py.

`tests/test_folders.py` finds code that opens files below these folders in another way.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedReader, FileIO
from pathlib import Path
from typing import BinaryIO, TypeVar

_LOOK = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
"""only to look at a file: closing such a descriptor drops no lock of SQLite"""
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OVER = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
NONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)
_MOST_LINKS = 40  # as the kernel's own limit
_LOOKS = 10
"""attempts to open a file that appears and disappears, before it counts as missing"""
_BUFFER = 1 << 18
_T = TypeVar("_T")

ANCHOR = re.compile(r"/proc/self/fd/(\d+)(?=/|$)")


class LinkRefused(OSError):
    """We run as root, and somebody other than root may have made this link."""

    def __init__(self, path: str) -> None:
        said = "root does not follow a link that another user may have made"
        super().__init__(errno.ELOOP, said, path)


class HardLinkRefused(OSError):
    """A hard link, in another user's folder, to a file that this user does not own."""

    def __init__(self, path: str) -> None:
        said = "root does not use a hard link that another user may have made"
        super().__init__(errno.EPERM, said, path)


@dataclass(frozen=True)
class Owner:
    """The user and group that get a new file."""

    uid: int
    gid: int


class Folder:
    """An open directory; names in it are relative, may have slashes, and never `..`.

    All methods raise OSError. Links are not followed unless the method says so.
    """

    def __init__(self, descriptor: int, shown: str) -> None:
        self.descriptor = descriptor
        self.shown = shown
        """its path, for messages only"""

    @classmethod
    def open(cls, path: Path) -> Folder:
        """Open a folder by its path; its last part may be a link that root has made."""
        shown = str(path)
        if found := ANCHOR.match(shown):
            start = os.open(".", _LOOK, dir_fd=int(found[1]))
            parts = shown[found.end() :].split("/")
        else:
            start = os.open("/", _LOOK)
            parts = str(path.absolute()).split("/")
        return cls(_walk(start, parts, shown), shown)

    def close(self) -> None:
        os.close(self.descriptor)

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def folder(self, name: str) -> Folder:
        """A folder below this one."""
        start = os.open(".", _LOOK, dir_fd=self.descriptor)
        shown = f"{self.shown}/{name}" if name else self.shown
        return Folder(_walk(start, _parts(name), shown), shown)

    @property
    def owner(self) -> Owner:
        """The owner of this folder."""
        found = os.fstat(self.descriptor)
        return Owner(found.st_uid, found.st_gid)

    @contextlib.contextmanager
    def _parent(self, name: str) -> Iterator[tuple[Folder, str]]:
        above, _, last = name.rpartition("/")
        if not _parts(last):
            raise ValueError(f"{name!r} names no file")
        with self.folder(above) as folder:
            yield folder, last

    def open_file(self, name: str, *, follow: bool = False) -> BufferedReader | None:
        """Open a regular file for reading; None if there is none.

        ``follow``: follow a link as in `Folder.open`. Raises OSError if the file exists and cannot
        be read, LinkRefused for a link that must not be followed, HardLinkRefused for a file that
        may be a hard link to a file which the folder's owner may not read.
        """
        descriptor = self._found(
            name, lambda folder, last: _opened(folder, last, READ, follow=follow)
        )
        return None if descriptor is None else opened_regular(descriptor)

    def open_regular(self, name: str, *, follow: bool = False) -> BufferedReader | None:
        """As `open_file`, but None only if nothing exists; OSError EINVAL if it is no file."""
        for _ in range(_LOOKS):
            file = self.open_file(name, follow=follow)
            if file is not None:
                return file
            found = self.stat(name, follow=follow)
            if found is None:
                return None
            if not stat.S_ISREG(found.st_mode):
                break
            # it appeared between the two looks
        raise OSError(errno.EINVAL, "it is no regular file", f"{self.shown}/{name}")

    def stat(self, name: str, *, follow: bool = False) -> os.stat_result | None:
        """As lstat, or stat; None if nothing exists. Raises LinkRefused, HardLinkRefused."""
        return self._found(name, lambda folder, last: _stat(folder, last, follow=follow))

    def _found(self, name: str, look: Callable[[Folder, str], _T]) -> _T | None:
        """The result of ``look`` for a folder and a name in it; None if there is no such file."""
        try:
            with self._parent(name) as (folder, last):
                return look(folder, last)
        except LinkRefused:
            raise
        except OSError as error:
            if error.errno in NONE:
                return None
            raise

    @contextlib.contextmanager
    def end(self, name: str) -> Iterator[tuple[Folder, str]]:
        """Follow the allowed links at a name; yields the final folder, and the name in it."""
        shown = f"{self.shown}/{name}"
        above, _, name = name.rpartition("/")
        links, folder = 0, self.folder(above)
        try:
            while (target := _target(folder.descriptor, name, shown)) is not None:
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), shown)
                above, _, name = target.rstrip("/").rpartition("/")
                root = "/" if target.startswith("/") else "."
                start = os.open(root, _LOOK, dir_fd=folder.descriptor)
                further = Folder(_walk(start, above.split("/"), shown), shown)
                folder.close()
                folder = further
            yield folder, name
        finally:
            folder.close()

    def names(self) -> list[str]:
        """The names in this folder, sorted."""
        return sorted(os.listdir(self.descriptor))  # noqa: PTH208

    def make(self, name: str, mode: int, owner: Owner | None = None) -> Folder:
        """Open a folder below; create it and its parents if needed, durably."""
        made = self.folder("")
        try:
            for part in _parts(name):
                try:
                    below = made.folder(part)
                except FileNotFoundError:
                    below = made._make(part, mode, owner)
                made.close()
                made = below
            return made
        except BaseException:
            made.close()
            raise

    def _make(self, part: str, mode: int, owner: Owner | None) -> Folder:
        os.mkdir(part, mode=0o700, dir_fd=self.descriptor)
        # only we could have replaced the folder since; else this open fails: see _own
        descriptor = os.open(part, FOLDER, dir_fd=self.descriptor)
        made = Folder(descriptor, f"{self.shown}/{part}")
        try:
            # a folder of ours may have been moved here: only an empty one is given away
            if os.fstat(descriptor).st_uid != os.geteuid() or os.listdir(descriptor):  # noqa: PTH208
                raise LinkRefused(made.shown)
            give(descriptor, owner)
            os.fchmod(descriptor, mode)
            os.fsync(self.descriptor)
        except BaseException:
            made.close()
            raise
        return made

    def write(
        self,
        name: str,
        fill: Callable[[BinaryIO], object],
        mode: int = 0o600,
        owner: Owner | None = None,
        *,
        durable: bool = True,
    ) -> None:
        """Replace a whole file: write it beside its place, then rename it. Its folder exists."""
        with self._parent(name) as (folder, last):
            temporary = f".{last}.{secrets.token_hex(8)}.tmp"
            descriptor = os.open(temporary, _CREATE, 0o600, dir_fd=folder.descriptor)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    fill(file)
                    file.flush()
                    give(descriptor, owner)
                    os.fchmod(descriptor, mode)
                    if durable:
                        os.fsync(descriptor)
                os.rename(
                    temporary, last, src_dir_fd=folder.descriptor, dst_dir_fd=folder.descriptor
                )
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=folder.descriptor)
                raise
            if durable:
                os.fsync(folder.descriptor)

    def write_over(self, name: str, content: bytes) -> None:
        """Write over the first bytes of a file, without a sync. Most disks need no room for that.

        A reader may meet the old bytes, the new ones, or both. Raises OSError, also where there is
        no such file, and HardLinkRefused for one that has another name.
        """
        with self._parent(name) as (folder, last):
            descriptor = os.open(last, _OVER, dir_fd=folder.descriptor)
            try:
                found = os.fstat(descriptor)
                if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
                    raise HardLinkRefused(f"{folder.shown}/{last}")
                while content:
                    content = content[os.write(descriptor, content) :]
            finally:
                os.close(descriptor)

    def create(self, name: str) -> None:
        """Create an empty file; raises FileExistsError if the name exists, also as a link."""
        with self._parent(name) as (folder, last):
            os.close(os.open(last, _CREATE, 0o600, dir_fd=folder.descriptor))

    def move(self, name: str, to: Folder, place: str) -> None:
        """Rename a file into another folder, durably; replaces a file with that name."""
        with self._parent(name) as (folder, last), to._parent(place) as (above, new):
            os.rename(last, new, src_dir_fd=folder.descriptor, dst_dir_fd=above.descriptor)
            os.fsync(above.descriptor)

    def is_mount(self, name: str) -> bool:
        """Whether something is mounted on this very name."""
        with self._parent(name) as (folder, last):
            descriptor = os.open(last, _PATH, dir_fd=folder.descriptor)
            try:
                return _mount(descriptor) != _mount(folder.descriptor)
            finally:
                os.close(descriptor)

    def remove(self, name: str) -> None:
        """Delete a file or a link, durably; does nothing if there is none."""
        with contextlib.suppress(FileNotFoundError), self._parent(name) as (folder, last):
            os.unlink(last, dir_fd=folder.descriptor)
            os.fsync(folder.descriptor)

    def remove_tree(self, name: str) -> None:
        """Delete a folder with all its content, or a file or link with that name."""
        with contextlib.suppress(FileNotFoundError), self._parent(name) as (folder, last):
            if stat.S_ISDIR(_stat(folder, last, follow=False).st_mode):
                # rmtree uses descriptors and follows no links: see shutil's documentation
                shutil.rmtree(last, dir_fd=folder.descriptor)
            else:
                os.unlink(last, dir_fd=folder.descriptor)


def _stat(folder: Folder, name: str, *, follow: bool) -> os.stat_result:
    if not follow:
        return os.stat(name, dir_fd=folder.descriptor, follow_symlinks=False)
    descriptor = _opened(folder, name, _PATH, follow=True)
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def opened_regular(descriptor: int) -> BufferedReader | None:
    """A reader of an open descriptor; if it is no regular file, close it and return None."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return BufferedReader(FileIO(descriptor), _BUFFER)


def give(descriptor: int, owner: Owner | None) -> None:
    """Give an open file or folder to a user; without effect unless we are root."""
    if owner is None or os.geteuid() != 0:
        return
    found = os.fstat(descriptor)
    if (found.st_uid, found.st_gid) != (owner.uid, owner.gid):  # some mounts have a fixed owner
        os.fchown(descriptor, owner.uid, owner.gid)


def _parts(name: str) -> list[str]:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or name.startswith("/"):
        raise ValueError(f"{name!r} leads out of its folder")
    return parts


def _walk(descriptor: int, parts: list[str], shown: str) -> int:
    """The readable descriptor of a folder below an open one; closes the open one."""
    todo, links = parts[::-1], 0
    try:
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            try:
                below = os.open(part, _LOOK, dir_fd=descriptor)
            except OSError as error:
                target = _target(descriptor, part, shown)
                if target is None:
                    raise type(error)(error.errno, error.strerror, shown) from error
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), shown) from error
                todo.extend(reversed(target.split("/")))
                if not target.startswith("/"):
                    continue
                below = os.open("/", _LOOK)
            os.close(descriptor)
            descriptor = below
        return os.open(".", FOLDER, dir_fd=descriptor)
    finally:
        os.close(descriptor)


def _target(descriptor: int, name: str, shown: str) -> str | None:
    """The target of a link; None if the name is no link. Raises LinkRefused."""
    try:
        target = os.readlink(name, dir_fd=descriptor)
    except OSError:
        return None
    if not _trusted(descriptor, name):
        raise LinkRefused(shown)
    return target


def _trusted(descriptor: int, name: str) -> bool:
    """Whether only root could have made this link in this folder."""
    if os.geteuid() != 0:
        return True
    above = os.fstat(descriptor)
    if above.st_uid != 0:
        return False
    if not above.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return True
    link = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
    return bool(above.st_mode & stat.S_ISVTX) and link.st_uid == 0


def _mount(descriptor: int) -> str:
    """The id of the mount of an open descriptor."""
    text = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
    return next(line for line in text.splitlines() if line.startswith("mnt_id:"))


def _opened(folder: Folder, name: str, flags: int, *, follow: bool) -> int:
    """Open a file, also through links that may be followed; returns its descriptor.

    Raises LinkRefused, HardLinkRefused.
    """
    with folder.end(name) if follow else contextlib.nullcontext((folder, name)) as (here, last):
        descriptor = os.open(last, flags, dir_fd=here.descriptor)
        if not _vouched(here.descriptor, descriptor):
            os.close(descriptor)
            raise HardLinkRefused(f"{folder.shown}/{name}")
        return descriptor


def _vouched(folder: int, descriptor: int) -> bool:
    """Whether a file has one name only, or the possible maker of the name could read it anyway.

    (If the kernel's protected_hardlinks is set, it forbids other hard links.)
    """
    if os.geteuid() != 0:
        return True
    above, found = os.fstat(folder), os.fstat(descriptor)
    alone = found.st_nlink <= 1 or not stat.S_ISREG(found.st_mode)
    ours = above.st_uid == 0 and not above.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return alone or ours or found.st_uid == above.st_uid
