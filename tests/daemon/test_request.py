"""Actions as JSON, what the supervisor lets a client ask for, and whose each action is."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator_kuma.base.errors import SettingsError
from replicator_kuma.config import same_settings
from replicator_kuma.config.settings import Mode, Settings
from replicator_kuma.daemon.maintenance import Drill, Housekeeping
from replicator_kuma.daemon.request import SERVED, Request
from replicator_kuma.replication.actions import (
    Action,
    Backup,
    KillDrill,
    Promote,
    Restore,
    Resume,
    Rollback,
    Undo,
)
from replicator_kuma.replication.state.file import StateFile

FLAGS = st.booleans()
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
NAMED = st.none() | TEXTS
MOMENTS = st.none() | st.floats(-62_135_596_800, 253_402_300_799)
CYCLES = st.one_of(
    st.builds(Backup, FLAGS, FLAGS),
    st.builds(Restore, FLAGS, NAMED, MOMENTS, FLAGS),
    st.builds(Resume, FLAGS, FLAGS),
    st.builds(Undo, st.none() | st.integers(1, 2**53)),
    st.builds(Rollback, NAMED, MOMENTS),
    st.just(Promote()),
)
OTHERS = st.one_of(st.builds(Drill, NAMED, FLAGS), st.just(Housekeeping()), st.just(KillDrill()))
JUNK: list[Any] = [[], {}, {"a": 1}, [1], float("nan"), float("inf"), -float("inf")]


def over_the_wire(value: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(value))
    return found


@given(CYCLES | OTHERS, st.data())
def test_an_action_is_read_as_it_was_written_and_nothing_else_is(
    action: Backup | Drill, data: st.DataObject
) -> None:
    raw, read = over_the_wire(action.to_json()), type(action).from_json
    assert read(raw) == action
    assert raw.keys() == {each.name for each in fields(action)}
    more = data.draw(TEXTS.filter(lambda name: name not in raw))
    with pytest.raises(SettingsError, match="knows no option"):
        read({**raw, more: data.draw(st.sampled_from([None, True, 1, "x"]))})
    for name in raw:
        with pytest.raises(SettingsError, match=f"the option {name} of .* is missing"):
            read({other: value for other, value in raw.items() if other != name})
        with pytest.raises(SettingsError, match=f"the option {name} of .* must be "):
            read({**raw, name: data.draw(st.sampled_from(JUNK))})


@given(CYCLES | st.just(KillDrill()), FLAGS, st.none() | st.floats(0, 31622400), NAMED, NAMED)
def test_a_request_is_read_as_it_was_written(
    action: Backup | KillDrill, force: bool, wait: float | None, fleet: str | None, mode: str | None
) -> None:
    asked = Request(action, force and action.forcible, wait=wait, fleet=fleet, mode=mode)
    assert Request.of(action.command, over_the_wire(asked.options())) == asked


def test_a_restore_goes_to_a_snapshot_or_resumes() -> None:
    both = Resume().to_json()
    for name, value in (("snapshot", "1.7"), ("at", 0)):
        with pytest.raises(SettingsError, match="contradict one another"):
            Request.of("restore", {**both, name: value})


FITS: dict[str, list[Any]] = {
    "fleet": ["default", "ü"],
    "mode": ["BACKUP"],
    "wait": [0, 0.0, 31622400.0],
    "force": [True, False],
    "reconcile": [True],
    "allow_shrink": [True],
    "resume": [False],
    "snapshot": ["1.7", None],
    "at": [-1.5, 0, 1790000000.25, None],
    "number": [1, 2**53, None],
}
WRONG: dict[str, list[Any]] = {
    "fleet": [None, True, 1, "a\0b", "\ud800", "x" * 5000],
    "mode": [None, False, 1.5],
    "wait": [None, True, "5", "", -1, -0.5, 10**400, 1e300],
    "force": [None, 0, 1, "true", "false", ""],
    "reconcile": [None, 1, "no"],
    "allow_shrink": [None, 1, "1"],
    "resume": [None, 0, "x"],
    "snapshot": [True, 1.7, 7, "a\0", "\udcff"],
    "at": [True, "2h ago", 10**400, -(10**400), 1e300],
    "number": [True, 0, -1, 1.0, 1.5, "1", 10**400],
}


@pytest.mark.parametrize("command", SERVED)
def test_each_option_is_of_its_kind(command: str) -> None:
    least = SERVED[command]().to_json()
    known = {*least, "wait", "fleet", "mode"} | ({"force"} if SERVED[command].forcible else set())
    Request.of(command, least)
    for name in known:
        for value in FITS[name]:
            Request.of(command, {**least, name: value})
        for value in JUNK + WRONG[name]:
            with pytest.raises(SettingsError, match=f"the option {name} of {command} must be"):
                Request.of(command, {**least, name: value})
    for name in ("leads", "forced", "FORCE", "", "x" * 60000, *FITS.keys() - known):
        with pytest.raises(SettingsError, match="knows no option") as caught:
            Request.of(command, {**least, name: True})
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "command", ["", "destroy", "BACKUP", "x" * 60000, "\ud800", "drill", "housekeeping"]
)
def test_a_command_that_the_supervisor_does_not_serve(command: str) -> None:
    with pytest.raises(SettingsError, match="knows no command") as caught:
        Request.of(command, {})
    str(caught.value).encode()
    assert len(str(caught.value)) < 200


NO_DIGESTS: list[Any] = [None, "x", [], {"a": 1}, {"a": "\0"}, {"\ud800": "x"}]


@pytest.mark.parametrize(
    "options",
    [
        {"salt": "0f"},
        {"digests": {}},
        {"salt": "0f", "digests": {}, "values": {}},
        {"salt": "0f", "digests": dict.fromkeys(map(str, range(201)), "x")},
        *({"salt": salt, "digests": {}} for salt in (None, 1, True, *JUNK)),
        *({"salt": "0f", "digests": digests} for digests in NO_DIGESTS),
    ],
)
def test_a_question_about_settings_that_is_none(options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        same_settings.answer(Settings.load({}), options)


LEADERS, REPLICAS = {"BACKUP"}, {mode.value for mode in Mode if mode.replica}


@pytest.mark.parametrize(
    ("action", "modes"),
    [
        (Backup(), LEADERS),
        (Rollback("1.1"), LEADERS),
        (Housekeeping(), LEADERS),
        (Restore(), REPLICAS),
        (Resume(), REPLICAS),
        (Undo(), LEADERS | REPLICAS),
        (Promote(), LEADERS | REPLICAS | {""}),
        (Drill(), LEADERS | REPLICAS | {""}),
        (KillDrill(), LEADERS | REPLICAS | {""}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Action) else "",
)
def test_whose_an_action_is(tmp_path: Path, action: Action, modes: set[str]) -> None:
    memory = StateFile(tmp_path / "no state yet")
    for mode in sorted(LEADERS | REPLICAS):
        if mode in modes:
            action.fits(mode, memory)
            continue
        with pytest.raises(SettingsError, match=f"^{action.command}, here, does not fit ") as no:
            action.fits(mode, memory, ", here,")
        assert f"REPLICATOR_MODE={mode}" in str(no.value)
        assert "replicator rollback" in no.value.hint or "replicator promote" in no.value.hint
    if "" in modes:
        action.fits("", memory)
