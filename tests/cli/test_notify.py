"""`replicator notify`, and what `doctor` says of each target."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.cli.conftest import World
from tests.support.targets import Checks, GotifyServer, PushMonitor, Receiver


@dataclass
class Servers:
    gotify: GotifyServer
    receiver: Receiver
    checks: Checks
    monitor: PushMonitor


@pytest.fixture
def servers(world: World) -> Iterator[Servers]:
    """One of each kind, all in REPLICATOR_NOTIFY."""
    with (
        contextlib.closing(GotifyServer()) as gotify,
        contextlib.closing(Receiver()) as receiver,
        contextlib.closing(Checks()) as checks,
        contextlib.closing(PushMonitor()) as monitor,
    ):
        urls = (gotify.target, receiver.target, checks.target, monitor.target)
        world.monkeypatch.setenv("REPLICATOR_NOTIFY", "\n".join(urls))
        yield Servers(gotify, receiver, checks, monitor)


def test_a_test_message_goes_to_each_target_and_is_no_signal(
    world: World, servers: Servers
) -> None:
    world.monkeypatch.setenv("REPLICATOR_TELL", "drills")
    done = world.on_leader("notify", "--test")
    assert done.code == 0
    assert done.out.splitlines() == [
        f"gotify at {servers.gotify.address}: sent",
        f"webhook at {servers.receiver.address}: sent",
        f"ping at {servers.checks.address}: sent",
        f"kuma at {servers.monitor.address}: not tried: all that it gets is a beat",
    ]
    (text,) = servers.gotify.messages
    assert "test message" in text
    assert [content["message"] for content in servers.receiver.taken] == [text]
    assert (servers.checks.signals, servers.monitor.heard) == (["log"], [])


def test_one_that_refuses_is_named_and_the_others_get_theirs(
    world: World, servers: Servers
) -> None:
    servers.gotify.statuses = [401]
    done = world.on_leader("notify", "--test", "--json")
    assert done.code == 31
    found = {row["target"].split()[0]: row for row in json.loads(done.out)["targets"]}
    assert found["gotify"]["sent"] is False
    assert "does not accept the token" in found["gotify"]["problem"]
    assert (found["webhook"]["sent"], found["kuma"]["sent"]) == (True, None)
    servers.gotify.statuses = [401]
    done = world.on_leader("notify", "--test")
    assert done.code == 31
    assert "1 of 4 did not take a test: gotify at 127.0.0.1" in done.err


def test_without_the_option_nothing_is_sent(world: World, servers: Servers) -> None:
    done = world.on_leader("notify")
    assert done.code == 0
    assert [line.rpartition(": ")[2] for line in done.out.splitlines()] == [
        "gets messages",
        "gets messages",
        "gets pings",
        "gets pings",
    ]
    for server in (servers.gotify, servers.receiver, servers.checks, servers.monitor):
        assert server.heard == []
    world.monkeypatch.delenv("REPLICATOR_NOTIFY")
    assert "nobody is told" in world.on_leader("notify").out


def test_doctor_tries_each_target_without_a_message(published: World, servers: Servers) -> None:
    sent = [*servers.gotify.messages]
    done = published.on_leader("doctor", "--json")
    findings = json.loads(done.out)["findings"]
    (told,) = [f["message"] for f in findings if f["check"] == "notifications"]
    assert told == "told: gotify, webhook, ping, kuma"
    said = {
        f["message"].split()[0]: (f["level"], f["message"].partition(": ")[2])
        for f in findings
        if f["check"] == "notification targets"
    }
    assert said["gotify"] == ("OK", "it takes the token")
    assert said["webhook"][0] == "OK"
    assert "replicator notify --test" in said["webhook"][1]
    assert said["ping"] == ("OK", "it knows the check")
    assert said["kuma"][0] == "OK"
    assert servers.gotify.messages == sent
    servers.gotify.statuses = [401]
    done = published.on_leader("doctor")
    assert f"WARN notification targets: gotify at {servers.gotify.address}: HTTP 401" in done.out


def test_cron_s_commands_ping_and_tell(published: World, servers: Servers) -> None:
    """Each runs in a process of its own, and ends soon after its message."""
    heard = len(servers.checks.heard)
    assert published.on_replica("restore").code == 0
    assert servers.checks.signals[heard:] == ["start", "success"]
    (published.folder / "repository").rename(published.folder / "away")
    assert published.on_replica("restore").code == 8
    assert servers.checks.signals[heard:] == ["start", "success", "start", "8"]
    assert servers.monitor.beats[-2:][0][0] == "up"
    assert servers.monitor.beats[-1][0] == "down"
    assert "there is no repository" in servers.gotify.messages[-1]
