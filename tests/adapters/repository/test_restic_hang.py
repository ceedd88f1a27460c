"""What no real restic does on demand: hangs, garbage, floods, codes that nobody knows."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from replicator_kuma.adapters.repository import Snapshot
from replicator_kuma.adapters.repository.restic.client import ResticRepository, Timeouts
from replicator_kuma.base.errors import (
    Interrupted,
    PublishIncomplete,
    ReplicatorError,
    RepositoryError,
    RepositoryLocked,
    RepositoryUnreachable,
    ResticMissing,
    SnapshotRefused,
)
from tests.adapters.repository.places import environment, label, read_tree
from tests.support.waiting import wait_until

FAST = Timeouts(first_call=0.5, listing=0.5, publish=0.5, fetch=0.5, lock=0.5, version=5)
CALM = Timeouts(first_call=20, listing=20, publish=20, fetch=20, lock=20)
SNAPSHOT = Snapshot("ab" * 32, label(1), "")
ENTRY = {"id": "e" * 64, "time": "2031-01-01T00:00:00Z", "tags": label(1).tags()}
LISTING = json.dumps([ENTRY])
"""of one snapshot of the fleet: without one, v1 and v2 are looked for by one more call"""
SECRET = "t0p-s3cret"

Fake = Callable[..., ResticRepository]


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    """A repository over a shell script: its body runs for every command but `version`."""

    numbers = itertools.count()

    def build(
        body: str,
        timeouts: Timeouts = FAST,
        version: str = "restic 0.18.0 compiled with go1.24",
        interrupted: Callable[[], bool] = lambda: False,
    ) -> ResticRepository:
        program = tmp_path / f"restic-{next(numbers)}"
        program.write_text(
            f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n'
            f'if [ "$1" = version ]; then echo "{version}"; exit; fi\n{body}\n'
        )
        program.chmod(0o755)
        variables = environment("rest:http://me:url-s3cret@127.0.0.1:1/", RESTIC_PASSWORD=SECRET)
        return ResticRepository(
            program,
            variables,
            tmp_path / "cache",
            "here",
            timeouts,
            interrupted=interrupted,
            sleep=lambda _seconds: None,
        )

    return build


def calls(tmp_path: Path) -> list[str]:
    return (tmp_path / "calls").read_text().splitlines()


def any_name(_name: str) -> bool:
    return True


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < seconds


def every_call(repository: ResticRepository, dump: Path, into: Path) -> list[Callable[[], object]]:
    return [
        lambda: repository.snapshots("default"),
        repository.check_access,
        repository.init,
        lambda: repository.publish(dump, label(1)),
        lambda: repository.fetch(SNAPSHOT, into, any_name),
    ]


HANGS = {
    "obedient": "sleep 600",
    "deaf": "trap '' INT TERM; while :; do sleep 600; done",
    "half a word": "printf '['; sleep 600",
    "closed pipes": "exec >&- 2>&-; sleep 600",
    "stopped": "kill -STOP $$",
    "endless errors": "exec yes >&2",
    "endless output": "exec yes",
    "own group": "setsid -f true; sleep 600 & exec sleep 600",
}


@pytest.mark.parametrize("body", HANGS.values(), ids=HANGS.keys())
def test_every_call_has_a_deadline(fake: Fake, dump: Path, tmp_path: Path, body: str) -> None:
    repository = fake(f"echo $$ >> {tmp_path}/pids\n{body}")
    for call in every_call(repository, dump, tmp_path / "into"):
        with within(60), pytest.raises(RepositoryUnreachable) as caught:
            call()
        assert caught.value.retryable
    for pid in (tmp_path / "pids").read_text().split():
        assert not Path("/proc", pid).exists()
    assert read_tree(tmp_path / "into") == {}


@pytest.mark.parametrize("what", HANGS)
def test_a_read_has_a_deadline_and_a_limit(fake: Fake, what: str) -> None:
    repository = fake(HANGS[what])
    endless = SnapshotRefused if what == "endless output" else RepositoryUnreachable
    with within(60), pytest.raises(endless):
        repository.read(SNAPSHOT, "manifest.json", 1 << 20)


def test_a_hang_is_told_in_seconds(fake: Fake) -> None:
    with pytest.raises(RepositoryUnreachable, match=r"no answer within 0\.5 s$"):
        fake("sleep 600").snapshots("default")


def test_a_hang_tells_what_restic_said(fake: Fake) -> None:
    line = "Stat(<config/>) returned error, retrying after 1.1s: dial tcp: connection refused"
    with pytest.raises(RepositoryUnreachable, match=r"refuses connections \(tried for 2 s\)"):
        fake(f"echo '{line}' >&2; sleep 600", Timeouts(2, 2)).snapshots("default")


def test_the_first_call_has_a_deadline_of_its_own(fake: Fake) -> None:
    timeouts = Timeouts(first_call=0.3, listing=1.0)
    repository = fake("[ -e go ] || { sleep 600; }; echo '[]'", timeouts)
    with pytest.raises(RepositoryUnreachable, match=r"0\.3 s"):
        repository.snapshots("default")


def test_after_an_answer_a_listing_may_take_longer(fake: Fake, tmp_path: Path) -> None:
    body = f"[ -e {tmp_path}/once ] && sleep 600; touch {tmp_path}/once; echo '{LISTING}'"
    repository = fake(body, Timeouts(first_call=2, listing=2.5))
    assert len(repository.snapshots("default")) == 1
    with within(60), pytest.raises(RepositoryUnreachable, match=r"2\.5 s"):
        repository.snapshots("default")


def test_processes_that_restic_began_end_with_it(fake: Fake, tmp_path: Path) -> None:
    # restic gives ssh and rclone process groups of their own.
    body = (
        "python3 -c 'import os,time; os.setpgid(0,0);"
        f'open("{tmp_path}/helper","w").write(str(os.getpid())); time.sleep(600)\' & sleep 600'
    )
    repository = fake(body, Timeouts(first_call=5, listing=5))
    with pytest.raises(RepositoryUnreachable):
        repository.snapshots("default")
    helper = Path("/proc", (tmp_path / "helper").read_text())
    wait_until(lambda: not helper.exists() or "Z" in (helper / "stat").read_text(), "its end")


def test_a_grandchild_that_keeps_the_pipes_delays_nothing(fake: Fake) -> None:
    # ssh's ControlPersist does this.
    repository = fake("echo '[]'; setsid sleep 30 &", CALM)
    with within(15):
        assert list(repository.snapshots("default")) == []


def test_a_signal_ends_a_call_at_once(fake: Fake, dump: Path, tmp_path: Path) -> None:
    repository = fake(f"touch {tmp_path}/up; exec sleep 600", CALM, interrupted=lambda: asked())

    def asked() -> bool:
        return (tmp_path / "up").exists()

    for call in every_call(repository, dump, tmp_path / "into"):
        (tmp_path / "up").unlink(missing_ok=True)
        with within(15), pytest.raises(Interrupted):
            call()


def test_a_fetch_that_nobody_wants_any_more_ends_at_once(fake: Fake, tmp_path: Path) -> None:
    repository = fake(f"touch {tmp_path}/up; exec sleep 600", CALM)
    with within(15), pytest.raises(Interrupted):
        repository.fetch(SNAPSHOT, tmp_path / "into", any_name, unwanted=(tmp_path / "up").exists)
    assert read_tree(tmp_path / "into") == {}


@pytest.mark.parametrize(
    "text",
    ["", "not json", "{}", "null", "[1]", '[{"id":', "[" * 100_000, "\\377\\376"],
)
def test_garbage_is_no_listing(fake: Fake, text: str) -> None:
    with pytest.raises(RepositoryUnreachable, match="JSON"):
        fake(f"printf '{text}'", CALM).snapshots("default")


def test_entries_of_other_programs_are_no_snapshots_of_ours(fake: Fake) -> None:
    entries = '[{"id":1},{"id":"x","tags":null},{"tags":["replicator-kuma","fleet=other"]}]'
    repository = fake(f"echo '{entries}'", CALM)
    found = repository.snapshots("default")
    assert (list(found), list(found.warnings)) == ([], [])


@pytest.mark.parametrize("body", ["", "echo garbage", "head -c 5000 /dev/urandom"])
def test_garbage_is_no_archive(fake: Fake, tmp_path: Path, body: str) -> None:
    with pytest.raises(RepositoryUnreachable, match="no tar archive"):
        fake(body, CALM).fetch(SNAPSHOT, tmp_path / "into", any_name)
    assert read_tree(tmp_path / "into") == {}


@pytest.mark.parametrize("size", [700, 1024, 1500, 2048, 8192, 100_000])
def test_half_an_archive_is_an_error_and_leaves_nothing(
    fake: Fake, dump: Path, tmp_path: Path, size: int
) -> None:
    for end in ("exit 0", "exit 1", "kill -9 $$"):
        body = f"tar cf - -C {dump} manifest.json tables files | head -c {size}; {end}"
        with pytest.raises(RepositoryUnreachable):
            fake(body, CALM).fetch(SNAPSHOT, tmp_path / "into", any_name)
        assert read_tree(tmp_path / "into") == {}


def test_a_whole_archive_of_a_restic_that_failed_is_not_taken(
    fake: Fake, dump: Path, tmp_path: Path
) -> None:
    with pytest.raises(RepositoryUnreachable, match="code 1"):
        fake(f"tar cf - -C {dump} .; exit 1", CALM).fetch(SNAPSHOT, tmp_path / "into", any_name)
    assert read_tree(tmp_path / "into") == {}


def test_a_whole_archive_is_taken(fake: Fake, dump: Path, tmp_path: Path) -> None:
    fake(f"tar cf - -C {dump} .", CALM).fetch(SNAPSHOT, tmp_path / "into", any_name)
    assert read_tree(tmp_path / "into") == read_tree(dump)


def test_a_fetch_needs_a_full_id(fake: Fake, tmp_path: Path) -> None:
    for name in ("abcdef12", "latest", "--help", "AB" * 32):
        with pytest.raises(RepositoryError, match="no full id"):
            fake("", CALM).fetch(Snapshot(name, label(1), ""), tmp_path / "into", any_name)


@pytest.mark.parametrize("code", [1, 2, 4, 13, 77, 130, 255])
def test_a_code_that_nobody_knows_is_unreachable(
    fake: Fake, dump: Path, tmp_path: Path, code: int
) -> None:
    for call in every_call(fake(f"exit {code}", CALM), dump, tmp_path / "into"):
        with pytest.raises(RepositoryUnreachable, match=f"code {code} "):
            call()


def test_a_restic_that_dies_is_unreachable(fake: Fake, dump: Path, tmp_path: Path) -> None:
    for call in every_call(fake("kill -9 $$", CALM), dump, tmp_path / "into"):
        with pytest.raises(
            RepositoryUnreachable,
            match=r"restic was killed by signal 9 \(out of memory\?\)",
        ):
            call()


def test_a_code_that_somebody_else_collected_is_no_success(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = fake("echo '[]'", CALM)
    repository.version()

    def gone(*_arguments: object) -> None:
        raise ChildProcessError

    monkeypatch.setattr(os, "waitid", gone)
    with pytest.raises(RepositoryUnreachable):
        repository.snapshots("default")


def test_transient_failures_are_tried_again(fake: Fake, tmp_path: Path) -> None:
    body = (
        f"echo x >> {tmp_path}/tries; [ $(wc -l < {tmp_path}/tries) -ge 3 ] || "
        f"{{ echo 'connection reset' >&2; exit 1; }}; echo '{LISTING}'"
    )
    assert len(fake(body, CALM).snapshots("default")) == 1
    assert len((tmp_path / "tries").read_text().splitlines()) == 3


def test_a_listing_in_trouble_ends_after_four_attempts(fake: Fake, tmp_path: Path) -> None:
    with pytest.raises(RepositoryUnreachable, match="cuts connections"):
        fake("echo 'connection reset' >&2; exit 1", CALM).snapshots("default")
    assert len(calls(tmp_path)) == 1 + 4


def test_a_poll_is_one_call_and_the_version_is_read_once(fake: Fake, tmp_path: Path) -> None:
    repository = fake(f"echo '{LISTING}'", CALM)
    for _ in range(3):
        assert len(repository.snapshots("default")) == 1
    assert [call.split()[0] for call in calls(tmp_path)] == ["version", *["snapshots"] * 3]


def test_pauses_are_capped_and_differ_between_instances(fake: Fake) -> None:
    """Fifty replicas see the end of an outage together: they do not come back together."""
    pauses: list[float] = []
    repository = fake("echo 'connection reset' >&2; exit 1", CALM)
    repository._on_retry = lambda _error, pause: pauses.append(pause)
    for _ in range(6):
        with pytest.raises(RepositoryUnreachable):
            repository.snapshots("default")
    assert len(set(pauses)) == len(pauses) == 18
    for number, longest in enumerate((1, 2, 4)):
        assert all(longest / 2 <= pause <= longest for pause in pauses[number::3])


def test_a_publish_of_unknown_end_is_not_repeated(fake: Fake, dump: Path, tmp_path: Path) -> None:
    with pytest.raises(RepositoryUnreachable, match="cuts connections"):
        fake("echo 'connection reset' >&2; exit 1", CALM).publish(dump, label(1))
    assert len(calls(tmp_path)) == 1 + 1


def test_an_incomplete_publish_is_not_repeated(fake: Fake, dump: Path, tmp_path: Path) -> None:
    with pytest.raises(PublishIncomplete):
        fake("exit 3", CALM).publish(dump, label(1))
    assert len(calls(tmp_path)) == 1 + 1


def test_a_lock_is_waited_for_and_unlock_called_once(
    fake: Fake, dump: Path, tmp_path: Path
) -> None:
    timeouts = Timeouts(publish=20, lock=0.4)
    with pytest.raises(RepositoryLocked):
        fake("[ $1 = unlock ] || exit 11", timeouts).publish(dump, label(1))
    made = [call.split()[0] for call in calls(tmp_path)]
    assert made.count("unlock") == 1
    assert made[:4] == ["version", "backup", "unlock", "backup"]


def test_a_signal_ends_the_wait_for_a_lock(fake: Fake, dump: Path, tmp_path: Path) -> None:
    def asked() -> bool:
        return (tmp_path / "calls").exists() and len(calls(tmp_path)) >= 4

    repository = fake("[ $1 = unlock ] || exit 11", CALM, interrupted=lambda: asked())
    with pytest.raises(Interrupted):
        repository.publish(dump, label(1))


def test_init_waits_for_another_one_of_this_instance(fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    with (tmp_path / "cache" / "init.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with within(60), pytest.raises(RepositoryLocked):
            fake("").init()
    assert fake("").init() is False


def test_init_needs_its_cache_folder(fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(RepositoryError, match="cannot write to"):
        fake("").init()


def test_no_folder_no_publish(fake: Fake, tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="is no folder"):
        fake("", CALM).publish(tmp_path / "none", label(1))


def test_init_that_lost_a_race_finds_the_other_ones_repository(fake: Fake, tmp_path: Path) -> None:
    body = (
        f"case $1 in cat) [ -e {tmp_path}/made ] || exit 10;; "
        f"init) touch {tmp_path}/made; echo 'Fatal: config file already exists' >&2; exit 1;; esac"
    )
    assert fake(body, CALM).init() is False


@pytest.mark.parametrize(
    "text",
    ["restic 0.13.1 compiled with go1.17", "restic 0.9.6", "GNU bash, version 5.2", ""],
)
def test_another_program_or_an_old_restic_is_none(fake: Fake, text: str) -> None:
    with pytest.raises(ResticMissing):
        fake("echo '[]'", CALM, version=text).snapshots("default")


def test_a_restic_that_is_not_there_or_no_program(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello\n")
    (tmp_path / "binary").write_bytes(b"\x7fELF nonsense")
    (tmp_path / "binary").chmod(0o755)
    for name in ("none", "text", "binary", "."):
        repository = ResticRepository(
            tmp_path / name, environment("x"), tmp_path / "cache", "here", CALM
        )
        with pytest.raises(ResticMissing, match="cannot run"):
            repository.snapshots("default")


def test_secrets_are_in_no_argument_and_in_no_error(fake: Fake, dump: Path, tmp_path: Path) -> None:
    body = 'env >&2; echo "Fatal: $RESTIC_PASSWORD at $RESTIC_REPOSITORY" >&2; exit 1'
    for call in every_call(fake(body, CALM), dump, tmp_path / "into"):
        with pytest.raises(ReplicatorError) as caught:
            call()
        said = f"{caught.value!r} {caught.value.hint} {caught.value.__cause__!r}"
        assert "Fatal" not in str(caught.value)
        assert "*** at rest:http://***@127.0.0.1:1/" in said
        assert SECRET not in said
        assert "url-s3cret" not in said
    assert SECRET not in (tmp_path / "calls").read_text()
    assert "url-s3cret" not in (tmp_path / "calls").read_text()


def test_restic_gets_the_environment_that_was_given_and_no_other(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOT_FOR_RESTIC", "1")
    before = dict(os.environ)
    fake(f"env > {tmp_path}/env; echo '[]'", CALM).snapshots("default")
    names = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert "RESTIC_PASSWORD" in names
    assert "NOT_FOR_RESTIC" not in names
    assert dict(os.environ) == before


def test_fifty_calls_of_every_end_leave_no_descriptor(
    fake: Fake, dump: Path, tmp_path: Path
) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    quick = Timeouts(first_call=0.05, listing=0.05, publish=0.05, fetch=0.05)
    tar = f"tar cf - -C {dump} ."
    repositories = [
        fake(f"[ $1 = dump ] && exec {tar}; echo '[]'", CALM),
        fake("exit 12", CALM),
        fake("sleep 60", quick),
    ]
    for repository in repositories:
        with contextlib.suppress(RepositoryError):
            repository.check_access()  # the cache folder's descriptor is held for good
    before = descriptors()
    for round_number in range(4):
        for repository in repositories:
            into = tmp_path / f"into-{round_number}-{id(repository)}"
            for call in every_call(repository, dump, into):
                with contextlib.suppress(RepositoryError):
                    call()
    assert descriptors() == before
