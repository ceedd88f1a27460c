"""What is fuzzed: each target gives bytes to a reader and lets its documented errors pass.

Anything else that comes out (another exception, a broken promise) is a finding. The targets know
nothing of the fuzzer: atheris (`make fuzz`) and Hypothesis (`tests/test_fuzz.py`) call the same.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from replicator_kuma.adapters.database.db_config import read_login
from replicator_kuma.adapters.database.mariadb.values import MariadbRepresentation
from replicator_kuma.adapters.database.sqlite.store import SqliteStore
from replicator_kuma.adapters.kuma.readiness import Readiness
from replicator_kuma.adapters.kuma.readiness import classify as classify_answer
from replicator_kuma.adapters.notify import CycleEnd, Message, where
from replicator_kuma.adapters.notify.ntfy import Ntfy
from replicator_kuma.adapters.notify.stream import event_of, lines
from replicator_kuma.adapters.notify.targets import read as read_targets
from replicator_kuma.adapters.repository import Label, Limits, Position
from replicator_kuma.adapters.repository.restic.arguments import Version
from replicator_kuma.adapters.repository.restic.client import ResticRepository
from replicator_kuma.adapters.repository.restic.extract import NotTar, extract
from replicator_kuma.adapters.repository.restic.failures import classify, hopeless, partial_listing
from replicator_kuma.adapters.repository.restic.maintenance import KeptRepository
from replicator_kuma.adapters.repository.restic.process import Deadline, Ended, Output
from replicator_kuma.base.errors import (
    DatabaseError,
    ReplicatorError,
    RepositoryError,
    SettingsError,
    SnapshotRefused,
)
from replicator_kuma.base.secret_variables import Mask
from replicator_kuma.base.text import plain, plain_json
from replicator_kuma.dump import change_words, values
from replicator_kuma.dump.catalog import SETTINGS_NEVER
from replicator_kuma.dump.format import Dump, accepts
from replicator_kuma.dump.kuma_columns import in_mariadb
from replicator_kuma.dump.manifest import MANIFEST, write_manifest
from replicator_kuma.dump.plan import plan
from replicator_kuma.dump.schema import TableSchema
from replicator_kuma.dump.transform.overrides import Overrides
from replicator_kuma.dump.transform.policy import Policy
from replicator_kuma.dump.transform.translate import Terms, translate
from replicator_kuma.replication.instance import Hint
from replicator_kuma.replication.push import as_text, parsed
from tests.support.databases import build
from tests.support.dumps import dump_of, signed

TABLES = ("user", "setting", "notification", "tag", "status_page", "monitor", "monitor_tag")
SECRET = "t0p-s3cret"


def harmless(text: str) -> None:
    """Nothing in a message steers a terminal once it is `plain`, and no secret is in it."""
    assert plain(text).encode(), "an error says something"
    assert not any(c < " " and c not in "\n\t" for c in plain(text))
    assert SECRET not in text


class World:
    """A replica's dump and schemas to read a snapshot against; folders below ``scratch``."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self._numbers = itertools.count()
        database = build(scratch / "live" / "kuma.db", monitors=3)
        self.live = dump_of(database, scratch / "dump", TABLES)
        with SqliteStore(database.parent).read() as reader:
            self.schema = reader.schema
        self.other = replace(self.schema, tables=dict(self._in_mariadb()))

    def _in_mariadb(self) -> Iterator[tuple[str, TableSchema]]:
        for name, table in self.schema.tables.items():
            columns = {c.name: in_mariadb(name, c) or c for c in table.columns.values()}
            yield name, replace(table, columns=columns)

    @contextlib.contextmanager
    def folder(self) -> Iterator[Path]:
        """A new folder that is gone afterwards."""
        made = self.scratch / str(next(self._numbers))
        made.mkdir()
        try:
            yield made
        finally:
            shutil.rmtree(made)

    def terms(self, mode: int) -> Terms:
        """One of the ways in which an instance may read a snapshot."""
        policy = Policy(compatible=bool(mode & 1), truncate=bool(mode & 2))
        if mode & 4:
            policy = replace(policy, local=frozenset({"tag"}))
        if mode & 8:
            return Terms(self.other, MariadbRepresentation(), policy, {})
        return Terms(self.schema, SqliteStore(self.scratch / "live").representation, policy, {})


Target = Callable[[World, bytes], None]


def manifest(world: World, data: bytes) -> None:
    """manifest.json: what is taken is written again as it was."""
    with world.folder() as folder:
        (folder / MANIFEST).write_bytes(data)
        try:
            found = Dump.open(folder).manifest
        except SnapshotRefused as error:
            harmless(str(error))
            return
        (folder / MANIFEST).unlink()
        write_manifest(folder, found)
        assert Dump.open(folder).manifest == found


def line(_world: World, data: bytes) -> None:
    """One line of a table: what is taken is canonical, and so read back equal."""
    for columns in (1, 3):
        try:
            (row,) = values.canonical_rows([data], columns)
        except ValueError:
            continue
        assert values.encode(row) == data
        assert len(row) == columns


def table(world: World, data: bytes) -> None:
    """A table's file on its whole way, under a manifest whose hashes are right.

    The first byte chooses the table, the second the terms; a zero byte parts content and runtime.
    """
    if len(data) < 2:
        return
    name, mode = TABLES[data[0] % len(TABLES)], data[1]
    content, _, runtime = data[2:].partition(b"\0")
    with world.folder() as folder:
        shutil.copytree(world.live.folder, folder / "fetched", copy_function=shutil.copyfile)
        _put(folder / "fetched" / "tables" / f"{name}.jsonl", content)
        side = folder / "fetched" / "runtime" / f"{name}.jsonl"
        if side.exists() and runtime:
            _put(side, runtime)
        signed(folder / "fetched")
        if mode & 8:
            _as_engine(folder / "fetched", "mariadb")
        try:
            wanted = Dump.open(folder / "fetched")
            wanted.verify()
            came = translate(wanted, world.live, world.terms(mode), folder / "came").dump
            made = plan(world.live, came, folder / "plan")
            for change in change_words.changes(made):
                assert not (change["table"] == "setting" and change["key"] in SETTINGS_NEVER)
            for text in change_words.lines(made):
                harmless(text)
        except ReplicatorError as error:
            harmless(str(error))


def _put(path: Path, content: bytes) -> None:
    """After the true line of columns, so that a fuzzer does not have to find it first."""
    head = path.read_bytes().partition(b"\n")[0]
    path.write_bytes(content[1:] if content[:1] == b"!" else head + b"\n" + content)


def _as_engine(folder: Path, engine: str) -> None:
    raw = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**raw, "engine": engine}))


class _Answering(ResticRepository):
    """A repository whose restic gives one answer."""

    def __init__(self, answer: bytes) -> None:
        super().__init__("restic", {}, None, "here")
        self._answer = answer

    def _need_version(self) -> Version:
        return (0, 18, 0)

    def _run(self, call: object, deadline: Deadline, cwd: Path | None = None) -> Output:
        return Output(self._answer, Ended(0, ""))


class _Measured(_Answering, KeptRepository):
    """The same, with housekeeping."""


def listing(_world: World, data: bytes) -> None:
    """What `restic snapshots --json` prints: labels that are none are left out, with a warning."""
    repository = _Answering(data)
    try:
        found = repository.snapshots("default")
    except RepositoryError as error:
        harmless(str(error))
        return
    assert list(found) == sorted(found, key=lambda s: (s.position, s.id))
    for snapshot in found:
        assert Label.from_tags(snapshot.label.tags()) == snapshot.label
        assert snapshot.label.fleet == "default"
    for warning in found.warnings:
        harmless(warning)


def answers(_world: World, data: bytes) -> None:
    """What `restic stats` prints, and what listens where Kuma should answers."""
    repository = _Measured(data)
    try:
        assert isinstance(repository.size(), int)
    except RepositoryError as error:
        harmless(str(error))
    assert all(classify_answer(status, data) in Readiness for status in (200, 404, 500))


def archive(world: World, data: bytes) -> None:
    """A tar stream: nothing outside its folder, and in it regular files of allowed names."""
    with world.folder() as folder:
        (folder / "beside").write_bytes(b"mine")
        into = folder / "into"
        try:
            extract(io.BytesIO(data), into, accepts, Limits(files=20, bytes=1 << 16))
        except (NotTar, SnapshotRefused, RepositoryError) as error:
            harmless(str(error))
            assert not into.exists() or not list(into.iterdir())
        assert sorted(p.name for p in folder.iterdir()) in (["beside"], ["beside", "into"])
        files = [p for p in into.rglob("*") if not p.is_dir()]
        assert all(p.is_file() and not p.is_symlink() for p in files)
        assert all(accepts(str(p.relative_to(into))) for p in files)


def errors_of_restic(_world: World, data: bytes) -> None:
    """What restic, or a server through it, writes to stderr."""
    code = data[0] if data else 0
    text = data[1:].decode("utf-8", "replace") + SECRET
    mask = Mask({"RESTIC_PASSWORD": SECRET})
    harmless(str(classify("call", Ended(code, text), 60, mask).error))
    partial = partial_listing(text, mask)
    harmless(str(partial.error) if partial else "whole")
    hopeless(text)


def overrides(world: World, data: bytes) -> None:
    """The file of REPLICATOR_OVERRIDES."""
    try:
        rules = Overrides.parse(data.decode())
    except ValueError as error:
        harmless(str(error))
        return
    with contextlib.suppress(SettingsError):
        rules.check(world.schema)
    assert len(rules.digest) in (0, 16)


def db_config(world: World, data: bytes) -> None:
    """db-config.json, which Kuma writes."""
    with world.folder() as folder:
        (folder / "db-config.json").write_bytes(data)
        try:
            login = read_login(folder, {})
        except (SettingsError, DatabaseError) as error:
            harmless(str(error))
            return
        assert login is None or 0 < login.port < 65536


def messages(_world: World, data: bytes) -> None:
    """NTFY_URL and REPLICATOR_NOTIFY, and any text on its way to a message, a log and JSON."""
    text = data.decode("utf-8", "surrogateescape")
    with contextlib.suppress(SettingsError):
        assert Ntfy.at(text).host
    sent = json.loads(Ntfy("https://h/", "h", "topic").request(Message(text, text)).body)
    assert len(sent["message"].encode()) <= 4000
    told = read_targets(text)
    for service in told.services:
        assert service.request(Message(text, text)) is not None
    for ping in told.pings:
        ping.ended(CycleEnd(True, text))
    for made in (*told.services, *told.pings):
        harmless(where(made))
        made.trial()
    for problem in told.problems:
        harmless(problem)
    harmless(plain(text) or "empty")
    assert json.loads(plain_json(text)) == text


def hints(_world: World, data: bytes) -> None:
    """A topic's stream, whose messages may be hints."""
    events = filter(None, map(event_of, lines(io.BytesIO(data))))
    for text in (event.message for event in events if event.message is not None):
        hint = parsed(text, "default")
        assert hint is None or parsed(as_text(hint, "default"), "default") == hint
    with contextlib.suppress(UnicodeError):
        parsed(data.decode(), "default")


TARGETS: Mapping[str, Target] = {
    "manifest": manifest,
    "line": line,
    "table": table,
    "listing": listing,
    "answers": answers,
    "archive": archive,
    "errors": errors_of_restic,
    "overrides": overrides,
    "db-config": db_config,
    "messages": messages,
    "hints": hints,
}


@dataclass(frozen=True)
class Seeds:
    """Good inputs to begin from, by target."""

    world: World

    def of(self, target: str) -> list[bytes]:
        found: dict[str, Callable[[], list[bytes]]] = {
            "manifest": lambda: [(self.world.live.folder / MANIFEST).read_bytes()],
            "line": self._lines,
            "table": self._tables,
            "listing": self._listings,
            "answers": lambda: [b'{"total_size":1}', b'{"type":"entryPage"}'],
            "archive": self._archives,
            "errors": lambda: [b"\x01Fatal: wrong password", b'\x01{"message_type":"exit_error"}'],
            "overrides": lambda: [
                b'[[rule]]\ntable = "tag"\nwhere = { name = "x*" }\nskip = true\n'
            ],
            "db-config": lambda: [b'{"type":"mariadb","port":"3306","dbName":"k","username":"u"}'],
            "messages": lambda: [b"https://u:p@ntfy.example/topic?auth=QmVhcmVyIHRr"],
            "hints": lambda: [
                json.dumps({"event": "message", "id": "a", "message": text}).encode() + b"\n"
                for text in (as_text(Hint(Position(1, 7), "a" * 64), "default"), "hello")
            ],
        }
        return found[target]()

    def _content(self, kind: str, name: str) -> bytes:
        path = self.world.live.folder / kind / f"{name}.jsonl"
        return path.read_bytes().partition(b"\n")[2] if path.exists() else b""

    def _lines(self) -> list[bytes]:
        return [
            b'[1,"\\u00e9\\udc80",-1.5e-07]',
            b'[{"blob":"AA=="},{"real":"-inf"},null]',
            b'["x"]',
        ]

    def _tables(self) -> list[bytes]:
        return [
            bytes([number, mode])
            + self._content("tables", name)
            + b"\0"
            + self._content("runtime", name)
            for number, name in enumerate(TABLES)
            for mode in (0, 11)
        ]

    def _listings(self) -> list[bytes]:
        from tests.adapters.repository.places import label

        entry = {"id": "ab" * 32, "time": "2031-01-01T00:00:00Z", "tags": label(1).tags()}
        return [json.dumps([entry]).encode(), b"[]", b"null"]

    def _archives(self) -> list[bytes]:
        import tarfile

        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as tar:
            for name in ("manifest.json", "tables/tag.jsonl", "files/upload/logo1.png"):
                info = tarfile.TarInfo(name)
                info.size = 3
                tar.addfile(info, io.BytesIO(b"abc"))
        return [made.getvalue(), made.getvalue()[:1536]]
