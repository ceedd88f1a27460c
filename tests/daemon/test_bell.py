"""What wakes the supervisor's main loop, and that nothing else does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from replicator_kuma.daemon.bell import Bell
from tests.cli.harness import Run

LONG = 60.0


def at_once(wait: Callable[[], None]) -> bool:
    began = time.monotonic()
    wait()
    return time.monotonic() - began < LONG / 2


def test_it_is_heard_before_and_during_a_wait_and_then_no_more() -> None:
    bell = Bell()
    for _ in range(100_000):  # more than a pipe holds
        bell.ring()
    assert at_once(lambda: bell.wait(LONG))
    threading.Timer(0.1, bell.ring).start()
    assert at_once(lambda: bell.wait(LONG))
    began = time.monotonic()
    bell.wait(0.2)
    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGCHLD])
def test_a_signal_rings_and_its_handler_does_nothing_for_it(number: int) -> None:
    bell, before = Bell(), signal.getsignal(signal.SIGCHLD)
    former = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with bell.rung_by_signals():
            if number == signal.SIGCHLD:
                subprocess.Popen([sys.executable, "-c", ""]).wait()
            else:
                os.kill(os.getpid(), number)
            assert at_once(lambda: bell.wait(LONG))
    finally:
        signal.signal(signal.SIGUSR1, former)
    assert signal.getsignal(signal.SIGCHLD) == before


def test_the_main_loop_sleeps_while_nothing_is_due(tmp_path: Path) -> None:
    """Once a second, where it was twenty times."""
    with Run(tmp_path / "r", "BACKUP") as run:
        run.until("backup False True")
        assert run.process is not None
        status = Path(f"/proc/{run.process.pid}/task/{run.process.pid}/status")

        def sleeps() -> int:
            (line,) = (
                line
                for line in status.read_text().splitlines()
                if line.startswith("voluntary_ctxt_switches")
            )
            return int(line.split()[1])

        time.sleep(1.0)
        before = sleeps()
        time.sleep(4.0)
        assert sleeps() - before < 4 * 10
