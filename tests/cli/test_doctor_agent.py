"""`doctor` and `status` say whether Kuma takes changes while it runs, and else what it needs."""

from __future__ import annotations

import json
import os
import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.adapters.kuma.agent.launch import FILE, digest, install
from replicator_kuma.base.errors import KumaError
from replicator_kuma.daemon import heartbeat
from replicator_kuma.daemon.heartbeat import Beat
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.file import StateFile
from tests.adapters.kuma.programs import recorder
from tests.cli.conftest import World
from tests.support.mariadb import short_folder

SOMEBODY = 12345


class Greeter:
    """Answers `hello` at a socket, as the agent in a Kuma does; ``said`` can be changed."""

    def __init__(self, path: Path) -> None:
        self.said: dict[str, Any] = {
            "agent": 1,
            "sha": digest(),
            "version": "2.0.2",
            "pid": os.getpid(),
            "begun": 1_790_000_000_000,
            "phase": "ready",
            "started": 3,
            "of": 3,
            "missing": [],
            "needs_setup": False,
            "database": "",
        }
        greeter = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                asked = json.loads(self.rfile.readline())
                answer = {"id": asked["id"], "ok": True, **greeter.said}
                self.wfile.write(json.dumps(answer).encode() + b"\n")

        self._server = socketserver.ThreadingUnixStreamServer(str(path), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def place(world: World) -> Iterator[Path]:
    """A socket's path that this instance is told; nobody listens there yet."""
    with short_folder() as folder:
        world.monkeypatch.setenv("REPLICATOR_AGENT_SOCKET", str(folder / "agent.sock"))
        yield folder / "agent.sock"


@pytest.fixture
def agent(place: Path) -> Iterator[Greeter]:
    greeter = Greeter(place)
    yield greeter
    greeter.close()


def told(world: World) -> list[str]:
    """What `doctor` says of changes: level, message, and what to do below it."""
    found = world.on_replica("doctor", "--json").json["findings"]
    of_it = [one for one in found if one["check"] == "changes"]
    return [f"{one['level']} {one['message']}\n{one['hint']}".strip() for one in of_it]


def status(world: World) -> str:
    """The line of `status`."""
    lines = world.on_replica("status").out.splitlines()
    return (
        next(line for line in lines if line.startswith("changes")).removeprefix("changes:").strip()
    )


def test_an_agent_in_place_is_named(world: World, agent: Greeter) -> None:
    assert told(world) == [
        f"OK Kuma 2.0.2 takes them while it runs (agent {digest()[:12]}, protocol 1, "
        "all capabilities)"
    ]
    assert status(world) == "Kuma 2.0.2 takes them while it runs"


def test_what_this_kuma_lacks_is_named(world: World, agent: Greeter) -> None:
    agent.said["missing"] = ["metrics", "timers"]
    why = "Kuma 2.0.2 does not work as a live change needs: metrics, timers"
    assert told(world) == [f"WARN they are not made while Kuma runs: {why}"]
    assert status(world) == f"not while Kuma runs: {why}"


def test_a_version_that_was_not_proved_can_be_tried(world: World, agent: Greeter) -> None:
    agent.said["version"] = "9.9.9"
    (said,) = told(world)
    assert "not proved on Kuma 9.9.9\nTo use it all the same: REPLICATOR_APPLY=live" in said
    world.monkeypatch.setenv("REPLICATOR_APPLY", "live")
    assert told(world)[0].startswith("OK Kuma 9.9.9 takes them")


def test_a_restart_that_a_person_owes_is_told(world: World, agent: Greeter) -> None:
    agent.said["sha"] = "0" * 64
    fine, owed = told(world)
    assert fine.startswith("OK ")
    assert owed.startswith("WARN restart Kuma once: it runs the agent of another version")
    assert "replicator agent --install" in owed
    agent.said |= {"sha": digest(), "needs_setup": True}
    world.monkeypatch.setenv("REPLICATOR_KUMA", "none")
    assert "it was started without a user" in told(world)[1]
    assert "restart it once: it was started without a user" in status(world)


def test_a_restart_that_is_wanted_is_no_fault(world: World, place: Path) -> None:
    world.monkeypatch.setenv("REPLICATOR_APPLY", "restart")
    assert told(world) == ["OK Kuma is restarted for them, as REPLICATOR_APPLY=restart says"]
    assert status(world) == "not while Kuma runs: REPLICATOR_APPLY=restart"


def test_a_unit_gets_a_drop_in(world: World, place: Path) -> None:
    recorder(world.folder, "systemctl", "echo active")
    world.monkeypatch.setenv("PATH", f"{world.folder}:{os.environ['PATH']}")
    world.monkeypatch.setenv("REPLICATOR_KUMA", "systemd")
    world.monkeypatch.setenv("REPLICATOR_KUMA_UNIT", "uptime-kuma")
    (said,) = told(world)
    assert said == (
        f"""WARN Kuma is restarted for them: no agent listens at {place}
Start Kuma once with the agent:
  replicator agent --install /usr/local/lib/replicator-kuma
  systemctl edit uptime-kuma
    [Service]
    Environment="NODE_OPTIONS=--require /usr/local/lib/replicator-kuma/agent.cjs"
    Environment="REPLICATOR_AGENT_SOCKET={place}"
  systemctl restart uptime-kuma"""
    )
    shown = world.on_replica("doctor").out
    assert "\n       systemctl edit uptime-kuma\n         [Service]\n" in shown


def test_a_container_gets_its_options(world: World, place: Path) -> None:
    recorder(world.folder, "docker", "echo true")
    world.monkeypatch.setenv("PATH", f"{world.folder}:{os.environ['PATH']}")
    world.monkeypatch.setenv("REPLICATOR_KUMA", "docker")
    world.monkeypatch.setenv("REPLICATOR_KUMA_CONTAINER", "kuma")
    (said,) = told(world)
    assert "-v /usr/local/lib/replicator-kuma:/usr/local/lib/replicator-kuma:ro" in said
    assert f"-v {place.parent}:{place.parent}\n" in said
    assert f'-e "REPLICATOR_AGENT_SOCKET={place}"' in said


@pytest.mark.parametrize("service", ["command", "none", "child"])
def test_others_get_variables_or_a_word(world: World, place: Path, service: str) -> None:
    for name, value in (("", service), ("_STOP_COMMAND", "true"), ("_START_COMMAND", "true")):
        world.monkeypatch.setenv(f"REPLICATOR_KUMA{name}", value)
    world.monkeypatch.setenv("REPLICATOR_KUMA_STATUS_COMMAND", "true")
    (said,) = told(world)
    how = "they are not made while Kuma runs" if service == "none" else "Kuma is restarted for them"
    assert said.startswith(f"WARN {how}: no agent listens at {place}\n")
    if service == "child":
        assert "Restart replicator run: it loads the agent." in said
        state = StateFile(world.replica / "replicator")
        state.change(transitions.agent_hung, digest())
        assert "It hung in Kuma before" in told(world)[0]
        assert world.on_replica("agent").code == 2
        assert world.on_replica("agent", "--again").code == 0
        assert state.load().running.agent_hung == ""
    else:
        assert 'NODE_OPTIONS="--require /usr/local/lib/replicator-kuma/agent.cjs"' in said
        assert f'REPLICATOR_AGENT_SOCKET="{place}"' in said


def test_a_supervisor_that_runs_here_has_kuma_as_its_child(world: World, place: Path) -> None:
    assert "they are not made" in told(world)[0]
    beat = Beat(os.getpid(), time.monotonic(), "ready")
    heartbeat.write(world.replica / "replicator", beat)
    assert told(world)[0].startswith("WARN Kuma is restarted for them")


def test_a_folder_that_is_missing_is_named(world: World, place: Path) -> None:
    path = place.parent / "missing" / "agent.sock"
    world.monkeypatch.setenv("REPLICATOR_AGENT_SOCKET", str(path))
    _absent, missing = told(world)
    assert missing.startswith(f"WARN no agent can listen in {path.parent}: No such file")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder away")
def test_two_users_are_told_that_one_has_to_do(world: World, place: Path) -> None:
    os.chown(world.replica, SOMEBODY, SOMEBODY)
    assert len(told(world)) == 2
    assert f"WARN Kuma is user {SOMEBODY}, and {place.parent} belongs to user 0" in told(world)[1]
    os.chown(place.parent, SOMEBODY, SOMEBODY)
    assert len(told(world)) == 1


def test_the_file_is_put_in_place_for_all_to_read(tmp_path: Path) -> None:
    placed = install(tmp_path / "a" / "b")
    assert placed.read_bytes() == FILE.read_bytes()
    assert placed.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in placed.parent.iterdir()] == [FILE.name], "nothing is left over"
    (tmp_path / "file").touch()
    with pytest.raises(KumaError, match="cannot put the agent's file"):
        install(tmp_path / "file")
