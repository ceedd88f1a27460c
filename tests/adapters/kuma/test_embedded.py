"""The MariaDB inside Kuma, with a real mariadbd: who has it, what is left of it, one of our own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from replicator_kuma.adapters.kuma import embedded_mariadb
from replicator_kuma.adapters.kuma.child import ChildKuma
from replicator_kuma.adapters.kuma.embedded_mariadb import EmbeddedDatabase, EmbeddedKuma, Running
from replicator_kuma.adapters.kuma.supervised import SupervisedKuma
from replicator_kuma.base.errors import KumaError
from replicator_kuma.config.build import build
from replicator_kuma.config.settings import Settings
from tests.conftest import need_mariadb
from tests.support.clock import Clock
from tests.support.embedded import Inside, copied, make_template
from tests.support.instances import RecordingKuma
from tests.support.mariadb import short_folder
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    need_mariadb()
    with short_folder() as folder:
        yield make_template(folder / "template", monitors=3)


@pytest.fixture
def inside(template: Path) -> Iterator[Inside]:
    with short_folder() as folder, copied(template, folder / "kuma") as made:
        yield made


def up(inside: Inside) -> ChildKuma:
    kuma = inside.child()
    kuma.start()
    wait_until(inside.ready, "Kuma is ready")
    return kuma


def refusing(inside: Inside) -> ChildKuma:
    """A Kuma that ended by itself, and left its MariaDB."""
    inside.behave(refuses="SELECT 1")
    kuma = inside.child()
    kuma.start()
    wait_until(lambda: not kuma.running(), "Kuma has refused")
    return kuma


def killed(inside: Inside) -> int:
    """A Kuma that was killed -9 once it was ready; the mariadbd that it left."""
    kuma = up(inside)
    os.kill(inside.pid, signal.SIGKILL)
    wait_until(lambda: not kuma.running(), "Kuma is gone")
    return inside.mariadbd


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_living_kumas_mariadb_is_left_alone(inside: Inside) -> None:
    kuma = up(inside)
    database = inside.embedded()
    assert database.running() == [Running(inside.mariadbd, left=False)]
    database.end_left()
    assert not database.leftover()
    assert not kuma.leftover()
    assert database.running() == [Running(inside.mariadbd, left=False)]
    assert database.answers()
    kuma.stop()


def test_a_stop_ends_what_does_not_hear_kumas_own_signal(inside: Inside) -> None:
    """mariadbd ignores SIGINT: without more, each stop would leave one behind."""
    kuma = up(inside)
    kuma.stop()
    assert inside.calls[-1] == "term"
    assert gone(inside.mariadbd)
    assert not inside.embedded().answers()
    kuma.stop()


def test_what_a_killed_kuma_left_ends_before_the_next_start(
    inside: Inside, caplog: pytest.LogCaptureFixture
) -> None:
    left = killed(inside)
    assert inside.embedded().running() == [Running(left, left=True)]
    assert inside.embedded().answers()

    kuma = inside.child()
    with caplog.at_level("INFO", "replicator_kuma"):
        kuma.start()
    assert gone(left)
    assert [m for m in caplog.messages if str(left) in m]
    wait_until(lambda: inside.starts == 2 and inside.ready(), "the next Kuma is ready")
    assert inside.embedded().running() == [Running(inside.mariadbd, left=False)]
    kuma.stop()


def test_one_that_only_starts_is_asked_to_end_when_it_is_up(inside: Inside) -> None:
    """mariadbd 10.11 that hears SIGTERM while it starts hangs for good."""
    kuma = inside.child()
    kuma.start()
    starting = wait_until(lambda: inside.calls[1:], "mariadbd is there")
    pid = int(starting[0].split()[1])
    os.kill(pid, signal.SIGSTOP)
    os.kill(inside.pid, signal.SIGKILL)
    wait_until(lambda: not kuma.running(), "Kuma is gone")
    database = inside.embedded()
    wait_until(database.leftover, "it is left")
    assert not database.is_up()
    pending = int(status(pid)["ShdPnd"], 16)
    assert not pending & 1 << (signal.SIGTERM - 1)
    os.kill(pid, signal.SIGCONT)
    kuma.start()
    assert gone(pid)
    wait_until(lambda: inside.starts == 2 and inside.ready(), "the next Kuma is ready")
    kuma.stop()


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def test_a_kuma_that_ended_by_itself_leaves_a_mariadb_that_a_look_ends(inside: Inside) -> None:
    kuma = refusing(inside)
    assert inside.embedded().answers()
    assert kuma.leftover()
    wait_until(lambda: not kuma.leftover(), "its MariaDB has ended")
    assert gone(inside.mariadbd)


def test_a_stop_of_a_kuma_that_is_gone_ends_its_mariadb_too(inside: Inside) -> None:
    kuma = refusing(inside)
    kuma.stop()
    assert gone(inside.mariadbd)


def test_a_start_that_is_given_up_starts_nothing(inside: Inside) -> None:
    left = killed(inside)
    os.kill(left, signal.SIGSTOP)  # it does not end while the test looks
    try:
        kuma = inside.child()
        kuma.start(abandoned=lambda: True)
        assert not kuma.running()
        assert inside.starts == 1
    finally:
        os.kill(left, signal.SIGCONT)


def test_another_kuma_that_lives_is_an_error_with_a_name(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_mariadb, "ANOTHER", 0.1)
    first = inside.child()
    first.start()
    wait_until(inside.ready, "Kuma is ready")
    second = inside.child()
    with pytest.raises(KumaError, match=f"another Uptime Kuma.* {inside.mariadbd}$"):
        second.start()
    assert first.running()
    assert not gone(inside.mariadbd)
    first.stop()


def test_nobody_is_ended_for_an_id_in_a_file_or_for_another_folder(
    inside: Inside, template: Path
) -> None:
    """A stale pid file, a program that names the folder, a mariadbd of another folder."""
    words = f"--datadir={inside.data_dir}/mariadb --socket={inside.data_dir}/run/mariadb.sock"
    command = [sys.executable, "-c", "import time; time.sleep(600)", *words.split()]
    with (
        copied(template, inside.data_dir.parent / "other") as other,
        subprocess.Popen(command, start_new_session=True) as bystander,
    ):
        try:
            foreign = killed(other)
            (inside.data_dir / "run").mkdir(exist_ok=True)
            (inside.data_dir / "run" / "mysqld.pid").write_text(f"{bystander.pid}\n")
            inside.embedded().end_left()
            inside.embedded().wait_gone()
            assert inside.embedded().running() == []
            assert bystander.poll() is None
            assert not gone(foreign)
        finally:
            bystander.kill()


def test_a_folder_without_mariadb_has_none(tmp_path: Path) -> None:
    database = EmbeddedDatabase(tmp_path)
    assert (database.running(), database.leftover(), database.answers()) == ([], False, False)
    database.end_left()
    database.wait_gone()
    database.require_free()


def long_folder(below: Path) -> Path:
    """A data directory as the host sees that of an anonymous volume: too long for a socket."""
    made = below / "var/lib/docker/volumes" / ("a" * 64) / "_data"
    made.mkdir(parents=True)
    assert len(str(made / "run/mariadb.sock")) > 107
    return made


def test_a_kuma_without_mariadb_is_stopped_however_long_its_path_is(tmp_path: Path) -> None:
    service = RecordingKuma()
    EmbeddedKuma(service, EmbeddedDatabase(long_folder(tmp_path))).stop()
    assert service.log == ["stop"]


def test_a_mariadb_on_a_long_path_is_seen(inside: Inside, tmp_path: Path) -> None:
    """A container's own name for the folder is shorter than the host's."""
    way = long_folder(tmp_path) / "kuma"
    shutil.copytree(inside.data_dir, way, ignore=shutil.ignore_patterns("run"))
    database = EmbeddedDatabase(way)
    assert not database.answers()
    kuma = up(inside)
    (way / "run").symlink_to(inside.data_dir / "run")
    assert (database.answers(), database.is_up()) == (True, True)
    kuma.stop()
    assert (database.answers(), database.is_up()) == (False, False)


def test_a_long_end_is_told_each_minute_and_nobody_is_killed(inside: Inside) -> None:
    left = killed(inside)
    os.kill(left, signal.SIGSTOP)
    told: list[float] = []
    clock = Clock()

    def tell(_what: str, seconds: float) -> None:
        told.append(seconds)

    def sleep(seconds: float) -> None:
        if clock.now < 200:
            clock.sleep(40.0)
        else:
            os.kill(left, signal.SIGCONT)
            wait_until(lambda: database.is_up() or gone(left), "it goes on")

    database = EmbeddedDatabase(
        inside.data_dir,
        on_wait=lambda _what, seconds: told.append(seconds),
        clock=clock,
        sleep=sleep,
    )
    database.end_left()
    assert told == [80.0, 160.0]
    assert gone(left)


def test_a_service_is_stopped_only_when_its_mariadb_is_gone(inside: Inside) -> None:
    kuma = inside.by_command()
    assert (kuma.name, kuma.manages, kuma.running()) == ("command", True, False)
    kuma.start()
    wait_until(inside.ready, "Kuma is ready")
    assert kuma.running()
    kuma.stop()
    assert not kuma.running()
    assert gone(inside.mariadbd)
    assert not inside.embedded().answers()


def test_a_service_starts_after_what_a_killed_kuma_left(inside: Inside) -> None:
    kuma = inside.by_command()
    kuma.start()
    wait_until(inside.ready, "Kuma is ready")
    left = inside.mariadbd
    os.kill(inside.pid, signal.SIGKILL)
    wait_until(lambda: not kuma.running(), "Kuma is gone")
    kuma.start()
    assert gone(left)
    wait_until(lambda: inside.starts == 2 and inside.ready(), "the next Kuma is ready")
    kuma.stop()


def test_a_mariadb_that_cannot_be_seen_but_answers_on_is_an_error_in_the_end(
    inside: Inside,
) -> None:
    """It may live in a container of its own: only its socket shows."""
    clock = Clock()
    database = EmbeddedDatabase(
        inside.data_dir, clock=clock, sleep=lambda _s: clock.sleep(59.0), on_wait=lambda *_: None
    )
    (inside.data_dir / "run").mkdir(exist_ok=True)
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(database.sockets[0]))
        listener.listen(100)
        with pytest.raises(KumaError, match="still answers after 10 min") as caught:
            database.wait_gone()
    assert str(database.sockets[0]) in caught.value.hint
    database.wait_gone()


# --- one of our own -----------------------------------------------------------------------------


def test_one_of_our_own_serves_the_rows_and_ends_with_the_block(inside: Inside) -> None:
    database = inside.embedded()
    with database.up():
        (process,) = database.running()
        arguments = Path(f"/proc/{process.pid}/cmdline").read_text().split("\0")
        assert "--skip-networking" in arguments
        assert inside.database.query("SELECT count(*) FROM monitor") == [(3,)]
        inside.database.edit("UPDATE monitor SET name = 'ours' WHERE id = 1")
    assert gone(process.pid)
    assert not database.answers()
    kuma = inside.child()
    kuma.start()
    wait_until(inside.ready, "Kuma is ready on it")
    assert inside.memory()[1] == "ours"
    kuma.stop()


def test_one_of_our_own_takes_the_place_of_what_a_killed_kuma_left(inside: Inside) -> None:
    left = killed(inside)
    with inside.embedded().up():
        assert gone(left)
        assert inside.database.query("SELECT 1") == [(1,)]


def test_one_of_our_own_ends_also_when_the_block_fails(inside: Inside) -> None:
    database = inside.embedded()
    seen: list[Running] = []

    def fail() -> None:
        with database.up():
            seen.extend(database.running())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert gone(seen[0].pid)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run it as somebody else")
def test_roots_own_one_runs_as_the_owner_of_the_data(inside: Inside) -> None:
    folder = inside.data_dir
    folder.parent.chmod(0o755)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 65534, -1)
    shutil.rmtree(folder / "run", ignore_errors=True)
    database = inside.embedded()
    with database.up():
        (process,) = database.running()
        assert Path(f"/proc/{process.pid}").stat().st_uid == 65534
    assert gone(process.pid)


def test_one_of_our_own_that_does_not_get_up_says_why(inside: Inside) -> None:
    (inside.data_dir / "mariadb" / "ibdata1").write_bytes(b"damaged")
    with pytest.raises(
        KumaError, match=r"does not get up on .*InnoDB|does not get up on .*\[ERROR"
    ):
        _enter(inside.embedded().up)
    assert inside.embedded().running() == []


def test_one_of_our_own_needs_the_program(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_mariadb, "PROGRAM", "no-such-mariadbd")
    with pytest.raises(KumaError, match="no-such-mariadbd could not be run"):
        _enter(inside.embedded().up)


def test_a_containers_mariadb_is_not_started_on_the_host(inside: Inside) -> None:
    with pytest.raises(KumaError, match="Kuma's own container"):
        _enter(inside.embedded().elsewhere)


@pytest.mark.parametrize(
    "kind",
    [
        {"REPLICATOR_KUMA": "command", "REPLICATOR_KUMA_STOP_COMMAND": "docker compose stop kuma"}
        | {"REPLICATOR_KUMA_START_COMMAND": "docker compose start kuma"},
        {"REPLICATOR_KUMA": "systemd", "REPLICATOR_KUMA_UNIT": "kuma.service"},
        {"REPLICATOR_KUMA": "docker", "REPLICATOR_KUMA_CONTAINER": "kuma"},
    ],
    ids=lambda kind: kind["REPLICATOR_KUMA"],
)
def test_what_may_start_a_container_gets_no_mariadbd_of_the_host(
    inside: Inside, kind: dict[str, str]
) -> None:
    instance = build(Settings.load({**_settings(inside), **kind}))
    with pytest.raises(KumaError, match="Kuma's own container"):
        _enter(instance.database_up)


def test_our_childs_mariadb_is_one_of_this_host(inside: Inside) -> None:
    child = inside.child()
    service = SupervisedKuma(child, child)
    with build(Settings.load(_settings(inside)), service=service).database_up():
        assert len(inside.embedded().running()) == 1


def _settings(inside: Inside) -> dict[str, str]:
    return {
        **inside.environment,
        "REPLICATOR_MODE": "RESTORE",
        "REPLICATOR_KUMA_COMMAND": "kuma",
        "RESTIC_REPOSITORY": str(inside.data_dir / "repository"),
        "RESTIC_PASSWORD": "of the tests",
    }


def _enter(way: Callable[[], object]) -> None:
    with way():  # type: ignore[attr-defined]
        raise AssertionError("not reached")
