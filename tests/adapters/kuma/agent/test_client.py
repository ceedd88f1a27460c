"""The client of the agent, against what answers late, wrong, or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.adapters.kuma.agent import client
from replicator_kuma.adapters.kuma.agent.client import (
    Agent,
    AgentError,
    AgentHangs,
    NoAgent,
    Report,
)
from replicator_kuma.base.errors import Interrupted

HELLO = {
    "ok": True,
    "agent": 1,
    "sha": "a" * 64,
    "version": "2.5.3",
    "pid": 7,
    "begun": 1_500,
    "phase": "ready",
    "started": 3,
    "of": 4,
    "missing": [],
    "needs_setup": False,
    "database": "d",
}
REPORT = {"equal": True, "any": 2, "errors": [], "ms": 250}
Answer = Callable[[dict[str, Any]], list[bytes]]


class Listener:
    """A Unix socket at the agent's path that answers each request as it is told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answer: Answer = lambda asked: [line(asked, HELLO)]
        self.asked: list[dict[str, Any]] = []
        self.done = threading.Event()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            if not (said := lines.readline()):
                return  # the client took it for no agent
            asked = json.loads(said)
            self.asked.append(asked)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for part in self.answer(asked):
                    connection.sendall(part)

    def close(self) -> None:
        self.done.set()
        with contextlib.suppress(OSError):  # it was closed before
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def silence(self, _asked: object) -> list[bytes]:
        """Says nothing until the test ends."""
        self.done.wait(30)
        return []


def line(asked: dict[str, Any], members: dict[str, Any]) -> bytes:
    return json.dumps({"id": asked["id"], **members}).encode() + b"\n"


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Listener]:
    with closing(Listener(tmp_path / "agent.sock")) as made:
        yield made


@pytest.fixture
def agent(there: Listener) -> Agent:
    return Agent(there.path)


def test_a_greeting(agent: Agent) -> None:
    hello = agent.hello()
    assert (hello.version, hello.begun, hello.missing, hello.reads) == ("2.5.3", 1.5, (), True)


def test_an_agent_that_knows_little_yet(there: Listener, agent: Agent) -> None:
    early = {**HELLO, "version": None, "needs_setup": None, "phase": "loading", "sha": None}
    del early["database"]
    there.answer = lambda asked: [line(asked, early)]
    hello = agent.hello()
    assert (hello.version, hello.sha, hello.database, hello.needs_setup) == ("", "", "", False)
    assert not hello.reads


def test_a_reconcile_tells_how_far_it_is(there: Listener, agent: Agent) -> None:
    def answer(asked: dict[str, Any]) -> list[bytes]:
        step = line(asked, {"progress": {"done": 40, "of": 100, "waiting": [7]}})
        whole = step + line(asked, {"ok": True, "report": REPORT})
        return [whole[:30], whole[30:]]

    there.answer = answer
    said: list[str] = []
    report = agent.reconcile([5], [6], progress=said.append)
    assert report == Report(True, 2, (), 0.25)
    assert said == ["Kuma takes the new rows: 40 of 100 monitors"]
    assert there.asked == [{"id": 1, "do": "reconcile", "ids": [5], "replaced": [6], "rows": True}]


def test_what_differs_is_named_part_by_part(there: Listener, agent: Agent) -> None:
    differ = {"monitors": [3, 4], "maintenance": [], "settings": ["entryPage"], "domains": True}
    there.answer = lambda asked: [line(asked, {"ok": True, "differ": differ})]
    assert agent.differ() == ("monitors 3, 4", "settings entryPage", "domains")


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"[]\n",
        b'"text"\n',
        b"{}\n",
        b'{"id": 99, "ok": true}\n',
        b'{"id": 1, "ok": true}\n',
        b'{"id": 1, "ok": true, "agent": "one"}\n',
        b"[" * 100_000 + b"\n",
        b'{"id": 1, "ok": 1' + b"0" * 5_000 + b"}\n",
        json.dumps({"id": 1, **HELLO, "begun": 1e400}).encode() + b"\n",
    ],
)
def test_garbage_is_an_error_of_its_own(there: Listener, agent: Agent, garbage: bytes) -> None:
    there.answer = lambda _asked: [garbage]
    with pytest.raises(AgentError, match="agent"):
        agent.hello()


def test_an_endless_line_is_cut(
    there: Listener, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_MOST", 100_000)
    there.answer = lambda _asked: [b"x" * 10_000] * 200
    with pytest.raises(AgentError):
        agent.hello()


def test_an_error_of_the_agent_is_told(there: Listener, agent: Agent) -> None:
    there.answer = lambda asked: [line(asked, {"ok": False, "error": "Kuma migrates"})]
    with pytest.raises(AgentError, match="Kuma migrates"):
        agent.reconcile()


def test_an_agent_that_hangs_up(there: Listener, agent: Agent) -> None:
    there.answer = lambda _asked: [b'{"id":']
    with pytest.raises(AgentError, match="ended before it had answered"):
        agent.hello()


def test_nobody_listens(tmp_path: Path, there: Listener, agent: Agent) -> None:
    with pytest.raises(NoAgent):
        Agent(tmp_path / "none.sock").hello()
    there.close()
    with pytest.raises(NoAgent):
        agent.hello()


def test_a_late_answer(there: Listener, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "AN_ANSWER", 0.3)
    there.answer = there.silence
    with pytest.raises(AgentError, match=r"has not answered for 0\.3 s"):
        agent.hello()


def test_a_reconcile_has_an_end(
    there: Listener, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "LONGEST", 0.3)
    there.answer = there.silence
    began = time.monotonic()
    with pytest.raises(AgentError, match="has not answered for"):
        agent.reconcile()
    assert time.monotonic() - began < 60  # ten minutes in earnest


def test_a_process_that_hangs_in_a_reconcile(
    there: Listener, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("LOOK", 0.1), ("DEAF", 0.3), ("AN_ANSWER", 0.1)):
        monkeypatch.setattr(client, name, value)
    there.answer = there.silence
    with pytest.raises(AgentHangs):
        agent.reconcile()


def test_a_long_check_is_no_hang(
    there: Listener, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the reconcile is silent, a greeting is answered."""
    monkeypatch.setattr(client, "LOOK", 0.05)
    monkeypatch.setattr(client, "DEAF", 0.2)
    greeted = threading.Semaphore(0)

    def answer(asked: dict[str, Any]) -> list[bytes]:
        if asked["do"] == "hello":
            greeted.release()
            return [line(asked, HELLO)]
        for _ in range(8):
            assert greeted.acquire(timeout=10)
        return [line(asked, {"ok": True, "report": REPORT})]

    there.answer = answer
    assert agent.reconcile().equal


def test_a_signal_ends_the_wait(there: Listener, agent: Agent) -> None:
    there.answer = there.silence
    with pytest.raises(Interrupted):
        agent.reconcile(interrupted=lambda: bool(there.asked))


def test_a_socket_that_its_folder_s_owner_did_not_make(there: Listener, agent: Agent) -> None:
    os.chown(there.path.parent, 12_345, -1)
    with pytest.raises(AgentError, match="does not belong to its folder's owner"):
        agent.hello()


def test_a_process_of_another_user(
    there: Listener, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_user_of", lambda _connection: 12_345)
    with pytest.raises(AgentError, match="of user 12345"):
        agent.hello()
    assert Agent(there.path, owners=lambda: (12_345,)).hello().version == "2.5.3"
