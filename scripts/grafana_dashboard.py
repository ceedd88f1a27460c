"""The Grafana dashboard, deploy/grafana/replicator-kuma.json.

`python -m scripts.grafana_dashboard --write` writes it; a test compares. To change the dashboard,
change PANELS here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from scripts.grafana_form import (
    GREEN,
    ORANGE,
    RED,
    WIDTH,
    Panel,
    Query,
    graph,
    mapped,
    override,
    placed,
    row,
    steps,
    table,
    variable,
)

FILE = Path(__file__).resolve().parents[1] / "deploy" / "grafana" / "replicator-kuma.json"

HERE = 'instance=~"$instance"'
"""The label `instance` that Prometheus gives, not the metrics' own: all series have it."""
OF_FLEET = f"* on (job, instance) group_left (fleet) replicator_kuma_instance_info{{{HERE}}}"


def here(metric: str, *labels: str) -> str:
    """A metric of the chosen instances."""
    return f"replicator_kuma_{metric}{{{', '.join((HERE, *labels))}}}"


def each(metric: str, *labels: str, by: str = "instance") -> str:
    """The same, with the labels ``by`` alone."""
    return f"max by ({by}) ({here(metric, *labels)})"


def hour(metric: str, by: str) -> str:
    """By how much a counter grew in the hour before."""
    return f"sum by ({by}) (increase({here(metric)}[1h]))"


CHECKED = "repository_last_check_timestamp_seconds"
CYCLE, DRILL = 'exported_job="cycle"', 'exported_job="drill"'
OLD = {
    "unit": "s",
    "thresholds": steps(GREEN, (1800, RED)),
    "custom__cellOptions": {"type": "color-text"},
}

PANELS = (
    row("At a glance"),
    Panel(
        "stat",
        "Instances in each state",
        "How many of the chosen instances are so. All zeros and green: nothing is to be done.",
        (
            Query(f'count(up{{job="replicator-kuma", {HERE}}} == 0) or vector(0)', "no answer"),
            Query(f"count({here('last_run_success', CYCLE)} == 0) or vector(0)", "cycles fail"),
            Query(f"sum({here('fenced')})", "fenced"),
            Query(f"sum({here('shrink_refused')})", "refuse a snapshot"),
            Query(f"sum({here('repository_damaged')}) or vector(0)", "damaged repositories"),
            Query(f"count({here('last_run_success', DRILL)} == 0) or vector(0)", "drill failed"),
            Query(f"count({here('snapshots_behind')} > 0) or vector(0)", "behind"),
            Query(f"sum({here('holding')})", "held by a person"),
            Query(f"sum({here('drift')})", "rows differ"),
            Query(f"sum({here('unconfirmed')})", "not confirmed by Kuma"),
        ),
        width=WIDTH,
        height=4,
        defaults={"thresholds": steps(GREEN, (1, RED)), "unit": "short"},
        overrides=[
            override(name, thresholds=steps(GREEN, (1, ORANGE)))
            for name in ("behind", "held by a person", "rows differ", "not confirmed by Kuma")
        ],
        options={
            "colorMode": "background",
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "value_and_name",
            "wideLayout": True,
        },
    ),
    table(
        "Instances",
        "One line for each: what it is, what it holds, when a cycle last went well.",
        ("instance", "role", "state"),
        [
            ("", each("instance_info", by="instance, role")),
            ("", f"max by (instance, state) ({here('kuma_state')} == 1)"),
            ("epoch", each("position_epoch", 'which="held"')),
            ("sequence", each("position_sequence", 'which="held"')),
            ("behind", each("snapshots_behind")),
            ("last success", f"time() - {each('last_success_timestamp_seconds', CYCLE)}"),
            ("last drill", f"time() - {each('last_run_timestamp_seconds', DRILL)}"),
            ("drill went well", each("last_run_success", DRILL)),
        ],
        [
            override("state", displayName="Kuma"),
            override(
                "behind",
                thresholds=steps(GREEN, (1, ORANGE)),
                **{"custom__cellOptions": {"type": "color-text"}},
            ),
            override("last success", **OLD),
            override("last drill", unit="s"),
            override(
                "drill went well",
                mappings=mapped(_1=("yes", GREEN), _0=("no", RED)),
                custom__cellOptions={"type": "color-text"},
            ),
        ],
        height=6,
    ),
    row("Replication"),
    graph(
        "Position, held and newest",
        "The sequence of the snapshot that an instance holds, and of the newest that it has seen. "
        "It begins anew with each epoch (on the right), which a promote opens.",
        Query(each("position_sequence", by="instance, which"), "{{instance}} {{which}}"),
        Query(each("position_epoch", 'which="held"'), "{{instance}} epoch"),
        overrides=[
            {
                "matcher": {"id": "byRegexp", "options": "/ epoch$/"},
                "properties": [
                    {"id": "custom.axisPlacement", "value": "right"},
                    {"id": "custom.lineStyle", "value": {"dash": [4, 4], "fill": "dash"}},
                    {"id": "decimals", "value": 0},
                ],
            }
        ],
    ),
    graph(
        "Snapshots behind",
        "Snapshots that are newer than the one that is held.",
        Query(each("snapshots_behind"), "{{instance}}"),
    ),
    graph(
        "Age of the last success",
        "How long ago a cycle, a drill and housekeeping last went well.",
        Query(
            f"time() - {each('last_success_timestamp_seconds', by='instance, exported_job')}",
            "{{instance}} {{exported_job}}",
        ),
        unit="s",
    ),
    graph(
        "Cycles by outcome",
        "In the hour before.",
        Query(hour("cycles_total", "outcome"), "{{outcome}}"),
        bars=True,
    ),
    graph(
        "Errors by kind",
        "Failed cycles since run began, by the class of the error: the README's table of exit "
        "codes explains them.",
        Query(f"sum by (instance, kind) ({here('cycle_errors_total')})", "{{instance}} {{kind}}"),
    ),
    graph(
        "Duration of a cycle",
        "How long the last one took.",
        Query(each("cycle_duration_seconds"), "{{instance}}"),
        unit="s",
    ),
    row("Uptime Kuma"),
    graph(
        "Changes applied live",
        "In the hour before; restarted: the running Uptime Kuma could not take them after all.",
        Query(hour("live_applies_total", "result"), "{{result}}"),
        bars=True,
    ),
    graph(
        "Restarts of Uptime Kuma",
        "For a change, in the hour before.",
        Query(hour("kuma_restarts_total", "instance"), "{{instance}}"),
        bars=True,
    ),
    graph(
        "Uptime Kuma down",
        "Seconds for which it was stopped for changes, in the hour before.",
        Query(hour("kuma_down_seconds_total", "instance"), "{{instance}}"),
        unit="s",
        bars=True,
    ),
    row("Repository and recovery"),
    table(
        "Repositories",
        "As each instance sees them. Size, snapshots and checks are the leader's, of its last "
        "housekeeping.",
        ("instance", "repository"),
        [
            ("answers", each("repository_up", by="instance, repository")),
            ("size", each("repository_bytes", by="instance, repository")),
            ("snapshots", each("repository_snapshots", by="instance, repository")),
            ("last check", f"time() - {each(CHECKED, by='instance, repository')}"),
            ("damaged", each("repository_damaged", by="instance, repository")),
        ],
        [
            override(
                "answers",
                mappings=mapped(_1=("yes", GREEN), _0=("no", RED)),
                custom__cellOptions={"type": "color-text"},
            ),
            override("size", unit="bytes"),
            override("last check", unit="s"),
            override(
                "damaged",
                mappings=mapped(_0=("no", GREEN), _1=("yes", RED)),
                custom__cellOptions={"type": "color-text"},
            ),
        ],
        height=6,
    ),
    graph(
        "Size of the repository",
        "All data in it, of all fleets that share it.",
        Query(each("repository_bytes", by="instance, repository"), "{{instance}} {{repository}}"),
        unit="bytes",
    ),
    graph(
        "Seconds of restic",
        "By its command, in the hour before.",
        Query(hour("restic_seconds_total", "command"), "{{command}}"),
        unit="s",
        bars=True,
    ),
    graph(
        "Seconds of a drill",
        "By its step: together they are how long a recovery takes.",
        Query(each("drill_seconds", by="instance, step"), "{{instance}} {{step}}"),
        unit="s",
    ),
    row("Fleet"),
    Panel(
        "state-timeline",
        "Peers",
        "Whether each instance is heard by all others.",
        (Query(f"min by (fleet, peer) ({here('peer_up')} {OF_FLEET})", "{{fleet}} {{peer}}"),),
        defaults={
            "custom": {"fillOpacity": 70, "lineWidth": 0},
            "mappings": mapped(_1=("heard", GREEN), _0=("silent", RED)),
        },
        options={
            "alignValue": "left",
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
            "mergeValues": True,
            "rowHeight": 0.8,
            "showValue": "auto",
            "tooltip": {"mode": "single", "sort": "none"},
        },
    ),
    graph(
        "Monitors by verdict",
        "What the instances say together: down by the quorum, partial in some places only, "
        "unknown where nobody can tell.",
        Query(
            f"max by (fleet, verdict) ({here('fleet_monitors')} {OF_FLEET})",
            "{{fleet}} {{verdict}}",
        ),
    ),
    graph(
        "Messages",
        "Since run began: those that were sent, and those that were not.",
        Query(
            f"sum by (instance, target, result) ({here('notifications_total')})",
            "{{instance}} {{target}} {{result}}",
        ),
    ),
)
"""in the order of the page"""


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    info = "replicator_kuma_instance_info"
    return {
        "annotations": {"list": []},
        "description": "Replication of Uptime Kuma: instances, repositories, drills, the fleet.",
        "editable": True,
        "graphTooltip": 1,
        "id": None,
        "links": [],
        "panels": placed(PANELS),
        "refresh": "1m",
        "schemaVersion": 39,  # of 10.4; later ones bring it up to date as they load it
        "tags": ["uptime-kuma", "replicator-kuma"],
        "templating": {
            "list": [
                {
                    "includeAll": False,
                    "label": "Prometheus",
                    "multi": False,
                    "name": "datasource",
                    "options": [],
                    "query": "prometheus",
                    "refresh": 1,
                    "type": "datasource",
                },
                variable("fleet", "Fleet", f"label_values({info}, fleet)"),
                variable(
                    "instance", "Instance", f'label_values({info}{{fleet=~"$fleet"}}, instance)'
                ),
            ]
        },
        "time": {"from": "now-24h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "title": "replicator-kuma",
        "uid": "replicator-kuma",
        "version": 1,
    }


def text() -> str:
    """The file."""
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python -m scripts.grafana_dashboard --write")
    FILE.write_text(text())
