"""Dumps the live instance: its tables in one read transaction, and the files that rows name."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from replicator_kuma.adapters.database import Reader, notes_of
from replicator_kuma.base.counters import COUNTED, ROWS
from replicator_kuma.base.errors import DatabaseError
from replicator_kuma.base.folders import Folder, HardLinkRefused, LinkRefused
from replicator_kuma.base.state_directory import unusable
from replicator_kuma.base.text import plain_line
from replicator_kuma.dump.audit import audited, twice
from replicator_kuma.dump.catalog import file_table, is_file
from replicator_kuma.dump.format import Dump, write_tables
from replicator_kuma.dump.manifest import Manifest, TableEntry, write_manifest
from replicator_kuma.dump.schema import Schema
from replicator_kuma.dump.select import Dangling, select
from replicator_kuma.replication import last_dump
from replicator_kuma.replication.instance import Instance

_TRIES = 3
_COPY = 1 << 20


_OWNERS = {"upload": "a status page", "docker-tls": "a Docker host"}


@dataclass(frozen=True)
class Lacking:
    """A file that rows name but the dump does not hold."""

    name: str
    why: str

    def __str__(self) -> str:
        who = _OWNERS.get(self.name.partition("/")[0], "a row")
        return f"{plain_line(self.name)}, which {who} names, {self.why}"


@dataclass(frozen=True)
class Observation:
    """What an instance holds now."""

    manifest: Manifest
    schema: Schema
    users: int
    monitors: int
    dangling: tuple[Dangling, ...] = ()
    named: frozenset[str] = frozenset()
    """the files that rows name, present or missing"""
    lacking: tuple[Lacking, ...] = ()
    fingerprint: str = ""
    """`Reader.fingerprint` of the rows, if it was requested; empty if it proves nothing"""

    @property
    def unset(self) -> bool:
        """Whether this Kuma was never set up."""
        return self.users == 0


def observe(
    instance: Instance,
    folder: Path | None = None,
    *,
    marked: bool = False,
    publishing: bool = False,
) -> Observation:
    """Dump the instance into ``folder`` (a new one); if that is None, only hash it.

    ``marked``: with the rows' fingerprint, for which a server reads each row once more.
    ``publishing``: raise RowFault for a row that no replica would accept.
    Raises DatabaseError if anything cannot be read completely, StateError if the folder cannot
    be written.
    """
    for attempt in range(_TRIES):
        before = dict(file_stats(instance.data_dir))
        target = folder and folder.with_name(f"{folder.name}.{attempt}.part")
        if target is not None:
            target.mkdir(mode=0o700, parents=True)
        try:
            observation = _observe_once(instance, target, marked, publishing)
        except OSError as error:
            raise unusable(f"cannot write a dump below {folder}", error) from error
        after = dict(file_stats(instance.data_dir))
        names = observation.manifest.files
        if all(before.get(name) == after.get(name) for name in names):
            if target is not None and folder is not None:
                write_manifest(target, observation.manifest)
                target.rename(folder)
                with contextlib.suppress(FileNotFoundError):
                    notes_of(target).rename(notes_of(folder))
            for table, entry in observation.manifest.tables.items():
                COUNTED.set(ROWS, entry.rows, table=table)
            return observation
    raise DatabaseError(
        "the files that Kuma's rows name changed all the time they were read",
        hint="Something writes into upload/ or docker-tls/ without a pause.",
    )


class Observed(NamedTuple):
    """The live rows and files as they were read."""

    live: Dump
    observation: Observation


def observed_dump(
    instance: Instance, name: str, *, marked: bool = False, publishing: bool = False
) -> Observed:
    """The instance's dump in a new scratch folder of the work folder."""
    folder = instance.work / name
    observation = observe(instance, folder, marked=marked, publishing=publishing)
    if not instance.previews:
        last_dump.keep(instance.state.folder, folder)
    return Observed(Dump(folder, observation.manifest), observation)


def write_audited(
    folder: Path | None, reader: Reader, tables: Sequence[str]
) -> tuple[dict[str, TableEntry], frozenset[str]]:
    """`write_tables` for a publish; raises RowFault for a row that no replica would accept."""
    for name in tables:
        twice(select(reader.schema, name), reader.query)
    return write_tables(folder, reader, tables, audited)


def _observe_once(
    instance: Instance, folder: Path | None, marked: bool, publishing: bool
) -> Observation:
    with instance.store.read(last_dump.earlier(instance.state.folder, folder)) as reader:
        names = reader.schema.require(instance.tables)
        # first: if no reference dangles, reading is faster
        dangling = tuple(d for n in names for d in reader.dangling(select(reader.schema, n)))
        entries, named = (write_audited if publishing else write_tables)(folder, reader, names)
        if folder is not None:
            with contextlib.suppress(OSError):  # a full disk: the next read takes longer
                reader.remember(folder, entries)
        users, monitors = reader.count("user"), reader.count("monitor")
        schema = reader.schema
        fingerprint = reader.fingerprint() if marked else ""
    files = read_files(instance.data_dir, named, folder)
    manifest = Manifest(
        instance.store.engine,
        schema.fingerprint,
        schema.migrations,
        entries,
        files,
        schema.settings,
    )
    lacking = tuple(lacking_files(instance.data_dir, named, files))
    return Observation(manifest, schema, users, monitors, dangling, named, lacking, fingerprint)


def lacking_files(
    data_dir: Path, named: Collection[str], there: Collection[str]
) -> Iterator[Lacking]:
    """Each file that rows name and that is not in ``there``, and why.

    (A Docker host needs no certificates: a host without any file lacks none.)
    """
    for name in sorted(named):
        if not is_file(name):
            if not name.startswith("docker-tls/") or _why(data_dir, name) != _GONE:
                yield Lacking(name, "is not carried: Kuma gives no such name. Copy it yourself")
        elif name not in there:
            why = _why(data_dir, name)
            if name.startswith("upload/") or why != _GONE:
                yield Lacking(name, f"{why}: replicas keep the one they have")


_GONE = "is not there"


def _why(data_dir: Path, name: str) -> str:
    try:
        with Folder.open(data_dir) as data:
            found = data.stat(name)
    except ValueError:  # not a file name, such as a host named `..`
        return _GONE
    except OSError as error:
        return f"cannot be looked at ({error.strerror})"
    if found is None:
        return _GONE
    return "is a link" if stat.S_ISLNK(found.st_mode) else "is no regular file"


def read_files(
    data_dir: Path, named: Collection[str], folder: Path | None = None
) -> dict[str, str]:
    """SHA-256 of each file that rows name, by name; copies each file into a dump ``folder``.

    Raises DatabaseError for a file that cannot be read.
    """
    wanted, files = sorted(filter(is_file, named)), {}
    if wanted:
        with _reading("Kuma's data directory"):
            opened = Folder.open(data_dir)
        with opened as data:
            for name in wanted:
                if sha256 := _copy(data, name, folder):
                    files[name] = sha256
    return files


@contextlib.contextmanager
def _reading(what: str) -> Iterator[None]:
    """Turn read errors into DatabaseError: replicas would delete a file that is left out."""
    try:
        yield
    except OSError as error:
        hint = "Let the user that runs replicator-kuma read it."
        if isinstance(error, LinkRefused | HardLinkRefused):
            hint = (
                "Mount the folder in the link's place (mount --bind), or run the replicator as "
                "Kuma's own user."
            )
        raise DatabaseError(f"cannot read {what}: {error.strerror}", hint=hint) from error


def _follows(name: str) -> bool:
    """Whether a file may be a link: Kuma writes logos itself, but certificates may be mounted."""
    return name.startswith("docker-tls/")


def _copy(data: Folder, name: str, folder: Path | None) -> str:
    """The SHA-256 of a file, which is copied into a dump; empty if there is no file.

    Raises DatabaseError.
    """
    with _reading(f"Kuma's file {name}"):
        file = data.open_file(name, follow=_follows(name))
    if file is None:
        return ""
    if folder is None:
        with file, _reading(f"Kuma's file {name}"):
            return hashlib.file_digest(file, "sha256").hexdigest()
    hasher, target = hashlib.sha256(), folder / "files" / name
    with file:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as copy:
            while chunk := file.read(_COPY):
                hasher.update(chunk)
                copy.write(chunk)
    return hasher.hexdigest()


def file_stats(data_dir: Path) -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    """(name, values that change when the file changes) of each file that a row could name."""
    try:
        data = Folder.open(data_dir)
    except OSError:
        return
    with data:
        for name in _places(data):
            try:
                found = data.stat(name, follow=_follows(name))
            except OSError:  # the later read reports why
                continue
            if found is not None:  # None: deleted since it was listed
                changes = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
                yield name, changes


def _places(data: Folder) -> Iterator[str]:
    """The names below these folders that a dump may hold, sorted."""
    for host in (f"docker-tls/{name}" for name in _names(data, "docker-tls")):
        yield from filter(is_file, (f"{host}/{name}" for name in _names(data, host)))
    yield from filter(is_file, (f"upload/{name}" for name in _names(data, "upload")))


def _names(data: Folder, name: str) -> list[str]:
    try:
        with data.folder(name) as folder:
            return folder.names()
    except OSError:
        return []


def fingerprint(instance: Instance) -> str:
    """A cheap fingerprint: differs whenever rows or files may have changed. Empty: unknown yet."""
    database = instance.store.fingerprint()
    if not database:
        return ""
    chosen = sorted(instance.tables)
    stats = [s for s in file_stats(instance.data_dir) if file_table(s[0]) in instance.tables]
    return hashlib.sha256(repr((database, chosen, stats)).encode()).hexdigest()
