"""The socket between commands and the supervisor."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.adapters.kuma.readiness import NotReady
from replicator_kuma.base.errors import (
    AlreadyRunning,
    KumaError,
    MachineError,
    ReplicatorError,
    StateError,
    WrongPassword,
)
from replicator_kuma.daemon import control
from replicator_kuma.daemon.control import ControlServer, ask
from replicator_kuma.replication.instance import Progress
from tests.support.waiting import wait_until


def echo(command: str, options: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    progress("one")
    progress("two")
    return {"command": command, **options}


@contextmanager
def serving(folder: Path, answer: control.Handler = echo) -> Iterator[ControlServer]:
    server = ControlServer(folder, answer)
    server.start()
    try:
        yield server
    finally:
        server.close()


def silent(_message: str) -> None:
    """Nothing."""


def raising(error: Exception) -> control.Handler:
    def answer(*_arguments: object) -> dict[str, Any]:
        raise error

    return answer


def test_a_command_its_progress_and_its_result(tmp_path: Path) -> None:
    steps: list[str] = []
    with serving(tmp_path):
        assert control.listening(tmp_path)
        result = ask(tmp_path, "restore", {"snapshot": "ü"}, steps.append)
    assert result == {"command": "restore", "snapshot": "ü"}
    assert steps == ["one", "two"]


def test_nobody_listens(tmp_path: Path) -> None:
    assert ask(tmp_path, "restore", {}, silent) is None
    assert ask(tmp_path / "none", "restore", {}, silent) is None
    assert not control.listening(tmp_path)


def test_a_socket_that_was_left_behind(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / control.NAME))
    assert ask(tmp_path, "restore", {}, silent) is None
    with serving(tmp_path):
        assert ask(tmp_path, "restore", {}, silent) == {"command": "restore"}
    assert not (tmp_path / control.NAME).exists()


def test_closing_twice_and_after_another_took_over(tmp_path: Path) -> None:
    with serving(tmp_path) as first:
        with serving(tmp_path) as second:
            first.close()
            first.close()
            assert ask(tmp_path, "x", {}, silent) == {"command": "x"}
            second.close()
        assert ask(tmp_path, "x", {}, silent) is None


def test_only_its_owner_can_open_it(tmp_path: Path) -> None:
    with serving(tmp_path):
        assert stat.S_IMODE((tmp_path / control.NAME).stat().st_mode) == 0o600


def test_a_path_longer_than_a_socket_may_have(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30) / ("longer" * 20)
    folder.mkdir(parents=True)
    with serving(folder):
        assert ask(folder, "restore", {}, silent) == {"command": "restore"}


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / control.NAME).mkdir()
    with pytest.raises(StateError, match="cannot listen"):
        ControlServer(tmp_path, echo).start()


def test_a_socket_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(socket.socket):
        def connect(self, address: Any) -> None:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "socket", Refusing)
    with pytest.raises(StateError, match="cannot reach the supervisor"):
        ask(tmp_path, "x", {}, silent)


def test_errors_come_back_as_themselves(tmp_path: Path) -> None:
    failing = raising(WrongPassword("no", hint="try yes"))
    with serving(tmp_path, failing), pytest.raises(WrongPassword, match="no") as caught:
        ask(tmp_path, "x", {}, silent)
    assert (caught.value.hint, caught.value.exit_code) == ("try yes", 6)


def test_a_refined_error_comes_back_as_the_documented_one(tmp_path: Path) -> None:
    failing = raising(NotReady("late"))
    with serving(tmp_path, failing), pytest.raises(KumaError, match="late") as caught:
        ask(tmp_path, "x", {}, silent)
    assert type(caught.value) is KumaError


def test_a_bug_comes_back_as_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    failing = raising(ZeroDivisionError("a password"))
    with serving(tmp_path, failing), pytest.raises(ReplicatorError, match="a bug") as caught:
        ask(tmp_path, "x", {}, silent)
    assert caught.value.exit_code == 1
    assert str(caught.value) == "ZeroDivisionError: this is a bug in replicator-kuma"
    assert "a client's request failed" in caplog.text


def test_an_answer_of_another_version() -> None:
    error = control.error_from_dict({"kind": "NotYetInvented", "message": "m", "exit_code": 77})
    assert (str(error), error.exit_code) == ("m", 77)
    assert control.error_from_dict({"kind": "__name__", "exit_code": "x"}).exit_code == 1


def talk(folder: Path, request: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(folder / control.NAME))
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while part := client.recv(4096):
            answer += part
        return answer


@pytest.mark.parametrize(
    "request_line",
    [b"", b"{", b"[]\n", b'{"command": 1}\n', b'{"command": "x", "options": 3}\n', b"x" * 99999],
)
def test_a_request_that_is_none(tmp_path: Path, request_line: bytes) -> None:
    with serving(tmp_path):
        try:
            answer = json.loads(talk(tmp_path, request_line))
        except (ConnectionResetError, BrokenPipeError):
            return  # it hung up before it had read all: that is an answer too
        assert answer["error"]["kind"] == "StateError"


def test_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(tmp_path):
        monkeypatch.setattr(control, "_is_ours", lambda _connection: False)
        with pytest.raises(AlreadyRunning):
            ask(tmp_path, "x", {}, silent)
    assert "another user" in caplog.text


def test_who_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert control._is_ours(ours)
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        assert control._is_ours(ours) == (os.getuid() == 0)


def test_a_client_that_hangs_up_does_no_harm(tmp_path: Path) -> None:
    entered, leave = threading.Event(), threading.Event()

    def slow(command: str, _options: Mapping[str, Any], progress: Progress) -> Any:
        entered.set()
        assert leave.wait(60)
        progress("too late")
        return {"command": command}

    with serving(tmp_path, slow):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / control.NAME))
            client.sendall(b'{"command": "x", "options": {}}\n')
            assert entered.wait(60)
        leave.set()
        assert ask(tmp_path, "again", {}, silent) == {"command": "again"}


def test_a_silent_supervisor_and_one_that_is_only_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "SILENCE_DEADLINE", 1.0)
    monkeypatch.setattr(control, "SIGN_OF_LIFE", 0.05)

    def slow(command: str, _options: Mapping[str, Any], _progress: Progress) -> Any:
        time.sleep(1.5)
        return {"command": command}

    with serving(tmp_path, slow):
        assert ask(tmp_path, "x", {}, silent) == {"command": "x"}
        monkeypatch.setattr(control, "SIGN_OF_LIFE", 60)
        with pytest.raises(AlreadyRunning, match="does not answer"):
            ask(tmp_path, "x", {}, silent)


def test_a_supervisor_that_ends_before_it_answers(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / control.NAME))
        listener.listen()

        def hang_up() -> None:
            connection, _ = listener.accept()
            connection.recv(4096)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(AlreadyRunning, match="ended before it answered"):
            ask(tmp_path, "x", {}, silent)
        thread.join(10)


HOSTILE = {
    "nested deeper than Python reads": b'{"command": "x", "options": ' + b"[" * 60000,
    "nested, and whole": b'{"command": "x", "options": {"a": %s%s}}\n'
    % (b"[" * 30000, b"]" * 30000),
    "a number without an end": b'{"command": "x", "options": {"wait": %s}}\n' % (b"9" * 60000),
    "no number": b'{"command": "x", "options": {"wait": NaN}}\n',
    "no end": b'{"command": "x", "options": {"wait": -Infinity}}\n',
    "no UTF-8": b'{"command": "\xff", "options": {}}\n',
    "UTF-16": '{"command": "x", "options": {}}\n'.encode("utf-16"),
    "a command that is no text": b'{"command": ["x"], "options": {}}\n',
    "options as pairs": b'{"command": "x", "options": [["a", 1]]}\n',
    "no options": b'{"command": "x", "options": null}\n',
    "something else in it": b'{"command": "x", "options": {}, "as": "root"}\n',
    "two requests": b'{"command": "x", "options": {}}\n{"command": "x", "options": {}}\n',
}


@pytest.mark.parametrize("request_line", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_request_is_refused_and_no_bug(
    tmp_path: Path, request_line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(tmp_path):
        answer = json.loads(talk(tmp_path, request_line))
        assert answer["error"]["kind"] == "StateError"
        assert ask(tmp_path, "x", {}, silent) == {"command": "x"}
    assert caplog.text == ""


def test_a_request_longer_than_allowed_is_not_read_to_its_end(tmp_path: Path) -> None:
    short = b'{"command": "x", "options": {"a": "%s"}}\n'
    fits = short % (b"a" * (control.MAX_REQUEST - len(short) + 2))
    with serving(tmp_path):
        assert len(fits) == control.MAX_REQUEST
        assert json.loads(talk(tmp_path, fits).splitlines()[-1])["result"]["command"] == "x"
        with pytest.raises((OSError, ValueError)):
            json.loads(talk(tmp_path, fits[:-1] + b" \n" + b"x" * 9_000_000))["result"]


def test_a_client_that_sends_byte_by_byte_has_one_deadline_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "REQUEST_DEADLINE", 0.5)
    began = time.monotonic()
    with serving(tmp_path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / control.NAME))
        client.settimeout(0.1)
        answer = b""
        while not answer and time.monotonic() - began < 20:
            with contextlib.suppress(BrokenPipeError):  # it has answered already
                client.sendall(b"[")
            with contextlib.suppress(TimeoutError):
                answer = client.recv(4096)
        assert json.loads(answer)["error"]["kind"] == "StateError"
        assert time.monotonic() - began >= 0.5


def test_only_so_many_clients_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "MAX_CLIENTS", 2)
    leave = threading.Event()

    def slow(command: str, _options: Mapping[str, Any], _progress: Progress) -> Any:
        assert leave.wait(20)
        return {"command": command}

    with serving(tmp_path, slow), contextlib.ExitStack() as clients:
        for _ in range(2):
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(tmp_path / control.NAME))
        with pytest.raises(AlreadyRunning, match="2 clients already"):
            ask(tmp_path, "third", {}, silent)
        client.close()
        leave.set()

        def served() -> bool:
            with contextlib.suppress(AlreadyRunning):
                return ask(tmp_path, "third", {}, silent) == {"command": "third"}
            return False

        wait_until(served, "the place of one that has gone is free")


def test_a_machine_without_threads_keeps_the_door(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unstartable(threading.Thread):
        def start(self) -> None:
            if self.name == "control-client":
                raise RuntimeError("can't start new thread")
            super().start()

    with serving(tmp_path):
        with monkeypatch.context() as patch:
            patch.setattr(threading, "Thread", Unstartable)
            for _ in range(control.MAX_CLIENTS + 1):
                with pytest.raises(MachineError, match="no thread"):
                    ask(tmp_path, "x", {}, silent)
        assert ask(tmp_path, "x", {}, silent) == {"command": "x"}


def test_a_client_that_does_not_read_holds_up_a_cycle_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "CONNECT_DEADLINE", 0.3)
    took: list[float] = []
    done = threading.Event()

    def talkative(_command: str, _options: Mapping[str, Any], progress: Progress) -> Any:
        began = time.monotonic()
        for _ in range(100):
            progress("x" * 100_000)
        took.append(time.monotonic() - began)
        done.set()
        return {}

    with serving(tmp_path, talkative), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / control.NAME))
        client.sendall(b'{"command": "x", "options": {}}\n')
        assert done.wait(90)
    assert took[0] < 20  # 30 s if each of the 100 had to wait


@pytest.mark.parametrize("line", [b"HTTP/1.1 200 OK\n", b"[]\n", b'{"error": "x"}\n', b"[" * 99999])
def test_what_answers_is_no_supervisor(tmp_path: Path, line: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / control.NAME))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(line)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(
            AlreadyRunning, match=r"no supervisor of this version|before it answered"
        ):
            ask(tmp_path, "x", {}, silent)
        thread.join(10)
