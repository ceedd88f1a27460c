"""A drill with real restics: a repository that is whole, and one that is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from replicator_kuma.adapters.repository.restic.client import ResticRepository
from replicator_kuma.base.errors import DrillFailed
from replicator_kuma.replication.drill.drill import drill
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.leader.cycle import Leader
from tests.adapters.repository.places import connect
from tests.support import cycles, tools, weak_repository
from tests.support.cycles import left_behind
from tests.support.instances import make_instance

pytestmark = pytest.mark.restic


@pytest.fixture(params=["0.14", "0.18"])
def leader(request: pytest.FixtureRequest, tmp_path: Path) -> Instance:
    restic = tools.restic_014() if request.param == "0.14" else tools.restic_018()
    place = weak_repository.make(tmp_path / "repository")
    repository = connect(restic, place, tmp_path)
    cycles.fill(tmp_path / "leader")
    made = make_instance(tmp_path / "leader", repository, name="leader")
    with made.state.lock():
        Leader(made).cycle()
    return made


def packs(of: Instance) -> list[Path]:
    assert isinstance(of.repository, ResticRepository)
    return sorted((of.data_dir.parent / "repository" / "data").glob("*/*"), key=_size)


def _size(path: Path) -> int:
    return path.stat().st_size


def test_a_whole_repository_and_then_a_pack_that_is_damaged_on_the_disk(leader: Instance) -> None:
    assert drill(leader).as_dict()["monitors"] == 12
    assert left_behind(leader) == []
    pack = packs(leader)[-1]
    pack.chmod(0o600)
    data = bytearray(pack.read_bytes())
    for place in range(100, len(data), 500):
        data[place] ^= 1
    pack.write_bytes(bytes(data))
    with pytest.raises(DrillFailed, match=r"failed to fetch"):
        drill(leader)
    assert left_behind(leader) == []
    failed = leader.state.load().upkeep.drill_failed
    assert failed is not None
    assert failed.failed_at == "fetch"
