"""The state file: every field there and back, never half a file, one holder of the lock."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.errors import AlreadyRunning, StateError
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.records import (
    AWAY,
    CYCLE,
    DRIFT,
    HOLD,
    LAGGING,
    Bad,
    Drill,
    FailedAttempt,
    Hold,
    JobRecord,
    Last,
    LiveApply,
    LiveOff,
    NewestSeen,
    Problem,
    RepositoryUpkeep,
    Restart,
    Restored,
)
from replicator_kuma.replication.state.state import State
from tests.support.cycles import MARK, PENDING
from tests.support.states import SECTION_OF, edit_state, state_with
from tests.support.waiting import wait_until

ODD = dataclasses.replace(MARK, leader='né "odd"\n\udc80', position=Position(3, 2**40))
FULL = state_with(
    writer="0123456789abcdef",
    publishing=MARK,
    published=dataclasses.replace(ODD, shrunk=Position(3, 7)),
    burned=Position(2, 9),
    failed_digests=("c" * 64, "d" * 64),
    fenced="there has published",
    rivals=("e" * 64,),
    shrink="1.3 would take 9 of 12 monitors",
    applied=MARK,
    policy="0123456789abcdef",
    arrived=(("proxy", (1, 2)), ("remote_browser", ())),
    keeps_own=True,
    pending=dataclasses.replace(
        PENDING,
        purge=True,
        rollback=True,
        writing=True,
        drifted=True,
        seen=True,
        restart=True,
        replaced="r" * 64,
        digest="e" * 64,
        policy="fedcba9876543210",
        arrived=(("docker_host", (7,)),),
        keeps_own=True,
        earlier=dataclasses.replace(PENDING, mark=ODD),
        unread=True,
        words="1 monitor deleted",
        undoes=12,
        back_to=ODD,
    ),
    floor=Position(4, 5),
    hold=Hold(since=7.5, mark=ODD, kept=12),
    rollback_begun=Position(1, 3),
    rollback_applied=ODD,
    identities=("i" * 64, "j" * 64),
    published_files=("i" * 64, "3"),
    promoted_at=9.5,
    led_from=7,
    stopped_by_me=True,
    bad=("a", "b"),
    bad_listed=(("a", "id of a"), ("b", "b")),
    restart=Restart(9.5, 8.5),
    restored=Restored(107, 17.5),
    bad_why=Bad("1.7", 14.5, "Kuma did not start on it"),
    waits_until=10.5,
    purge=True,
    suspect="f" * 64,
    verified_at=1.5,
    fingerprint="print",
    digest="digest",
    equivalent="a snapshot and a digest",
    drift_digest="g" * 64,
    healed="h" * 64,
    healed_at=6.5,
    last=Last(at=2.5, ok=False, sentence="no network", error="X", exit_code=5, hint="try"),
    last_ok_at=3.5,
    fresh_at=3.25,
    refused="r",
    role="BACKUP",
    newest_seen=NewestSeen(15.5, Position(4, 9), 16.5, Position(4, 7), 2),
    jobs=(
        JobRecord(
            name="housekeeping",
            window="daily 01:00-05:00",
            due=7.5,
            tries=1,
            at=8.5,
            seconds=9.5,
            ok=False,
            sentence="damaged",
            error="X",
            exit_code=20,
            hint="try",
            ok_at=10.5,
        ),
    ),
    drill=Drill(11.5, True, "1.7 can be recovered", "1.7", (("fetch", 0.5), ("load", 1.25)), True),
    failed=FailedAttempt("a" * 64, "1.7", 2, 12.5, "held", "close it", 4, "0f", ("7.1",), 5),
    drill_failed=Drill(12.5, False, "no Kuma", "1.6", (), True, "start"),
    problems=(
        Problem(f"{AWAY}repository 2", AWAY, 13.5, "no route to host", (AWAY,)),
        Problem(CYCLE, "X", 4.5, "no network", ("Fenced", "X"), 13.5),
        Problem(DRIFT, "rows differ", 5.5, "rows differ", ("rows differ",)),
        Problem(HOLD, "4.5", 7.5, "holding", ("4.5",)),
        Problem("housekeeping", "X", 8.5, "damaged", ("X",)),
        Problem(LAGGING, LAGGING, 9.5, "repository 2 lags behind", (LAGGING,)),
    ),
    live_last=LiveApply(14.5, Position(1, 7), 13.25, "2.5.3", "a" * 64),
    live_off=LiveOff("2.5.2", "b" * 64, "1.6, exit code 1"),
    live_doubted=True,
    agent_hung="c" * 64,
    live_why_not="no agent",
    repositories=(RepositoryUpkeep("repository", 1.5, 2, 3, 4, 5, 6.5, "a pack is gone", True),),
)


def test_the_full_state_leaves_no_field_at_its_default() -> None:
    plain = State(writer="")
    same = [
        name
        for name, section in SECTION_OF.items()
        if getattr(getattr(FULL, section), name) == getattr(getattr(plain, section), name)
    ]
    assert same == []


@pytest.mark.parametrize("state", [FULL, State(writer="new")], ids=["full", "new"])
def test_every_field_there_and_back(tmp_path: Path, state: State) -> None:
    StateFile(tmp_path / "state").save(state)
    assert StateFile(tmp_path / "state").load() == state


def test_a_new_state_has_one_writer_until_it_is_saved(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "state")
    first = file.load()
    assert first.writer
    assert file.load() == first
    assert edit_state(file, purge=True).writer == first.writer
    assert StateFile(tmp_path / "other").load().writer != first.writer


def test_the_state_is_for_its_owner_only(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "state")
    file.save(FULL)
    assert file.folder.stat().st_mode & 0o777 == 0o700
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in file.folder.iterdir()] == ["state.json"]


WHOLE = json.dumps({"version": 1, "state": {"writer": "w"}})


@pytest.mark.parametrize(
    "text",
    [
        "",
        WHOLE[:-5],
        "\x00" * 100,
        "[]",
        "null",
        "7",
        '{"state": {"writer": "w"}}',
        '{"version": 1}',
        '{"version": 1, "state": []}',
        '{"version": 1, "state": {}}',
        '{"version": 1, "state": {"writer": "w", "burned": 7}}',
        '{"version": 1, "state": {"writer": "w", "burned": "0.0"}}',
        '{"version": 1, "state": {"writer": "w", "applied": {"position": null}}}',
        '{"version": 1, "state": {"writer": "w", "applied": []}}',
        '{"version": 1, "state": {"writer": "w", "pending": {"mark": null}}}',
        '{"version": 1, "state": {"writer": "w", "last": {"odd": 1}}}',
        "[" * 100_000,
    ],
    ids=lambda text: text[:40],
)
def test_what_cannot_be_understood_is_an_error_and_no_new_state(tmp_path: Path, text: str) -> None:
    file = StateFile(tmp_path)
    file.path.write_text(text)
    with pytest.raises(StateError, match=r"state\.json"):
        file.load()
    with pytest.raises(StateError):
        edit_state(file, purge=True)
    assert file.path.read_text() == text


def test_bytes_that_are_no_text_are_an_error(tmp_path: Path) -> None:
    file = StateFile(tmp_path)
    file.path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StateError, match="cannot read"):
        file.load()


def test_another_version_is_named(tmp_path: Path) -> None:
    file = StateFile(tmp_path)
    file.path.write_text('{"version": 2, "state": {"writer": "w"}}')
    with pytest.raises(StateError, match="another version of replicator-kuma"):
        file.load()


def test_fields_of_a_later_build_are_ignored(tmp_path: Path) -> None:
    file = StateFile(tmp_path)
    file.path.write_text('{"version": 1, "state": {"writer": "w", "later": 1}}')
    assert file.load() == State(writer="w")


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 64 KiB; the test is skipped where nobody may mount one."""
    folder.mkdir()
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if mount is None or subprocess.run([mount, *options], capture_output=True).returncode:
        pytest.skip("needs root to mount a small tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_keeps_the_state_that_was(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small") as disk:
        file = StateFile(disk / "state")
        file.save(FULL)
        (disk / "ballast").write_bytes(b"x" * shutil.disk_usage(disk).free)
        with pytest.raises(StateError, match="cannot write"):
            edit_state(file, fenced="x" * 20_000)
        assert file.load() == FULL
        assert [p.name for p in file.folder.iterdir()] == ["state.json"]
        (disk / "ballast").unlink()
        assert edit_state(file, fenced="x" * 20_000).leading.fenced == file.load().leading.fenced


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    file = StateFile(tmp_path / "file" / "state")
    with pytest.raises(StateError, match="cannot use the state directory"):
        file.save(FULL)
    with pytest.raises(StateError), file.lock():
        raise AssertionError("not reached")


HOLD = """
import sys
from pathlib import Path
from threading import Thread
from replicator_kuma.replication.state.file import StateFile
with StateFile(Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.read()
"""
FORK = """    import os, time
    if os.fork() == 0:
        time.sleep(0.2)
        os._exit(0)
"""
HOLD_AND_START = HOLD.replace("    print", FORK + "    print")


@contextmanager
def held_elsewhere(folder: Path, script: str = HOLD) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    arguments = [sys.executable, "-c", script, str(folder)]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield process
        finally:
            process.communicate()


def test_the_lock_keeps_two_processes_apart(tmp_path: Path) -> None:
    file = StateFile(tmp_path)
    with held_elsewhere(tmp_path):
        with pytest.raises(AlreadyRunning), file.lock():
            raise AssertionError("not reached")
        with pytest.raises(AlreadyRunning), file.lock(wait=0.2):
            raise AssertionError("not reached")
    with file.lock():
        pass


def test_the_lock_keeps_two_threads_apart(tmp_path: Path) -> None:
    file = StateFile(tmp_path)
    refused: list[Exception] = []

    def enter() -> None:
        try:
            with file.lock():
                pass
        except AlreadyRunning as error:
            refused.append(error)

    other = Thread(target=enter)
    with file.lock():
        other.start()
        other.join(20)
    assert refused


def test_the_lock_is_waited_for(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path) as process:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
        with StateFile(tmp_path).lock(wait=20.0):
            wait_until(lambda: process.poll() == 0, "the end of the holder")


def test_a_killed_holder_frees_the_lock(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        with StateFile(tmp_path).lock(wait=20.0):
            assert process.wait(20) == -signal.SIGKILL


def test_a_holder_killed_while_it_starts_a_program(tmp_path: Path) -> None:
    """Its child has the lock's open file until it becomes the program."""
    with held_elsewhere(tmp_path, HOLD_AND_START) as process:
        process.kill()
        process.wait(20)
        with StateFile(tmp_path).lock():
            pass


def test_its_holder_may_enter_again(tmp_path: Path) -> None:
    file = StateFile(tmp_path)
    with file.lock():
        with file.lock():
            pass
        with pytest.raises(AlreadyRunning), StateFile(tmp_path).lock():
            raise AssertionError("not reached")
    with StateFile(tmp_path).lock():
        pass
