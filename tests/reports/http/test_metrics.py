"""`/metrics`: what Prometheus reads, by promtool where it is installed."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from replicator_kuma.base import counters
from replicator_kuma.base.counters import Counters
from replicator_kuma.config.settings import Settings
from replicator_kuma.replication.instance import Outcome
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.records import Last
from replicator_kuma.reports.http.metric_families import FAMILIES, PREFIX
from tests.reports.http.conftest import BEARER, Client, Serve
from tests.reports.http.stand_in import NOW, exchange
from tests.support.prometheus import need
from tests.support.states import edit_state


def families(client: Client) -> dict[str, Metric]:
    """By the name as docs/api.md has it."""
    answer = client.get("/metrics", BEARER)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = list(text_string_to_metric_families(answer.body.decode()))
    ending = {"counter": "_total"}
    return {
        family.name.removeprefix(PREFIX) + ending.get(family.type, ""): family for family in found
    }


def value(found: dict[str, Metric], name: str, **labels: str) -> float:
    (sample,) = [sample for sample in found[name].samples if sample.labels == labels]
    return sample.value


def test_every_metric_says_what_is_known(guarded: Client, full: Settings) -> None:
    found = families(guarded)
    assert list(found) == [family.name for family in FAMILIES]
    assert all(family.samples for family in found.values())
    for name, labels, wanted in (
        ("position_epoch", {"which": "held"}, 2),
        ("position_sequence", {"which": "held"}, 6),
        ("position_sequence", {"which": "newest"}, 8),
        ("snapshots_behind", {}, 1),
        ("last_run_timestamp_seconds", {"job": "cycle"}, 1000),
        ("last_success_timestamp_seconds", {"job": "cycle"}, 900),
        ("last_run_success", {"job": "cycle"}, 0),
        ("last_run_success", {"job": "drill"}, 1),
        ("last_success_timestamp_seconds", {"job": "housekeeping"}, 600),
        ("drift", {}, 1),
        ("fenced", {}, 0),
        ("kuma_state", {"state": "ready"}, 1),
        ("kuma_state", {"state": "stopped"}, 0),
        ("litestream_up", {}, 1),
        ("litestream_sync_timestamp_seconds", {}, 950),
        ("litestream_restarts_total", {}, 0),
        ("repository_up", {"repository": "repository"}, 0),
        ("repository_bytes", {"repository": "repository"}, 1_200_000),
        ("repository_snapshots", {"repository": "repository"}, 14),
        ("repository_last_check_timestamp_seconds", {"repository": "repository"}, 590),
        ("repository_damaged", {"repository": "repository"}, 1),
        ("drill_seconds", {"step": "fetch"}, 1.5),
        ("peer_up", {"peer": "peer-1"}, 1),
        ("peer_contact_timestamp_seconds", {"peer": "peer-2"}, NOW),
        ("place_votes", {"place": "here"}, 1),
        ("place_votes", {"place": "peer-1"}, 1),
        ("fleet_monitors", {"verdict": "down"}, 1),
        ("fleet_monitors", {"verdict": "up"}, 2),
        ("cycles_total", {"outcome": "applied"}, 2.5),
        ("kuma_restarts_total", {}, 2.5),
        ("notifications_total", {"target": "ntfy", "result": "sent"}, 2.5),
    ):
        assert value(found, name, **labels) == wanted, name
    assert found["instance_info"].samples[0].labels == {
        "instance": "here",
        "fleet": "default",
        "role": "replica",
    }


def test_places_that_may_not_vote_are_told(serve: Serve) -> None:
    told = exchange(peers=4)
    here, silent, lost, blind, fine = told.judged.instances
    told.judged = replace(
        told.judged,
        instances=(
            here,
            replace(silent, state="silent"),
            replace(lost, isolated=True),
            replace(blind, unreadable=True),
            fine,
        ),
    )
    found = families(serve(told))
    places = (here, silent, lost, blind, fine)
    votes = [value(found, "place_votes", place=one.name) for one in places]
    assert votes == [1, 0, 0, 0, 1]
    assert value(found, "peer_up", peer=blind.name) == 1


def test_promtool_finds_nothing_wrong(guarded: Client, full: Settings) -> None:
    promtool = need("promtool")
    text = guarded.get("/metrics", BEARER).body
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_a_new_instance_has_metrics_too(guarded: Client, counted: Counters) -> None:
    found = families(guarded)
    assert value(found, "fenced") == 0
    assert found["drill_seconds"].samples == []
    assert found["cycle_duration_seconds"].samples == []


def test_a_cycle_that_only_waited_did_not_go_well(guarded: Client, full: Settings) -> None:
    """As `status --fresh` has it: else a replica without a leader would never be stale."""
    edit_state(
        StateFile(full.state_dir), last=Last(2000.0, True, "waiting", "waiting"), last_ok_at=2000.0
    )
    found = families(guarded)
    assert value(found, "last_run_success", job="cycle") == 1
    samples = found["last_success_timestamp_seconds"].samples
    assert {one.labels["job"] for one in samples} == {"drill", "housekeeping"}


def test_what_can_be_counted_begins_at_zero(guarded: Client, counted: Counters) -> None:
    """Prometheus sees no growth in a series that begins at 1."""
    for known in (None, "failed"):
        if known:
            counted.add(counters.CYCLES, outcome=known)
        found = families(guarded)
        for name, label, wanted in (
            ("cycles_total", "outcome", {outcome.value for outcome in Outcome} | {"failed"}),
            ("changes_total", "action", {"added", "changed", "replaced", "deleted"}),
            ("live_applies_total", "result", {"live", "restarted"}),
        ):
            samples = {one.labels[label]: one.value for one in found[name].samples}
            assert samples == {one: float(one == known) for one in wanted}
        assert value(found, "kuma_restarts_total") == 0
        assert value(found, "kuma_down_seconds_total") == 0


def test_a_large_fleet_has_as_many_series_as_a_small_one(serve: Serve, full: Settings) -> None:
    sizes = []
    for monitors in (3, 1000):
        text = serve(exchange(monitors)).get("/metrics").body.decode()
        assert "Shop" not in text
        sizes.append(len(text.splitlines()))
    assert sizes[0] == sizes[1]


def test_names_follow_prometheus_conventions() -> None:
    for family in FAMILIES:
        assert re.fullmatch(r"[a-z][a-z_]*[a-z]", family.name)
        assert family.help
        assert not {"monitor", "name", "url"} & set(family.labels)


def test_counters_count_by_labels() -> None:
    made = Counters()
    made.add("x", kind="a", other="b")
    made.add("x", 2, other="b", kind="a")
    made.add("x", kind="c", other="b")
    made.set("y", 5)
    made.set("y", 4)
    assert made.of("x") == {
        (("kind", "a"), ("other", "b")): 3,
        (("kind", "c"), ("other", "b")): 1,
    }
    assert made.of("y") == {(): 4}
    assert made.of("z") == {}
