"""The same two servers where each change restarts Kuma, as the tool was ordered with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.conftest import two_kumas
from tests.e2e.two_kumas import TwoKumas, kuma_pid
from tests.support.supervised import Running

pytestmark = [pytest.mark.kuma, pytest.mark.restic, pytest.mark.slow]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, web: str) -> Iterator[Running]:
    with two_kumas(tmp_path_factory.mktemp("fleet"), web, REPLICATOR_APPLY="restart") as made:
        yield made


class TestTwoKumasRestarted(TwoKumas):
    def test_each_change_was_a_restart(self, fleet: Running) -> None:
        assert kuma_pid(fleet.replica)
        assert "applied 1.2 of leader" in fleet.replica.log
        assert "without a restart of Kuma" not in fleet.replica.log
        assert not (fleet.replica.data_dir / "replicator" / "agent.sock").exists()
