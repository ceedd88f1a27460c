"""The alert rules: what they name exists, and promtool tries each."""

from __future__ import annotations

import re
from typing import Any

import click
import pytest
import yaml

from replicator_kuma.cli.main import cli
from replicator_kuma.config import variables
from tests.deploy.files import PAGE, PROMETHEUS, RULES
from tests.deploy.names import known_labels
from tests.support.prometheus import promtool

each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))


def test_promtool_accepts_the_rules() -> None:
    promtool(PROMETHEUS, "check", "rules", "--lint-fatal", "rules.yml")


def test_each_rule_comes_and_ends_as_its_cases_say() -> None:
    promtool(PROMETHEUS, "test", "rules", "rules_test.yml")


@each_rule
def test_each_rule_has_a_case_in_which_it_does_not_come_comes_and_ends(
    rule: dict[str, Any],
) -> None:
    cases = yaml.safe_load((PROMETHEUS / "rules_test.yml").read_text())["tests"]
    ways = [
        [bool(check["exp_alerts"]) for check in case["alert_rule_test"]]
        for case in cases
        if case["alert_rule_test"][0]["alertname"] == rule["alert"]
    ]
    assert [False, True, False] in ways


@each_rule
def test_a_rule_names_metrics_and_labels_that_there_are(rule: dict[str, Any]) -> None:
    said = " ".join(rule["annotations"].values())
    used = set(re.findall(r"\$labels\.(\w+)", said))
    assert used <= known_labels(rule["expr"])


@each_rule
def test_a_rule_says_what_to_type(rule: dict[str, Any]) -> None:
    """Each command that a description names exists, with its options; each variable too."""
    said = rule["annotations"]["description"]
    typed = re.findall(r"\breplicator ([a-z]+)((?: --[a-z-]+)*)", said)
    context = click.Context(cli)
    for name, options in typed:
        command = cli.get_command(context, name)
        assert command is not None, name
        have = {option for parameter in command.params for option in parameter.opts}
        assert set(options.split()) <= have, (name, options)
    known = set(variables.VARIABLES)
    assert set(re.findall(r"\bREPLICATOR_\w+", said)) <= known
    assert typed or "docker logs" in said
    assert rule["annotations"]["summary"]


def test_the_page_lists_each_rule_with_its_severity() -> None:
    found = re.search(r"<!-- alerts -->\n(.*?)\n<!-- end -->", PAGE, re.DOTALL)
    assert found
    rows = re.findall(r"^\| `(\w+)` \|.*\| (\w+) \|$", found[1], re.MULTILINE)
    assert rows == [(rule["alert"], rule["labels"]["severity"]) for rule in RULES]
