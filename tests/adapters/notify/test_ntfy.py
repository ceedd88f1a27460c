"""ntfy against a local HTTP server, and against none."""

from __future__ import annotations

import base64
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from replicator_kuma.adapters.notify import Kind, Notifier, NullNotifier
from replicator_kuma.adapters.notify.ntfy import NtfyNotifier, encode, make_notifier, parse_target
from replicator_kuma.base.errors import SettingsError
from tests.support.kuma_server import free_port
from tests.support.waiting import wait_until

TOPIC = "secret-topic-17"


@dataclass
class Post:
    path: str
    authorization: str | None
    body: dict[str, Any]


class Server:
    """Takes posts; ``statuses`` are its next answers, then 200."""

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.statuses: list[int] = []
        self.held = threading.Event()
        self.held.set()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                post = Post(self.path, self.headers["Authorization"], json.loads(body))
                owner.posts.append(post)
                owner.held.wait(20)
                self.send_response(owner.statuses.pop(0) if owner.statuses else 200)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                owner.posts.append(Post(f"GET {self.path}", None, {}))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.held.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    made = Server()
    yield made
    made.close()


def notifier(address: str, **options: Any) -> NtfyNotifier:
    return NtfyNotifier(
        f"http://{address}/{TOPIC}", "berlin", **{"retry_delays": (0.01, 0.01)} | options
    )


# ------------------------------------------------------------------ what is sent


def test_a_message_arrives_whole(server: Server) -> None:
    told = notifier(server.address)
    told.send(Kind.FAILURES, "Größe — 監視", "2 monitors added\n1 changed ✓")
    told.send(Kind.FAILURES, "Backups fail", "no network", urgent=True)
    told.close(10)
    assert [(post.path, post.authorization) for post in server.posts] == [("/", None)] * 2
    assert server.posts[0].body == {
        "topic": TOPIC,
        "title": "berlin: Größe — 監視",
        "message": "2 monitors added\n1 changed ✓",
        "priority": 3,
    }
    assert server.posts[1].body["priority"] == 4
    assert server.posts[1].body["tags"] == ["warning"]


def test_a_login_travels_in_a_header_also_where_netrc_knows_better(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password wrong\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    told = notifier(server.address, token="tk_0")
    told.send(Kind.FAILURES, "a", "b")
    told.close(10)
    assert server.posts[0].authorization == "Bearer tk_0"


@pytest.mark.parametrize(
    ("text", "limit"), [("x" * 9000, 4000), ("ж" * 9000, 4000), ("a\x00b\x1b[31m", 4000)]
)
def test_long_and_odd_text_is_made_fit(text: str, limit: int) -> None:
    content = json.loads(encode("t", text, text + "\ud800"))
    assert len(content["message"].encode()) <= limit
    assert len(content["title"].encode()) <= 250
    assert not any(ord(character) < 32 for character in content["message"])
    assert len(encode("t", text, text)) < 8192


# ------------------------------------------------------------------ where to


def basic(login: str) -> str:
    return "Basic " + base64.b64encode(login.encode()).decode()


@pytest.mark.parametrize(
    ("url", "token", "root", "authorization"),
    [
        ("https://ntfy.example/topic", None, "https://ntfy.example/", None),
        ("https://ntfy.example/topic/", None, "https://ntfy.example/", None),
        ("http://h:8080/sub/topic", None, "http://h:8080/sub/", None),
        ("http://[::1]:80/topic", None, "http://[::1]:80/", None),
        ("https://u:p%40ss@h/topic", None, "https://h/", basic("u:p@ss")),
        ("https://:tk_1@h/topic", None, "https://h/", basic(":tk_1")),
        ("https://tk_1@h/topic", None, "https://h/", "Bearer tk_1"),
        ("https://u:p@h/topic", "tk_2", "https://h/", "Bearer tk_2"),
        ("https://h/topic?auth=QmVhcmVyIHRrXzM", None, "https://h/", "Bearer tk_3"),
        ("https://h/topic?auth=QmVhcmVyIHRrXzM=&x=1", None, "https://h/?x=1", "Bearer tk_3"),
    ],
)
def test_the_url_is_taken_apart(
    url: str, token: str | None, root: str, authorization: str | None
) -> None:
    target = parse_target(url, token)
    assert (target.root, target.topic, target.authorization) == (root, "topic", authorization)
    assert "topic" not in repr(target)


@pytest.mark.parametrize(
    "url",
    [
        "ntfy.sh/topic",
        "ftp://ntfy.sh/topic",
        "https://ntfy.sh",
        "https://ntfy.sh/",
        "https://ntfy.sh/two%20words",
        "https:///topic",
        "https://ntfy.sh:port/topic",
        "https://ntfy.sh/topic?auth=!",
        "https://ntfy.sh/topic?auth=w6Q",
        "https://ntfy.sh/topic?auth=bm90aGluZw",
        f"https://{TOPIC}:{TOPIC}@ntfy.sh/to.pic",
    ],
)
def test_a_url_that_is_none_is_refused_unseen(url: str) -> None:
    with pytest.raises(SettingsError, match="NTFY_URL") as caught:
        make_notifier(url, "berlin")
    assert TOPIC not in str(caught.value)


@pytest.mark.parametrize("token", ["tk_\nX: y", "tk_ä"])
def test_a_token_that_is_none_is_refused_unseen(token: str) -> None:
    with pytest.raises(SettingsError, match="NTFY_TOKEN") as caught:
        make_notifier("https://ntfy.sh/x", "berlin", token=token)
    assert token not in str(caught.value)


@pytest.mark.parametrize("url", [None, "", "  "])
def test_no_url_tells_nobody(url: str | None) -> None:
    told: Notifier = make_notifier(url, "berlin")
    assert isinstance(told, NullNotifier)
    told.send(Kind.FAILURES, "a", "b", urgent=True)
    told.close()


@pytest.mark.parametrize(
    ("tell", "arrives"),
    [
        (tuple(Kind), ["applies", "publishes", "drills", "failures"]),
        ((Kind.FAILURES,), ["drills", "failures"]),
        ((Kind.APPLIES, Kind.DRILLS), ["applies", "drills"]),
    ],
)
def test_what_is_chosen_is_told(server: Server, tell: tuple[Kind, ...], arrives: list[str]) -> None:
    told = make_notifier(f"http://{server.address}/{TOPIC}", "berlin", tell=tell)
    for kind in (Kind.APPLIES, Kind.PUBLISHES, Kind.DRILLS, Kind.FAILURES):
        told.send(kind, "title", kind.value)
    told.close()
    assert [post.body["message"] for post in server.posts] == arrives


# ------------------------------------------------------------------ when it fails


@pytest.mark.parametrize("status", [500, 429])
def test_a_busy_server_is_tried_again(server: Server, status: int) -> None:
    server.statuses = [status, status]
    told = notifier(server.address)
    told.send(Kind.FAILURES, "a", "b")
    told.close(10)
    assert len(server.posts) == 3


def test_three_tries_are_enough(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.statuses = [503] * 9
    told = notifier(server.address)
    told.send(Kind.FAILURES, "a", "b")
    told.close(10)
    assert len(server.posts) == 3
    assert "HTTP 503 (1 notifications lost)" in caplog.text


@pytest.mark.parametrize(
    ("status", "words"),
    [(403, "does not accept the credentials"), (301, "redirects"), (400, "HTTP 400")],
)
def test_a_refusal_is_final(
    server: Server, caplog: pytest.LogCaptureFixture, status: int, words: str
) -> None:
    server.statuses = [status]
    told = notifier(server.address)
    told.send(Kind.FAILURES, "a", "b")
    told.close(10)
    assert len(server.posts) == 1
    assert words in caplog.text


def test_failures_are_logged_once_with_no_secret_and_so_is_their_end(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.statuses = [401, 401, 401]
    told = NtfyNotifier(
        f"http://me:hunter-0-two@{server.address}/{TOPIC}?auth=QmVhcmVyIHRrXzM", "berlin"
    )
    for _ in range(4):
        told.send(Kind.FAILURES, "a", "b")
    told.close(10)
    ours = [record for record in caplog.records if record.name.startswith("replicator_kuma")]
    assert [record.levelname for record in ours] == ["WARNING", "INFO"]
    assert server.address in ours[0].getMessage()
    assert "takes notifications again" in ours[1].getMessage()
    for secret in (TOPIC, "hunter", "QmVhcm", "tk_3"):
        assert secret not in caplog.text


def test_a_failure_that_lasts_is_logged_again_with_a_count(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0, 100.0, 200.0, 700.0]
    monkeypatch.setattr("replicator_kuma.adapters.notify.ntfy._now", lambda: now.pop(0))
    server.statuses = [400] * 4
    told = notifier(server.address)
    for _ in range(4):
        told.send(Kind.FAILURES, "a", "b")
    told.close(10)
    assert [message.partition("(")[2][:20] for message in caplog.messages] == [
        "1 notifications lost",
        "3 notifications lost",
    ]


def test_what_nobody_foresaw_is_told_by_its_kind_alone(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def post(*_: object, **__: object) -> None:
        raise RuntimeError(f"cannot post to {TOPIC}")

    monkeypatch.setattr("requests.post", post)
    told = notifier("127.0.0.1:9")
    told.send(Kind.FAILURES, "a", "b")
    told.close(10)
    assert "ntfy at 127.0.0.1:9: RuntimeError" in caplog.text
    assert TOPIC not in caplog.text


def test_nobody_there(caplog: pytest.LogCaptureFixture) -> None:
    told = notifier(f"127.0.0.1:{free_port()}")
    told.send(Kind.FAILURES, "a", "b")
    told.close(10)
    assert "no connection" in caplog.text
    assert TOPIC not in caplog.text


def test_a_server_without_a_known_certificate_name(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"

        def hang_up() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"HTTP/1.1 400 no TLS here\r\n\r\n")

        threading.Thread(target=hang_up, daemon=True).start()
        told = NtfyNotifier(f"https://{address}/{TOPIC}", "berlin")
        told.send(Kind.FAILURES, "a", "b")
        told.close(10)
    assert "certificate is not accepted" in caplog.text


def test_a_dead_server_delays_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        told = notifier(f"127.0.0.1:{listener.getsockname()[1]}", timeout=30)
        longest = 0.0
        for number in range(20):
            began = time.monotonic()
            told.send(Kind.FAILURES, "a", str(number))
            longest = max(longest, time.monotonic() - began)
        assert longest < 2.0
        began = time.monotonic()
        told.close(0.3)
        assert 0.25 < time.monotonic() - began < 10.0
    assert "20 notifications were not delivered" in caplog.text


def test_no_answer_in_time_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        told = notifier(address, timeout=0.05, retry_delays=())
        told.send(Kind.FAILURES, "a", "b")
        told.close(10)
    assert "no answer within 0.05 s" in caplog.text


def test_a_full_queue_loses_its_oldest(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.held.clear()
    told = notifier(server.address, capacity=2)
    told.send(Kind.FAILURES, "a", "first")
    wait_until(lambda: server.posts, "the first message is under way")
    for text in ("lost", "kept", "newest"):
        told.send(Kind.FAILURES, "a", text)
    server.held.set()
    told.close(10)
    assert [post.body["message"] for post in server.posts] == ["first", "kept", "newest"]


def test_a_close_does_not_wait_for_the_next_try(server: Server) -> None:
    server.statuses = [503]
    told = notifier(server.address, retry_delays=(60.0,))
    told.send(Kind.FAILURES, "a", "b")
    wait_until(lambda: server.posts, "the first try")
    began = time.monotonic()
    told.close(0.1)
    assert time.monotonic() - began < 10.0
    told.send(Kind.FAILURES, "after", "the end")
    told.close()
    wait_until(
        lambda: not any(thread.name == "ntfy" for thread in threading.enumerate()),
        "the thread has ended",
    )
    assert len(server.posts) == 1


def test_close_without_a_message_is_quick() -> None:
    began = time.monotonic()
    notifier("127.0.0.1:9").close(5)
    assert time.monotonic() - began < 2.0


def test_what_cannot_be_sent_raises_nothing(caplog: pytest.LogCaptureFixture) -> None:
    told = notifier("127.0.0.1:9")
    told.send(Kind.FAILURES, "a", None)  # type: ignore[arg-type]
    told.close(1)
    assert "A notification was lost: TypeError" in caplog.text
