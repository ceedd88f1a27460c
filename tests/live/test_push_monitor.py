"""A real push monitor is pinged by the address that Uptime Kuma shows."""

from __future__ import annotations

import pytest

from replicator_kuma.adapters.notify import CycleEnd, targets
from replicator_kuma.adapters.notify.answers import refused
from replicator_kuma.adapters.notify.pinging import Pinging
from tests.support.live_kuma import DOWN, UP, Watched

pytestmark = [pytest.mark.kuma, pytest.mark.slow]

TOKEN = "aPushTokenOfKuma"


def test_a_push_monitor_goes_up_and_down_with_the_words(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    kuma = watched.kuma
    monitor = watched.monitor(watched.path(), type="push", push_token=TOKEN, interval=3600)
    url = f"kuma+{kuma.url}/api/push/{TOKEN}?status=up&msg=OK&ping="
    (target,) = targets.read(url).pings
    trial = target.trial()
    assert trial is not None
    assert refused(target, trial) == ""
    assert kuma.beats(monitor) == []
    pings = Pinging(target)
    pings.begun()
    pings.ended(CycleEnd(True, "1.1 is applied: größer & besser", seconds=0.25))
    kuma.wait_status(monitor, UP)
    pings.ended(CycleEnd(None, "1.2 waits"))
    pings.ended(CycleEnd(False, "no network", exit_code=5))
    kuma.wait_status(monitor, DOWN)
    pings.close(10)
    up, down = kuma.beats(monitor)
    assert (up["status"], up["msg"], up["ping"]) == (UP, "1.1 is applied: größer & besser", 250)
    assert (down["status"], down["msg"]) == (DOWN, "no network")
    assert caplog.messages == []


def test_a_monitor_that_is_not_there_is_told_as_that(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    (target,) = targets.read(f"kuma+{watched.kuma.url}/api/push/anotherToken").pings
    pings = Pinging(target)
    pings.ended(CycleEnd(True, "fine"))
    pings.close(10)
    assert "HTTP 404, no active push monitor has this address" in caplog.text
    assert "anotherToken" not in caplog.text
