"""The repository that most tests start from is one of restic's own, with less work for its key."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.base.errors import WrongPassword
from tests.adapters.repository.places import connect, environment, label, make_dump, read_tree
from tests.support import weak_repository

pytestmark = pytest.mark.restic


@pytest.mark.parametrize("version", [1, 2])
def test_restic_works_with_it_as_with_its_own(restic: Path, tmp_path: Path, version: int) -> None:
    place = weak_repository.make(tmp_path / "repository", version=version)
    repository = connect(restic, place, tmp_path)
    assert repository.init() is False
    content = make_dump(tmp_path / "dump")
    repository.publish(tmp_path / "dump", label(1))
    (snapshot,) = repository.snapshots("default")
    repository.fetch(snapshot, tmp_path / "into", lambda _name: True)
    assert read_tree(tmp_path / "into") == content
    repository.check(1, 1)
    with pytest.raises(WrongPassword):
        connect(restic, place, tmp_path, RESTIC_PASSWORD="not this").check_access()


def test_its_files_say_what_restic_s_own_say(restic: Path, tmp_path: Path) -> None:
    """All but the values: a new restic that writes more into them is seen here."""
    weak_repository.make(tmp_path / "weak")
    connect(restic, tmp_path / "own", tmp_path).init()
    own, weak = (_said(restic, tmp_path / name) for name in ("own", "weak"))
    assert [part.keys() for part in own] == [part.keys() for part in weak]
    (config, key), (weak_config, weak_key) = own, weak
    assert (weak_key["N"], weak_key["r"], weak_key["p"]) == (2, 1, 1)
    assert key["N"] > 1000
    assert weak_key["kdf"] == key["kdf"]
    assert weak_config["version"] == config["version"]
    assert weak_config["id"] != config["id"]


def _said(restic: Path, place: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A repository's config, as restic reads it, and its key's file."""
    call = [str(restic), "cat", "config", "--no-cache", "--no-lock"]
    read = subprocess.run(call, env=environment(place), capture_output=True, check=True, timeout=30)
    (key,) = (place / "keys").iterdir()
    return json.loads(read.stdout), json.loads(key.read_bytes())
