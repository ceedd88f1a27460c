"""The live instance as a dump: its tables from one read transaction, and the files they name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from replicator_kuma.cycle import Instance
from replicator_kuma.database import Reader
from replicator_kuma.dump.audit import audited, twice
from replicator_kuma.dump.catalog import file_table, is_file
from replicator_kuma.dump.files import hash_file, open_regular
from replicator_kuma.dump.format import Dump, write_tables
from replicator_kuma.dump.manifest import Manifest, TableEntry, write_manifest
from replicator_kuma.dump.schema import Schema
from replicator_kuma.dump.select import Dangling, select
from replicator_kuma.errors import DatabaseError, StateError

_TRIES = 3
_COPY = 1 << 20


@dataclass(frozen=True)
class Observation:
    """What an instance holds now."""

    manifest: Manifest
    schema: Schema
    users: int
    monitors: int
    dangling: tuple[Dangling, ...] = ()
    fingerprint: str = ""
    """`Reader.fingerprint` of the rows, where it was asked for; empty where it proves nothing"""

    @property
    def unset(self) -> bool:
        """Nobody ever set this Kuma up."""
        return self.users == 0


def observe(
    instance: Instance,
    folder: Path | None = None,
    *,
    marked: bool = False,
    publishing: bool = False,
) -> Observation:
    """Dump the instance into ``folder`` (a new one), or only hash it when that is None.

    ``marked``: with the rows' fingerprint, for which a server looks at each row once more.
    ``publishing``: raise RowFault for a row that no replica would take.
    Raises DatabaseError when anything cannot be read whole, StateError when the folder cannot be
    written.
    """
    for attempt in range(_TRIES):
        before = dict(file_stats(instance.data_dir))
        target = folder and _scratch(folder, attempt)
        try:
            observation = _observe_once(instance, target, marked, publishing)
        except OSError as error:
            raise StateError(f"cannot write a dump below {folder}: {error}") from error
        after = dict(file_stats(instance.data_dir))
        names = observation.manifest.files
        if all(before.get(name) == after.get(name) for name in names):
            if target is not None and folder is not None:
                write_manifest(target, observation.manifest)
                target.rename(folder)
            return observation
    raise DatabaseError(
        "the files that Kuma's rows name changed all the time they were read",
        hint="Something writes into upload/ or docker-tls/ without a pause.",
    )


def observed_dump(
    instance: Instance, name: str, *, marked: bool = False, publishing: bool = False
) -> tuple[Dump, Observation]:
    """The instance's dump in a new scratch folder of the work folder."""
    folder = instance.work / name
    observation = observe(instance, folder, marked=marked, publishing=publishing)
    return Dump(folder, observation.manifest), observation


def write_audited(
    folder: Path | None, reader: Reader, tables: Sequence[str]
) -> tuple[dict[str, TableEntry], frozenset[str]]:
    """`write_tables` of rows that are to be published; raises RowFault for what none would take."""
    for name in tables:
        twice(select(reader.schema, name), reader.query)
    return write_tables(folder, reader, tables, audited)


def _scratch(folder: Path, attempt: int) -> Path:
    scratch = folder.with_name(f"{folder.name}.{attempt}.part")
    scratch.mkdir(mode=0o700, parents=True)
    return scratch


def _observe_once(
    instance: Instance, folder: Path | None, marked: bool, publishing: bool
) -> Observation:
    with instance.store.read() as reader:
        names = reader.schema.require(instance.tables)
        # first: where nothing dangles, reading is faster
        dangling = tuple(d for n in names for d in reader.dangling(select(reader.schema, n)))
        entries, named = (write_audited if publishing else write_tables)(folder, reader, names)
        users, monitors = reader.count("user"), reader.count("monitor")
        schema = reader.schema
        fingerprint = reader.fingerprint() if marked else ""
    files = {}
    for name in sorted(named):
        if sha256 := _copy(instance.data_dir, name, folder):
            files[name] = sha256
    manifest = Manifest(
        instance.store.engine,
        schema.fingerprint,
        schema.migrations,
        entries,
        files,
        schema.settings,
    )
    return Observation(manifest, schema, users, monitors, dangling, fingerprint)


def _copy(data_dir: Path, name: str, folder: Path | None) -> str:
    """The SHA-256 of a file, copied on the way into a dump; empty where there is none.

    Raises DatabaseError for one that cannot be read: replicas would delete what is only not shown.
    """
    try:
        if folder is None:
            return hash_file(data_dir / name)
        file = open_regular(data_dir / name)
    except OSError as error:
        raise DatabaseError(
            f"cannot read Kuma's file {name}: {error.strerror}",
            hint="Let the user that runs replicator-kuma read it.",
        ) from error
    if file is None:
        return ""
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
    """(name, what changes when the file does) of each file that a row could name."""
    for pattern in ("upload/*", "docker-tls/*/*"):
        for path in sorted(data_dir.glob(pattern)):
            name = str(path.relative_to(data_dir))
            if is_file(name):
                try:
                    stat = path.lstat()
                except FileNotFoundError:  # deleted since it was listed
                    continue
                yield name, (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def fingerprint(instance: Instance) -> str:
    """Changes whenever the instance's rows or files could have; cheap. Empty: cannot tell yet."""
    database = instance.store.fingerprint()
    if not database:
        return ""
    chosen = sorted(instance.tables)
    stats = [s for s in file_stats(instance.data_dir) if file_table(s[0]) in instance.tables]
    return hashlib.sha256(repr((database, chosen, stats)).encode()).hexdigest()
