"""Rows of random faults, one cycle after another, and faults at random instants.

REPLICATOR_TEST_FAULTS says how many faults (`make soak` asks for 2,000); what fails is printed
with its seed, for REPLICATOR_TEST_SEED.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import random
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.injections import Fault, Injection, Point, points
from tests.faults.outcome import suffer
from tests.faults.world import LEADER, PHASES, REPLICA, World, hear, world_of
from tests.support.fleet import Start

FAULTS = int(os.environ.get("REPLICATOR_TEST_FAULTS", "24"))
PARTS = 8
LONGEST = 4
"""so many faults at most, each in a cycle of its own, before a cycle without any"""
_EVENTS = ("open", "sqlite3.connect", "subprocess.Popen", "os.mkdir", "os.rename", "os.remove")
_ERRNOS = (errno.ENOSPC, errno.EROFS, errno.EIO, errno.EMFILE, errno.EACCES)
_MOST_EFFECTS = 120

ANYWHERE = [p for p in points() if not p.fault.mounts]


def at_effect(number: int, kind: str, code: int) -> Injection:
    """The n-th thing that the cycle does with a file or a process fails, or is its last."""

    @contextlib.contextmanager
    def inject(world: World) -> Iterator[None]:
        left = itertools.count(number, -1)

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event not in _EVENTS or str(world.folder) not in str(arguments[0]):
                return
            if next(left) != 0:
                return
            if kind == "SIGKILL":
                os.kill(os.getpid(), signal.SIGKILL)
            if kind == "out of memory":
                raise MemoryError
            if event == "sqlite3.connect":
                return  # its own errors are no OSErrors
            raise OSError(code, os.strerror(code), str(arguments[0]))

        forget = hear(hook)
        try:
            yield
        finally:
            forget()

    return inject


def random_point(chance: random.Random, role: str) -> Point:
    """A fault of the matrix, or one at any instant."""
    if chance.random() < 0.5:
        return chance.choice([p for p in ANYWHERE if p.role == role])
    kind = chance.choice(("SIGKILL", "out of memory", "errno", "errno"))
    number, code = chance.randrange(_MOST_EFFECTS), chance.choice(_ERRNOS)
    what = errno.errorcode[code] if kind == "errno" else kind
    fault = Fault(f"{what} at effect {number}", at_effect(number, kind, code), kind == "SIGKILL")
    return Point(role, PHASES[role][0], fault)


def test_faults_do_not_add_up(start: Start, memory: Path, part: int) -> None:
    seed = int(os.environ.get("REPLICATOR_TEST_SEED") or random.SystemRandom().randrange(2**32))
    left = FAULTS // PARTS
    while left > 0:
        chance = random.Random(seed)
        role = chance.choice((LEADER, REPLICA, REPLICA))
        row = [random_point(chance, role) for _ in range(chance.randint(1, min(LONGEST, left)))]
        left -= len(row)
        told = f"part {part}: REPLICATOR_TEST_SEED={seed}: {[p.key for p in row]}"
        print(told, file=sys.stderr)
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            # in every other part a replica's Kuma takes rows while it runs
            live = part % 2 == 1 and role == REPLICA
            world = world_of(start, Path(folder) / "w", role, live=live)
            suffer(row, start, world)
        seed = chance.randrange(2**32)


@pytest.fixture(params=range(PARTS))
def part(request: pytest.FixtureRequest) -> int:
    return int(request.param)
