"""A person at Kuma's own page, and rows that an apply writes, at the same monitors at once."""

from __future__ import annotations

import random
import threading
import time

import pytest

from tests.support.kuma_server import KumaClient, KumaError
from tests.support.live_kuma import PASSWORD, USER, Watched

pytestmark = [pytest.mark.kuma, pytest.mark.slow]

EDITS = 120


def test_edits_of_a_person_and_of_an_apply(watched: Watched) -> None:
    """In the end memory is the rows, and no monitor runs twice."""
    kuma, web = watched.kuma, watched.web
    paths = [watched.path() for _ in range(3)]
    ids = [watched.monitor(path, interval=20) for path in paths]
    failed: list[BaseException] = []
    done = threading.Event()

    def person() -> None:
        try:
            with KumaClient(kuma.url) as page:
                page.login(USER, PASSWORD)
                for number in range(EDITS):
                    monitor = ids[number % 3]
                    page.edit_monitor(monitor, description=f"by a person {number}")
                    if number % 3 == 0:
                        page._call("pauseMonitor", monitor)
                        page._call("resumeMonitor", monitor)
        except (KumaError, AssertionError) as error:
            failed.append(error)
        finally:
            done.set()

    choice = random.Random(13)
    thread = threading.Thread(target=person)
    thread.start()
    applies = 0
    while not done.is_set():
        monitor = choice.choice(ids)
        kuma.update(monitor, name=f"by an apply {applies}")
        report = kuma.reconcile(ids=[monitor], rows=applies % 5 == 0)
        assert report["errors"] == [], report
        assert report["rounds"] <= 6
        applies += 1
    thread.join()
    assert failed == []
    assert applies > 50
    kuma.settled(rows=True)
    kuma.execute(f'UPDATE monitor SET "interval" = 1 WHERE id IN ({", ".join(map(str, ids))})')
    assert set(kuma.settled(rows=True)["changed"]) == set(ids)
    time.sleep(1.5)
    began = time.time()
    time.sleep(5)
    for path in paths:
        beats = [at for at in web.times(path) if at > began]
        assert 3 <= len(beats) <= 6, "one loop, a beat a second"
    assert all(status == 1 for monitor in ids for status in web.alerts_of(monitor))
