"""How soon a change arrives: from a save in the leader's page until a replica beats with it.

`python -m scripts.bench_lag lag FOLDER MONITORS EDITS [KUMA]` prints one JSON object, in seconds.
Both run `replicator run` with a real Uptime Kuma each; their intervals are an hour. Beside each
edit stands how long restic ran on its way, call after call.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from replicator_kuma.adapters.repository.snapshot import Position
from scripts.bench_measures import Figures
from scripts.soak_server import make_server
from tests.adapters.repository.places import S3_KEY, S3_SECRET
from tests.support.live_fleet import all_begun, end
from tests.support.ntfy import Topic
from tests.support.picture import Target
from tests.support.supervised import Side
from tests.support.tools import restic_018, use_kuma
from tests.support.waiting import wait_until

BURST = 100
QUIET = 3.0
"""seconds between two edits, so that none waits for the one before"""
LONGEST = 120.0
_WRAPPER = """#!/bin/sh
began=$(date +%s.%N)
{restic} "$@"
code=$?
echo "$began $(date +%s.%N) $1" >> {log}
exit $code
"""


class Pair:
    """A leader and a replica that have the same monitors; a context manager."""

    def __init__(
        self, folder: Path, monitors: int, *, push: bool, poll: str, url: str = ""
    ) -> None:
        folder.mkdir(parents=True)
        self._calls = folder / "calls"
        self._calls.touch()
        wrapper = folder / "restic"
        wrapper.write_text(_WRAPPER.format(restic=restic_018(), log=self._calls))
        wrapper.chmod(0o755)
        self._stack = ExitStack()
        self.target = self._stack.enter_context(closing(Target()))
        self.leader = Side(folder, "leader", "BACKUP", wrapper)
        self.replica = Side(folder, "replica", "RESTORE", wrapper)
        self._monitors = monitors
        self._edits = itertools.count(1)
        common = {
            "REPLICATOR_BACKUP_INTERVAL": "1h",
            "REPLICATOR_RESTORE_INTERVAL": poll,
            "UPTIME_KUMA_DB_TYPE": "sqlite",
            "REPLICATOR_SCHEMA": "compatible",
        }
        if push:
            topic = self._stack.enter_context(closing(Topic()))
            common["REPLICATOR_SIGNAL_URL"] = topic.topic_url
        self._often = 20 if push else 600
        if url:
            keys = {"AWS_ACCESS_KEY_ID": S3_KEY, "AWS_SECRET_ACCESS_KEY": S3_SECRET}
            common |= {"RESTIC_REPOSITORY": url, **keys}
        for side in (self.leader, self.replica):
            side.environment |= common
            self._stack.callback(end, side)

    def __enter__(self) -> Pair:
        try:
            self.leader.command("init")
            self.leader.set_up()
            with closing(self.leader.page()) as page:
                for number in range(1, self._monitors + 1):
                    page.add_monitor(f"m{number}", self._url(number, 0), interval=self._often)
                self.replica.run()
                self.replica.wait_ready()
                wait_until(lambda: self._holds(self._monitors), "all monitors arrive", LONGEST)
            all_begun(self.replica)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def _holds(self, monitors: int) -> bool:
        with contextlib.suppress(Exception):
            return self.replica.query("SELECT count(*) FROM monitor") == [(monitors,)]
        return False

    def _url(self, monitor: int, edit: int) -> str:
        return f"{self.target.url}/{monitor}?{edit}"

    def edits(self, number: int) -> Iterator[tuple[float, float]]:
        """Edit the first monitor so often; seconds until the replica beats, and of restic's."""
        with closing(self.leader.page()) as page:
            for _ in range(number):
                edit = next(self._edits)
                time.sleep(QUIET)
                began, now = time.time(), time.monotonic()
                page.edit_monitor(1, url=self._url(1, edit))
                took = wait_until(self._asked_twice(f"/1?{edit}"), "the replica beats", LONGEST)
                yield took - now, self._restic(began, began + took - now)

    def _asked_twice(self, path: str) -> Callable[[], float]:
        """When a path was asked for by the replica, too: the leader's Kuma asks first."""

        def asked() -> float:
            times = [at for at, asked in list(self.target.times) if asked == path]
            return times[1] if len(times) > 1 else 0.0

        return asked

    def _restic(self, began: float, ended: float) -> float:
        """Seconds in which at least one restic ran, of those that began in this time."""
        calls = sorted(
            (float(start), min(float(end), ended))
            for start, end, _ in map(str.split, self._calls.read_text().splitlines())
            if began <= float(start) < ended
        )
        busy, until = 0.0, 0.0
        for start, finish in calls:
            busy += max(0.0, finish - max(start, until))
            until = max(until, finish)
        return busy

    def burst(self) -> tuple[float, int]:
        """Edit many monitors at once; seconds until all beat on the replica, and snapshots."""
        edit, before = next(self._edits), self._newest()
        # each one once: the leader's own second beat of one would look like the replica's
        ids = range(1, 1 + min(BURST, self._monitors))
        began = time.monotonic()
        with closing(self.leader.page()) as page:
            began = time.monotonic()
            for number in ids:
                page.edit_monitor(number, url=self._url(number, edit))
        paths = {f"/{number}?{edit}" for number in ids}
        wait_until(lambda: all(self._asked_twice(path)() for path in paths), "all beat", LONGEST)
        return time.monotonic() - began, self._newest() - before

    def _newest(self) -> int:
        """The sequence of the newest snapshot: the list has the newest few only."""
        return max(
            Position.parse(one["position"]).sequence for one in self.leader.json("snapshots")
        )


def lag(folder: Path, monitors: int, edits: int) -> Figures:
    """Each way in turn: pushed, pushed over S3, polled each minute."""
    figures = dict[str, float]()
    with Pair(folder / "pushed", monitors, push=True, poll="1h") as pair:
        figures |= _told("pushed", [*pair.edits(edits)])
        figures["burst"], figures["burst snapshots"] = pair.burst()
    server = make_server("s3", folder / "pushed")
    server.start()
    try:
        with Pair(folder / "stored", monitors, push=True, poll="1h", url=f"{server.url}-2") as pair:
            figures |= _told("S3", [*pair.edits(edits)])
    finally:
        server.stop()
    with Pair(folder / "polled", monitors, push=False, poll="60s") as pair:
        figures |= _told("polled", [*pair.edits(max(3, edits // 4))])
    return figures


def _told(name: str, found: Sequence[tuple[float, float]]) -> Figures:
    took = [seconds for seconds, _restic in found]
    return {
        name: statistics.median(took),
        f"{name}, longest": max(took),
        f"{name}, restic": statistics.median(restic for _seconds, restic in found),
        f"{name}, as a multiple of restic": statistics.median(a / b for a, b in found if b),
    }


def main(arguments: Sequence[str]) -> None:
    _name, folder, monitors, edits, *kuma = arguments
    use_kuma(Path(kuma[0]) if kuma else None)
    print(json.dumps(lag(Path(folder), int(monitors), int(edits))))


if __name__ == "__main__":
    main(sys.argv[1:])
