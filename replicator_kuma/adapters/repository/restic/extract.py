"""Extracts files from a tar stream; the input is untrusted, so everything is checked."""

from __future__ import annotations

import contextlib
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Protocol

from replicator_kuma.adapters.repository import Limits
from replicator_kuma.base.errors import MachineError, RepositoryError, SnapshotRefused
from replicator_kuma.base.os_errors import refusal, remedy
from replicator_kuma.base.text import sized

_COPY = 1 << 20
_BUFFER = 1 << 16
_END_MARK = 1024
# Long names and other records that tarfile reads into memory as a whole.
_HEADER_LIMIT = 1 << 20
_SHOWN = 120


class NotTar(Exception):
    """The stream is no tar archive, or ended early."""


class Readable(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


class _Source:
    """A stream that remembers its last bytes."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._end = b""

    def read(self, size: int) -> bytes:
        chunk = self._stream.read(size)
        self._end = (self._end + chunk[-_END_MARK:])[-_END_MARK:]
        return chunk

    def expect_end(self) -> None:
        """Raise ReadError unless the stream ends as archives do.

        tarfile accepts an archive that was cut between two members, or in a header, as complete.
        """
        while self.read(_BUFFER):
            pass
        if self._end != bytes(_END_MARK):
            raise tarfile.ReadError("its end is missing")


class _Member(tarfile.TarInfo):
    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        member = super().frombuf(buf, encoding, errors)
        if member.type not in _PLAIN_TYPES and member.size > _HEADER_LIMIT:
            raise SnapshotRefused(f"the snapshot has a header of {sized(member.size)}")
        return member


_PLAIN_TYPES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE)


def extract(stream: Readable, into: Path, accept: Callable[[str], bool], limits: Limits) -> Taken:
    """Write the regular files of a tar stream below ``into``; on any error, remove them again.

    Returns the extracted files, so that the caller can remove them if the sender has failed.
    Raises SnapshotRefused for a member that `Repository.fetch` refuses, NotTar, MachineError if
    the disk cannot hold the files, and RepositoryError if something else is in their place.
    """
    target = Taken(into, accept, limits)
    try:
        into.mkdir(mode=0o700, parents=True, exist_ok=True)
        source = _Source(stream)
        # tarfile's stream mode needs only read(); its types ask for a whole file object.
        file: IO[bytes] = source  # type: ignore[assignment]
        with tarfile.open(fileobj=file, mode="r|", tarinfo=_Member, bufsize=_BUFFER) as archive:
            while (member := archive.next()) is not None:
                target.take(archive, member)
        source.expect_end()
    except BaseException as error:
        target.remove()
        if isinstance(error, tarfile.TarError | EOFError | UnicodeError | ValueError):
            raise NotTar(str(error)) from error
        if isinstance(error, OSError):
            kind = MachineError if refusal(error) else RepositoryError
            raise kind(
                f"cannot write the fetched snapshot: {error.strerror}",
                hint=f"{remedy(error) or 'Look at it.'} It is about {into}.",
            ) from error
        raise
    return target


class Taken:
    """The files written so far, and the limits for the rest."""

    def __init__(self, into: Path, accept: Callable[[str], bool], limits: Limits) -> None:
        self._into = into
        self._accept = accept
        self._limits = limits
        self._files = set[str]()
        self._folders = set[str]()
        self._named = set[str]()
        self._members = 0
        self._bytes = 0

    @property
    def lacks(self) -> bool:
        """Whether something is missing: a folder has no files, or the top has none."""
        return bool(self._named - self._folders) or not any("/" not in name for name in self._files)

    def take(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Write one member, or refuse it."""
        self._members += 1
        # tarfile keeps every member; a long archive would fill the memory.
        archive.members = []  # type: ignore[attr-defined]
        if self._members > 2 * self._limits.files:
            raise SnapshotRefused(f"the snapshot has more than {2 * self._limits.files} entries")
        if member.isdir():
            # a folder is created when a file needs it
            with contextlib.suppress(SnapshotRefused):
                self._named.add(_checked_name(member.name.rstrip("/")))
            return
        name = _checked_name(member.name)
        self._check(member, name)
        content = archive.extractfile(member)
        assert content is not None
        self._write(name, content, member.size)

    def remove(self) -> None:
        """Delete all extracted files and folders."""
        for name in self._files:
            (self._into / name).unlink(missing_ok=True)
        for folder in sorted(self._folders, reverse=True):
            path = self._into / folder
            if path.is_dir():
                path.rmdir()

    def _check(self, member: tarfile.TarInfo, name: str) -> None:
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
            raise SnapshotRefused(f"{_shown(name)} is no regular file")
        if not self._accept(name):
            raise SnapshotRefused(f"{_shown(name)} does not belong into a dump")
        parents = _parents(name)
        if name in self._files or name in self._folders or self._files.intersection(parents):
            raise SnapshotRefused(f"{_shown(name)} comes twice")
        self._bytes += member.size
        if len(self._files) >= self._limits.files:
            raise SnapshotRefused(f"the snapshot has more than {self._limits.files} files")
        if self._bytes > self._limits.bytes:
            raise SnapshotRefused(f"the snapshot has more than {sized(self._limits.bytes)}")

    def _write(self, name: str, content: IO[bytes], size: int) -> None:
        for folder in _parents(name):
            if folder not in self._folders:
                (self._into / folder).mkdir(mode=0o700)
                self._folders.add(folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(self._into / name, flags, 0o600)
        self._files.add(name)
        with open(descriptor, "wb") as file:  # noqa: PTH123  (a descriptor, not a path)
            while chunk := content.read(_COPY):
                file.write(chunk)
                size -= len(chunk)
        if size:
            raise tarfile.ReadError("unexpected end of data")


def _checked_name(given: str) -> str:
    name = given.removeprefix("./")
    parts = name.split("/")
    if "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise SnapshotRefused(f"{_shown(name)} is no name below a dump's folder")
    return name


def _parents(name: str) -> list[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[: end + 1]) for end in range(len(parts))]


def _shown(name: str) -> str:
    return repr(name[:_SHOWN])
