"""What docs/repository.md says of a damaged pack, done as it is written there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from replicator_kuma.base.errors import RepositoryDamaged
from tests.adapters.repository import places
from tests.adapters.repository.places import label, make_dump, read_tree
from tests.support.tools import restic_018

pytestmark = pytest.mark.restic


def run(binary: Path, place: Path, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [binary, *arguments],
        env=places.environment(place, HOME=str(home)),
        cwd=home,  # it keeps a copy of the pack there
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_pack_with_altered_bytes_is_mended_by_restic_0_18_and_the_next_publish(
    restic: Path, place: Path, tmp_path: Path
) -> None:
    repository = places.connect(restic, place, tmp_path)
    pack = max((place / "data").glob("*/*"), key=lambda path: path.stat().st_size)
    altered = bytearray(pack.read_bytes())
    altered[40] ^= 255
    pack.chmod(0o600)
    pack.write_bytes(altered)
    with pytest.raises(RepositoryDamaged):
        repository.check(1, 1)
    if "0.14" in str(restic):
        refused = run(restic, place, tmp_path, "repair", "packs", pack.name)
        assert refused.returncode != 0
        assert "unknown command" in refused.stderr
    mended = run(restic_018(), place, tmp_path, "repair", "packs", pack.name)
    assert mended.returncode == 0, mended.stderr
    wanted = make_dump(tmp_path / "dump", "changed")
    repository.publish(tmp_path / "dump", label(2))
    repository.fetch(repository.snapshots("default")[-1], tmp_path / "into", lambda _name: True)
    assert read_tree(tmp_path / "into") == wanted
