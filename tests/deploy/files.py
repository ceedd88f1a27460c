"""What is tested here: the rules, the dashboard, and the page that says how to use them."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from tests.support.tools import ROOT

PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]
    for rule in group["rules"]
]
BOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/replicator-kuma.json").read_text())
PANELS: list[dict[str, Any]] = BOARD["panels"]
QUERIES: list[dict[str, Any]] = [query for panel in PANELS for query in panel.get("targets", ())]
PAGE = (ROOT / "docs" / "dashboards.md").read_text()


def snippet(name: str) -> str:
    """The block to copy that stands below a marker of the page."""
    found = re.search(rf"<!-- {re.escape(name)} -->\n```\w+\n(.*?)\n```", PAGE, re.DOTALL)
    assert found, name
    return found[1]
