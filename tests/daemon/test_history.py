"""What the supervisor knows of Litestream: up to when all is sent, what is wrong, when it is over.

A scripted Litestream: the real one cannot be away for minutes in a test (tests/litestream/).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from replicator_kuma.adapters.litestream.child import Child
from replicator_kuma.adapters.litestream.client import NoAnswer, Progress
from replicator_kuma.daemon.history import LATE, LONGEST_PAUSE, Stream
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.state.records import HISTORY
from tests.support.cycles import instance
from tests.support.folder_repository import FolderRepository
from tests.support.instances import sent_by
from tests.support.litestream import replica

NOTHING = Progress(0.0, 0, 0.0, "")


class Scripted(Child):
    """Answers what the test says; the time is the test's."""

    def __init__(self, folder: Path) -> None:
        super().__init__(replica(folder, f"file://{folder / 'store'}"))
        self.up = False
        self.starts = 0
        self.answer: Progress | NoAnswer = NOTHING
        self.now = 1000.0

    def running(self) -> bool:
        return self.up

    def start(self) -> None:
        self.starts += 1
        self.up = True

    def progress(self) -> Progress:
        if isinstance(self.answer, NoAnswer):
            raise self.answer
        return self.answer

    def end(self) -> bool:
        return False


class Known:
    """A stream over it, that began at the time 1000 of the test's clock."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.child = Scripted(folder)
        monkeypatch.setattr("replicator_kuma.daemon.history.time.time", lambda: self.child.now)
        self.stream = Stream(self.child._replica, self.child, clock=lambda: self.child.now)
        monkeypatch.setattr(Stream, "_run", lambda _self: None)
        self.stream.start()
        monkeypatch.setattr(self.stream._ending, "wait", lambda _seconds: False)

    def at(self, now: float, read: float = 0.0, uploaded: float = 0.0, error: str = "") -> None:
        self.child.now = now
        self.child.answer = Progress(read, 7, uploaded, error)
        self.stream.once()

    def news(self) -> bool:
        return self.stream.news

    def trouble(self) -> str:
        found = self.stream.trouble
        return found.words if found is not None else ""


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Known:
    made = Known(tmp_path / "litestream", monkeypatch)
    made.stream.once()  # starts it
    return made


def test_all_is_sent_up_to_a_read_that_an_upload_has_begun_after(known: Known) -> None:
    known.at(1001, read=1000.9)
    assert known.stream.sent_at == 0.0
    # this upload may have begun before that read had ended
    known.at(1002, read=1001.9, uploaded=1001.5)
    assert known.stream.sent_at == 0.0
    # the next one began after 1001.5, and so sent what was read by then
    known.at(1003, read=1002.9, uploaded=1002.5)
    assert known.stream.sent_at == 1000.9
    known.at(1004, read=1003.9, uploaded=1003.5)
    assert known.stream.sent_at == 1001.9
    # without an upload nothing is known to be sent
    known.at(1010, read=1009.9, uploaded=1003.5)
    assert known.stream.sent_at == 1001.9


def test_a_read_that_fails_sends_nothing(known: Known) -> None:
    for second in range(1, 6):
        known.at(1000 + second, uploaded=1000 + second - 0.5, error="disk full")
    assert known.stream.sent_at == 0.0
    assert known.stream.why == "disk full"


def test_a_minute_without_an_upload_is_told_once_and_so_is_its_end(
    known: Known, tmp_path: Path
) -> None:
    repository = FolderRepository(tmp_path / "repository")
    here: Instance = instance(tmp_path / "here", repository, name="here")
    for second in range(1, 6):
        known.at(1000 + second, read=1000 + second - 0.1, uploaded=1000 + second - 0.5)
    assert known.trouble() == ""
    assert known.news()  # an earlier run may have noted something
    known.stream.note(here)
    assert not known.news()
    known.child.last_error = "monitor error: connection refused"
    for second in range(6, round(LATE) + 10):
        known.at(1000 + second, read=1000 + second - 0.1, uploaded=1004.5)
    assert known.news()
    assert known.trouble().startswith("Litestream sends nothing to file://")
    assert "connection refused" in known.trouble()
    assert known.stream.beat()["history"] == "behind"
    for _ in range(2):
        known.stream.note(here)
    (problem,) = [one for one in here.state.load().problems if one.what == HISTORY]
    assert problem.since
    told = [one for one in sent_by(here) if one.startswith("history is not streamed: ")]
    assert len(told) == 1
    for second in range(100, 105):
        known.at(1000 + second, read=1000 + second - 0.1, uploaded=1000 + second - 0.5)
    assert known.trouble() == ""
    assert known.stream.why == ""
    known.stream.note(here)
    assert not [one for one in here.state.load().problems if one.what == HISTORY and one.since]
    assert sent_by(here)[-1].startswith("history is streamed again: ")


def test_it_is_started_again_with_pauses_that_grow(
    known: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        return False

    monkeypatch.setattr(known.stream._ending, "wait", wait)
    for _ in range(9):
        known.child.up = False
        known.child.now += 1
        known.stream.once()
    assert known.child.starts == 10
    assert known.stream.restarts == 9
    assert pauses == [1, 2, 4, 8, 16, 32, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]
    # one that lasted
    known.child.now += 1000
    known.child.up = False
    known.stream.once()
    assert pauses[-1] == 1


def test_without_an_answer_no_publish_waits_for_a_count(known: Known) -> None:
    known.child.answer = NoAnswer("Litestream does not answer (refused)")
    assert known.stream.committed() == 0
    known.child.answer = Progress(known.child.now + 1, 42, 0.0, "")
    assert known.stream.committed() == 42


def test_what_was_not_sent_is_told_with_the_time(known: Known) -> None:
    for second in range(1, 6):
        known.at(1000 + second, read=1000 + second - 0.1, uploaded=1000 + second - 0.5)
    words = known.stream.stop()
    assert "what was written after 1970-01-01T00:16:42Z may not be in file://" in words
