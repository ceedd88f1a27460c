"""Deadlines: one thread for all of them, which ends when nobody needs it."""

from __future__ import annotations

import threading
import time

import pytest

from replicator_kuma.base import watchdog
from replicator_kuma.base.watchdog import Watchdog
from tests.support.waiting import wait_until


def test_a_block_that_takes_too_long_is_told_of_once_and_one_in_time_is_not() -> None:
    dog, late, told = Watchdog(), threading.Event(), list[str]()
    with dog.within(60.0, lambda: told.append("the long one")):
        began = time.monotonic()
        with dog.within(0.1, late.set):  # sooner than what the thread waits for
            assert late.wait(10)
        assert 0.1 <= time.monotonic() - began < 30.0
        with dog.within(1.0, lambda: told.append("one in time")):
            pass  # which is long, where a busy machine makes a pause right here
        again = threading.Event()
        with dog.within(1.1, again.set):
            assert again.wait(10)
    assert told == []


def test_a_machine_that_gave_no_thread_once_does_not_end_all_deadlines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    dog, late = Watchdog(), threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError), dog.within(60.0, late.set):
            raise AssertionError("not reached: nobody would end this block")
    assert dog._due == {}
    with dog.within(0.05, late.set):
        assert late.wait(30)


def test_an_end_that_fails_does_not_end_all_deadlines() -> None:
    def fail() -> None:
        failed.set()
        raise ValueError("a bug")

    dog, failed, late = Watchdog(), threading.Event(), threading.Event()
    with dog.within(0.05, fail):
        assert failed.wait(30)
    with dog.within(0.05, late.set):
        assert late.wait(30)


def test_its_thread_ends_when_it_is_idle_and_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "IDLE", 0.05)
    dog = Watchdog()
    for _ in range(2):
        late = threading.Event()
        with dog.within(0.01, late.set):
            assert late.wait(10)
        wait_until(lambda: dog._wakes_at is None, "the thread has ended")
