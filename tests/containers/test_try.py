"""deploy/try/compose.yml by the commands of the README, as they stand there.

They need the ports 3001, 3002 and 8067 of this machine. podman-compose stands for `docker compose`,
and the image is the one that scripts/containers-test has built from the Dockerfile: to build it
from Kuma's own image needs a network.

The pictures of the README are made here: `REPLICATOR_TEST_PICTURES=docs/images
scripts/containers-test -k test_try` writes them anew.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.containers.podman import IMAGE, compose, inspect, logs, podman
from tests.containers.services import KUMA, PASSWORD, USER
from tests.support.chromium import picture
from tests.support.kuma_server import KumaClient, is_ready
from tests.support.tools import ROOT
from tests.support.waiting import wait_until

pytestmark = pytest.mark.containers

PROJECT = "replicator-try"
FILE = ROOT / "deploy" / "try" / "compose.yml"
LEADER, REPLICA, PAGE = (f"http://127.0.0.1:{port}" for port in (3001, 3002, 8067))
NAMED = "localhost/replicator-kuma:latest"


def typed(verb: str) -> list[str]:
    """What follows the file in the README's command with this verb."""
    found = re.findall(
        rf"(?m)^\$ docker compose -f deploy/try/compose\.yml ({verb}\b.*)$",
        (ROOT / "README.md").read_text(),
    )
    assert len(found) == 1, found
    return ["--no-build" if word == "--build" else word for word in shlex.split(found[0])]


def run(verb: str) -> None:
    compose([FILE], *typed(verb), environment={}, deadline=300)


def of(service: str) -> str:
    return f"{PROJECT}_{service}_1"


@pytest.fixture(scope="module")
def up() -> Iterator[None]:
    """Both are up and serve their first page."""
    before = podman("images", "--quiet", "--no-trunc", NAMED).split()
    podman("tag", IMAGE, NAMED)
    run("down")  # what an interrupted run left
    run("up")
    try:
        for service, url in (("leader", LEADER), ("replica", REPLICA)):

            def ready(service: str = service, url: str = url) -> bool:
                assert inspect(of(service))["State"]["Running"], logs(of(service))
                return is_ready(url)

            wait_until(ready, f"the {service}'s Kuma serves", deadline=180, every=0.3)
        yield
    finally:
        run("down")
        podman("tag", before[0], NAMED) if before else podman("untag", NAMED, NAMED)


@pytest.fixture(scope="module")
def user(up: None) -> None:
    """A person makes the first user on the leader, who can soon log in on the replica."""
    with KumaClient(LEADER) as leader:
        leader.setup(USER, PASSWORD)
    applied = re.compile(r"applied 1\.\d+ of leader")
    wait_until(lambda: applied.search(logs(of("replica"))), "the user arrives", 120, every=0.5)
    wait_until(lambda: is_ready(REPLICA), "the replica's Kuma is back", 120, every=0.3)


def kuma_s_process() -> str:
    """The replica's Kuma, by its process and when that began."""
    said = podman("exec", of("replica"), "sh", "-c", "cat /proc/[0-9]*/stat | grep '(node)'")
    return "\n".join(f"{line.split()[0]} {line.split()[21]}" for line in said.splitlines())


def test_a_monitor_of_the_leader_is_on_the_replica_live(user: None) -> None:
    before = kuma_s_process()
    with KumaClient(REPLICA) as there:
        there.login(USER, PASSWORD)
        with KumaClient(LEADER) as here:
            here.login(USER, PASSWORD)
            here.add_monitor("tried out", KUMA)

        def arrived() -> bool:
            return "tried out" in {str(one["name"]) for one in there.monitor_list().values()}

        wait_until(arrived, "it is on the replica's page", deadline=60, every=0.2)
    assert kuma_s_process() == before


def fleet() -> dict[str, str]:
    with suppress(OSError), urllib.request.urlopen(f"{PAGE}/api/v1/fleet", timeout=10) as answer:
        found = json.loads(answer.read())
        return {one["name"]: one["state"] for one in found["instances"]}
    return {}


def page() -> str:
    with urllib.request.urlopen(f"{PAGE}/", timeout=10) as answer:
        return str(answer.read().decode())


def test_the_page_shows_both(user: None) -> None:
    expected = {"leader": "equal", "replica": "equal"}
    wait_until(lambda: fleet() == expected, "they know one another", deadline=60, every=0.5)
    shown = page()
    assert "leader" in shown
    assert "replica" in shown


SERVICES = {"Wiki": f"{KUMA}", "Mail": "http://leader:8067/healthz", "Shop": "http://leader:9/"}
"""what the first person to try it might watch; nothing listens where the shop is"""


def test_the_page_tells_what_both_places_see(user: None) -> None:
    with KumaClient(LEADER) as leader:
        leader.login(USER, PASSWORD)
        for name, url in SERVICES.items():
            leader.add_monitor(name, url)

    def told() -> bool:
        return "«Shop» is down everywhere (2 of 2)." in page()

    wait_until(told, "both places have found the shop down", deadline=120, every=0.5)
    wait_until(lambda: fleet() == {"leader": "equal", "replica": "equal"}, "both are equal", 60)
    if folder := os.environ.get("REPLICATOR_TEST_PICTURES"):
        for scheme in ("light", "dark"):
            picture(f"{PAGE}/", Path(folder) / f"page-{scheme}.png", "1280,690", scheme)


def test_only_this_machine_reaches_it(up: None) -> None:
    for service in ("leader", "replica"):
        ports = inspect(of(service))["NetworkSettings"]["Ports"]
        published = {one["HostIp"] for bound in ports.values() for one in bound or ()}
        assert published == {"127.0.0.1"}


def test_the_password_is_made_once_and_is_the_owner_s_alone(user: None) -> None:
    shown = ["exec", of("leader"), "sh", "-c"]
    password = podman(*shown, "cat /shared/password")
    assert re.fullmatch(r"[0-9a-f]{48}", password)
    assert podman(*shown, "stat -c '%u %a' /shared/password") == "0 600\n"
    podman("start", "--attach", of("password"))  # as at the next `up`
    assert podman(*shown, "cat /shared/password") == password
    assert podman(*shown, "ls -A /shared").split() == ["password", "repository"]
    for service in ("password", "leader", "replica"):
        assert password not in logs(of(service))


def test_nothing_is_left(user: None) -> None:
    """The last one: it takes them down."""
    run("down")
    for kind in (["ps", "--all"], ["volume", "ls"], ["network", "ls"]):
        assert PROJECT not in podman(*kind)
