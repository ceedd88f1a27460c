"""An enemy who may write to the repository: what a replica does with what he puts there.

Through the real ways in: a real restic's snapshots (and an impostor's archives, for what a real one
writes for nobody), fetch, dump, translation, plan. Whatever it is, Kuma is not stopped for it, no
row and no file changes, and nothing is left behind.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import DEVNULL

import pytest

from replicator_kuma.adapters.repository import Label, Limits, Position, Repository
from replicator_kuma.adapters.repository.restic.arguments import backup, parse_version
from replicator_kuma.base.errors import (
    Fenced,
    ReplicatorError,
    RepositoryUnreachable,
    SnapshotRefused,
)
from replicator_kuma.dump.format import Dump
from replicator_kuma.dump.manifest import MANIFEST
from replicator_kuma.replication import snapshots
from replicator_kuma.replication.instance import Instance, Outcome
from tests.adapters.repository.places import connect, environment, label
from tests.support import weak_repository
from tests.support.cycles import fill, follow, lead, left_behind
from tests.support.databases import query
from tests.support.dumps import dump_of, edit_manifest, rewrite, rewrite_runtime
from tests.support.folder_repository import FolderRepository
from tests.support.instances import RecordingKuma, make_instance
from tests.support.tools import restic_014, restic_018

Bend = Callable[[Path], object]


class Enemy:
    """He has the repository's password, and a genuine snapshot at 1.1 to copy.

    ``restic`` None: the repository is a folder, for what does not depend on restic.
    """

    def __init__(self, folder: Path, restic: Path | None, genuine: Label) -> None:
        self.folder, self.restic, self.genuine = folder, restic, genuine
        self.place = folder / "repository"
        self.dump = folder / "dump"

    def repository(self, scratch: Path) -> Repository:
        if self.restic is None:
            return FolderRepository(self.place)
        return connect(self.restic, self.place, scratch)

    def instance(self, name: str) -> Instance:
        folder = self.folder / name
        return make_instance(folder, self.repository(folder / "replicator"), name=name)

    def label(self) -> Label:
        """The next position, as if the leader had published it."""
        digest = json.loads((self.dump / MANIFEST).read_text()).get("digest", "")
        return replace(self.genuine, position=Position(1, 2), digest=digest)

    def publish(self, *, where: str = ".", label: Label | None = None) -> None:
        label = label or self.label()
        if self.restic is None:
            FolderRepository(self.place).add(self.dump, label)
            return
        version = parse_version(subprocess.check_output([self.restic, "version"], text=True))
        assert version is not None
        call = [str(self.restic), *backup(label, "enemy", None, version)[:-1], where]
        place = environment(self.place)
        subprocess.run(call, cwd=self.dump, env=place, check=True, timeout=60, stdout=DEVNULL)


def started(folder: Path, restic: Path | None) -> Enemy:
    """A leader that has published 1.1, a replica that has applied it, and the enemy's copy."""
    enemy = Enemy(folder, restic, label(1))
    if restic is None:
        enemy.repository(folder).init()
    else:
        weak_repository.make(enemy.place)
    for name, monitors in (("leader", 12), ("replica", 3)):
        (folder / name).mkdir()
        fill(folder / name, monitors=monitors)
    lead(enemy.instance("leader"))
    follow(enemy.instance("replica"), reconcile=True)
    dump_of(folder / "leader" / "kuma.db", folder / "dump")
    enemy.genuine = enemy.repository(folder).snapshots("default")[-1].label
    return enemy


@pytest.fixture(scope="module")
def with_restic(tmp_path_factory: pytest.TempPathFactory) -> Enemy:
    return started(tmp_path_factory.mktemp("restic"), restic_014())


@pytest.fixture(scope="module")
def with_folder(tmp_path_factory: pytest.TempPathFactory) -> Enemy:
    return started(tmp_path_factory.mktemp("folder"), None)


@pytest.fixture(params=[pytest.param(restic_014, id="0.14"), pytest.param(restic_018, id="0.18")])
def enemy(request: pytest.FixtureRequest, with_restic: Enemy, tmp_path: Path) -> Enemy:
    shutil.copytree(with_restic.folder, tmp_path / "all")
    return Enemy(tmp_path / "all", request.param(), with_restic.genuine)


@pytest.fixture
def quick(with_folder: Enemy, tmp_path: Path) -> Enemy:
    shutil.copytree(with_folder.folder, tmp_path / "all")
    return Enemy(tmp_path / "all", None, with_folder.genuine)


def world(enemy: Enemy) -> dict[str, bytes]:
    """Everything of the replica and the leader but the replicators' own folders."""
    return {
        str(path): path.read_bytes()
        for name in ("leader", "replica")
        for path in (enemy.folder / name).rglob("*")
        if path.is_file() and "replicator" not in path.relative_to(enemy.folder).parts
    }


def refuses(enemy: Enemy, *kinds: type[ReplicatorError]) -> str:
    """The replica's cycle raises a documented error and nothing has happened; what it says."""
    before, replica = world(enemy), enemy.instance("replica")
    with pytest.raises(kinds or SnapshotRefused) as caught:
        follow(replica)
    assert isinstance(replica.kuma, RecordingKuma)
    assert replica.kuma.log == []
    assert world(enemy) == before
    assert [name for name in left_behind(replica) if "cache" not in name] == []
    return str(caught.value)


def swap(name: str, make: Callable[[Path], object]) -> Bend:
    """Something else under the name of a file of the dump."""

    def bend(dump: Path) -> None:
        (dump / name).unlink()
        make(dump / name)

    return bend


def _folder_is_a_link(dump: Path) -> None:
    (dump / "tables").rename(dump.with_name("elsewhere"))
    (dump / "tables").symlink_to(dump.with_name("elsewhere"))


def _device(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root makes devices")
    os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero: it has no end


FOLDERS: dict[str, Bend] = {
    "a link to a file of this machine": swap(
        "tables/tag.jsonl", lambda p: p.symlink_to("/etc/passwd")
    ),
    "a link that leads out by dots": swap(
        "files/upload/logo2.png", lambda p: p.symlink_to("../../../../../../etc/shadow")
    ),
    "a folder that is a link": _folder_is_a_link,
    "a manifest that is a link": swap(MANIFEST, lambda p: p.symlink_to("/dev/zero")),
    "a pipe": swap("tables/tag.jsonl", os.mkfifo),
    "a device without end": swap("files/upload/logo2.png", _device),
    "a name with escapes": lambda d: (d / "files" / "\x1b[2J\x1b]0;x\x07").write_bytes(b""),
    "a name that is no UTF-8": lambda d: Path(os.fsdecode(os.fsencode(d) + b"/\xff\xfe")).touch(),
}


@pytest.mark.parametrize("bend", FOLDERS.values(), ids=FOLDERS)
def test_what_a_real_restic_kept_of_an_odd_folder_is_refused(
    bend: Bend, with_restic: Enemy, tmp_path: Path
) -> None:
    shutil.copytree(with_restic.folder, tmp_path / "all")
    enemy = Enemy(tmp_path / "all", restic_018(), with_restic.genuine)
    label = enemy.label()
    bend(enemy.dump)
    enemy.publish(label=label)
    assert refuses(enemy).isprintable()


def test_a_backup_by_absolute_path_is_refused(enemy: Enemy) -> None:
    enemy.publish(where=str(enemy.dump))
    assert "does not belong into a dump" in refuses(enemy)


def test_a_file_with_holes_is_refused_by_its_size(
    with_restic: Enemy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repository takes next to nothing of it."""
    shutil.copytree(with_restic.folder, tmp_path / "all")
    enemy = Enemy(tmp_path / "all", restic_018(), with_restic.genuine)
    monkeypatch.setattr(snapshots, "Limits", lambda: Limits(bytes=20 << 20))
    with (enemy.dump / "files" / "upload" / "logo3.png").open("wb") as file:
        file.truncate(100 << 20)
    enemy.publish()
    assert "more than" in refuses(enemy)


DUMPS: dict[str, Bend] = {
    "a folder in a file's place": swap("tables/tag.jsonl", lambda p: p.mkdir()),
    "a table more": lambda d: (d / "tables" / "heartbeat.jsonl").write_bytes(b"[]\n"),
    "the database itself": lambda d: (d / "files" / "kuma.db").write_bytes(b"SQLite format 3\0"),
    "Kuma's configuration": lambda d: (d / "files" / "db-config.json").write_bytes(b"{}"),
    "a web page": lambda d: (d / "files" / "upload" / "x.html").write_bytes(b"<script>"),
    "a name by another case": lambda d: (d / "tables" / "Monitor.jsonl").write_bytes(b"[]\n"),
    "a manifest alone": lambda d: shutil.rmtree(d / "tables"),
    "SQL as a column": lambda d: rewrite(
        Dump.open(d),
        "tag",
        lambda lines: (
            [b'["id","color","created_date","name\\" = 1; DROP TABLE monitor; --"]\n', *lines[1:]]
        ),
    ),
    "SQL as a table": lambda d: edit_manifest(
        d, lambda m: m["tables"].update({"tag; DROP TABLE monitor": m["tables"]["tag"]})
    ),
    "SQL as an id": lambda d: rewrite(
        Dump.open(d), "tag", lambda lines: [*lines, b'["1; DROP TABLE monitor","","",""]\n']
    ),
    "a setting that opens a tunnel": lambda d: rewrite(
        Dump.open(d),
        "setting",
        lambda lines: [lines[0], b'["cloudflaredTunnelToken","general","\\"x\\""]\n'],
    ),
    "the key of sessions": lambda d: rewrite(
        Dump.open(d), "setting", lambda lines: [lines[0], b'["jwtSecret","general","x"]\n']
    ),
    "an id without end": lambda d: rewrite(
        Dump.open(d), "tag", lambda lines: [*lines, b"[" + b"9" * 1_000_000 + b',"","",""]\n']
    ),
    "a number without end": lambda d: rewrite(
        Dump.open(d), "tag", lambda lines: [*lines, b'[999999,1e999999,"",""]\n']
    ),
    "an integer of a million digits": lambda d: rewrite(
        Dump.open(d), "tag", lambda lines: [*lines, b"[999999," + b"9" * 1_000_000 + b',"",""]\n']
    ),
    "an id twice": lambda d: rewrite(Dump.open(d), "tag", lambda lines: [*lines, lines[-1]]),
    "a user without a name": lambda d: rewrite(
        Dump.open(d), "status_page", lambda lines: [lines[0], *(b"[" + b"null," * 5 + b"null]\n",)]
    ),
    "migrations with escapes": lambda d: edit_manifest(
        d, lambda m: m["schema"].update(migrations=["\x1b[2J\u202e zz"])
    ),
}


@pytest.mark.parametrize("bend", DUMPS.values(), ids=DUMPS)
def test_a_dump_that_is_none_is_refused(bend: Bend, quick: Enemy) -> None:
    label = quick.label()
    bend(quick.dump)
    if (digest := json.loads((quick.dump / MANIFEST).read_text())["digest"]) != label.digest:
        label = replace(label, digest=digest)  # its tags are right as well
    quick.publish(label=label)
    assert refuses(quick).isprintable()


def test_a_dump_under_the_digest_of_another_is_refused(quick: Enemy) -> None:
    label = quick.label()
    rewrite(Dump.open(quick.dump), "tag", lambda lines: lines[:-1])
    quick.publish(label=label)
    assert "holds another dump than its tags say" in refuses(quick)


def test_what_only_a_constraint_tells_is_found_on_a_copy_and_costs_no_stop(quick: Enemy) -> None:
    rewrite_runtime(Dump.open(quick.dump), "user", lambda lines: [*lines, lines[-1]])
    rewrite(
        Dump.open(quick.dump), "user", lambda lines: [*lines, lines[-1].replace(b"[1,", b"[2,", 1)]
    )
    quick.publish()
    replica, before = quick.instance("replica"), world(quick)
    with pytest.raises(SnapshotRefused, match="breaks a rule"):
        follow(replica)
    assert isinstance(replica.kuma, RecordingKuma)
    assert replica.kuma.log == []
    assert world(quick) == before


def test_who_may_write_and_knows_the_password_leads(enemy: Enemy) -> None:
    """Nothing here protects from him (docs/threat-model.md); the true leader notices, and says."""
    users = Dump.open(enemy.dump).columns("user")

    def with_an_admin(lines: list[bytes]) -> list[bytes]:
        row = dict(zip(users, json.loads(lines[-1]), strict=True)) | {
            "id": 2,
            "username": "mallory",
        }
        return [*lines, json.dumps(list(row.values()), separators=(",", ":")).encode() + b"\n"]

    rewrite_runtime(Dump.open(enemy.dump), "user", lambda lines: [*lines, lines[-1]])
    rewrite(Dump.open(enemy.dump), "user", with_an_admin)
    enemy.publish()
    assert follow(enemy.instance("replica")).outcome is Outcome.APPLIED
    names = query(enemy.folder / "replica" / "kuma.db", "SELECT username FROM user ORDER BY id")
    assert names == [("admin",), ("mallory",)]
    leader = enemy.instance("leader")
    with pytest.raises(Fenced):
        lead(leader, verify=True)


# --- an archive that no restic writes ------------------------------------------------------------

IMPOSTOR = """#!/bin/sh
case "$1" in
    version) echo "restic 0.18.0 compiled with go1.24 on linux/amd64" ;;
    snapshots) cat {listing} ;;
    dump) cat {archive} ;;
    *) exit 1 ;;
esac
"""


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.size = 4 if kind == tarfile.REGTYPE else 0
    return info


ARCHIVES: dict[str, list[tarfile.TarInfo]] = {
    "out by dots": [member("../../replica/kuma.db")],
    "out by dots in the middle": [member("tables/../../../replica/kuma.db")],
    "absolute": [member("/tmp/replicator-enemy-was-here")],
    "absolute twice": [member("//tmp/replicator-enemy-was-here")],
    "a hard link to the passwords": [member("tables/tag.jsonl", tarfile.LNKTYPE, "/etc/shadow")],
    "a link, then a file through it": [
        member("tables", tarfile.SYMTYPE, "/tmp"),
        member("tables/tag.jsonl"),
    ],
    "a character device": [member("manifest.json", tarfile.CHRTYPE)],
    "a block device": [member("manifest.json", tarfile.BLKTYPE)],
    "a pipe": [member("manifest.json", tarfile.FIFOTYPE)],
    "a sparse file": [member("manifest.json", tarfile.GNUTYPE_SPARSE)],
    "a backslash": [member("tables\\..\\x")],
    "a drive": [member("C:/x")],
    "an overlong name": [member("a/" * 5_000 + "x")],
    "the same twice": [member("manifest.json"), member("manifest.json")],
}  # fmt: skip


@pytest.mark.parametrize("members", ARCHIVES.values(), ids=ARCHIVES)
def test_an_archive_that_no_restic_writes_is_refused(
    members: list[tarfile.TarInfo], quick: Enemy
) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for info in members:
            archive.addfile(info, io.BytesIO(b"evil") if info.size else None)
    listing, stored = quick.folder / "cache-listing", quick.folder / "cache-archive"
    stored.write_bytes(made.getvalue())
    entry = {"id": "e" * 64, "time": "\x1b[2J", "tags": quick.label().tags()}
    listing.write_text(json.dumps([entry]))
    quick.restic = quick.folder / "cache-restic"
    quick.restic.write_text(IMPOSTOR.format(listing=listing, archive=stored))
    quick.restic.chmod(0o700)
    refuses(quick, SnapshotRefused, RepositoryUnreachable)
    assert not Path("/tmp/replicator-enemy-was-here").exists()
