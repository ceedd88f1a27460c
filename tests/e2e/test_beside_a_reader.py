"""A real replica whose database another program keeps open: what is no Kuma does not matter."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.conftest import Fleet
from tests.e2e.test_two_kumas import kuma_pid, latest, published_after
from tests.support.supervised import Side
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.kuma, pytest.mark.restic]


@contextmanager
def reads(side: Side, name: str) -> Iterator[int]:
    """A process of that name which has the database open."""
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); "
        "c.execute('SELECT * FROM user').fetchall(); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [name, "-c", code, str(side.data_dir / "kuma.db")],
        executable=sys.executable,
        env={**os.environ, "PYTHONHOME": sys.base_prefix},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        try:
            yield process.pid
        finally:
            process.communicate()


def add(fleet: Fleet, name: str, web: str) -> str:
    """A monitor on the leader; the position that it is published at."""
    position = latest(fleet)
    client = fleet.client(fleet.leader)
    client.add_monitor(name, web)
    client.close()
    return published_after(fleet, position)


def test_a_reader_that_stays_costs_nothing_and_a_second_node_no_outage(
    fleet: Fleet, web: str
) -> None:
    fleet.wait_applied(latest(fleet), 120)
    fleet.replica.wait_ready()
    with reads(fleet.replica, "litestream"):
        fleet.wait_applied(add(fleet, "beside a reader", web))
        fleet.replica.wait_ready()
        pid = kuma_pid(fleet.replica)
        with reads(fleet.replica, "node") as other:
            position = add(fleet, "beside a node", web)
            refused = f"process {other} (node)"
            wait_until(lambda: refused in fleet.replica.log.read_text(), "it is said", 30)
            # twice at least: the log tells the second of a kind, too
            wait_until(lambda: "(2 times" in fleet.replica.log.read_text(), "again", 60)
            assert kuma_pid(fleet.replica) == pid
        fleet.wait_applied(position)
    fleet.replica.wait_ready()
