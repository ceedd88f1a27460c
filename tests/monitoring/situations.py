"""The situations, how each is made on a running instance, and what is asked in it."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl

from tests.adapters.notify.server import Server
from tests.faults.injections import remount
from tests.monitoring.world import BACKUP, NAMES, RESTORE, Situated, made

# when a situation begins, a cycle has gone well an hour ago: the one is not late yet, the other is
HEALTH, FRESH, LATE = "status --health", "status --fresh 2h", "status --fresh 30m"
ASKED = (LATE, HEALTH, FRESH, "status", "doctor")
CRON, NOTIFICATION, PUSH = "cron", "notification", "push monitor"


@dataclass(frozen=True)
class Situation:
    """``make`` brings it about on a running instance, and returns once a cycle has met it."""

    name: str
    mode: str
    make: Callable[[Situated], None]
    well: bool = False
    """cycles go well in it"""
    told: bool = True
    """somebody is notified"""
    pinged: bool = True
    """the end of a cycle says whether this instance is in sync"""
    disk: str = ""
    """which folder needs a file system of its own, and so root"""
    served: bool = False
    fleet: str = "default"

    @property
    def title(self) -> str:
        return f"{self.name}, on a {NAMES[self.mode]}"


@dataclass(frozen=True)
class Told:
    """Exit code and words; the code is None where nobody gives one."""

    code: int | None
    words: str


@dataclass
class Seen:
    """What was told in a situation, by who was asked."""

    told: dict[str, Told] = field(default_factory=dict)


def _cycle_ended(world: Situated, well: bool) -> None:
    """Let a cycle take place, and wait until its end is noted."""
    before = time.time()
    world.watched.cycle()

    def noted() -> bool:
        last = world.watched.state.outcome.last
        return last is not None and last.at > before and last.ok is well

    world.watched.until(noted, f"a cycle that ends {'well' if well else 'in failure'}")


def _nothing(world: Situated) -> None:
    _cycle_ended(world, well=True)


def _gone(world: Situated) -> None:
    assert world.server is not None
    world.server.close()
    world.hang()
    world.edit()
    _cycle_ended(world, well=False)


def _hung(world: Situated) -> None:
    assert world.server is not None
    world.server.process.send_signal(signal.SIGSTOP)
    world.hang()
    _cycle_ended(world, well=False)


def _read_only(world: Situated) -> None:
    remount(world.repository, "ro")
    world.edit()
    _cycle_ended(world, well=world.watched is world.replica)


def _emptied(world: Situated) -> None:
    for path in (world.repository / "snapshots").iterdir():
        path.unlink()
    _cycle_ended(world, well=False)


def _full(world: Situated) -> None:
    world.as_cron_has_it()  # later nothing can be written there; nor can a cycle's end
    world.fill(world.replica.data_dir)
    world.watched.cycle()  # its end cannot be noted: the notification, which follows, tells


def _repository_full(world: Situated) -> None:
    world.fill(world.repository)
    world.edit()
    _cycle_ended(world, well=False)


def _fenced(world: Situated) -> None:
    world.replica.command("promote")
    world.edit()
    _cycle_ended(world, well=False)


def _held(world: Situated) -> None:
    world.replica.command("restore", "--now", "--snapshot", "1.1")
    world.edit()
    world.publish()
    _cycle_ended(world, well=True)


def _refused(world: Situated) -> None:
    for left in (7, 5):  # neither is half: the leader asks nobody, but this replica sees one step
        world.edit(f"DELETE FROM monitor WHERE id > {left}")
        world.publish()
    _cycle_ended(world, well=False)


SITUATIONS = (
    Situation("all is well", RESTORE, _nothing, well=True, told=False),
    Situation("the repository is away", RESTORE, _gone, served=True),
    Situation("the repository is away", BACKUP, _gone, served=True),
    Situation("the repository hangs", RESTORE, _hung, served=True),
    Situation(
        "the repository is read-only",
        RESTORE,
        _read_only,
        well=True,
        told=False,
        disk="repository",
    ),
    Situation("the repository is read-only", BACKUP, _read_only, disk="repository"),
    Situation("the repository was emptied", RESTORE, _emptied),
    Situation("the repository's disk is full", BACKUP, _repository_full, disk="repository"),
    Situation("its own disk is full", RESTORE, _full, disk="replica"),
    Situation("fenced", BACKUP, _fenced),
    Situation("held", RESTORE, _held, told=False),
    Situation("a snapshot is refused", RESTORE, _refused),
    Situation("no leader has published", RESTORE, _nothing, told=False, pinged=False, fleet="new"),
)
MODES = {BACKUP: "backup", RESTORE: "restore"}


def experience(situation: Situation, template: Path, folder: Path, receiver: Server) -> Seen:
    """Make a situation, and ask everybody about it."""
    with made(
        template,
        folder,
        situation.mode,
        receiver,
        disk=situation.disk,
        served=situation.served,
        fleet=situation.fleet,
    ) as world:
        world.watched.an_hour_passes()

        def pushes() -> list[str]:
            """What the push monitor got, as `up: words`."""
            there = f"GET /api/push/{world.topic}?"
            paths = [post.path for post in receiver.posts if post.path.startswith(there)]
            queries = [dict(parse_qsl(path.partition("?")[2])) for path in paths]
            return [f"{query['status']}: {_plain(query['msg'], world)}" for query in queries]

        before = len(pushes())
        situation.make(world)

        def posts() -> list[str]:
            """Of cycles. (A full disk lets chores not plan themselves, and they tell so, too.)"""
            sent = [post.body for post in receiver.posts if post.body.get("topic") == world.topic]
            cycles = [body for body in sent if MODES[situation.mode] in body["title"]]
            lines = [f"{body['title']}: {body['message']}".splitlines()[0] for body in cycles]
            return [_plain(line, world) for line in lines]

        if situation.told:
            world.watched.until(posts, "a notification")
        if situation.pinged:
            world.watched.until(lambda: len(pushes()) > before, "a push")
        if situation.disk != "replica":
            world.as_cron_has_it()
        cron = f"{HEALTH} --state-dir {world.by_cron}"
        found = dict(zip((*ASKED, CRON), world.watched.ask(*ASKED, cron), strict=True))
        seen = {name: Told(code, _words(name, out, world)) for name, (code, out) in found.items()}
        seen[NOTIFICATION] = Told(None, "; ".join(posts()) or "none")
        seen[PUSH] = Told(None, (pushes()[before:] or ["none"])[-1])
    return Seen(seen)


_SHOWN = ("last cycle", "not noted", "fenced", "holding", "not applied")


def _words(name: str, text: str, world: Situated) -> str:
    """The lines that say how replication goes, of those that a command has printed."""
    lines = text.splitlines()
    if name == "status":
        found = [line.split(":", 1) for line in lines]
        lines = [f"{key}: {value.strip()}" for key, value in found if key in _SHOWN]
    if name == "doctor":
        lines = [line for line in lines if line.startswith(("FAIL", "WARN"))] or ["all OK"]
    return " <br>".join(_plain(line, world) for line in lines)


def _plain(text: str, world: Situated) -> str:
    """Without what is another one in each run: times, ports, names of restic's files."""
    text = text.replace(str(world.by_cron), str(world.watched.data_dir / "replicator"))
    text = text.replace(str(world.folder), "/srv")
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8000", text)
    text = re.sub(r"(no answer within|tried for) [\d.]+ s", r"\1 N s", text)
    text = re.sub(r"\d{4}-\d\d-\d\d[T ][\d:]+(Z| UTC|[+-]\d\d:?\d\d)?", "TIME", text)
    text = re.sub(r"[0-9a-f]{32,}-tmp-\d+", "…", text)
    return re.sub(r"(\b\d+ (d|h|min|s) )+ago", "N min ago", text)
