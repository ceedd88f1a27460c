"""A leader and a replica on SQLite: what a person sees, up to a promote and the end of both."""

from __future__ import annotations

import time

import pytest

from tests.e2e.two_kumas import TwoKumas, cycles, latest
from tests.support.supervised import Running
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kuma, pytest.mark.restic, pytest.mark.slow]


class TestTwoKumas(TwoKumas):
    def test_changes_came_while_kuma_ran(self, fleet: Running) -> None:
        assert "without a restart of Kuma" in fleet.replica.log

    def test_a_replica_is_promoted_and_the_old_leader_is_fenced(
        self, fleet: Running, web: str
    ) -> None:
        said = fleet.replica.command("promote").stdout
        assert "REPLICATOR_MODE=BACKUP" in said
        # The old leader hears of it at its next change.
        client = fleet.leader.page()
        client.add_monitor("too late", web)
        client.close()
        wait_until(lambda: "does not publish" in fleet.leader.log, "the old leader is fenced", 30)
        assert fleet.leader.command("backup", check=False).returncode == 17
        assert latest(fleet) == "2.1"
        # Roles change: what the old leader had for itself goes.
        assert fleet.stop() == [0, 0]
        fleet.leader.environment["REPLICATOR_MODE"] = "RESTORE"
        fleet.replica.environment["REPLICATOR_MODE"] = "BACKUP"
        fleet.replica.run()
        fleet.leader.run()
        fleet.replica.wait_ready()
        fleet.leader.wait_ready()
        page = fleet.replica.page()
        page.add_monitor("on the new leader", web)
        page.close()
        names = "SELECT name FROM monitor ORDER BY name"
        wait_until(
            lambda: ("on the new leader",) in fleet.leader.query(names), "the way round", 60, 0.3
        )
        assert fleet.leader.query(names) == fleet.replica.query(names)
        assert ("too late",) not in fleet.leader.query(names)

    def test_sigterm_ends_both_within_kuma_s_own_time(self, fleet: Running) -> None:
        sides = (fleet.leader, fleet.replica)
        for side in sides:
            side.wait_ready()
        cycles(1, *sides)
        began = time.monotonic()
        assert fleet.stop() == [0, 0]
        # Kuma's own end takes 4.0 to 4.1 s (KUMA.md); on a loaded machine somewhat more
        # Kuma's own end takes 4.0 to 4.1 s (KUMA.md); on a loaded machine more
        assert time.monotonic() - began < 20
        for side in sides:
            assert not (side.data_dir / "replicator" / "work").exists()
