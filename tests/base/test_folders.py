"""Root at work in a folder of Kuma's user, who puts links, pipes and other folders in its way.

Whatever that user does, nothing of root's is read, changed or given away; and nothing below
DATA_DIR is opened by a path that is looked up again.
"""

from __future__ import annotations

import os
import pickle
import shutil
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.adapters.database.db_config import Login, read_login
from replicator_kuma.adapters.database.detect import open_store
from replicator_kuma.adapters.database.mariadb.store import MariadbStore
from replicator_kuma.adapters.database.sqlite.store import SqliteStore
from replicator_kuma.adapters.kuma.embedded_mariadb import EmbeddedDatabase
from replicator_kuma.base.errors import (
    DatabaseError,
    DatabaseUnreachable,
    KumaError,
    ReplicatorError,
    SettingsError,
    StateError,
)
from replicator_kuma.base.folders import Folder, HardLinkRefused, LinkRefused
from replicator_kuma.config.settings import Settings
from replicator_kuma.replication.apply import staging
from replicator_kuma.replication.drill.drill import drill
from replicator_kuma.replication.instance import Instance, Outcome
from replicator_kuma.reports.doctor.doctor import examine
from tests.support import cycles, databases
from tests.support.cycles import db, follow, go_back, go_on, lead, left_behind, rename
from tests.support.folder_repository import FolderRepository
from tests.support.forked import forked
from tests.support.instances import RecordingKuma
from tests.support.opens import opened_by_path

HOSTILE = 12345
LOGO = "upload/logo2.png"
NEW = b"another logo"
HOST = "docker-tls/docker.example"
PEMS = ("ca.pem", "cert.pem", "key.pem")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="root is at work in these tests")


def give(folder: Path) -> None:
    """All of a data directory to Kuma's user, as it is in a container; the state is root's."""
    for path in (folder, *folder.rglob("*")):
        if folder / "replicator" not in (path, *path.parents):
            os.chown(path, HOSTILE, HOSTILE, follow_symlinks=False)


@pytest.fixture
def repository(tmp_path: Path) -> FolderRepository:
    made = FolderRepository(tmp_path / "repository")
    made.init()
    return made


@pytest.fixture
def kuma() -> RecordingKuma:
    return RecordingKuma()


@pytest.fixture
def leader(tmp_path: Path, repository: FolderRepository) -> Instance:
    """Has published; DATA_DIR is another user's."""
    folder = tmp_path / "leader"
    cycles.fill(folder)
    (folder / HOST).mkdir(parents=True)
    for name in PEMS:
        (folder / HOST / name).write_bytes(name.encode())
    give(folder)
    made = cycles.instance(folder, repository, name="leader")
    lead(made)
    return made


@pytest.fixture
def replica(
    tmp_path: Path, leader: Instance, repository: FolderRepository, kuma: RecordingKuma
) -> Instance:
    """Has applied what is published, and is to take another logo; DATA_DIR is another user's."""
    folder = tmp_path / "replica"
    shutil.copytree(leader.data_dir, folder, ignore=lambda *_: {"replicator"})
    give(folder)
    made = cycles.instance(folder, repository, name="replica", kuma=kuma)
    follow(made, reconcile=True)
    rename(db(leader), 3, "two")
    (leader.data_dir / LOGO).write_bytes(NEW)
    (leader.data_dir / HOST / "key.pem").write_bytes(NEW)
    lead(leader)
    give(folder)
    kuma.log.clear()
    return made


class Roots:
    """What is root's, and must stay as it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("logo2.png", "upload/logo2.png", "docker.example/key.pem", *PEMS):
            (folder / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            (folder / name).write_bytes(b"root's own")
            (folder / name).chmod(0o600)
        databases.build(folder / "kuma.db", monitors=5)
        self._before = self._all()

    def _all(self) -> dict[str, object]:
        found: dict[str, object] = {}
        for path in (self.folder, *self.folder.rglob("*")):
            status = path.lstat()
            what = path.read_bytes() if path.is_file() else sorted(p.name for p in path.iterdir())
            found[str(path)] = (status.st_uid, status.st_gid, status.st_mode, status.st_nlink, what)
        return found

    def see_untouched(self) -> None:
        assert self._all() == self._before


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    return Roots(tmp_path / "root")


def lead_astray(link: Path, target: Path) -> None:
    """Kuma's user moves away what is there, and puts a link in its place."""
    if link.is_symlink() or link.exists():
        link.rename(link.with_name(f"{link.name}.away"))
    link.symlink_to(target)
    os.chown(link, HOSTILE, HOSTILE, follow_symlinks=False)


# ------------------------------------------------------------------ links that are there


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("upload", "upload"),
        ("docker-tls", "."),
        (HOST, "docker.example"),
    ],
)
def test_a_linked_folder_is_neither_written_nor_read(
    leader: Instance,
    replica: Instance,
    kuma: RecordingKuma,
    roots: Roots,
    name: str,
    target: str,
) -> None:
    lead_astray(replica.data_dir / name, roots.folder / target)
    with pytest.raises(ReplicatorError, match="root does not follow a link") as raised:
        follow(replica)
    assert "Mount the folder" in raised.value.hint
    assert "stop" not in kuma.log
    lead_astray(leader.data_dir / name, roots.folder / target)
    rename(db(leader), 3, "three")
    with pytest.raises(DatabaseError, match="root does not follow a link"):
        lead(leader)
    roots.see_untouched()


@pytest.mark.parametrize("name", [LOGO, f"{HOST}/key.pem"])
def test_a_linked_file_is_replaced_and_not_written_through(
    replica: Instance, roots: Roots, name: str
) -> None:
    lead_astray(replica.data_dir / name, roots.folder / "logo2.png")
    if name == LOGO:
        follow(replica)
        assert (replica.data_dir / name).read_bytes() == NEW
        assert not (replica.data_dir / name).is_symlink()
        assert (replica.data_dir / name).stat().st_uid == HOSTILE
    else:
        with pytest.raises(DatabaseError, match="root does not follow a link"):
            follow(replica)
    roots.see_untouched()


@pytest.mark.parametrize("name", [LOGO, f"{HOST}/key.pem"])
@pytest.mark.parametrize("kind", ["link", "hard link"])
def test_a_leader_does_not_publish_what_is_root_s(
    leader: Instance, roots: Roots, repository: FolderRepository, name: str, kind: str
) -> None:
    place = leader.data_dir / name
    place.unlink()
    if kind == "link":
        lead_astray(place, roots.folder / "logo2.png")
    else:
        os.link(roots.folder / "logo2.png", place)
    rename(db(leader), 3, "three")
    if (name, kind) == (LOGO, "link"):
        assert any(LOGO in warning for warning in lead(leader).warnings)
    else:
        with pytest.raises(DatabaseError, match="another user may have made"):
            lead(leader)
    for path in repository.folder.rglob("*"):
        assert path.is_dir() or b"root's own" not in path.read_bytes()
    place.unlink()
    roots.see_untouched()


@pytest.mark.parametrize("name", [LOGO, f"{HOST}/key.pem"])
def test_a_pipe_keeps_nobody_waiting(leader: Instance, name: str) -> None:
    (leader.data_dir / name).unlink()
    os.mkfifo(leader.data_dir / name)
    rename(db(leader), 3, "three")
    assert any(name in warning for warning in lead(leader).warnings)


@pytest.mark.parametrize("target", ["a folder", "a folder with links in it", "nothing"])
def test_a_linked_staging_folder_is_removed_and_not_worked_in(
    replica: Instance, roots: Roots, tmp_path: Path, target: str
) -> None:
    theirs = tmp_path / "theirs"
    (theirs / "upload").mkdir(parents=True)
    (theirs / LOGO).symlink_to(roots.folder / "logo2.png")
    places = {"a folder": roots.folder, "a folder with links in it": theirs}
    for holder in (".", "upload", HOST):
        lead_astray(
            replica.data_dir / holder / staging.FOLDER, places.get(target, tmp_path / "nowhere")
        )
    assert follow(replica).outcome is Outcome.APPLIED
    assert (replica.data_dir / LOGO).read_bytes() == NEW
    assert left_behind(replica) == []
    assert (theirs / LOGO).is_symlink()
    roots.see_untouched()


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
@pytest.mark.parametrize("kind", ["link", "hard link", "pipe"])
def test_no_database_of_root_s_is_opened(
    leader: Instance, replica: Instance, roots: Roots, suffix: str, kind: str
) -> None:
    for instance in (leader, replica):
        place = instance.data_dir / f"kuma.db{suffix}"
        place.unlink(missing_ok=True)
        if kind == "link":
            lead_astray(place, roots.folder / "kuma.db")
        elif kind == "hard link":
            os.link(roots.folder / "kuma.db", place)
        else:
            os.mkfifo(place)
    with pytest.raises(DatabaseError):
        lead(leader)
    with pytest.raises(DatabaseError):
        follow(replica)
    for instance in (leader, replica):
        (instance.data_dir / f"kuma.db{suffix}").unlink()
    roots.see_untouched()


def test_a_database_that_is_swapped_while_it_is_opened_is_not_used(
    leader: Instance, roots: Roots, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., sqlite3.Connection] = sqlite3.connect

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        away = db(leader).with_name("away")
        db(leader).rename(away)
        db(leader).symlink_to(roots.folder / "kuma.db")
        try:
            return real(*arguments, **options)
        finally:
            away.replace(db(leader))

    monkeypatch.setattr(sqlite3, "connect", connect)
    with pytest.raises(DatabaseError, match="became another file"):
        leader.store.check()
    roots.see_untouched()


def test_looking_at_a_database_drops_none_of_its_locks(replica: Instance) -> None:
    """POSIX takes all locks of a process on a file when any descriptor of it is closed."""
    with closing(sqlite3.connect(db(replica), isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        assert isinstance(replica.store, SqliteStore)
        replica.store.connect().close()

        def other() -> None:
            with closing(sqlite3.connect(db(replica), timeout=0)) as second:
                second.execute("BEGIN IMMEDIATE")

        assert forked(other) == 99


def test_a_linked_configuration_is_not_read(leader: Instance, roots: Roots) -> None:
    (roots.folder / "login.json").write_text('{"type": "mariadb", "hostname": "canary"}')
    lead_astray(leader.data_dir / "db-config.json", roots.folder / "login.json")
    with pytest.raises(DatabaseError, match="root does not follow a link") as raised:
        read_login(leader.data_dir, {})
    assert "canary" not in str(raised.value)


@pytest.mark.parametrize(
    ("user", "socket_path", "refused"),
    [
        ("root", "/run/mysqld/mysqld.sock", True),
        ("kuma", "/run/m.sock", False),
        ("root", "", False),
    ],
)
def test_a_configuration_of_another_user_makes_root_log_in_nowhere(
    leader: Instance, user: str, socket_path: str, refused: bool
) -> None:
    path = leader.data_dir / "db-config.json"
    path.write_text(
        f'{{"type": "mariadb", "dbName": "kuma", "username": "{user}", "socketPath": '
        f'"{socket_path}", "password": ""}}'
    )
    if refused:
        with pytest.raises(SettingsError, match="asks root to log in"):
            open_store(leader.data_dir)
        os.chown(path, 0, 0)  # in a folder of theirs it proves nothing
        with pytest.raises(SettingsError, match="asks root to log in"):
            open_store(leader.data_dir)
        os.chown(leader.data_dir, 0, 0)
    assert isinstance(open_store(leader.data_dir), MariadbStore)


# ------------------------------------------------------------------ an embedded MariaDB


@pytest.fixture
def listening(roots: Roots) -> Iterator[Path]:
    """A server of root's."""
    path = roots.folder / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        yield path


@pytest.mark.parametrize("kind", ["link", "hard link", "linked folder"])
def test_root_talks_to_no_socket_but_kuma_s(leader: Instance, listening: Path, kind: str) -> None:
    run = leader.data_dir / "run"
    (leader.data_dir / "mariadb").mkdir()
    if kind == "linked folder":
        listening.rename(listening.with_name("mariadb.sock"))
        run.symlink_to(listening.parent)
    else:
        run.mkdir()
        place = run / "mariadb.sock"
        place.symlink_to(listening) if kind == "link" else os.link(listening, place)
    give(leader.data_dir)
    if kind == "hard link":
        os.chown(run / "mariadb.sock", 0, 0)
    assert not EmbeddedDatabase(leader.data_dir).answers()
    login = Login("kuma", "root", "", sockets=(run / "mariadb.sock",), embedded=True)
    with pytest.raises(DatabaseUnreachable, match="another user may have made"):
        MariadbStore(login).fingerprint()


def test_kuma_s_own_socket_is_talked_to(leader: Instance) -> None:
    (leader.data_dir / "mariadb").mkdir()
    (leader.data_dir / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        here = os.open(leader.data_dir / "run", os.O_PATH)
        server.bind(f"/proc/self/fd/{here}/mariadb.sock")
        os.close(here)
        server.listen()
        give(leader.data_dir)
        assert EmbeddedDatabase(leader.data_dir).answers()


@pytest.mark.parametrize("name", ["run", "mariadb"])
def test_no_folder_of_root_s_becomes_kuma_s(leader: Instance, roots: Roots, name: str) -> None:
    (leader.data_dir / "mariadb").mkdir()
    give(leader.data_dir)
    lead_astray(leader.data_dir / name, roots.folder)
    with pytest.raises(OSError, match="root does not follow a link"):
        EmbeddedDatabase(leader.data_dir)._prepare("run")
    roots.see_untouched()


def test_the_state_directory_in_the_socket_folder_s_place_stays_root_s(leader: Instance) -> None:
    (leader.data_dir / "mariadb").mkdir()
    give(leader.data_dir)
    (leader.data_dir / "replicator").rename(leader.data_dir / "run")
    EmbeddedDatabase(leader.data_dir)._prepare("run")
    assert (leader.data_dir / "run").stat().st_uid == 0


# ------------------------------------------------------------------ names that change meanwhile


@pytest.mark.parametrize("name", [staging.FOLDER, "upload", "docker-tls", HOST])
def test_a_folder_swapped_between_staging_and_placing(
    replica: Instance, kuma: RecordingKuma, roots: Roots, name: str
) -> None:
    """(Kuma's user waits for the stop of its Kuma: that is when.)"""
    kuma.on_stop = lambda: lead_astray(replica.data_dir / name, roots.folder)
    with pytest.raises(StateError):
        follow(replica)
    assert kuma.up
    roots.see_untouched()
    kuma.on_stop = None
    if name != staging.FOLDER:  # that link is gone
        (replica.data_dir / name).unlink()
        (replica.data_dir / f"{name}.away").rename(replica.data_dir / name)
    follow(replica)
    assert (replica.data_dir / LOGO).read_bytes() == NEW
    assert (replica.data_dir / HOST / "key.pem").read_bytes() == NEW


@pytest.mark.parametrize("into", ["link", "root's folder", "own folder"])
@pytest.mark.parametrize("made", [staging.FOLDER, "upload"])
def test_a_folder_swapped_as_soon_as_it_is_made(
    replica: Instance, roots: Roots, monkeypatch: pytest.MonkeyPatch, into: str, made: str
) -> None:
    shutil.rmtree(replica.data_dir / "upload")
    real = os.mkdir

    def mkdir(name: Any, *arguments: Any, **options: Any) -> None:
        real(name, *arguments, **options)
        if name != made:
            return
        place = replica.data_dir / made
        place.rename(place.with_name("away"))
        monkeypatch.setattr(os, "mkdir", real)
        if into == "link":
            place.symlink_to(roots.folder)
        elif into == "root's folder":
            (replica.data_dir / "replicator").rename(place)
        else:
            place.mkdir()
            os.chown(place, HOSTILE, HOSTILE)

    monkeypatch.setattr(os, "mkdir", mkdir)
    with pytest.raises(StateError):
        follow(replica)
    roots.see_untouched()
    moved = replica.data_dir / made / "state.json"
    assert not moved.exists() or moved.parent.stat().st_uid == 0


# ------------------------------------------------------------------ what may be followed


def test_links_that_root_made_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_bytes(b"1")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "again").symlink_to("../link/file")
    with Folder.open(tmp_path / "link") as folder:
        file = folder.open_file("again", follow=True)
        assert file is not None
        with file:
            assert file.read() == b"1"
        assert folder.open_file("again") is None
    os.chown(tmp_path / "real", HOSTILE, HOSTILE)
    with Folder.open(tmp_path / "link") as folder, pytest.raises(LinkRefused):
        folder.open_file("again", follow=True)
    os.chown(tmp_path / "real", 0, 0)
    (tmp_path / "real").chmod(0o777)
    with Folder.open(tmp_path / "link") as folder, pytest.raises(LinkRefused):
        folder.open_file("again", follow=True)
    (tmp_path / "real").chmod(0o1777)
    with Folder.open(tmp_path / "link") as folder:
        file = folder.open_file("again", follow=True)
        assert file is not None
        file.close()


def test_kuma_s_user_itself_follows_all(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_bytes(b"1")
    os.link(tmp_path / "real" / "file", tmp_path / "real" / "second")
    (tmp_path / "link").symlink_to("real")
    for path in (tmp_path, tmp_path / "real"):
        os.chown(path, HOSTILE, HOSTILE)

    def look() -> None:
        os.chdir(tmp_path)
        os.setuid(HOSTILE)
        here = os.open(".", os.O_RDONLY)
        with Folder(here, "here") as folder:
            for name in ("link/file", "link/second"):
                file = folder.open_file(name, follow=True)
                assert file is not None
                file.close()

    assert forked(look) == 0


@pytest.mark.parametrize("name", ["..", "../x", "/etc/passwd", "a/../../b", "", "."])
def test_no_name_leads_out_of_its_folder(tmp_path: Path, name: str) -> None:
    with Folder.open(tmp_path) as folder, pytest.raises(ValueError, match=r"leads out|names no"):
        folder.stat(name)


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with Folder.open(tmp_path) as folder:
        assert folder.open_file("a", follow=True) is None
        with pytest.raises(OSError, match="symbolic links"):
            folder.folder("a")


def test_a_hard_link_of_the_folder_s_owner_is_read(tmp_path: Path) -> None:
    """Two names of one's own file are nothing odd; another's file in one's folder is."""
    (tmp_path / "file").write_bytes(b"1")
    os.link(tmp_path / "file", tmp_path / "second")
    with Folder.open(tmp_path) as folder:
        for path in (tmp_path, tmp_path / "file"):
            file = folder.open_file("second")
            assert file is not None
            file.close()
            os.chown(path, HOSTILE, HOSTILE)
            if path == tmp_path:
                with pytest.raises(HardLinkRefused):
                    folder.open_file("second")
                os.chown(tmp_path / "file", HOSTILE, HOSTILE)


# ------------------------------------------------------------------ and nothing else

REASONS = {
    (
        "adapters/database/sqlite/store.py",
        "sqlite3.connect",
    ): "SQLite opens by path; see trusted_file.py",
}
"""What opens something below DATA_DIR, the state directory included, by a path; why it may."""


def whole_life(leader: Instance, replica: Instance) -> None:
    """All that is done with an instance's data directory."""
    assert lead(leader).outcome is Outcome.NOTHING
    rename(db(leader), 3, "four")
    (leader.data_dir / LOGO).write_bytes(b"a third logo")
    assert lead(leader).outcome is Outcome.PUBLISHED
    assert follow(replica).outcome is Outcome.APPLIED
    assert go_back(replica).outcome is Outcome.APPLIED
    assert go_on(replica).outcome is Outcome.APPLIED
    drill(replica)
    rename(db(leader), 3, "five")
    (leader.data_dir / LOGO).write_bytes(NEW)
    lead(leader)
    assert isinstance(replica.kuma, RecordingKuma)
    replica.kuma.refuses_to_be_ready = [True]
    with pytest.raises(KumaError, match="runs on the rows from before"):
        follow(replica)
    for instance, mode in ((leader, "BACKUP"), (replica, "RESTORE")):
        environ = {
            "DATA_DIR": str(instance.data_dir),
            "REPLICATOR_MODE": mode,
            "RESTIC_REPOSITORY": "/nowhere",
            "RESTIC_PASSWORD": "only-a-test",
            "PATH": os.environ["PATH"],
        }
        for _finding in examine(Settings.load(environ), lambda: False):
            pass


def test_nothing_else_opens_anything_below_them(
    leader: Instance, replica: Instance, tmp_path: Path
) -> None:
    both = (leader, replica)
    result = tmp_path / "opened"

    def work() -> None:
        found = opened_by_path(lambda: whole_life(*both), [one.data_dir for one in both])
        result.write_bytes(pickle.dumps(found))

    assert forked(work) == 0
    found = pickle.loads(result.read_bytes())
    # `?`: what this test does itself, as Kuma and its user
    odd = {
        each
        for each in found
        if each[:2] not in REASONS and each[0] not in ("base/folders.py", "?")
    }
    assert odd == set()
    assert {each[:2] for each in found} >= set(REASONS)


def test_the_look_for_others_sees_them(tmp_path: Path) -> None:
    """By their names, also through a descriptor's path."""
    result = tmp_path / "opened"
    inside = tmp_path / "data"
    inside.mkdir()

    def opens() -> None:
        (inside / "a").touch()
        list(inside.glob("*"))
        here = os.open(inside, os.O_PATH)
        Path(f"/proc/self/fd/{here}/a").chmod(0o600)
        shutil.copyfile("/etc/hostname", inside / "b")

    def work() -> None:
        found = opened_by_path(opens, [inside])
        result.write_bytes(pickle.dumps({event for _module, event, _path in found}))

    assert forked(work) == 0
    events = pickle.loads(result.read_bytes())
    assert events >= {"open", "os.scandir", "os.chmod", "shutil.copyfile"}
