"""docs/dashboards.md: what is to be copied from it can be used as it stands."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from replicator_kuma.reports.http.access import UNGUARDED
from tests.deploy.files import PAGE, snippet
from tests.support.tools import ROOT

SCHEMA = json.loads(
    (ROOT / "replicator_kuma" / "reports" / "http" / "schema" / "summary.json").read_text()
)


def test_homepage_shows_fields_of_the_summary() -> None:
    service: dict[str, Any] = yaml.safe_load(snippet("services.yaml"))[0]
    widget = service["Monitoring"][0]["Uptime Kuma replication"]["widget"]
    assert widget["type"] == "customapi"
    assert widget["url"].endswith(":8067/api/v1/summary")
    assert widget["headers"] == {"Authorization": "Bearer {{HOMEPAGE_VAR_REPLICATOR_TOKEN}}"}
    fields = {mapping["field"]: mapping for mapping in widget["mappings"]}
    assert len(fields) == len(widget["mappings"]) <= 4  # it shows no more
    assert set(fields) <= set(SCHEMA["properties"])
    states = [one["value"] for one in fields["state"]["remap"]]
    assert states == SCHEMA["properties"]["state"]["enum"]
    assert "\\dT\\d" in SCHEMA["properties"]["last_ok_at"]["pattern"]
    assert fields["last_ok_at"]["format"] == "relativeDate"


def test_the_page_names_all_other_fields() -> None:
    (line,) = [line for line in PAGE.splitlines() if "four fields" in line]
    shown = set(re.findall(r"field: (\w+)", snippet("services.yaml")))
    assert set(re.findall(r"`(\w+)`", line)) | shown == set(SCHEMA["properties"])


def test_the_badge_needs_no_token() -> None:
    (path,) = re.findall(r"\((?:https://[^/]+/replicator)(/\S+\.svg)\)", snippet("badge"))
    assert path in UNGUARDED
