"""What a live change costs a real Uptime Kuma: when it beats, and how late others are.

`python -m scripts.bench_live live FOLDER MONITORS RUNS` prints one JSON object: seconds, MB and
numbers. A window with a change stands beside a window without one: the machine has its share too.
60 monitors of 300 beat each second, the others each 20 s; all of 1,000 each 20 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import multiprocessing
import sqlite3
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import requests

from replicator_kuma.adapters.kuma.agent.client import Agent
from scripts.bench_measures import Figures
from tests.support.databases import insert
from tests.support.live_kuma import AGENT, LiveKuma
from tests.support.tools import use_kuma
from tests.support.waiting import wait_until

WINDOW = 10.0
"""seconds of one window, with or without a change"""
WINDOWS = 5
MANY = 100
QUICK = {300: 60}
"""size → how many monitors beat each second"""
MISSED = 0.5
"""a beat that comes later than so many intervals after its time was missed"""
HOSTS = 100
"""addresses of loopback over which monitors are spread: a fast start spares each host"""


@dataclass(frozen=True)
class Window:
    """What happened to others in one window; seconds."""

    lateness: float
    """99th percentile of how late beats were"""
    missed: int
    http: float
    """99th percentile of Kuma's answers"""


class Target:
    """In a process of its own: a web server at all addresses, which notes who asks and when."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "asked"
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(
            target=_serve, args=(str(self._log), theirs), daemon=True
        )
        process.start()
        self.port: int = ours.recv()
        self.close = process.terminate

    def asked(self) -> dict[str, list[float]]:
        """When each path was asked for, by the monotonic clock."""
        found = defaultdict[str, list[float]](list)
        for line in self._log.read_text().splitlines():
            at, _, path = line.partition(" ")
            found[path].append(float(at))
        return found


def _serve(log: str, parent: Connection) -> None:
    asyncio.run(_server(log, parent))


async def _server(log: str, parent: Connection) -> None:
    with Path(log).open("a", buffering=1) as file:

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while head := await reader.readuntil(b"\r\n\r\n"):
                    file.write(f"{time.monotonic():.6f} {head.split(b' ')[1].decode()}\n")
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "0.0.0.0", 0, backlog=1024)
        parent.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()


class Bench:
    """One Kuma with so many monitors, all begun."""

    def __init__(self, folder: Path, monitors: int) -> None:
        folder.mkdir(parents=True)
        self.monitors = monitors
        self.target = Target(folder)
        self.kuma = LiveKuma(folder, REPLICATOR_FAST_START="on")
        self._edits = itertools.count(1)

    def __enter__(self) -> Bench:
        with self.kuma:
            self.kuma.stop()
        self._fill()
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.kuma.kill()
        self.target.close()

    def start(self) -> None:
        self.kuma._run.mkdir(exist_ok=True)
        self.kuma.start()
        self.kuma.wait_phase("ready", deadline=600)
        wait_until(self._settled, "each monitor has beaten three times", 600, 1.0)

    def _settled(self) -> bool:
        asked = self.target.asked().values()
        return len(asked) == self.monitors and all(len(times) > 2 for times in asked)

    def _fill(self) -> None:
        quick = QUICK.get(self.monitors, 0)
        with contextlib.closing(sqlite3.connect(self.kuma.database)) as rows, rows:
            insert(rows, "user", id=1, username="bench", password="none", active=1)
            for number in range(1, self.monitors + 1):
                seconds = 1 if number <= quick else 20
                row = {"id": number, "name": f"m{number}", "url": self.url(number)}
                insert(rows, "monitor", **row, type="http", interval=seconds,
                       retry_interval=seconds, timeout=16, user_id=1, active=1)  # fmt: skip

    def url(self, number: int, edit: int = 0) -> str:
        host = f"127.0.{number % HOSTS}.1"
        return f"http://{host}:{self.target.port}/{number}?{edit}"

    def interval(self, number: int) -> int:
        return 1 if number <= QUICK.get(self.monitors, 0) else 20

    # --- a change --------------------------------------------------------------------------

    def change(self, ids: Collection[int]) -> tuple[float, float]:
        """Edit monitors in one commit; seconds until the last new value beat, and to the answer."""
        edit = next(self._edits)
        self.kuma.execute(
            *(("UPDATE monitor SET url = ? WHERE id = ?", [self.url(n, edit), n]) for n in ids)
        )
        committed = time.monotonic()
        report = Agent(self.kuma.socket).reconcile(ids)
        answered = time.monotonic() - committed
        assert report.equal, report
        paths = [f"/{number}?{edit}" for number in ids]

        def all_asked() -> list[float]:
            asked = self.target.asked()
            return [asked[path][0] for path in paths] if all(p in asked for p in paths) else []

        return max(wait_until(all_asked, "the new values", 60)) - committed, answered

    def window(self, edited: Collection[int]) -> tuple[Window, tuple[float, float]]:
        """One window, with an edit of these in its middle; without any: a control."""
        began, took, found = time.monotonic(), list[float](), (0.0, 0.0)
        with _polled(self.kuma.url) as answers:
            time.sleep(WINDOW / 3)
            if edited:
                found = self.change(edited)
            time.sleep(max(0.0, began + WINDOW - time.monotonic()))
            took = answers()
        return self._others(began, edited, took), found

    def _others(self, began: float, edited: Collection[int], took: list[float]) -> Window:
        late, missed = [0.0], 0
        times = defaultdict[int, list[float]](list)
        for path, asked in self.target.asked().items():
            times[int(path[1:].partition("?")[0])] += asked
        for number, asked in times.items():
            if number in edited:
                continue
            interval = self.interval(number)
            for before, after in itertools.pairwise(sorted(asked)):
                # beats that are still to come were late in a later window
                if after >= began:
                    late.append(max(0.0, after - before - interval))
                    missed += after - before > interval * (1 + MISSED)
        return Window(_p99(late), missed, _p99(took))


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)] if values else 0.0


@contextlib.contextmanager
def _polled(url: str) -> Iterator[Callable[[], list[float]]]:
    """Ask Kuma for a page 20 times a second, from a process of its own; its answers' seconds."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_poll, args=(url, theirs))
    process.start()
    ours.recv()

    def answers() -> list[float]:
        ours.send(None)
        found: list[float] = ours.recv()
        return found

    try:
        yield answers
    finally:
        process.terminate()
        process.join()


def _poll(url: str, parent: Connection) -> None:
    took = list[float]()
    with requests.Session() as session:
        parent.send(None)
        while not parent.poll():
            began = time.monotonic()
            with contextlib.suppress(requests.RequestException):
                session.get(f"{url}/api/entry-page", timeout=30)
            took.append(time.monotonic() - began)
            time.sleep(0.05)
    parent.send(took)


# ------------------------------------------------------------------ figures


def changes(bench: Bench, windows: int) -> Figures:
    """Windows of one edit and of none in turn; then many edits, and none at all."""
    pairs, beat, answer = list[tuple[Window, Window]](), list[float](), list[float]()
    for number in range(windows):
        control, _ = bench.window(())
        changed, (first, answered) = bench.window([bench.monitors - number])
        pairs.append((control, changed))
        beat.append(first)
        answer.append(answered)
    many = [n + 1 for n in range(bench.monitors - MANY - windows, bench.monitors - windows)]
    rush = [bench.window(many) for _ in range(max(1, windows // 2))]
    nothing = [Agent(bench.kuma.socket).reconcile().seconds for _ in range(5)]
    middle = statistics.median
    return {
        "one beats": middle(beat),
        "one answered": middle(answer),
        "missed": sum(changed.missed for _, changed in pairs),
        "missed, control": sum(control.missed for control, _ in pairs),
        "more missed": sum(changed.missed - control.missed for control, changed in pairs),
        "lateness": middle(changed.lateness for _, changed in pairs),
        "lateness, control": middle(control.lateness for control, _ in pairs),
        "more late": middle(changed.lateness - control.lateness for control, changed in pairs),
        "HTTP": middle(changed.http for _, changed in pairs),
        "HTTP, control": middle(control.http for control, _ in pairs),
        "HTTP ratio": middle(changed.http / control.http for control, changed in pairs),
        "many beat": middle(last for _, (last, _answer) in rush),
        "many missed": sum(window.missed for window, _ in rush),
        "nothing": middle(nothing),
    }


def memory(folder: Path, starts: int, seconds: float) -> Figures:
    """Kuma's resident memory with the agent and without it, some time after its start; MB."""
    folder.mkdir(parents=True)
    empty = folder / "empty.cjs"
    empty.write_text("")
    found = dict[str, list[float]](**{"with": [], "without": []})
    for number, (name, agent) in itertools.product(
        range(starts), (("with", AGENT), ("without", empty))
    ):
        kuma = LiveKuma(folder / f"{name}-{number}", agent=agent)
        kuma.data_dir.parent.mkdir()
        try:
            kuma.start()
            assert kuma.process is not None
            time.sleep(seconds)
            status = Path(f"/proc/{kuma.process.pid}/status").read_text()
            found[name].append(int(status.partition("VmRSS:")[2].split()[0]) / 1024)
        finally:
            kuma.kill()
    ours, plain = (statistics.median(found[name]) for name in ("with", "without"))
    return {"memory MB": ours, "memory without MB": plain, "memory more MB": ours - plain}


def main(arguments: Sequence[str]) -> None:
    """The name is ``live`` or ``memory``; ``MONITORS`` are seconds for memory."""
    name, folder, size, runs, *kuma = arguments
    use_kuma(Path(kuma[0]) if kuma else None)
    figures: dict[str, Any]
    if name == "memory":
        figures = dict(memory(Path(folder), int(runs), float(size)))
    else:
        with Bench(Path(folder), int(size)) as bench:
            figures = dict(changes(bench, int(runs)))
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1:])
