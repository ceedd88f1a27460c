"""The thread that reads the hints' topic goes on after each end of the stream."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

import pytest

from replicator_kuma.adapters.notify.ntfy import Ntfy
from replicator_kuma.adapters.notify.stream import Ended, Event
from replicator_kuma.daemon.subscription import EARLIER, LONGEST_PAUSE, Subscription
from tests.support.clock import Clock
from tests.support.ntfy import TOPIC, Topic
from tests.support.waiting import wait_until

WHERE = Ntfy.at(f"https://tk_hush@ntfy.example/{TOPIC}", for_programs=True)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_a_gap_loses_nothing_and_doubles_nothing() -> None:
    heard: list[str] = []
    with contextlib.closing(Topic()) as topic:
        topic.publish("from before the start")
        subscribed = Subscription(Ntfy.at(topic.topic_url), heard.append, chance=lambda: 0.0)
        subscribed.start()
        wait_until(lambda: heard == ["from before the start"], "the stream")
        assert subscribed.up
        port = int(topic.address.rpartition(":")[2])
        messages = topic.messages
    wait_until(lambda: not subscribed.up, "it is down")
    with contextlib.closing(Topic(port)) as topic:
        # ntfy keeps its messages over a restart
        topic.messages = messages
        for number in range(3):
            topic.publish(f"while nobody reads {number}")
        wait_until(lambda: len(heard) == 4, "what came meanwhile")
        topic.drop()
        wait_until(lambda: len(topic.asked) == 2, "the next stream")
        topic.publish("in the next stream")
        wait_until(lambda: len(heard) >= 5, "its message")
        assert topic.asked[-1] == topic.messages[3]["id"]
        subscribed.stop()
    assert heard == [message["message"] for message in topic.messages]


class Scripted:
    """Streams that do what a script says, by a clock: ``ends`` after so many seconds, or never."""

    def __init__(self, clock: Clock, script: Callable[[float], float | None]) -> None:
        self.clock = clock
        self.script = script
        self.asked: list[tuple[float, str]] = []

    def listen(self, _topic: Ntfy, since: str) -> Iterator[Event]:
        self.asked.append((self.clock.now, since))
        lasts = self.script(self.clock.now)
        if lasts is None:
            raise Ended("no connection")
        yield Event()
        yield Event(f"id{len(self.asked)}", "text")
        self.clock.now += lasts
        raise Ended("the server ended the stream")

    def run(self, seconds: float) -> Subscription:
        """Reads streams for so many seconds of the clock."""
        subscribed = Subscription(
            WHERE, lambda _text: None, self.listen, self.clock, chance=lambda: 0.5
        )
        while self.clock.now < seconds:
            self.clock.now += subscribed.once()
        return subscribed


def test_a_server_that_is_away_for_an_hour(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    away = lambda now: None if 1000 <= now < 4600 else 1000.0 if now < 1000 else 300.0  # noqa: E731
    scripted = Scripted(Clock(), away)
    subscribed = scripted.run(6000)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    said, again = caplog.messages
    assert "no connection" in said
    assert "at the interval" in said
    assert "sends hints again" in again
    for secret in ("tk_hush", TOPIC):
        assert secret not in caplog.text
    attempts = [now for now, _ in scripted.asked if 1000 <= now < 4600]
    assert 3600 / LONGEST_PAUSE <= len(attempts) <= 3600 / LONGEST_PAUSE + 10
    assert subscribed.why == "the server ended the stream"
    assert scripted.asked[0] == (0.0, f"{EARLIER}s")
    assert scripted.asked[-1][1] == f"id{len(scripted.asked) - 1}"


def test_one_end_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    """A proxy that ends each stream after ten minutes."""
    caplog.set_level(logging.INFO)
    scripted = Scripted(Clock(), lambda _now: 600.0)
    scripted.run(86_400)
    assert caplog.messages == []
    assert len(scripted.asked) >= 86_400 // 610, "it is back after seconds"


def test_a_server_that_ends_each_stream_at_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    scripted = Scripted(Clock(), lambda _now: 0.0)
    scripted.run(86_400)
    assert len(scripted.asked) <= 86_400 / LONGEST_PAUSE + 10
    assert len(caplog.messages) <= 2 * 24


def test_who_was_asked_to_end_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def ends(_topic: Ntfy, _since: str) -> Iterator[Event]:
        yield from ()
        subscribed.stop()
        raise Ended("the server ended the stream")

    subscribed = Subscription(WHERE, lambda _text: None, ends)
    for _ in range(5):
        assert subscribed.once() == 0.0
    assert caplog.messages == []


def test_a_first_stream_that_comes_late_asks_for_all_since_the_start() -> None:
    scripted = Scripted(Clock(), lambda now: None if now < 500 else 1.0)
    scripted.run(600)
    now, since = next(each for each in scripted.asked if each[0] >= 500)
    assert since == f"{int(now) + EARLIER}s"
