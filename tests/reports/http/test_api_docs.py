"""docs/api.md names each resource and each metric, and none that is not there."""

from __future__ import annotations

import re

from flask import Flask

from replicator_kuma.config.settings import Settings
from replicator_kuma.reports.http import metric_families
from replicator_kuma.reports.http.access import Access
from replicator_kuma.reports.http.api import api, schemas
from replicator_kuma.reports.http.app import create_app
from replicator_kuma.reports.http.here import Here
from replicator_kuma.reports.http.metrics import metrics
from tests.support.tools import ROOT

PAGE = (ROOT / "docs" / "api.md").read_text()


def block(name: str) -> str:
    found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- end -->", PAGE, re.DOTALL)
    assert found, name
    return found.group(1)


def application(environ: dict[str, str]) -> Flask:
    settings = Settings.load(environ)
    here, access = Here(settings, None), Access("")
    return create_app(access, api(here, access, here.peers), metrics(here, settings))


def test_the_table_has_every_resource_and_no_other(environ: dict[str, str]) -> None:
    rules = {re.sub(r"<\w+:", "<", rule.rule) for rule in application(environ).url_map.iter_rules()}
    named = {path.replace("<monitor>", "<id>") for path in rules}
    listed = re.findall(r"^\| `([^`]+)` \|", block("resources"), re.MULTILINE)
    assert sorted(listed) == sorted(named)


def test_the_table_has_every_schema() -> None:
    (line,) = [line for line in block("resources").splitlines() if "/schema/" in line]
    assert set(re.findall(r"`(\w+)`", line)) == set(schemas())


def test_the_table_of_metrics_is_the_program_s() -> None:
    assert block("metrics") == metric_families.markdown()


def test_the_schemas_are_part_of_the_package() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert '"reports/http/schema/*.json"' in text
