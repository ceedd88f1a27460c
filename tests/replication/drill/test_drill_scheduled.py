"""Drills as a chore of `replicator run`: in their window, told once, beside cycles."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from replicator_kuma.adapters.kuma.supervised import SupervisedKuma
from replicator_kuma.base.errors import RepositoryDamaged, SettingsError
from replicator_kuma.config.settings import Settings
from replicator_kuma.daemon import maintenance as module
from replicator_kuma.daemon.maintenance import (
    Drill,
    maintenance_jobs,
    record_of,
)
from replicator_kuma.replication.instance import Instance
from tests.support.cycles import lead, left_behind
from tests.support.folder_repository import FolderRepository
from tests.support.instances import RecordingKuma, sent_by
from tests.support.scheduled import Scheduled

OWN = Settings.load({})
NO_CHILD = SupervisedKuma(RecordingKuma())


@pytest.fixture
def friday(leader: Instance, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scheduled]:
    monkeypatch.setattr(module, "LOOK_EVERY", 0.01)
    lead(leader)
    made = Scheduled(leader, "drill", partial(Drill().steps, settings=OWN), "fri 01:00-05:00")
    yield made
    made.worker.close(5)


def test_a_drill_in_its_window_is_noted_and_a_failure_told_once(
    friday: Scheduled, repository: FolderRepository
) -> None:
    leader = friday.instance
    sent = sent_by(leader)
    sent.clear()
    friday.once()
    assert friday.now.strftime("%a") == "Fri"
    state = leader.state.load()
    assert state.upkeep.drill is not None
    assert state.upkeep.drill.ok
    assert record_of(state, "drill").sentence == state.upkeep.drill.sentence
    assert sent == []
    repository.fail["fetch"] = RepositoryDamaged("a pack is missing")
    friday.once()
    failed = leader.state.load().upkeep.drill_failed
    assert failed is not None
    assert failed.sentence == "the drill of snapshot 1.1 failed to fetch: a pack is missing"
    assert sent == [f"drill fails: {failed.sentence}\n{RepositoryDamaged.hint}"]
    friday.once()
    assert leader.state.load().upkeep.drill_failed is None
    assert [text.partition(":")[0] for text in sent[1:]] == ["drill works again"]
    assert left_behind(leader) == []


def test_the_settings_say_when_and_what(leader: Instance, tmp_path: Path) -> None:
    given = {"DATA_DIR": str(tmp_path), "REPLICATOR_DRILL_SCHEDULE": "fri 01:00-05:00"}
    (found,) = [c for c in maintenance_jobs(Settings.load(given), NO_CHILD) if c.name == "drill"]
    assert str(found.window) == "fri 01:00-05:00"
    lead(leader)
    assert list(found.work(leader)) == [None] * 3
    odd = given | {"REPLICATOR_DRILL": "kuma", "REPLICATOR_KUMA_COMMAND": "node --port=1"}
    (found,) = [c for c in maintenance_jobs(Settings.load(odd), NO_CHILD) if c.name == "drill"]
    with pytest.raises(SettingsError, match="has --port"):
        next(found.work(leader))
