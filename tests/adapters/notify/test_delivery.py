"""Queue, retries and log of deliveries: to a local server, to one that hangs, to none.

To a service of the test's own, where it does not matter which: all this is no part of one.
"""

from __future__ import annotations

import json
import logging
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from replicator_kuma.adapters.notify import (
    Change,
    Kind,
    Message,
    Notifier,
    NullNotifier,
    Request,
    Service,
)
from replicator_kuma.adapters.notify.delivery import Delivery
from replicator_kuma.adapters.notify.ntfy import Ntfy
from replicator_kuma.base.text import cut
from replicator_kuma.config.build import build_notifier
from replicator_kuma.config.settings import Settings
from replicator_kuma.dump.plan import Counts, Summary
from tests.adapters.notify.server import TOPIC, Server
from tests.support.kuma_server import free_port
from tests.support.waiting import wait_until

TOKEN = "A-hush-17"


@dataclass(frozen=True)
class Gotify:
    """A service of the test's own: all that one is, beside its settings."""

    host: str
    scheme: str = "http"
    name: str = "gotify"

    def request(self, message: Message) -> Request:
        content = {"title": cut(message.title, 250), "message": cut(message.text, 4000)}
        body = json.dumps({**content, "priority": 8 if message.urgent else 5}).encode()
        headers = {"Content-Type": "application/json", "X-Gotify-Key": TOKEN}
        return Request(f"{self.scheme}://{self.host}/message", body, headers)

    def refusal(self, status: int) -> str:
        return "it does not accept the token" if status in (401, 403) else ""

    def trial(self) -> None:
        return


def delivery(address: str, **options: Any) -> Delivery:
    """A delivery to a server at this address; it tries again at once."""
    return Delivery(Gotify(address), "berlin", **{"retry_delays": (0.01, 0.01)} | options)


def settings(**environ: str) -> Settings:
    return Settings.load({"REPLICATOR_INSTANCE": "berlin", **environ}, {}, ())


@pytest.mark.parametrize("environ", [{}, {"NTFY_URL": ""}, {"NTFY_URL": "  "}])
def test_no_url_tells_nobody(environ: dict[str, str]) -> None:
    told: Notifier = build_notifier(settings(**environ))
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
    names = ",".join(kind.value for kind in tell)
    url = f"http://{server.address}/{TOPIC}"
    told = build_notifier(settings(NTFY_URL=url, REPLICATOR_TELL=names))
    for kind in (Kind.APPLIES, Kind.PUBLISHES, Kind.DRILLS, Kind.FAILURES):
        told.send(kind, "title", kind.value)
    told.close()
    assert [post.body["message"] for post in server.posts] == arrives


def test_another_service_is_one_class(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.statuses = [401]
    told = delivery(server.address)
    told.send(Kind.FAILURES, "a", "b", urgent=True)
    told.close(10)
    (post,) = server.posts
    assert (post.path, post.headers["X-Gotify-Key"]) == ("/message", TOKEN)
    assert post.body == {"title": "berlin: a", "message": "b", "priority": 8}
    assert f"gotify at {server.address}: HTTP 401, it does not accept the token" in caplog.text


@pytest.mark.parametrize("status", [500, 429])
def test_a_busy_server_is_tried_again(server: Server, status: int) -> None:
    server.statuses = [status, status]
    told = delivery(server.address)
    told.send(Kind.FAILURES, "a", "b")
    told.close(10)
    assert len(server.posts) == 3


def test_three_tries_are_enough(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.statuses = [503] * 9
    told = delivery(server.address)
    told.send(Kind.FAILURES, "a", "b")
    told.close(10)
    assert len(server.posts) == 3
    assert "HTTP 503 (1 notification lost)" in caplog.text


def test_where_only_the_newest_counts_it_goes_at_once(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """What waits is replaced, and so is what would be tried again."""
    server.statuses = [503]
    told = delivery(server.address, newest_only=True, retry_delays=(3600.0,))
    told.send(Kind.PUBLISHES, "1", "fails, and would come again in an hour")
    wait_until(lambda: len(server.posts) == 1, "the first")
    server.held.clear()
    told.send(Kind.PUBLISHES, "2", "is on its way")
    wait_until(lambda: len(server.posts) == 2, "the second")
    for number in range(3, 50):
        told.send(Kind.PUBLISHES, str(number), "waits")
    server.held.set()
    told.close(10)
    titles = [post.body["title"] for post in server.posts]
    assert titles == ["berlin: 1", "berlin: 2", "berlin: 49"]
    assert "lost" not in "".join(caplog.messages[1:])


def ntfy(address: str) -> Service:
    return Ntfy.at(f"http://me:hunter-0-two@{address}/{TOPIC}?auth=QmVhcmVyIHRrXzM")


@pytest.mark.parametrize("service", [ntfy, Gotify])
def test_failures_are_logged_once_with_no_secret_and_so_is_their_end(
    server: Server, caplog: pytest.LogCaptureFixture, service: Callable[[str], Service]
) -> None:
    caplog.set_level(logging.DEBUG)
    server.statuses = [401, 401, 401]
    told = Delivery(service(server.address), "berlin")
    for _ in range(4):
        told.send(Kind.FAILURES, "a", "b")
    told.close(10)
    ours = [record for record in caplog.records if record.name.startswith("replicator_kuma")]
    assert [record.levelname for record in ours] == ["WARNING", "INFO"]
    assert server.address in ours[0].getMessage()
    assert "takes notifications again" in ours[1].getMessage()
    for secret in (TOPIC, "hunter", "QmVhcm", "tk_3", TOKEN):
        assert secret not in caplog.text


def test_a_failure_that_lasts_is_logged_again_with_a_count(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0, 100.0, 200.0, 700.0]
    monkeypatch.setattr("replicator_kuma.adapters.notify.outbox._now", lambda: now.pop(0))
    server.statuses = [400] * 4
    told = delivery(server.address)
    for _ in range(4):
        told.send(Kind.FAILURES, "a", "b")
    told.close(10)
    assert [message.partition("(")[2].partition(")")[0] for message in caplog.messages] == [
        "1 notification lost",
        "3 notifications lost",
    ]


def test_what_nobody_foresaw_is_told_by_its_kind_alone(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def post(*_: object, **__: object) -> None:
        raise RuntimeError(f"cannot post with {TOKEN}")

    monkeypatch.setattr("requests.Session.request", post)
    told = delivery("127.0.0.1:9")
    told.send(Kind.FAILURES, "a", "b")
    told.close(10)
    assert "gotify at 127.0.0.1:9: RuntimeError" in caplog.text
    assert TOKEN not in caplog.text


def test_nobody_there(caplog: pytest.LogCaptureFixture) -> None:
    told = delivery(f"127.0.0.1:{free_port()}")
    told.send(Kind.FAILURES, "a", "b")
    told.close(10)
    assert "no connection" in caplog.text
    assert TOKEN not in caplog.text


def test_a_server_without_a_known_certificate_name(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"

        def hang_up() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"HTTP/1.1 400 no TLS here\r\n\r\n")

        threading.Thread(target=hang_up, daemon=True).start()
        told = Delivery(Gotify(address, "https"), "berlin")
        told.send(Kind.FAILURES, "a", "b")
        told.close(10)
    assert "certificate is not accepted" in caplog.text


def test_a_dead_server_delays_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        told = delivery(f"127.0.0.1:{listener.getsockname()[1]}", timeout=30)
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
        told = delivery(address, timeout=0.1, retry_delays=())
        told.send(Kind.FAILURES, "a", "b")
        told.close(10)
    assert "no answer within 0.1 s" in caplog.text


def changed(told: Delivery, position: str, summary: Summary | None) -> None:
    change = Change(position, summary)
    told.send(Kind.APPLIES, "restore", f"applied {position}", change=change)


def test_changes_that_come_fast_are_one_message(server: Server) -> None:
    """The first is told at once, the others together when their time has come; failures at once."""
    told = delivery(server.address, changes_every=3.0)
    changed(told, "1.6", Summary())
    changed(told, "1.7", Summary({"monitor": Counts(added=2)}))
    changed(told, "1.8", Summary({"monitor": Counts(changed=1), "tag": Counts(deleted=1)}, files=1))
    changed(told, "1.9", Summary({"monitor": Counts(added=1)}))
    told.send(Kind.FAILURES, "restore fails", "no answer", urgent=True)
    wait_until(lambda: len(server.posts) == 3, "the sum is told without a further change")
    first, failure, both = (post.body["message"] for post in server.posts)
    assert (first, failure) == ("applied 1.6", "no answer")
    assert re.fullmatch(
        r"3 changes since \S+Z: 3 monitors added, 1 changed; 1 tag deleted; 1 file; now at 1\.9",
        both,
    )
    told.close()
    assert len(server.posts) == 3


def test_changes_that_wait_are_told_at_the_end_and_once(server: Server) -> None:
    told = delivery(server.address, changes_every=3600)
    for position in ("1.1", "1.2", "1.3"):
        changed(told, position, None)
    told.send(Kind.PUBLISHES, "backup", "published 1.1", change=Change("1.1"))
    told.send(Kind.PUBLISHES, "backup", "published 1.2", change=Change("1.2"))
    told.close()
    told.close()
    first, second, both, last = (post.body["message"] for post in server.posts)
    assert (first, second, last) == ("applied 1.1", "published 1.1", "published 1.2")
    assert re.fullmatch(r"2 changes since \S+Z; now at 1\.3", both)


def test_a_full_queue_loses_its_oldest(server: Server) -> None:
    server.held.clear()
    told = delivery(server.address, capacity=2)
    told.send(Kind.FAILURES, "a", "first")
    wait_until(lambda: server.posts, "the first message is under way")
    for text in ("lost", "kept", "newest"):
        told.send(Kind.FAILURES, "a", text)
    server.held.set()
    told.close(10)
    assert [post.body["message"] for post in server.posts] == ["first", "kept", "newest"]


def test_a_close_does_not_wait_for_the_next_try(server: Server) -> None:
    server.statuses = [503]
    told = delivery(server.address, retry_delays=(60.0,))
    told.send(Kind.FAILURES, "a", "b")
    wait_until(lambda: server.posts, "the first try")
    began = time.monotonic()
    told.close(0.1)
    assert time.monotonic() - began < 10.0
    told.send(Kind.FAILURES, "after", "the end")
    told.close()
    wait_until(
        lambda: not any(thread.name == "gotify" for thread in threading.enumerate()),
        "the thread has ended",
    )
    assert len(server.posts) == 1


def test_close_without_a_message_is_quick() -> None:
    began = time.monotonic()
    delivery("127.0.0.1:9").close(5)
    assert time.monotonic() - began < 2.0


def test_what_cannot_be_sent_raises_nothing(caplog: pytest.LogCaptureFixture) -> None:
    told = delivery("127.0.0.1:9")
    told.send(Kind.FAILURES, "a", None)  # type: ignore[arg-type]
    told.close(1)
    assert "A notification was lost: TypeError" in caplog.text
