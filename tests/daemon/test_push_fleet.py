"""One leader and twenty replicas under push: real restic, real servers, one stream for all."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from replicator_kuma.adapters.notify.delivery import Delivery
from replicator_kuma.adapters.notify.ntfy import Ntfy
from replicator_kuma.adapters.repository import Position
from replicator_kuma.daemon.hint_gate import SPREAD
from replicator_kuma.daemon.push import Push
from replicator_kuma.daemon.schedule import steady_part
from replicator_kuma.replication import runner
from replicator_kuma.replication.actions import Restore
from replicator_kuma.replication.instance import CycleResult, Hint, Instance, Outcome, Run
from tests.adapters.repository import places
from tests.support import weak_repository
from tests.support.cycles import db, fill, follow, lead, name_of, rename
from tests.support.instances import HastyStore, make_instance
from tests.support.ntfy import Topic
from tests.support.tools import restic_018
from tests.support.waiting import wait_until

pytestmark = pytest.mark.restic
REPLICAS = 20


class Replica:
    """One replica, its stream, and the ends of the cycles that hints have asked for."""

    def __init__(self, instance: Instance, topic: Ntfy) -> None:
        self.instance = instance
        self.asked: list[float] = []
        self.ends: list[CycleResult | Exception] = []
        self.push = Push(topic, instance, self._ask)
        self.push.stream.start()

    def _ask(self, hint: Hint) -> None:
        self.asked.append(time.monotonic())
        threading.Thread(target=self._cycle, args=(hint,), daemon=True).start()

    def _cycle(self, hint: Hint) -> None:
        result = None
        try:
            result = runner.run(self.instance, "RESTORE", Restore().run, Run(hint=hint))
            self.ends.append(result)
        except Exception as error:
            self.ends.append(error)
        self.push.looked(hint, result)


@contextlib.contextmanager
def _served(kind: str, folder: Path) -> Iterator[str]:
    if kind == "rest":
        weak_repository.make(folder / "rest" / "fleet")
        with places.rest(folder) as address:
            yield places.rest_url(address)
    else:
        weak_repository.make(folder / "s3" / "bucket" / "fleet")
        with places.s3(folder) as url:
            yield f"{url}/bucket/fleet"


@pytest.mark.parametrize("kind", ["rest", "s3"])
def test_all_replicas_get_a_change_and_the_store_sees_them_spread(
    tmp_path: Path, kind: str
) -> None:
    fill(tmp_path / "leader", monitors=3)

    def made(name: str) -> Instance:
        folder = tmp_path / name
        if name != "leader":
            shutil.copytree(tmp_path / "leader", folder, ignore=lambda *_: {"replicator"})
        place = places.connect(restic_018(), url, folder / "restic")
        return make_instance(folder, place, name=name, store=HastyStore(folder))

    with contextlib.ExitStack() as stack:
        url = stack.enter_context(_served(kind, tmp_path))
        topic = stack.enter_context(contextlib.closing(Topic()))
        where = Ntfy.at(topic.topic_url)
        leader = made("leader")
        lead(leader)
        leader.signal = Delivery(where, "leader", newest_only=True)
        replicas = []
        for number in range(REPLICAS):
            instance = made(f"kuma-{number}")
            follow(instance, reconcile=True)
            replicas.append(Replica(instance, where))
        wait_until(lambda: topic.open == REPLICAS, "all streams")
        rename(db(leader), 1, "edited")
        lead(leader)
        wait_until(lambda: all(replica.ends for replica in replicas), "all cycles", 120)
        for replica in replicas:
            [end] = replica.ends
            assert isinstance(end, CycleResult), end
            assert (end.outcome, end.position) == (Outcome.APPLIED, Position(1, 2))
            assert name_of(db(replica.instance), 1) == "edited"
            assert len(replica.asked) == 1
            replica.push.stream.stop()
    share = {id(r): SPREAD * steady_part(f"default {r.instance.name}") for r in replicas}
    turns = sorted(replicas, key=lambda replica: replica.asked[0])
    pairs = [share[id(a)] < share[id(b)] for a, b in itertools.combinations(turns, 2)]
    assert sum(pairs) > 0.8 * len(pairs), "they look in the order of their shares of the second"
