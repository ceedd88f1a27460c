"""The Grafana dashboard: in Grafana's form, and over metrics that there are."""

from __future__ import annotations

import itertools
from pathlib import Path

import yaml

from scripts.grafana_dashboard import FILE, text
from scripts.grafana_form import WIDTH
from tests.deploy.files import BOARD, PANELS, QUERIES
from tests.deploy.names import known_labels
from tests.support.prometheus import promtool, selectors


def test_the_file_is_what_the_script_makes() -> None:
    assert FILE.read_text() == text()


def test_each_panel_has_its_own_id_and_place() -> None:
    assert BOARD["schemaVersion"] >= 36  # before it, a data source was a name
    assert BOARD["id"] is None  # Grafana gives one at import
    ids = [panel["id"] for panel in PANELS]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= WIDTH
        cells = set(
            itertools.product(
                range(place["x"], place["x"] + place["w"]),
                range(place["y"], place["y"] + place["h"]),
            )
        )
        assert not cells & taken, panel["title"]
        taken |= cells


def test_each_panel_says_what_it_shows_of_the_chosen_instances() -> None:
    for panel in PANELS:
        if panel["type"] == "row":
            continue
        assert panel["title"], panel
        assert panel["description"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        refs = [query["refId"] for query in panel["targets"]]
        assert refs
        assert len(set(refs)) == len(refs)
    for query in QUERIES:
        assert query["datasource"]["uid"] == "${datasource}"
        assert query["expr"].count('instance=~"$instance"') >= len(
            selectors(query["expr"])
        ) > 0 or (
            query["expr"].startswith('count(up{job="replicator-kuma", instance=~"$instance"}')
        )


def test_variables_choose_data_source_fleet_and_instance() -> None:
    variables = {one["name"]: one for one in BOARD["templating"]["list"]}
    assert list(variables) == ["datasource", "fleet", "instance"]
    for name in ("fleet", "instance"):
        query = variables[name]["query"]["query"]
        known_labels(query)
        assert query.endswith(f", {name})")


def test_queries_and_legends_name_metrics_and_labels_that_there_are() -> None:
    for query in QUERIES:
        known = known_labels(query["expr"])
        for legend in query["legendFormat"].split("{{")[1:]:
            assert legend.split("}}")[0] in known, query


def test_a_column_s_name_is_that_of_a_query_or_label() -> None:
    """What overrides and the order of columns are about exists in their table."""
    for panel in PANELS:
        if panel["type"] != "table":
            continue
        _merge, organize = panel["transformations"]
        values = [f"Value #{query['refId']}" for query in panel["targets"]]
        shown = organize["options"]["renameByName"]
        excluded = organize["options"]["excludeByName"]
        labels = set().union(*(known_labels(query["expr"]) for query in panel["targets"]))
        assert sorted([*shown, *(name for name in excluded if name != "Time")]) == values
        for override in panel["fieldConfig"]["overrides"]:
            assert override["matcher"]["options"] in {*shown.values(), *labels}


def test_promtool_reads_each_query(tmp_path: Path) -> None:
    rules = [
        {"record": f"query:{number}", "expr": expr.replace("$instance", "fra-1|nyc-1")}
        for number, expr in enumerate(query["expr"] for query in QUERIES)
    ]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool(tmp_path, "check", "rules", file.name)
