"""deploy/compose/sidecar.yml: the official image with nothing added, the replicator beside it.

The tests stand in an order: each goes on from the one before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.containers.podman import BASE_IMAGE, PodmanError, inspect, logs, podman
from tests.containers.services import (
    KUMA,
    PASSWORD,
    USER,
    Service,
    bring_up,
    names,
    stored,
    take_down,
    wait_ready,
)
from tests.support.kuma_server import KumaClient
from tests.support.waiting import wait_until

pytestmark = pytest.mark.containers


@pytest.fixture(scope="module")
def beside(
    tmp_path_factory: pytest.TempPathFactory, repository: Path, leader: Service
) -> Iterator[Service]:
    podman("start", leader.container)  # another module may have stopped it
    wait_ready(leader)
    folder = tmp_path_factory.mktemp("sidecar")
    service = bring_up("sidecar", folder, repository, beside=BASE_IMAGE)
    try:
        wait_ready(service)
        yield service
    finally:
        take_down(service)


def run_of(container: str) -> tuple[int, str]:
    """Which run of a container this is."""
    state = inspect(container)["State"]
    return state["Pid"], state["StartedAt"]


def changes(service: Service) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(service.replicator("status", "--json"))["changes"]
    return found


def add(leader: Service, name: str) -> None:
    """A person adds a monitor on the leader."""
    with KumaClient(leader.url) as page:
        page.login(USER, PASSWORD)
        page.add_monitor(name, KUMA)


def test_a_kuma_without_a_user_is_filled_as_it_runs(leader: Service, beside: Service) -> None:
    before = run_of(beside.kuma)
    add(leader, "beside")
    wait_until(lambda: "beside" in stored(beside), "the rows arrive", deadline=120, every=0.5)
    wait_until(lambda: changes(beside)["live_at"], "Kuma took them", deadline=60, every=0.5)
    assert run_of(beside.kuma) == before
    assert "started without a user" in changes(beside)["restart_due"]
    assert "needs one restart" in logs(beside.container)


def test_one_restart_by_a_person_ends_its_set_up_page(beside: Service) -> None:
    # podman restarts no container whose dependency has ended, and starts both
    podman("stop", "-t", "60", beside.kuma)
    podman("start", beside.kuma)
    wait_ready(beside)
    assert "beside" in names(beside)
    wait_until(lambda: not changes(beside)["restart_due"], "nothing is owed", 60, every=0.5)


def test_an_edit_arrives_without_a_restart(leader: Service, beside: Service) -> None:
    before = run_of(beside.kuma)
    add(leader, "later")
    wait_until(lambda: "later" in stored(beside), "the edit arrives", deadline=120, every=0.5)
    assert "later" in names(beside)
    assert run_of(beside.kuma) == before


def test_each_has_what_it_needs_and_no_more(beside: Service) -> None:
    def mounts(container: str) -> dict[str, bool]:
        return {one["Destination"]: one["RW"] for one in inspect(container)["Mounts"]}

    assert mounts(beside.kuma) == {"/app/data": True, "/agent": False, "/agent-socket": True}
    with pytest.raises(PodmanError, match="Read-only file system"):
        podman("exec", beside.kuma, "sh", "-c", "echo >>/agent/agent.cjs")
    assert podman("exec", beside.kuma, "stat", "-c", "%u %a", "/agent/agent.cjs") == "0 644\n"
    ours = mounts(beside.container)
    assert {"/app/data", "/agent-socket"} <= ours.keys()
    assert not [place for place in ours if "agent" in place and place != "/agent-socket"]
    assert not [place for place in ours if "docker" in place or "podman" in place]
    folder = podman("exec", beside.container, "stat", "-c", "%u %a", "/agent-socket")
    assert folder == "0 700\n"
    assert set(inspect(beside.container)["EffectiveCaps"]) == {
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
    }


def test_doctor_finds_the_agent_in_place(beside: Service) -> None:
    found = json.loads(beside.replicator("doctor", "--json"))["findings"]
    assert [one["level"] for one in found if one["check"] == "changes"] == ["OK"]
