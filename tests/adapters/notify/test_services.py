"""What Gotify, a webhook, a push monitor and a check are sent, by servers that speak as they do."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import pytest

from replicator_kuma.adapters.notify import CycleEnd, Kind, targets, webhook
from replicator_kuma.adapters.notify.answers import refused
from replicator_kuma.adapters.notify.delivery import Delivery
from replicator_kuma.adapters.notify.pinging import Pinging
from tests.support.targets import (
    APP_TOKEN,
    CHECK,
    HOOK_KEY,
    PUSH_TOKEN,
    Checks,
    GotifyServer,
    Listener,
    PushMonitor,
    Receiver,
)
from tests.support.tools import ROOT
from tests.support.waiting import wait_until

SECRETS = (APP_TOKEN, CHECK, PUSH_TOKEN, HOOK_KEY, "hunter2")
AT_ONCE = (0.01, 0.01)


def delivery(url: str) -> Delivery:
    (service,) = targets.read(url).services
    return Delivery(service, "berlin", retry_delays=AT_ONCE)


def pinging(url: str) -> Pinging:
    (target,) = targets.read(url).pings
    return Pinging(target, retry_delays=AT_ONCE)


@pytest.fixture
def gotify() -> Iterator[GotifyServer]:
    with contextlib.closing(GotifyServer()) as made:
        yield made


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with contextlib.closing(Receiver()) as made:
        yield made


@pytest.fixture
def checks() -> Iterator[Checks]:
    with contextlib.closing(Checks()) as made:
        yield made


@pytest.fixture
def monitor() -> Iterator[PushMonitor]:
    with contextlib.closing(PushMonitor()) as made:
        yield made


def test_gotify_gets_text_and_priority(gotify: GotifyServer) -> None:
    told = delivery(gotify.target)
    told.send(Kind.FAILURES, "Größe\n監視", "no network\x1b[31m", urgent=True)
    told.send(Kind.APPLIES, "restore", "x" * 9000)
    told.close(10)
    first, second = (heard.json for heard in gotify.heard)
    assert first == {
        "title": "berlin: Größe 監視",
        "message": "no network\\x1b[31m",
        "priority": 8,
    }
    assert (second["priority"], len(second["message"].encode())) == (5, 4000)
    assert len(gotify.messages) == 2


def test_a_webhook_is_what_the_page_says(receiver: Receiver) -> None:
    """A receiver that is written by the page takes each message once."""
    told = delivery(receiver.target)
    told.send(Kind.FAILURES, "restore fails", "no network\nTry: x", urgent=True)
    told.close(10)
    (content,) = receiver.taken
    assert content == {
        "format": 1,
        "id": content["id"],
        "at": content["at"],
        "instance": "berlin",
        "kind": "failures",
        "urgent": True,
        "title": "restore fails",
        "message": "no network\nTry: x",
    }
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", content["id"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", content["at"])
    assert receiver.heard[0].query == {"x": "1"}
    page = (ROOT / "docs" / "notifications.md").read_text()
    assert content.keys() == webhook.MEMBERS.keys()
    rows = "\n".join(f"| `{name}` | {means} |" for name, means in webhook.MEMBERS.items())
    assert rows in page
    for header in (webhook.TIMESTAMP, webhook.SIGNATURE):
        assert header in page


def test_a_webhook_that_comes_again_has_its_id_and_a_new_time(receiver: Receiver) -> None:
    """The receiver took it, and its answer got lost."""
    receiver.statuses = [503]
    (service,) = targets.read(receiver.target).services
    told = Delivery(service, "berlin", retry_delays=(1.1,))  # the time is in whole seconds
    told.send(Kind.FAILURES, "a", "b")
    told.close(10)
    first, second = receiver.heard
    assert first.body == second.body
    stamp, signed = webhook.TIMESTAMP, webhook.SIGNATURE
    assert int(first.headers[stamp]) < int(second.headers[stamp])
    assert first.headers[signed] != second.headers[signed]
    assert [content["message"] for content in receiver.taken] == ["b"]


def test_a_webhook_without_a_key_is_not_signed_and_has_its_login_in_a_header() -> None:
    with contextlib.closing(Listener()) as server:
        told = delivery(f"webhook+http://me:hunter2@{server.address}/hook")
        told.send(Kind.FAILURES, "a", "b")
        told.close(10)
        (heard,) = server.heard
    assert heard.headers["Authorization"].startswith("Basic ")
    assert not any(name.startswith("X-Replicator") for name in heard.headers)


def test_a_signature_is_of_this_body_at_this_time_by_this_key() -> None:
    assert webhook.signature(b"k", "17", b"{}") == (
        "sha256=bd99635732284660511c87d0719be6865abfda44a64564cf7d2b74e0f48525a1"
    )


@pytest.mark.parametrize(
    ("end", "signal"),
    [
        (CycleEnd(True, "1.1 is applied"), "success"),
        (CycleEnd(False, "no network", exit_code=5), "5"),
        (CycleEnd(False, "held: 1.1"), "fail"),
        (CycleEnd(None, "1.2 waits"), "log"),
    ],
)
def test_a_check_gets_start_and_end(checks: Checks, end: CycleEnd, signal: str) -> None:
    told = pinging(checks.target)
    told.begun()
    wait_until(lambda: checks.signals, "the begin")
    told.ended(end)
    told.close(10)
    assert checks.signals == ["start", signal]
    assert checks.bodies == ["", end.words]


def test_a_check_gets_few_words(checks: Checks) -> None:
    told = pinging(checks.target)
    told.ended(CycleEnd(True, "ж" * 9000))
    told.close(10)
    assert 900 < len(checks.bodies[0].encode()) <= 1000


def test_a_push_monitor_gets_up_and_down_and_no_other_beat(monitor: PushMonitor) -> None:
    told = pinging(monitor.target)
    told.begun()
    told.ended(CycleEnd(True, "1.1 is\napplied", seconds=0.25))
    wait_until(lambda: monitor.beats, "the first beat")
    told.begun()
    told.ended(CycleEnd(None, "1.2 waits"))
    told.ended(CycleEnd(False, "no network & more", exit_code=5))
    told.close(10)
    assert monitor.beats == [("up", "1.1 is applied"), ("down", "no network & more")]
    assert monitor.heard[0].query["ping"] == "250"


def test_a_slow_target_gets_the_newest_end_and_no_late_begin(checks: Checks) -> None:
    checks.held.clear()
    told = pinging(checks.target)
    told.ended(CycleEnd(True, "first"))
    wait_until(lambda: len(checks.heard) == 1, "the first is on its way")
    for number in range(20):
        told.begun()
        told.ended(CycleEnd(False, f"failure {number}", exit_code=5))
        told.begun()
        told.ended(CycleEnd(None, "waits"))
    checks.held.set()
    told.close(10)
    assert checks.bodies == ["first", "failure 19", "waits"]


def test_an_answer_that_was_ok_is_not_asked_for_again(
    gotify: GotifyServer, checks: Checks, receiver: Receiver
) -> None:
    """And one that was not is, by each target alone."""
    gotify.statuses, checks.statuses = [503, 429], [500]
    url = f"{gotify.target} {checks.target} {receiver.target}"
    found = targets.read(url)
    boxes = [Delivery(one, "berlin", retry_delays=AT_ONCE) for one in found.services]
    pings = Pinging(found.pings[0], retry_delays=AT_ONCE)
    for box in boxes:
        box.send(Kind.FAILURES, "a", "b")
    pings.ended(CycleEnd(True, "fine"))
    for closed in (*boxes, pings):
        closed.close(10)
    assert (len(gotify.heard), len(checks.heard), len(receiver.heard)) == (3, 2, 1)


@pytest.mark.parametrize("status", [301, 401, 404, 418, 500])
def test_a_refusal_is_logged_without_a_secret(
    gotify: GotifyServer,
    receiver: Receiver,
    checks: Checks,
    monitor: PushMonitor,
    caplog: pytest.LogCaptureFixture,
    status: int,
) -> None:
    servers: tuple[Listener, ...] = (gotify, receiver, checks, monitor)
    for server in servers:
        server.statuses = [status] * 3
    found = targets.read(" ".join(server.target for server in servers))  # type: ignore[attr-defined]
    for service in found.services:
        box = Delivery(service, "berlin", retry_delays=AT_ONCE)
        box.send(Kind.FAILURES, "a", "b")
        box.close(10)
    for target in found.pings:
        pings = Pinging(target, retry_delays=AT_ONCE)
        pings.ended(CycleEnd(False, "no", 5))
        pings.close(10)
    assert [len(server.heard) for server in servers] == [3 if status == 500 else 1] * 4
    for name in ("gotify", "webhook", "ping", "kuma"):
        assert re.search(rf"{name} at 127\.0\.0\.1:\d+: HTTP {status}", caplog.text)
    for secret in SECRETS:
        assert secret not in caplog.text


def test_a_trial_sends_nothing_and_knows_a_wrong_secret(
    gotify: GotifyServer, checks: Checks, monitor: PushMonitor, receiver: Receiver
) -> None:
    good = targets.read(f"{gotify.target} {checks.target} {monitor.target} {receiver.target}")
    for target in (*good.services, *good.pings):
        trial = target.trial()
        assert (trial is None) == (target.name == "webhook")
        if trial is not None:
            assert refused(target, trial) == ""
    assert (gotify.messages, checks.signals, monitor.beats, receiver.heard) == ([], ["log"], [], [])
    wrong = targets.read(f"gotify://{gotify.address}/wrong ping+http://{checks.address}/wrong")
    for target in (*wrong.services, *wrong.pings):
        trial = target.trial()
        assert trial is not None
        assert "it" in refused(target, trial)


def test_no_part_of_a_target_shows() -> None:
    everything = (
        f"gotify://h/{APP_TOKEN} webhook+http://u:hunter2@h/hunter2#hunter2 "
        f"kuma+http://h/api/push/{PUSH_TOKEN} ping+http://h/{CHECK}"
    )
    found = targets.read(everything)
    shown = repr((found, [ping.ended(CycleEnd(True, "x")) for ping in found.pings]))
    assert not [secret for secret in SECRETS if secret in shown]
