"""REPLICATOR_OVERRIDES as an operator meets it: doctor, exit codes, a preview."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import World
from tests.support import databases

PAUSED = '[[rule]]\ntable = "monitor"\nwhere = { type = "push" }\nset = { interval = 3600 }\n'


@pytest.fixture
def file(world: World, tmp_path: Path) -> Path:
    """The file of the replica's rules, which holds the leader's rows already."""
    path = tmp_path / "overrides.toml"
    path.write_text(PAUSED)
    world.begin()
    assert world.on_replica("restore", "--now").code == 0
    world.monkeypatch.setenv("REPLICATOR_OVERRIDES", str(path))
    return path


def findings(world: World) -> list[tuple[str, str]]:
    """Level and message of what doctor says of the rules."""
    found: list[dict[str, Any]] = world.on_replica("doctor", "--json").json["findings"]
    return [(f["level"], f["message"]) for f in found if f["check"] == "overrides"]


def test_doctor_without_rules_says_so(world: World) -> None:
    assert findings(world) == [("OK", "none")]


def test_doctor_counts_the_rules_before_and_after_they_are_applied(
    world: World, file: Path
) -> None:
    assert findings(world) == [("OK", f"1 rule of {file}")]
    file.write_text(PAUSED + '[[rule]]\ntable = "proxy"\nskip = true\n')
    assert findings(world) == [("OK", f"2 rules of {file}")]
    assert world.on_replica("restore").code == 0
    assert findings(world) == [("OK", f"2 rules of {file}")]


def test_doctor_finds_a_typo_in_a_value_and_a_table_that_stays(world: World, file: Path) -> None:
    world.monkeypatch.setenv("REPLICATOR_EXCLUDE_TABLES", "api_key")
    more = '[[rule]]\ntable = "api_key"\nset = { active = false }\n'
    file.write_text(PAUSED + PAUSED.replace("push", "psh") + more)
    assert findings(world) == [
        ("WARN", "rule 3: api_key is not replicated here"),
        ("WARN", "rule 2 matches no monitor here"),
        ("OK", f"3 rules of {file}"),
    ]
    done = world.on_replica("doctor")
    assert done.code == 0
    assert "Look for a typo in its where" in done.out


def test_doctor_says_nothing_of_rows_where_none_have_come(world: World, file: Path) -> None:
    databases.create(world.replica / "kuma.db")
    file.write_text(PAUSED.replace("push", "psh"))
    assert findings(world) == [("OK", f"1 rule of {file}")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            PAUSED.replace("interval", "intervall"),
            "monitor has no column 'intervall'; did you mean",
        ),
        ("[[rule]\n", "cannot be understood: it is no TOML"),
    ],
)
def test_what_a_cycle_refuses_doctor_has_said_with_the_same_exit_code(
    text: str, words: str, world: World, file: Path
) -> None:
    file.write_text(text)
    ((level, message),) = findings(world)
    assert (level, words in message) == ("FAIL", True)
    assert world.on_replica("doctor").code == 3
    for command in (("restore",), ("restore", "--now"), ("diff",)):
        done = world.on_replica(*command)
        assert (done.code, words in done.err) == (3, True), command


def test_a_leader_goes_by_no_rules(world: World, file: Path) -> None:
    done = world.on_leader("doctor")
    assert done.code == 0
    assert f"WARN overrides: a leader goes by no rules: {file} does nothing here" in done.out
    file.write_text("[[rule]\n")
    assert world.on_leader("backup").code == 0


def test_a_preview_goes_by_the_rules(world: World, file: Path) -> None:
    assert "interval 25 → 3600" in world.on_replica("diff").out
    assert "interval 25 → 3600" in world.on_replica("restore", "--dry-run").out
    assert world.on_replica("restore").code == 0
    assert "3600" not in world.on_replica("diff").out
