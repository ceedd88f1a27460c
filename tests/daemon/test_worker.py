"""Many clients that want the same cycle."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from replicator_kuma.base.errors import AlreadyRunning
from replicator_kuma.daemon.worker import Job, Worker
from tests.support.waiting import wait_until


class Office:
    """A worker whose jobs wait until they may end, and clients beside it."""

    def __init__(self) -> None:
        self.worker = Worker()
        self.worker.start()
        self.begun: list[str] = []
        self.may_end = threading.Semaphore(0)
        self.pool = ThreadPoolExecutor(40)
        self.steps: list[str] = []

    def job(self, like: str | None, name: str) -> Job:
        def work(tell: Any) -> str:
            self.begun.append(name)
            tell(f"step of {name}")
            assert self.may_end.acquire(timeout=20)
            if name.startswith("bad"):
                raise ValueError(name)
            return f"result of {name}"

        return Job(like or "unlike", work, self.steps.append, like=like)

    def client(self, like: str | None, name: str, wait: float = 0.0) -> Future[Any]:
        return self.pool.submit(self.worker.call, self.job(like, name), wait)

    def shared_by(self, clients: int) -> None:
        """Wait until so many clients share the next job."""
        there = self.worker._to_begin
        wait_until(lambda: len(next(iter(there.values())).followers) == clients - 1, "they share")


def test_a_flood_is_the_running_cycle_and_one_more() -> None:
    office = Office()
    first = office.client("restore", "first")
    wait_until(lambda: office.begun, "the first begins")
    others = [office.client("restore", f"flood {number}") for number in range(30)]
    wait_until(lambda: office.worker._to_begin, "one of them waits")
    office.shared_by(30)
    office.may_end.release(2)
    assert first.result(20) == "result of first"
    results = {other.result(20) for other in others}
    assert results == {f"result of {office.begun[1]}"}
    assert len(office.begun) == 2
    assert len(office.steps) == 31, "each client is told the steps"


def test_all_get_the_error_of_the_one_cycle() -> None:
    office = Office()
    blocker = office.client("restore", "blocker")
    wait_until(lambda: office.begun, "it begins")
    others = [office.client("restore", f"bad {number}") for number in range(5)]
    wait_until(lambda: office.worker._to_begin, "one of them waits")
    office.shared_by(5)
    office.may_end.release(2)
    assert blocker.result(20)
    assert {str(other.exception(20)) for other in others} == {office.begun[1]}


@pytest.mark.parametrize("first", ["hasty", "patient"])
def test_who_waits_longer_does_not_end_with_who_has_no_patience(first: str) -> None:
    office = Office()
    another = office.client(None, "another person's")
    wait_until(lambda: office.begun, "it begins")
    waits = {"hasty": 1.0, "patient": 60.0}
    clients = {first: office.client("restore", first, waits.pop(first))}
    wait_until(lambda: office.worker._to_begin, "the second one shares its job")
    clients |= {name: office.client("restore", name, wait) for name, wait in waits.items()}
    assert isinstance(clients["hasty"].exception(20), AlreadyRunning)
    assert not clients["patient"].done()
    office.may_end.release(2)
    assert clients["patient"].result(20) == "result of patient"
    assert another.result(20) == "result of another person's"


def test_jobs_that_are_like_no_other_share_nothing() -> None:
    office = Office()
    first = office.client(None, "first")
    wait_until(lambda: office.begun, "it begins")
    with pytest.raises(AlreadyRunning, match="busy"):
        office.worker.call(office.job(None, "second"), 0.0)
    office.may_end.release()
    assert first.result(20) == "result of first"
