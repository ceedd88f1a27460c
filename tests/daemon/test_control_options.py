"""What the supervisor lets a client ask for."""

from __future__ import annotations

from typing import Any

import pytest

from replicator_kuma.base.errors import SettingsError
from replicator_kuma.daemon.control_options import OPTIONS, check
from replicator_kuma.replication.drill import kill

FITS: dict[str, list[Any]] = {
    "fleet": ["default", "ü"],
    "mode": ["BACKUP"],
    "wait": [0, 0.0, 31622400.0, None],
    "force": [True, False],
    "reconcile": [True],
    "allow_shrink": [True],
    "resume": [False],
    "snapshot": ["1.7", None],
    "at": [-1.5, 0, 1790000000.25, None],
    "number": [1, 2**53, None],
    "salt": ["0f"],
    "digests": [{}, {"REPLICATOR_FLEET": "0f"}, None],
}
ALWAYS_WRONG: list[Any] = [[], {}, {"a": 1}, [1], float("nan"), float("inf"), -float("inf")]
WRONG: dict[str, list[Any]] = {
    "fleet": [None, True, 1, "a\0b", "\ud800", "x" * 5000],
    "mode": [None, False, 1.5],
    "wait": [True, "5", "", -1, -0.5, 10**400, 1e300],
    "force": [None, 0, 1, "true", "false", ""],
    "reconcile": [None, 1, "no"],
    "allow_shrink": [None, 1, "1"],
    "resume": [None, 0, "x"],
    "snapshot": [True, 1.7, 7, "a\0", "\udcff"],
    "at": [True, "2h ago", 10**400, -(10**400), 1e300],
    "number": [True, 0, -1, 1.0, 1.5, "1", 10**400],
    "salt": [None, 1, True],
    "digests": ["x", {"a": "\0"}, {"\ud800": "x"}, dict.fromkeys(map(str, range(201)), "x")],
}


@pytest.mark.parametrize("command", OPTIONS)
def test_each_option_is_of_its_kind(command: str) -> None:
    check(command, {})
    assert set(OPTIONS[command]) <= set(FITS)
    for name in OPTIONS[command]:
        for value in FITS[name]:
            check(command, {name: value})
        always = [v for v in ALWAYS_WRONG if not (name == "digests" and v == {})]
        for value in always + WRONG[name]:
            with pytest.raises(SettingsError, match=f"the option {name} of {command} must be"):
                check(command, {name: value})


@pytest.mark.parametrize("command", OPTIONS)
@pytest.mark.parametrize("name", ["leads", "forced", "FORCE", "", "x" * 60000, "number", "at"])
def test_an_option_that_a_command_does_not_have(command: str, name: str) -> None:
    if name in OPTIONS[command]:
        return
    with pytest.raises(SettingsError, match="knows no option") as caught:
        check(command, {name: True})
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("command", ["", "destroy", "BACKUP", "x" * 60000, "\ud800"])
def test_a_command_that_is_none(command: str) -> None:
    with pytest.raises(SettingsError, match="knows no command") as caught:
        check(command, {})
    str(caught.value).encode()
    assert len(str(caught.value)) < 200


def test_the_kill_of_a_drill_is_one() -> None:
    assert kill.COMMAND in OPTIONS
