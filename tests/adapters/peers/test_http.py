"""The way to one peer, against servers that are slow, huge, or of ill will."""

from __future__ import annotations

import contextlib
import gzip
import socket
import ssl
import subprocess
import threading
import time
import tracemalloc
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from replicator_kuma.adapters.peers import Peer, Unheard
from replicator_kuma.adapters.peers.http import HttpLine
from replicator_kuma.adapters.peers.packing import MOST
from tests.support.loopback import Loopback, Quiet
from tests.support.raw_server import drip, raw_server
from tests.support.tools import openssl

PATH = "/api/v1/exchange"
SHORT = 0.5
"""seconds: the deadline of these tests where a server does not end"""
IN_TIME = 30.0
"""seconds: half of what those take that hang or drip; a busy machine is in time, too"""


def asked(url: str, deadline: float = IN_TIME, token: str = "") -> bytes:
    return HttpLine(Peer("fra-1", url), token, deadline).ask(b"{}", PATH)


def why(url: str, deadline: float = IN_TIME) -> tuple[str, bool]:
    with pytest.raises(Unheard) as caught:
        asked(url, deadline)
    return str(caught.value), caught.value.answered


class Answers(Quiet):
    """Answers what the class says."""

    protocol_version = "HTTP/1.1"
    status = 200
    answer = b"{}"
    more: Mapping[str, str] = MappingProxyType({})
    seen: list[tuple[str, dict[str, str], bytes]] = []  # noqa: RUF012

    def post(self) -> None:
        self.seen.append((self.path, {n.lower(): v for n, v in self.headers.items()}, self.body()))
        self.say(self.status, self.answer, **self.more)


@contextlib.contextmanager
def answering(
    status: int = 200, answer: bytes = b"{}", headers: Mapping[str, str] = MappingProxyType({})
) -> Iterator[tuple[str, list[tuple[str, dict[str, str], bytes]]]]:
    seen: list[tuple[str, dict[str, str], bytes]] = []
    said = {"status": status, "answer": answer, "more": headers, "seen": seen}
    server = Loopback(type("Kind", (Answers,), said))
    try:
        yield server.url, seen
    finally:
        server.close()


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX-Header: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
    ],
    ids=["in the status line", "in a header", "in the body", "in a body without a length"],
)
def test_a_server_that_sends_a_byte_now_and_then_is_left_at_the_deadline(start: bytes) -> None:
    """Each single read is in time: only the whole is not."""
    with raw_server(drip(start)) as url:
        began = time.monotonic()
        assert why(url, SHORT) == ("no whole answer within 0.5 s", False)
        assert SHORT <= time.monotonic() - began < IN_TIME


def test_a_call_is_ended_by_another_thread() -> None:
    """What stops the exchange does not wait for a peer."""
    entered = threading.Event()

    def hang(link: socket.socket) -> None:
        entered.set()
        link.recv(1)

    with raw_server(hang) as url:
        line = HttpLine(Peer("fra-1", url), deadline=60.0)
        errors: list[Unheard] = []

        def ask() -> None:
            try:
                line.ask(b"{}", PATH)
            except Unheard as error:
                errors.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        assert entered.wait(10)
        began = time.monotonic()
        line.cut()
        thread.join(10)
        assert time.monotonic() - began < IN_TIME
        assert len(errors) == 1


def test_a_gigabyte_is_cut_off() -> None:
    ended = threading.Event()

    def answer(link: socket.socket) -> None:
        with contextlib.closing(link):
            try:
                link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
                for _ in range(1000):
                    link.sendall(b"x" * 1_000_000)
            except OSError:
                ended.set()

    with raw_server(answer) as url:
        said, answered = why(url)
        assert (said, answered) == ("its answer has more than 4.0 MiB", True)
        assert ended.wait(10)


def test_a_bomb_of_gzip_costs_no_memory() -> None:
    bomb = gzip.compress(b"\0" * (64 * 1024 * 1024))
    with answering(answer=bomb, headers={"Content-Encoding": "gzip"}) as (url, _):
        tracemalloc.start()
        try:
            assert why(url) == ("its answer has more than 4.0 MiB", True)
            assert tracemalloc.get_traced_memory()[1] < 5 * MOST
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize(
    ("encoding", "answer", "said"),
    [
        ("gzip", b"no gzip", "its answer is damaged (gzip)"),
        ("gzip", gzip.compress(b"x" * 1000, mtime=0)[:-12], "its answer is cut off"),
        ("br", b"x", "its answer is packed in an unknown way"),
    ],
)
def test_an_answer_that_is_not_what_it_says(encoding: str, answer: bytes, said: str) -> None:
    with answering(answer=answer, headers={"Content-Encoding": encoding}) as (url, _):
        assert why(url) == (said, True)


def test_a_redirect_is_not_followed_and_the_token_goes_nowhere_else() -> None:
    with (
        answering() as (elsewhere, seen_there),
        answering(307, headers={"Location": f"{elsewhere}{PATH}"}) as (url, seen),
    ):
        with pytest.raises(Unheard, match="HTTP 307, it redirects: name the address itself"):
            asked(url, token="secret-of-the-fleet")
        assert len(seen) == 1
        assert seen_there == []


@pytest.mark.parametrize(
    ("status", "said", "answered"),
    [
        (401, "HTTP 401, it does not accept our token", True),
        (404, "HTTP 404, no replicator-kuma of this version", True),
        (503, "HTTP 503, it is not ready yet", False),
        (502, "HTTP 502", False),
    ],
)
def test_a_refusal_is_told_in_words(status: int, said: str, answered: bool) -> None:
    with answering(status) as (url, _):
        words, by_answer = why(url)
        assert words.startswith(said)
        assert by_answer is answered


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert why(f"http://127.0.0.1:{port}") == ("no connection", False)
    assert why("http://no-such-name.invalid")[1] is False


def test_what_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token by its header, whatever a ~/.netrc says; a large body as gzip; a folder kept."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password of-netrc\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    body = b'{"' + b"x" * 5000 + b'":1}'
    with answering() as (url, seen):
        line = HttpLine(Peer("fra-1", f"{url}/kuma"), "secret-of-the-fleet")
        assert line.ask(b"{}", PATH) == b"{}"
        assert line.ask(body, PATH) == b"{}"
        (path, small, _), (_, large, packed) = seen
        line.cut()
    assert path == f"/kuma{PATH}"
    assert small["authorization"] == large["authorization"] == "Bearer secret-of-the-fleet"
    assert "content-encoding" not in small
    assert large["content-encoding"] == "gzip"
    assert gzip.decompress(packed) == body


def test_cookies_of_a_server_are_not_kept() -> None:
    with answering(headers={"Set-Cookie": "a=b; Path=/"}) as (url, seen):
        line = HttpLine(Peer("fra-1", url))
        line.ask(b"{}", PATH)
        line.ask(b"{}", PATH)
        assert "cookie" not in seen[1][1]
        line.cut()


def test_a_connection_is_kept_and_a_closed_one_is_no_failure() -> None:
    ports = set[int]()
    close = threading.Event()

    class Handler(Answers):
        def post(self) -> None:
            ports.add(self.client_address[1])
            super().post()
            if close.is_set():
                # without a word, as a server does whose time for an idle connection is over
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True

    server = Loopback(Handler)
    line = HttpLine(Peer("fra-1", server.url))
    for _ in range(3):
        line.ask(b"{}", PATH)
    assert len(ports) == 1
    close.set()
    for _ in range(3):
        line.ask(b"{}", PATH)
    assert len(ports) > 1
    line.cut()
    server.close()


def test_handles_of_connections_do_not_pile_up() -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    with answering(headers={"Connection": "close"}) as (url, _):
        line = HttpLine(Peer("fra-1", url))
        line.ask(b"{}", PATH)
        before = count()
        for _ in range(20):
            line.ask(b"{}", PATH)
        line.cut()
        assert count() <= before + 3  # threads of the server that end


def by_proxy(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", proxy)


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering() as (proxy, seen):
        by_proxy(monkeypatch, proxy)
        assert asked("http://fra-1.invalid:8067", token="secret-of-the-fleet") == b"{}"
        ((path, headers, _),) = seen
    assert path == f"http://fra-1.invalid:8067{PATH}"
    assert headers["authorization"] == "Bearer secret-of-the-fleet"


def test_a_proxy_does_not_lift_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    with raw_server(drip(b"HTTP/1.1 200 OK\r\nX-Header: ")) as proxy:
        by_proxy(monkeypatch, proxy)
        began = time.monotonic()
        assert why("http://fra-1.invalid:8067", SHORT)[0] == "no whole answer within 0.5 s"
        assert time.monotonic() - began < IN_TIME


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *(str(openssl()), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=a peer of a test", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return folder


@contextlib.contextmanager
def over_tls(folder: Path, *, drips: bool = False) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")

    class Handler(Answers):
        def post(self) -> None:
            if drips:
                with contextlib.suppress(OSError):
                    drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")(self.connection)
            else:
                super().post()

    server = Loopback(Handler)
    server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
    try:
        yield server.url.replace("http:", "https:")
    finally:
        server.close()


def test_a_certificate_is_verified_by_what_the_environment_trusts(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    with over_tls(certificate) as url:
        assert why(url) == ("its certificate is not accepted", False)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate / "cert.pem"))
        assert asked(url) == b"{}"


def test_tls_does_not_lift_the_deadline(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate / "cert.pem"))
    with over_tls(certificate, drips=True) as url:
        began = time.monotonic()
        assert why(url, 1.0) == ("no whole answer within 1 s", False)
        assert time.monotonic() - began < IN_TIME


def test_a_handshake_that_never_ends_is_left_at_the_deadline() -> None:
    with raw_server(drip(b"\x16\x03\x03\x10\x00\x02")) as url:
        began = time.monotonic()
        assert why(url.replace("http:", "https:"), SHORT)[1] is False
        assert time.monotonic() - began < IN_TIME
