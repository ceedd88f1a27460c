"""ChildKuma with real processes."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.adapters.kuma import KumaService
from replicator_kuma.adapters.kuma.child import ChildKuma
from replicator_kuma.adapters.kuma.process import exit_status, signal_of
from replicator_kuma.adapters.kuma.supervised import SupervisedKuma
from replicator_kuma.base.errors import KumaError
from replicator_kuma.base.text import killed_by
from tests.adapters.kuma.programs import OBEDIENT, SLOW, python
from tests.support.clock import Clock
from tests.support.waiting import wait_until


@contextmanager
def child(folder: Path, program: str, **options: Any) -> Iterator[ChildKuma]:
    """A child that is not left behind."""
    service = ChildKuma(python(program), folder, {"PATH": os.environ["PATH"]}, **options)
    try:
        yield service
    finally:
        if service.running() and service.pid is not None:
            os.kill(service.pid, signal.SIGKILL)
            wait_until(lambda: not service.running(), "the child is gone")


def code(service: ChildKuma) -> int | None:
    """Asked anew each time; mypy believes that a property stays as it was."""
    return service.exit_code


def up(folder: Path) -> str:
    """What the child says once it stands."""
    wait_until(lambda: (folder / "up").exists(), "the child has started")
    return (folder / "up").read_text()


def test_it_starts_stops_and_starts_again(tmp_path: Path) -> None:
    with child(tmp_path, OBEDIENT) as service:
        as_protocol: KumaService = service
        assert (as_protocol.name, as_protocol.manages, as_protocol.owned) == ("child", True, True)
        assert (service.pid, service.exit_code) == (None, None)
        assert not service.running()
        service.stop()

        service.start()
        first = service.pid
        assert service.running()
        assert code(service) is None
        up(tmp_path)
        service.start()
        assert service.pid == first

        service.stop()
        assert not service.running()
        assert code(service) == 7
        assert (tmp_path / "ended-by").read_text() == str(int(signal.SIGTERM))
        service.stop()

        service.start()
        assert service.running()
        assert code(service) is None
        assert service.pid != first


def test_it_has_a_session_of_its_own_and_an_environment_for_one_start(tmp_path: Path) -> None:
    with child(tmp_path, OBEDIENT) as service:
        service.start({"UPTIME_KUMA_DB_TYPE": "sqlite"})
        assert up(tmp_path) == f"sqlite {service.pid}"
        service.stop()
        (tmp_path / "up").unlink()
        service.start()
        assert up(tmp_path) == f"none {service.pid}"


def test_it_forwards_a_signal(tmp_path: Path) -> None:
    with child(tmp_path, OBEDIENT) as service:
        service.signal(signal.SIGHUP)
        service.start()
        up(tmp_path)
        service.signal(signal.SIGHUP)
        wait_until(lambda: (tmp_path / "got").exists(), "the signal has arrived")
        service.stop()
        service.signal(signal.SIGHUP)


def test_it_waits_for_a_child_that_takes_its_time_and_asks_only_once(tmp_path: Path) -> None:
    clock = Clock()
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        # Half a minute a look; the child may go in the third minute.
        wait_until(lambda: (tmp_path / "terms").exists(), "the child has heard the signal")
        clock.sleep(30.0)
        if clock.now >= 150:
            (tmp_path / "let-go").touch()

    with child(tmp_path, SLOW, on_wait=waits.append, clock=clock, sleep=sleep) as service:
        service.start()
        up(tmp_path)
        service.signal(signal.SIGTERM)
        service.stop(math.inf)
        assert service.exit_code == 0
    assert waits[:2] == [60.0, 120.0]
    assert (tmp_path / "terms").read_text() == "1"


def test_a_stop_with_a_limit_leaves_the_child_alone(tmp_path: Path) -> None:
    with child(tmp_path, SLOW) as service:
        service.start()
        up(tmp_path)
        with pytest.raises(KumaError, match=r"has not ended within 0\.1 s") as caught:
            service.stop(timeout=0.05)
        assert "left alone" in caught.value.hint
        assert service.running()
        (tmp_path / "let-go").touch()
        service.stop()
        assert service.exit_code == 0
        assert (tmp_path / "terms").read_text() == "1"


def test_a_long_wait_is_logged_by_default(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()

    def sleep(seconds: float) -> None:
        clock.sleep(61.0)
        (tmp_path / "let-go").touch()

    with child(tmp_path, SLOW, clock=clock, sleep=sleep) as service:
        service.start()
        up(tmp_path)
        with caplog.at_level("INFO", "replicator_kuma"):
            service.stop(math.inf)
    assert "has not ended yet, 1 min 1 s after" in caplog.messages[0]


def test_a_child_that_dies_is_seen_and_reaped(tmp_path: Path) -> None:
    with child(tmp_path, "import sys; sys.exit(3)") as service:
        service.start()
        wait_until(lambda: not service.running(), "the child has died")
        assert service.exit_code == 3
        assert service.pid is not None
        with pytest.raises(ProcessLookupError):
            os.kill(service.pid, 0)


def test_a_child_that_a_signal_ends(tmp_path: Path) -> None:
    with child(tmp_path, OBEDIENT) as service:
        service.start()
        up(tmp_path)
        service.signal(signal.SIGKILL)
        wait_until(lambda: not service.running(), "the child has died")
        assert service.exit_code == -9


@pytest.mark.parametrize(("code", "status"), [(0, 0), (1, 1), (-9, 137), (-15, 143)])
def test_exit_status_is_a_shells(code: int, status: int) -> None:
    assert exit_status(code) == status


def test_a_command_that_is_not_there_says_so(tmp_path: Path) -> None:
    service = ChildKuma(["no-such-kuma"], tmp_path, {})
    with pytest.raises(KumaError, match=r"could not be started .*No such file") as caught:
        service.start()
    assert "replicator run" in caught.value.hint
    assert not service.running()


def test_a_job_does_not_wait_for_ever_for_a_kuma_that_does_not_end(tmp_path: Path) -> None:
    clock = Clock()
    with child(tmp_path, SLOW, clock=clock, sleep=clock.sleep) as service:
        service.start()
        up(tmp_path)
        held = SupervisedKuma(service, service)
        with pytest.raises(KumaError, match="has not ended within 1 h"):
            held.stop()
        assert service.running(), "it is never killed: it may be migrating"
        assert 3600 <= clock.now < 3700


def test_how_a_child_ended_is_told_where_nobody_asked_it_to(tmp_path: Path) -> None:
    service = ChildKuma(python(OBEDIENT), tmp_path, {})
    assert service.ended_with() is None
    service.start()
    assert service.ended_with() is None
    assert service.pid is not None
    os.kill(service.pid, signal.SIGKILL)
    wait_until(lambda: not service.running(), "the child is gone")
    assert service.ended_with() == 137
    for number in (signal.SIGTERM, signal.SIGKILL):  # its end is ours
        (tmp_path / "up").unlink(missing_ok=True)
        service.start()
        wait_until((tmp_path / "up").exists, "the child is up")
        service.signal(number)
        wait_until(lambda: not service.running(), "the child is gone")
        assert service.ended_with() is None


@pytest.mark.parametrize(
    ("status", "number"),
    [(None, 0), (0, 0), (1, 0), (128, 0), (129, 1), (137, 9), (192, 64), (193, 0), (255, 0)],
)
def test_which_exit_statuses_tell_of_a_signal(status: int | None, number: int) -> None:
    assert signal_of(status) == number


def test_a_signal_in_words() -> None:
    assert killed_by(9) == "killed by signal 9 (out of memory?)"
    assert killed_by(11) == "killed by signal 11 (SIGSEGV)"
    assert killed_by(40) == "killed by signal 40"
