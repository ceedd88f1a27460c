"""A real Prometheus reads an instance as docs/dashboards.md says.

What it then has is what alert rules and the dashboard ask for: their labels, after Prometheus has
put its own beside them, and their joins.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from replicator_kuma.config.settings import Settings
from replicator_kuma.reports.http.metric_families import FAMILIES, PREFIX
from tests.deploy.files import QUERIES, snippet
from tests.reports.http.conftest import TOKEN, Client
from tests.support.prometheus import Prometheus, promtool, running
from tests.support.tools import ROOT
from tests.support.waiting import wait_until


@pytest.fixture
def config(tmp_path: Path, guarded: Client) -> Path:
    """The page's prometheus.yml: another address, and every second."""
    found: dict[str, Any] = yaml.safe_load(snippet("prometheus.yml"))
    folder = tmp_path / "prometheus"
    folder.mkdir()
    (folder / "rules.yml").write_text((ROOT / "deploy" / "prometheus" / "rules.yml").read_text())
    (folder / "token").write_text(TOKEN + "\n")  # as an editor leaves it
    (scrape,) = found["scrape_configs"]
    scrape["authorization"]["credentials_file"] = str(folder / "token")
    first, second = scrape["static_configs"]
    first["targets"] = [f"127.0.0.1:{guarded.port}"]
    second["targets"] = ["127.0.0.1:1"]  # nobody is there
    found["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(found))
    return path


@pytest.fixture
def prometheus(config: Path, full: Settings) -> Iterator[Prometheus]:
    promtool(config.parent, "check", "config", config.name)
    with running(config.parent, config) as server:
        wait_until(
            lambda: [
                value
                for labels, value in server.values("count_over_time(up[1h])")
                if labels["instance"] == "fra-1" and value >= 3
            ],
            "three scrapes",
        )
        yield server


def active(server: Prometheus) -> set[tuple[str, str]]:
    """The alerts that have come or will once their time is over, and whose they are."""
    (group,) = server.ask("rules")["groups"]
    assert {rule["health"] for rule in group["rules"]} == {"ok"}
    return {
        (alert["labels"]["alertname"], alert["labels"].get("instance", ""))
        for rule in group["rules"]
        for alert in rule["alerts"]
    }


def test_dashboard_and_rules_find_what_they_ask_for(prometheus: Prometheus) -> None:
    assert {x["instance"]: v for x, v in prometheus.values("up")} == {"fra-1": 1, "nyc-1": 0}
    for family in FAMILIES:
        (first, *_rest) = prometheus.values(PREFIX + family.name)
        assert first[0]["instance"] == "fra-1", family.name
    assert prometheus.values('replicator_kuma_instance_info{exported_instance="here"}')
    for query in QUERIES:
        found = prometheus.values(query["expr"].replace("$instance", ".*"))
        assert found, query["expr"]
    rules = {
        "Down": "nyc-1",
        "Stale": "fra-1",
        "Failing": "fra-1",
        "Behind": "fra-1",
        "DrillOld": "fra-1",
        "RepositoryDamaged": "fra-1",
        "PlaceAway": "fra-1",
    }
    wanted = {(f"ReplicatorKuma{name}", instance) for name, instance in rules.items()}
    wait_until(lambda: active(prometheus) == wanted or None, f"alerts: {sorted(wanted)}")
