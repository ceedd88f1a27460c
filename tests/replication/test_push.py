"""Hints: who sends them and when, and which messages are taken for one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from replicator_kuma.adapters.notify import Change, Kind
from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.errors import Fenced
from replicator_kuma.replication.instance import Hint, Instance, Outcome
from replicator_kuma.replication.push import as_text, parsed
from tests.support.cycles import (
    another,
    db,
    follow,
    go_back,
    lead,
    positions,
    rename,
    roll_back_to,
    take_over,
)
from tests.support.folder_repository import FolderRepository
from tests.support.instances import RecordingNotifier

HINT = Hint(Position(3, 14), "0f" * 32)


def hints_of(instance: Instance) -> list[Hint | None]:
    """What it has told its replicas, as they read it; from this call on all is kept."""
    if not isinstance(instance.signal, RecordingNotifier):
        instance.signal = RecordingNotifier()
    return [parsed(text.partition(": ")[2], instance.fleet) for text in instance.signal.sent]


def newest(repository: FolderRepository) -> Hint:
    found = repository.snapshots("default")[-1]
    repository.calls.pop()
    return Hint(found.position, found.id)


def test_each_publish_is_told_whatever_has_made_it(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    told: list[Hint] = []
    hints_of(leader)

    def tells() -> None:
        told.append(newest(repository))
        assert hints_of(leader) == told

    rename(db(leader), 1, "edited")
    lead(leader)
    tells()
    roll_back_to(leader, "1.1")
    tells()
    go_back(leader, hold=False)
    lead(leader)
    tells()
    assert lead(leader).outcome is Outcome.NOTHING
    assert hints_of(leader) == told, "nothing was published"
    hints_of(replica)
    follow(replica)
    assert hints_of(replica) == []
    take_over(replica)
    assert hints_of(replica) == [newest(repository)] != told
    assert positions(repository) == ["1.1", "1.2", "1.3", "1.4", "2.1"]


@pytest.mark.parametrize("told_by_restic", [True, False])
def test_replicas_are_told_before_the_leader_lists_again(
    leader: Instance, repository: FolderRepository, told_by_restic: bool
) -> None:
    """restic 0.14 does not tell the new snapshot's id; there the listing has to."""

    class Signal(RecordingNotifier):
        def send(
            self,
            kind: Kind,
            title: str,
            message: str,
            *,
            urgent: bool = False,
            change: Change | None = None,
        ) -> None:
            super().send(kind, title, message, urgent=urgent, change=change)
            repository.calls.append("hint")

    leader.signal = Signal()
    if not told_by_restic:
        publish = repository.publish
        repository.publish = lambda *given: publish(*given)[:0]  # type: ignore[method-assign]
    lead(leader)
    last = ["hint", "snapshots"] if told_by_restic else ["snapshots", "hint"]
    assert repository.calls == ["snapshots", "publish", *last]
    assert hints_of(leader) == [newest(repository)]


def test_a_fenced_leader_tells_nobody(
    leader: Instance, repository: FolderRepository, tmp_path: Any
) -> None:
    lead(leader)
    rival = another(tmp_path / "rival", leader, repository)
    take_over(rival)
    hints_of(leader)
    rename(db(leader), 1, "edited")
    with pytest.raises(Fenced):
        lead(leader, verify=True)
    assert hints_of(leader) == []


def test_a_hint_is_read_as_it_was_written_by_its_own_fleet_only() -> None:
    text = as_text(HINT, "vienna")
    assert parsed(text, "vienna") == HINT
    assert parsed(text, "berlin") is None
    assert "vienna" not in text


GOOD = json.loads(as_text(HINT, "vienna"))
WRONG: dict[str, list[Any]] = {
    "fleet": [None, "", "vienna", 7, ["x"]],
    "position": [None, "", "1", "1.0", "0.1", "1.2.3", "-1.2", "1e3.1", "9" * 400 + ".1", 1.2, {}],
    "snapshot": [None, "", "0f" * 31, "0F" * 32, "0f" * 32 + "\n", "x" * 64, 7, []],
}


@pytest.mark.parametrize("name", GOOD)
def test_a_hint_of_another_shape_is_none(name: str) -> None:
    assert parsed(json.dumps(GOOD), "vienna") == HINT
    for value in WRONG[name]:
        assert parsed(json.dumps(GOOD | {name: value}), "vienna") is None
    less = {key: value for key, value in GOOD.items() if key != name}
    for other in (less, GOOD | {"more": 1}, [GOOD], GOOD | {name: GOOD}):
        assert parsed(json.dumps(other), "vienna") is None
    assert parsed(json.dumps(GOOD) + " " * 1000, "vienna") is None
