"""Page, `replicator fleet`, API and metrics say the same of an outage, in time, at each place.

Three real Kumas in networks of their own: a site goes down for all, for one place, a replica loses
a monitor, a place's cable is cut, an instance is killed.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from replicator_kuma.reports.fleet.missing import AFTER
from tests.support import html_tree
from tests.support.three_places import NAMES, ThreePlaces
from tests.support.tools import ToolMissingError
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kuma, pytest.mark.restic, pytest.mark.slow]

SHOP, WIKI = "Shop checkout", "Wiki"
DOWN, UP = 0, 1
SOON = 10.0
"""seconds from the last voter's heartbeat until all say it"""
LATER = 20.0
"""the same for a place that does not answer any more"""
A_BEAT = 60.0


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreePlaces]:
    monitors = {SHOP: "/shop", WIKI: "/wiki", **{f"site {n}": f"/{n}" for n in range(6)}}
    try:
        with ThreePlaces(tmp_path_factory.mktemp("places"), monitors) as made:
            yield made
    except ToolMissingError as error:
        pytest.skip(str(error))


def beaten(fleet: ThreePlaces, monitor: str, status: int, *names: str) -> None:
    """Wait for the last of these places' Kumas to store a heartbeat of this status."""
    for name in names or NAMES:
        wait_until(
            lambda place=fleet[name]: place.beaten(monitor, status),  # type: ignore[misc]
            f"{name} beats {status} for {monitor}",
            A_BEAT,
        )


def timeless(text: str) -> str:
    """Without the durations, which go on from one look to the next."""
    return re.sub(r"\d+ (min|h|d|s)( \d+ (min|h|s))?", "a while", text)


def sentences(fleet: ThreePlaces, *names: str) -> None:
    """Each place's page, terminal, API and metrics tell one thing."""
    for name in names or NAMES:
        place = fleet[name]
        told = place.fleet()
        said = timeless(told["sentence"])
        assert timeless(place.told().stdout).startswith(said)
        assert timeless(json.loads(place.told("--json").stdout)["sentence"]) == said
        assert timeless(place.get("/api/v1/summary").json()["sentence"]) == said
        assert timeless(html_tree.read(place.get("/").text).one("h1").text).endswith(said)
        verdicts = [found["verdict"] for found in told["monitors"]]
        metrics = place.metrics()
        for verdict in ("up", "down", "partial", "unknown"):
            counted = metrics[f'replicator_kuma_fleet_monitors{{verdict="{verdict}"}}']
            assert counted == verdicts.count(verdict)


def test_all_is_well(fleet: ThreePlaces) -> None:
    for monitor in (SHOP, WIKI):
        beaten(fleet, monitor, UP)
        fleet.all_say(monitor, SOON, verdict="up", voters=list(NAMES), down_in=[])
    sentences(fleet)


def test_a_site_is_down_for_all(fleet: ThreePlaces) -> None:
    fleet.sites.down.add("/shop")
    beaten(fleet, SHOP, DOWN)
    fleet.all_say(SHOP, SOON, verdict="down", down_in=list(NAMES))
    sentences(fleet)
    for name in NAMES:
        assert f"«{SHOP}» is down everywhere (3 of 3)" in fleet[name].fleet()["sentence"]
    fleet.sites.down.clear()
    beaten(fleet, SHOP, UP)
    fleet.all_say(SHOP, SOON, verdict="up", down_in=[])


def test_a_site_is_down_for_one(fleet: ThreePlaces) -> None:
    fleet.sites.unreachable.add((fleet["fra-1"].address, "/wiki"))
    beaten(fleet, WIKI, DOWN, "fra-1")
    fleet.all_say(WIKI, SOON, verdict="partial", down_in=["fra-1"])
    sentences(fleet)
    for name in NAMES:
        assert f"«{WIKI}» is down in fra-1 only (1 of 3)" in fleet[name].fleet()["sentence"]
    fleet.sites.unreachable.clear()
    beaten(fleet, WIKI, UP)
    fleet.all_say(WIKI, SOON, verdict="up", down_in=[])


def test_a_monitor_that_a_replica_lost_is_missing_until_its_rows_are_back(
    fleet: ThreePlaces,
) -> None:
    nyc, leader, new = fleet["nyc-1"], fleet["fra-1"], "New"
    wiki = leader.monitor(WIKI)["id"]
    with nyc.there(), closing(nyc.side.page()) as client:
        client.delete_monitor(wiki)
    fleet.all_say(WIKI, AFTER + A_BEAT, verdict="up", missing_in=["nyc-1"])
    said = f"«{WIKI}» is missing in nyc-1. nyc-1: rows differ from snapshot 1."
    for name in NAMES:
        assert fleet[name].fleet()["sentence"].startswith(said)
        assert fleet[name].get("/api/v1/summary").json()["sentence"].startswith(said)
    shown = html_tree.read(leader.get("/").text)
    assert said in shown.one("h1").text
    assert "1 missing somewhere" in shown.one(class_="counts").text
    assert "missing in nyc-1" in shown.one("table", class_="grid").text
    told = nyc.told()
    assert told.returncode == 1
    assert "missing in nyc-1" in told.stdout
    nyc.side.command("restore", "--now")
    fleet.all_say(WIKI, SOON, missing_in=[])
    with leader.there(), closing(leader.side.page()) as client:
        client.add_monitor(new, f"{fleet.sites.url}/new")
    fleet.all_say(new, A_BEAT, verdict="up", voters=list(NAMES), missing_in=[], missing_since=None)


def test_a_cable_is_cut(fleet: ThreePlaces) -> None:
    """The cut place votes nowhere and says why; the others go on with a quorum of their own."""
    fleet.network.cut("sgp-1")
    _is_silent(fleet, "sgp-1")
    fleet.all_say(SHOP, SOON, "fra-1", "nyc-1", voters=["fra-1", "nyc-1"], verdict="up")
    beaten(fleet, SHOP, DOWN, "sgp-1")
    wait_until(
        lambda: fleet["sgp-1"].get("/api/v1/monitors").json()["isolated"],
        "sgp-1 sees that it is isolated",
        A_BEAT,
    )
    fleet.says("sgp-1", SHOP, SOON, verdict="unknown", voters=[])
    fleet.all_say(SHOP, SOON, "fra-1", "nyc-1", verdict="up", down_in=[])
    fleet.network.cut("sgp-1", off=False)
    beaten(fleet, SHOP, UP)
    fleet.all_say(SHOP, LATER, verdict="up", voters=list(NAMES))


def test_an_instance_is_killed(fleet: ThreePlaces) -> None:
    fleet["nyc-1"].side.kill()
    _is_silent(fleet, "nyc-1")
    fleet.all_say(SHOP, SOON, "fra-1", "sgp-1", voters=["fra-1", "sgp-1"], verdict="up")
    sentences(fleet, "fra-1", "sgp-1")
    fleet.restart("nyc-1")
    beaten(fleet, SHOP, UP, "nyc-1")
    fleet.all_say(SHOP, A_BEAT, verdict="up", voters=list(NAMES))


def _is_silent(fleet: ThreePlaces, gone: str) -> None:
    began = time.monotonic()
    for name in NAMES:
        if name != gone:
            wait_until(
                lambda place=fleet[name]: place.place(gone)["state"] == "silent",  # type: ignore[misc]
                f"{name} says that {gone} is silent",
                began + LATER - time.monotonic(),
            )
            assert gone in fleet[name].fleet()["sentence"]
    print(f"{time.monotonic() - began:4.1f} s: the others say that {gone} is silent")
