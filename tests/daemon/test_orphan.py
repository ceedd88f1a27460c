"""A second Kuma on one port or database: never started, and always named. Real processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from replicator_kuma.adapters.kuma.child import ChildKuma
from replicator_kuma.adapters.kuma.readiness import NotReady, Readiness, wait_ready
from replicator_kuma.base.errors import KumaError
from replicator_kuma.base.processes import began_before, belongs_to, describe, listeners, other_kuma
from replicator_kuma.daemon import heartbeat
from tests.cli.harness import Run
from tests.support.databases import build, edit
from tests.support.kuma_server import free_port, is_ready
from tests.support.openers import opened
from tests.support.supervised import FAKE_KUMA
from tests.support.waiting import wait_until

AS_KUMA = "server/server.js"
"""an argument by which a stand-in is told to be Kuma's server"""


def kuma_command(run: Run) -> list[str]:
    return [sys.executable, str(FAKE_KUMA), str(run.folder), str(run.port), AS_KUMA]


def child_of(run: Run) -> int:
    """The process id of the Kuma that a run has as its child."""
    assert run.process is not None
    found = {
        int(pid)
        for task in Path(f"/proc/{run.process.pid}/task").iterdir()
        for pid in (task / "children").read_text().split()
        if str(FAKE_KUMA).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    }
    [pid] = found
    return pid


def gone(pid: int) -> bool:
    return describe(pid) is None


@contextlib.contextmanager
def orphaned(run: Run) -> Iterator[int]:
    """The Kuma that a supervisor leaves which is killed; yields its process id."""
    run.environment["REPLICATOR_KUMA_COMMAND"] = " ".join(kuma_command(run))
    run.start().until("confirm")
    pid = child_of(run)
    run.send(signal.SIGKILL)
    run.wait()
    try:
        yield pid
    finally:
        if not gone(pid):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: gone(pid), "the orphan is gone")


def test_no_second_kuma_is_started_beside_an_orphan(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "RESTORE")
    with orphaned(run) as pid:
        calls = len(run.calls)
        for _ in range(2):  # as its manager starts it again and again
            assert run.start().wait() == KumaError.exit_code
            assert f"process {pid} (python" in run.log
        assert [call for call in run.calls[calls:] if call != "notifier closed"] == []
        assert not gone(pid)
        assert is_ready(f"http://127.0.0.1:{run.port}")
    with run:
        run.until("confirm", times=2)
        assert child_of(run) != pid


def refused(run: Run) -> str:
    """What a start says that is given up."""
    before = len(run.log)
    assert run.start().wait() == KumaError.exit_code
    return run.log[before:]


def test_port_and_database_are_one_sentence_with_what_to_type(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "RESTORE", database=False)
    build(run.data_dir / "kuma.db", monitors=1)
    run.script("behaviour", opens=True)
    with orphaned(run) as pid:
        *_others, last = refused(run).splitlines()
        began = f"process {pid} (python"
        assert last.startswith(began)
        assert (
            f") listens at http://127.0.0.1:{run.port}, where Uptime Kuma is to listen, and has "
            "its database open: it is not started a second time. "
        ) in last
        assert last.endswith(f"End it, wait until it is gone, and start again: kill {pid}")
        assert last.count("process ") == 1


def test_one_that_changes_its_database_is_not_to_be_ended(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "RESTORE", database=False)
    build(run.data_dir / "kuma.db", monitors=1)
    with orphaned(run):
        edit(run.data_dir / "kuma.db", "UPDATE knex_migrations_lock SET is_locked = 1")
        assert "do not end it before it has finished" in refused(run)


def test_a_kuma_on_another_port_that_has_the_database_is_named(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "RESTORE", database=False)
    build(run.data_dir / "kuma.db", monitors=1)
    with opened(run.data_dir / "kuma.db", name="node"), run:
        run.until("kuma start -")  # whatever node runs there, Kuma's server it is not
    with opened(run.data_dir / "kuma.db", name="uptime-kuma          ") as pid:  # its title
        said = refused(run)
    assert f"process {pid} (uptime-kuma) has Kuma's database open, and is another" in said
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); "
        "c.execute('SELECT * FROM user').fetchall(); print('open', flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", code, str(run.data_dir / "kuma.db"), AS_KUMA]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        said = refused(run)
        other.communicate()
    assert f"process {other.pid} (" in said
    assert "has Kuma's database open, and is another Uptime Kuma" in said


def test_another_program_on_the_port_is_named_likewise(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "RESTORE")
    with socket.create_server(("127.0.0.1", run.port)):
        said = refused(run)
    assert f"process {os.getpid()} (" in said
    assert f"if nobody needs it: kill {os.getpid()}. Or give Kuma another port" in said


def test_one_that_ends_meanwhile_is_waited_for(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "RESTORE", SCRIPT_PATIENCE="15")
    with socket.create_server(("127.0.0.1", run.port)):
        run.start()
        run.logged("waiting 15 s for its end")
        assert run.calls == []
    try:
        run.until("confirm")
    finally:
        assert run.end()[0] == 0


def test_a_port_that_a_kuma_has_just_left_is_free(tmp_path: Path) -> None:
    """Connections in TIME_WAIT keep nobody from it."""
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as server:
        client = socket.create_connection(("127.0.0.1", port))
        taken, _address = server.accept()
        taken.close()  # who closes first has the TIME_WAIT
        client.close()
        assert len(listeners("127.0.0.1", port)) == 1
    assert listeners("127.0.0.1", port) == ()


def test_a_kuma_that_is_no_child_may_answer(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "RESTORE", REPLICATOR_KUMA="command")
    run.environment |= {f"REPLICATOR_KUMA_{act}_COMMAND": "true" for act in ("STOP", "START")}
    environ = {**os.environ, "DATA_DIR": str(run.data_dir)}
    with subprocess.Popen(kuma_command(run), env=environ) as kuma:
        wait_until(lambda: is_ready(f"http://127.0.0.1:{run.port}"), "that Kuma")
        with run:
            run.until("confirm")
        kuma.terminate()


@pytest.mark.parametrize(("kuma_ends", "code"), [(1, 1), (0, 14)], ids=["2.5.3", "2.0"])
def test_the_port_is_taken_after_the_look(tmp_path: Path, kuma_ends: int, code: int) -> None:
    """The hint does not hang on Kuma's exit code. After a 0 no restart policy would start it."""
    run = Run(tmp_path / "r", "RESTORE")
    run.script("behaviour", die_after=1.0, exit_code=kuma_ends, serves=False)
    with run:
        run.until("kuma start -")
        with socket.create_server(("127.0.0.1", run.port)):
            assert run.wait() == code
    assert f"process {os.getpid()} (" in run.log
    assert "where Uptime Kuma is to answer. Is it an earlier Kuma? Then end it: kill" in run.log


# ------------------------------------------------------------------ whose answer it is


@pytest.fixture
def other(tmp_path: Path) -> Iterator[tuple[int, str, int]]:
    """A stand-in for a Kuma that answers: its process id, its address, its port."""
    port, folder = free_port(), tmp_path / "other"
    folder.mkdir()
    (folder / "kuma.db").touch()
    argv = [sys.executable, str(FAKE_KUMA), str(folder), str(port), AS_KUMA]
    with subprocess.Popen(argv, env={**os.environ, "DATA_DIR": str(folder)}) as process:
        wait_until(lambda: is_ready(f"http://127.0.0.1:{port}"), "the other Kuma")
        yield process.pid, f"http://127.0.0.1:{port}", port
        process.terminate()


def test_anothers_answer_is_not_taken_for_our_childs(
    tmp_path: Path, other: tuple[int, str, int]
) -> None:
    pid, url, port = other
    child = ChildKuma([sys.executable, "-c", "import sys; sys.stdin.read(); import time; "
                       "time.sleep(600)"], tmp_path, {})  # fmt: skip
    child.start()
    assert child.pid is not None
    own = child.pid

    def stranger() -> str:
        found = other_kuma("127.0.0.1", port, own)
        return "" if found is None else str(found)

    try:
        with pytest.raises(NotReady, match=rf"another Uptime Kuma: process {pid} \(") as caught:
            wait_ready(url, child.running, 0.3, stranger=stranger, poll=0.05)
        assert caught.value.state is Readiness.OTHER

        def end(_state: Readiness) -> None:
            os.kill(own, signal.SIGTERM)

        with pytest.raises(NotReady, match=rf"another one answers at its address: process {pid}"):
            wait_ready(url, child.running, 20, stranger=stranger, on_state=end, poll=0.05)
    finally:
        child.stop(20)


def test_our_child_and_what_it_has_started_answer_for_it(tmp_path: Path) -> None:
    """A shell that is the child, with the server in a session of its own below it."""
    port = free_port()
    (tmp_path / "kuma.db").touch()
    server = f"{sys.executable} {FAKE_KUMA} {tmp_path} {port} {AS_KUMA}"
    for line in (f"exec {server}", f"{server}; true", f"setsid --wait {server}; true"):
        environ = {"DATA_DIR": str(tmp_path), "PATH": os.environ["PATH"]}
        child = ChildKuma(["sh", "-c", line], tmp_path, environ)
        child.start()
        try:
            wait_until(lambda: is_ready(f"http://127.0.0.1:{port}"), "its server")
            [found] = listeners("localhost", port)
            assert found.process is not None
            assert child.pid is not None
            assert belongs_to(found.process, child.pid)
            assert found.process.serves_kuma
            assert other_kuma("127.0.0.1", port, child.pid) is None
        finally:
            if found.process is not None:
                os.kill(found.process.pid, signal.SIGTERM)
            wait_until(lambda child=child: not child.running(), "the child is gone")  # type: ignore[misc]


def test_a_younger_kuma_and_a_proxy_are_no_strangers(
    tmp_path: Path, other: tuple[int, str, int]
) -> None:
    pid, _url, port = other
    this, that = describe(os.getpid()), describe(pid)
    assert this is not None
    assert that is not None
    assert began_before(this, that)
    assert not began_before(that, this)
    assert other_kuma("127.0.0.1", port, os.getpid()) is None, "it is ours: a descendant"
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        assert other_kuma("127.0.0.1", proxy.getsockname()[1], pid) is None


@pytest.fixture
def node_proxy(tmp_path: Path) -> Iterator[int]:
    """A program of node's in front of Kuma, which answers for it; its port."""
    port, folder = free_port(), tmp_path / "proxy"
    folder.mkdir()
    (folder / "kuma.db").touch()
    code = (
        "import pathlib, runpy, sys; pathlib.Path('/proc/self/comm').write_text('node'); "
        "runpy.run_path(sys.argv.pop(3), run_name='__main__')"
    )
    argv = [sys.executable, "-c", code, str(folder), str(port), str(FAKE_KUMA)]
    environ = {**os.environ, "DATA_DIR": str(folder)}
    with subprocess.Popen(argv, env=environ) as process:
        wait_until(lambda: is_ready(f"http://127.0.0.1:{port}"), "the proxy")
        found = describe(process.pid)
        assert found is not None
        assert found.maybe_kuma
        assert not found.serves_kuma
        yield port
        process.terminate()


def test_a_proxy_that_node_runs_keeps_no_kuma_from_starting(
    tmp_path: Path, node_proxy: int
) -> None:
    url = f"http://127.0.0.1:{node_proxy}"
    with Run(tmp_path / "r", "RESTORE", REPLICATOR_KUMA_URL=url, SCRIPT_PATIENCE="0.1") as run:
        run.until("confirm")
        assert "Uptime Kuma is ready" in run.log


def test_a_proxy_on_kumas_port_at_another_address_keeps_none_from_starting(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "RESTORE", UPTIME_KUMA_HOST="127.0.0.1", SCRIPT_PATIENCE="0.1")
    run.environment["REPLICATOR_KUMA_URL"] = f"http://127.0.0.2:{run.port}"
    with socket.create_server(("127.0.0.2", run.port)), run:
        run.until("kuma start -")


def test_a_proxy_is_not_blamed_for_a_kuma_that_ends(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "RESTORE")
    run.script("behaviour", die_after=0.5, exit_code=0)
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        run.environment["REPLICATOR_KUMA_URL"] = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        assert run.start().wait() == 0
    assert "Uptime Kuma ended by itself, with exit code 0" in run.log
    assert f"kill {os.getpid()}" not in run.log


# ------------------------------------------------------------------ who listens


def test_listeners_are_found_where_a_connection_arrives() -> None:
    with socket.create_server(("0.0.0.0", 0)) as everywhere:
        port = everywhere.getsockname()[1]
        [found] = listeners("127.0.0.1", port)
        assert found.process is not None
        assert (found.process.pid, found.user) == (os.getpid(), os.geteuid())
        assert len(listeners("localhost", port)) == 1
        assert listeners("192.0.2.7", port) == (), "a host of another machine"
    with socket.create_server(("127.0.0.1", 0)) as here:
        port = here.getsockname()[1]
        assert len(listeners("127.0.0.1", port)) == 1
        assert listeners("127.0.0.2", port) == ()


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_a_listener_of_ipv6_is_found_by_either_address() -> None:
    address = ("::", 0)
    with socket.create_server(address, family=socket.AF_INET6, dualstack_ipv6=True) as server:
        port = server.getsockname()[1]
        assert len(listeners("127.0.0.1", port)) == 1
        assert len(listeners("::1", port)) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
def test_a_process_that_this_user_may_not_see_is_said_to_be_that(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = (
            "import os\n"
            "from replicator_kuma.base.processes import listeners\n"
            "import encodings.idna, pwd\n"
            "os.setgid(65534); os.setuid(65534)\n"
            f"print(*listeners('127.0.0.1', {port}))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
        )
    assert done.stdout == "a process of user root that this user may not see\n", done.stderr


# ------------------------------------------------------------------ doctor


def test_doctor_says_that_run_ended_without_a_word(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "RESTORE", REPLICATOR_RESTIC="/nonexistent/restic")

    def supervisor() -> tuple[str, str]:
        found = json.loads(run.command("doctor", "--json").stdout)["findings"]
        [one] = [one for one in found if one["check"] == "supervisor"]
        return one["level"], one["message"]

    state = run.data_dir / "replicator"
    assert supervisor() == ("OK", "none here: cycles run by cron or by hand")
    with orphaned(run):
        assert heartbeat.lost(state)
        level, message = supervisor()
        assert level == "WARN"
        assert "ended without a word; last sign of life 20" in message
    with run:
        run.until("confirm", times=2)
        wait_until(lambda: heartbeat.read(state), "a sign of life")
        assert not heartbeat.lost(state)
        assert supervisor()[0] == "OK"
    assert supervisor() == ("OK", "none here: cycles run by cron or by hand")
