"""`replicator run` with targets of pings: one begin and one end a cycle, and nobody waits."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.harness import Run
from tests.support.targets import CHECK, PUSH_TOKEN, Checks
from tests.support.waiting import wait_until

CYCLE = "restore False None"


@pytest.fixture
def checks() -> Iterator[Checks]:
    with contextlib.closing(Checks()) as made:
        yield made


@pytest.fixture
def hung() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_each_cycle_pings_its_begin_and_its_end(tmp_path: Path, checks: Checks) -> None:
    with Run(tmp_path / "r", "RESTORE", REPLICATOR_NOTIFY=checks.target) as run:
        run.until("confirm")
        wait_until(lambda: checks.signals[-1:] == ["success"], "the first cycle's end")
        for script, says in (
            ({"error": "RepositoryUnreachable"}, "5"),
            ({"outcome": "waiting"}, "log"),
            ({}, "success"),
        ):
            count = len(checks.signals)
            # an end replaces the begin that is still waiting to be sent
            with run.held("restore", **script):
                run.send(signal.SIGUSR1)
                wait_until(lambda: len(checks.signals) > count, "the begin")  # noqa: B023
            wait_until(lambda: len(checks.signals) >= count + 2, "the end")  # noqa: B023
            assert checks.signals[count:] == ["start", says]
        run.end()
    assert CHECK not in run.log


def test_targets_that_hang_delay_no_cycle_and_no_end(tmp_path: Path, hung: str) -> None:
    hanging = (
        f"ping+http://{hung}/{CHECK} kuma+http://{hung}/api/push/{PUSH_TOKEN} "
        f"gotify://{hung}/A1 webhook+http://{hung}/x"
    )
    took = []
    for number, notify in enumerate(("", hanging)):
        with Run(tmp_path / f"r{number}", "RESTORE", REPLICATOR_NOTIFY=notify) as run:
            run.until("confirm")
            count, began = run.calls.count(CYCLE), time.monotonic()
            for more in range(1, 4):
                run.send(signal.SIGUSR1)
                run.until(CYCLE, count + more)
            assert time.monotonic() - began < 14.0  # 15 s with one attempt in each cycle
            _code, seconds = run.end()
            took.append(seconds)
    assert took[1] < took[0] + 4.0, "one attempt alone takes 5 s"
