"""The documentation says what the program does: tables, commands and links are compared."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from replicator_kuma import __version__
from replicator_kuma.cli.main import cli
from replicator_kuma.config import variables
from tests.support import exit_codes
from tests.support.tiers import in_quick

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])


def block(name: str) -> str:
    """The part of the README between a marker and the end marker after it."""
    found = re.search(rf"<!-- {re.escape(name)}[^>]*-->\n(.*?)\n<!-- end -->", README, re.DOTALL)
    assert found, f"README has no block {name!r}"
    return found.group(1).strip()


def commands() -> dict[str, click.Command]:
    context = click.Context(cli)
    found = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


def test_the_table_of_variables_is_the_program_s() -> None:
    assert block("variables") == variables.markdown().strip()


def test_the_table_of_exit_codes_is_the_program_s() -> None:
    assert block("exit codes") == exit_codes.markdown()


def test_every_exit_code_is_explained() -> None:
    said = exit_codes.meanings()
    assert [c.__name__ for c in exit_codes.classes() if c.exit_code not in said] == []


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_is_in_the_readme_and_has_an_example(name: str) -> None:
    assert f"`replicator {name}" in README
    assert "Example" in (commands()[name].help or "")


def test_the_commands_that_pages_show_exist_with_their_options() -> None:
    known = commands()
    shown = [
        line
        for page in PAGES
        for line in re.findall(
            r"replicator ((?:[a-z]+)(?: --?[a-z-]+[^`\n|&#()]*)?)", page.read_text()
        )
    ]
    checked = 0
    for line in shown:
        name, *rest = line.split()
        options = [word.split("=")[0] for word in rest if word.startswith("--")]
        if name not in known:
            assert not options, f"no command {name!r}: {line}"
            continue
        have = {o for p in known[name].params for o in p.opts} | {"--help", "--version"}
        assert set(options) <= have, line
        checked += 1
    assert checked > 10


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_changelog_has_this_version() -> None:
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_test_files_that_the_architecture_names_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for name in re.findall(r"`(tests/[\w/]+(?:\.py)?)/?`", text):
        assert (ROOT / name).exists(), name


def test_the_modules_that_the_architecture_names_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    listing = text[text.index("## Folders") : text.index("## Words")]
    names = re.findall(r"([a-z_]+\.py)", listing)
    have = {path.name for path in (ROOT / "replicator_kuma").rglob("*.py")}
    assert len(names) > 20
    assert sorted(set(names) - have) == []


def test_each_rule_has_a_test_in_the_quick_tier() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rules = text[text.index("## What always holds") : text.index("## An apply")]
    rows = re.findall(r"(?m)^\| (\d+)\. .*?\|.*?\| (.*?) \|", rules)
    assert [number for number, _tests in rows] == [str(n) for n in range(1, 12)]
    for number, tests in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)`", tests)
        assert named, number
        for name in named:
            assert (ROOT / name).exists(), name
            assert in_quick(name, 0), name


def test_the_answers_to_a_newcomer_exist() -> None:
    text = (ROOT / "docs" / "newcomer-questions.md").read_text()
    for name in re.findall(r"`([a-z_]+/[\w/]+\.py)`", text[text.index("## Answers") :]):
        assert (ROOT / "replicator_kuma" / name).exists(), name
