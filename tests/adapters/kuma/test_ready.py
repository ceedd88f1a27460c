"""Readiness against real HTTP servers on loopback."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from replicator_kuma.adapters.kuma.child import ChildKuma
from replicator_kuma.adapters.kuma.readiness import NotReady, Readiness, classify, probe, wait_ready
from replicator_kuma.base.errors import Interrupted, KumaError
from tests.support.clock import Clock
from tests.support.kuma_page import DOMAIN, ENTRY, MIGRATING, SETUP, Stage, stage
from tests.support.kuma_server import free_port, kuma_command, kuma_environment, prepare_data_dir
from tests.support.tools import kuma_dir, kuma_disabled


def alive() -> bool:
    return True


# ------------------------------------------------------------------ one look


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (ENTRY, Readiness.READY),
        (DOMAIN, Readiness.READY),
        (SETUP, Readiness.SETUP),
        (MIGRATING, Readiness.MIGRATING),
        ((200, "<html>"), Readiness.OTHER),
        ((200, "[]"), Readiness.OTHER),
        ((200, '{"type": "something-new"}'), Readiness.OTHER),
        ((500, '{"type": "entryPage"}'), Readiness.OTHER),
        ((302, ""), Readiness.OTHER),
    ],
)
def test_what_an_answer_tells(answer: tuple[int, str], state: Readiness) -> None:
    assert classify(answer[0], answer[1].encode()) is state
    with stage() as server:
        server.open(answer)
        assert probe(f"{server.url}/", 5) is state
        assert server.asked == ["/api/entry-page"]


DROPS = {
    "a head": b"H" * 10_000,
    "headers": b"HTTP/1.1 200 OK\r\n" + b"X-Drop: 1\r\n" * 1_000,
    "a body": b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + b" " * 10_000,
    "a body without an end": b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 10_000,
}


@pytest.mark.parametrize("what", DROPS)
def test_an_answer_in_drops_has_a_deadline(what: str) -> None:
    """Each byte comes long before a socket's own timeout would end the wait."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _address = server.accept()
            with contextlib.suppress(OSError), connection:
                whole = DROPS[what]
                fast = whole.rfind(b"\r\n\r\n") + 4 if "body" in what else 0
                connection.sendall(whole[:fast])
                for byte in whole[fast:]:
                    connection.sendall(bytes([byte]))
                    time.sleep(0.02)

        threading.Thread(target=drip, daemon=True).start()
        began = time.monotonic()
        state = probe(f"http://127.0.0.1:{server.getsockname()[1]}", 0.3)
        assert time.monotonic() - began < 60  # all its bytes take 200 s
    assert state in (Readiness.STARTING, Readiness.OTHER)


def test_it_asks_below_the_path_of_the_address_and_no_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with stage() as server:
        server.open(ENTRY)
        assert probe(f"{server.url}/kuma/", 5) is Readiness.READY
        assert server.asked == ["/kuma/api/entry-page"]


def test_nobody_there_is_starting() -> None:
    assert probe(f"http://127.0.0.1:{free_port()}", 5) is Readiness.STARTING


def test_no_answer_in_time_is_starting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert probe(url, 0.1) is Readiness.STARTING


@pytest.mark.parametrize(
    ("reply", "state"), [(b"", Readiness.STARTING), (b"SSH-2.0-x\r\n", Readiness.OTHER)]
)
def test_a_connection_that_ends_or_speaks_otherwise(reply: bytes, state: Readiness) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(reply)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        assert probe(f"http://127.0.0.1:{listener.getsockname()[1]}", 60) is state
        thread.join(60)


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:3001", "ftp://x", "http://", "http://h:port", "http://a b", "http://a..b:3001"],
)
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(KumaError, match="not one like"):
        probe(url)


class _Tls(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(ENTRY[1].encode())

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate")
def test_a_certificate_is_not_asked_for_on_loopback_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=kuma.example"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
        timeout=30,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = HTTPServer(("127.0.0.1", 0), _Tls)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        for host in ("127.0.0.1", "localhost"):
            assert probe(f"https://{host}:{server.server_port}", 5) is Readiness.READY
        monkeypatch.setattr("replicator_kuma.adapters.kuma.readiness._is_loopback", lambda _: False)
        assert probe(f"https://127.0.0.1:{server.server_port}", 5) is Readiness.OTHER
    finally:
        server.shutdown()
        server.server_close()


# ------------------------------------------------------------------ waiting


def story(server: Stage, clock: Clock, *scenes: Callable[[], None]) -> Callable[[float], None]:
    """A sleep that plays the next scene each time, then nothing more."""
    rest = list(scenes)

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if rest:
            rest.pop(0)()

    return sleep


def test_refused_then_migrating_then_ready() -> None:
    clock = Clock()
    states: list[Readiness] = []
    with stage() as server:
        sleep = story(
            server,
            clock,
            lambda: None,
            lambda: server.open(MIGRATING),
            lambda: clock.sleep(10_000),
            server.close,
            lambda: server.open(ENTRY),
        )
        wait_ready(server.url, alive, on_state=states.append, clock=clock, sleep=sleep)
    assert states == [
        Readiness.STARTING,
        Readiness.MIGRATING,
        Readiness.STARTING,
        Readiness.READY,
    ]
    assert clock.sleeps == 6  # one of them the scene's own


def test_it_looks_every_tenth_of_a_second() -> None:
    clock = Clock()
    with stage() as server:
        wait_ready(
            server.url, alive, clock=clock, sleep=story(server, clock, lambda: server.open(ENTRY))
        )
    assert clock.now == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("answer", "state", "words"),
    [
        (None, Readiness.STARTING, r"does not answer at http://127\.0\.0\.1:\d+, 2 min after"),
        ((502, "bad gateway"), Readiness.OTHER, "not a ready Uptime Kuma, 2 min after"),
    ],
)
def test_it_gives_up_after_two_minutes(
    answer: tuple[int, str] | None, state: Readiness, words: str
) -> None:
    clock = Clock()
    with stage() as server:
        if answer is not None:
            server.open(answer)
        with pytest.raises(NotReady, match=words) as caught:
            wait_ready(server.url, alive, poll=5.0, clock=clock, sleep=clock.sleep)
    assert caught.value.state is state
    assert caught.value.hint
    assert clock.now == pytest.approx(120.0)


def test_the_set_up_page_is_an_error_at_once() -> None:
    clock = Clock()
    with stage() as server:
        server.open(SETUP)
        with pytest.raises(NotReady, match="choose a database") as caught:
            wait_ready(server.url, alive, clock=clock, sleep=clock.sleep)
    assert caught.value.state is Readiness.SETUP
    assert "UPTIME_KUMA_DB_TYPE=sqlite" in caught.value.hint
    assert clock.sleeps == 0


@pytest.mark.parametrize("answer", [None, MIGRATING, ENTRY])
def test_a_dead_process_is_an_error_at_once_whoever_answers(
    answer: tuple[int, str] | None,
) -> None:
    clock = Clock()
    with stage() as server:
        if answer is not None:
            server.open(answer)
        with pytest.raises(NotReady, match="process ended before it was ready") as caught:
            wait_ready(server.url, lambda: False, clock=clock, sleep=clock.sleep)
    assert caught.value.state is None
    assert clock.sleeps == 0


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (None, r"process ended before it was ready$"),
        (3, r"process ended before it was ready, with exit code 3$"),
        (137, r"killed by signal 9 \(out of memory\?\) before it was ready$"),
    ],
)
def test_a_process_that_ended_tells_how(status: int | None, words: str) -> None:
    clock = Clock()
    with stage() as server, pytest.raises(NotReady, match=words) as caught:
        wait_ready(server.url, lambda: False, ended_with=lambda: status, clock=clock)
    assert caught.value.status == status


def test_an_end_that_we_asked_for_is_no_failure_of_kuma() -> None:
    """The signal may come between the look at ours and the one at Kuma."""
    clock, asked = Clock(), [False, True]
    with stage() as server, pytest.raises(Interrupted):
        wait_ready(
            server.url,
            lambda: False,
            ended_with=lambda: 143,
            interrupted=lambda: asked.pop(0),
            clock=clock,
        )


def test_a_wait_can_be_interrupted_and_that_is_not_kumas_fault() -> None:
    clock = Clock()
    with stage() as server, pytest.raises(Interrupted) as caught:
        wait_ready(
            server.url,
            alive,
            interrupted=lambda: clock.sleeps >= 2,
            clock=clock,
            sleep=clock.sleep,
        )
    assert clock.sleeps == 2
    assert not isinstance(caught.value, KumaError)


def test_an_error_shows_no_login_of_the_address() -> None:
    clock = Clock()
    url = f"http://user:hunter-0-two@127.0.0.1:{free_port()}"
    with pytest.raises(NotReady) as caught:
        wait_ready(url, alive, poll=60, clock=clock, sleep=clock.sleep)
    assert "hunter" not in str(caught.value)


# ------------------------------------------------------------------ a real Kuma


@pytest.mark.kuma
@pytest.mark.skipif(kuma_disabled(), reason="REPLICATOR_TEST_NO_KUMA=1")
def test_a_real_kuma_from_its_start_to_its_end(tmp_path: Path) -> None:
    data, port = tmp_path / "data", free_port()
    prepare_data_dir(data)
    service = ChildKuma(kuma_command(), kuma_dir(), kuma_environment(data, port))
    states: list[Readiness] = []
    service.start()
    try:
        wait_ready(f"http://127.0.0.1:{port}", service.running, 60, on_state=states.append)
    finally:
        service.stop()
    assert states[0] is Readiness.STARTING
    assert states[-1] is Readiness.READY
    assert service.exit_code == 0
    assert probe(f"http://127.0.0.1:{port}") is Readiness.STARTING


@pytest.mark.kuma
@pytest.mark.skipif(kuma_disabled(), reason="REPLICATOR_TEST_NO_KUMA=1")
def test_a_real_kuma_on_an_empty_folder_wants_set_up_unless_told(tmp_path: Path) -> None:
    data, port = tmp_path / "data", free_port()
    data.mkdir()
    url = f"http://127.0.0.1:{port}"
    service = ChildKuma(kuma_command(), kuma_dir(), kuma_environment(data, port))
    service.start()
    try:
        with pytest.raises(NotReady) as caught:
            wait_ready(url, service.running, 60)
    finally:
        service.stop()
    assert caught.value.state is Readiness.SETUP

    service.start({"UPTIME_KUMA_DB_TYPE": "sqlite"})
    try:
        wait_ready(url, service.running, 60)
    finally:
        service.stop()
    assert (data / "kuma.db").exists()
