"""restic's cache in a state directory, which restic gets by a descriptor."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from replicator_kuma.base.state_directory import anchored
from tests.adapters.repository.places import connect, environment, label, make_dump


def test_restic_works_in_it_and_notes_the_dump_s_own_path(
    restic: Path, place: Path, tmp_path: Path
) -> None:
    state = tmp_path / "data" / "replicator"
    state.parent.mkdir()
    repository = connect(restic, place, state)
    repository.check_access()
    dump = anchored(state) / "work"
    make_dump(dump)
    repository.publish(dump, label(2))
    assert label(2).position in [one.label.position for one in repository.snapshots("default")]
    assert "CACHEDIR.TAG" in os.listdir(state / "cache")  # noqa: PTH208
    assert any(path.is_dir() for path in (state / "cache").iterdir())
    listed = subprocess.run(
        [restic, "snapshots", "--json", "--no-cache"],
        env=environment(place),
        stdout=subprocess.PIPE,
        check=True,
        timeout=30,
    )
    assert [one["paths"] for one in json.loads(listed.stdout)][-1] == [str(state / "work")]


def test_a_planted_link_in_its_place_costs_the_cache_only(
    restic: Path, place: Path, tmp_path: Path
) -> None:
    state, away = tmp_path / "replicator", tmp_path / "away"
    for folder in (state, away):
        folder.mkdir()
    (state / "cache").symlink_to(away)
    connect(restic, place, state).check_access()
    assert list(away.iterdir()) == []
