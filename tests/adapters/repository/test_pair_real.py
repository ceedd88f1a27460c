"""Two real repositories as one: a folder made by restic 0.14, and rest-server."""

from __future__ import annotations

from pathlib import Path

import pytest

from replicator_kuma.adapters.repository import Position
from replicator_kuma.adapters.repository.pair import Pair
from replicator_kuma.base.errors import WrongPassword
from replicator_kuma.replication.instance import Outcome
from tests.adapters.repository.places import connect, rest, rest_url
from tests.support import cycles
from tests.support.compare import config_differences
from tests.support.instances import make_instance
from tests.support.tools import restic_014, restic_018

pytestmark = pytest.mark.restic


def test_a_leader_and_a_replica_over_two_repositories(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with rest(scratch) as address:
        second = connect(restic_018(), rest_url(address), tmp_path / "two")
        second.name = "repository 2"
        pair = Pair(connect(restic_014(), tmp_path / "one", tmp_path / "first"), second, patience=2)
        assert pair.init() is True
        pair.check_access()
        (tmp_path / "leader").mkdir()
        (tmp_path / "replica").mkdir()
        cycles.fill(tmp_path / "leader")
        cycles.fill(tmp_path / "replica")
        leader = make_instance(tmp_path / "leader", pair, name="leader")
        assert cycles.lead(leader).position == Position(1, 1)
    # the server is gone
    cycles.rename(tmp_path / "leader" / "kuma.db", 1, "first only")
    result = cycles.lead(leader)
    assert (result.outcome, result.position) == (Outcome.PUBLISHED, Position(1, 2))
    assert any("repository 2 lags behind" in warning for warning in result.warnings)
    with rest(scratch) as address:
        again = connect(restic_018(), rest_url(address), tmp_path / "two")
        again.name = "repository 2"
        leader.repository = leader.pair = Pair(pair.repositories[0], again)
        assert cycles.lead(leader).outcome is Outcome.NOTHING
        assert leader.state.load().lagging == ""
        # and the first is gone for the replica
        nowhere = connect(restic_014(), tmp_path / "one", tmp_path / "r", RESTIC_PASSWORD="no")
        other = Pair(nowhere, again)
        replica = make_instance(tmp_path / "replica", other, name="replica")
        assert cycles.follow(replica, reconcile=True).position == Position(1, 2)
        with pytest.raises(WrongPassword, match=r"^repository: "):
            other.check_access()
        # and is taken away: the same snapshot has restic's own id now, and is known all the same
        replica.repository, replica.pair = again, None
        known = replica.state.load().following.applied
        assert cycles.follow(replica).sentence == "1.2 is applied; nothing newer"
        listed = again.snapshots("default")[-1]
        assert known is not None
        assert (known.key, known.snapshot == listed.id) == (listed.key, False)
    difference = config_differences(
        tmp_path / "leader" / "kuma.db", tmp_path / "replica" / "kuma.db"
    )
    assert not difference
