"""`make bench`: dumps, applies and checks at five sizes, as times, ratios and peak memory.

    make bench BENCH_ARGS='--sizes 100,1000 --only dump,idle'
    make bench BENCH_ARGS='--kuma'
    make bench BENCH_ARGS='--sizes= --live 300,1000'
    make bench BENCH_ARGS='--sizes= --run 600'

Each measure runs in a process of its own and is the median of several runs where they are cheap.
What restic takes is told apart; the service that stands for Kuma does nothing, but with --kuma,
which measures how long a real one does not answer, and with --live, which measures what a change
costs a Kuma that runs: npm's build, then each that REPLICATOR_TEST_KUMA_DIRS names. With --run it
measures what `replicator run` costs at rest, at 1,000 monitors.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.bench_measures import MEASURES, Figures
from tests.support.mariadb import program
from tests.support.tools import ToolMissingError, kuma_dir, kuma_version, other_kumas

SIZES = (100, 300, 1_000, 10_000, 180_000)
OUTAGE = "kuma"
ENGINES = "mariadb"
LIVE = "live"
RUN = "run"
LOCK = "lock"
MODULES = {
    **dict.fromkeys(MEASURES, "scripts.bench_measures"),
    LOCK: "scripts.bench_lock",
    ENGINES: "scripts.bench_mariadb",
}
"""where each measure is"""

Results = Mapping[int, Mapping[str, Figures]]
"""figures by size, then measure"""


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    label: str
    measure: str
    figure: str
    unit: str = "s"


@dataclass(frozen=True)
class Target:
    """What a figure must not exceed; at all sizes, or at one."""

    words: str
    measure: str
    figure: str
    limit: float
    size: int | None = None
    unit: str = "s"


LINES = (
    Line("kuma.db", "prepare", "kuma.db MB", "MB"),
    Line("dump in a folder", "dump", "dump MB", "MB"),
    Line("read + dump", "dump", "dump"),
    Line("  sqlite3 .dump", "dump", ".dump"),
    Line("  ratio", "dump", "ratio", "x"),
    Line("first publish", "publish", "publish"),
    Line("  of it restic", "publish", "restic"),
    Line("first apply into an empty replica", "apply", "apply"),
    Line("  of it restic", "apply", "restic"),
    Line("one changed row: publish", "change", "publish"),
    Line("  of it restic", "change", "publish restic"),
    Line("one changed row: apply", "change", "apply"),
    Line("  of it restic", "change", "apply restic"),
    Line("  without restic", "change", "apply ours"),
    Line("write lock of a live apply: one row", LOCK, "row"),
    Line("  CPU of this process", LOCK, "row CPU"),
    Line("  a bare transaction", LOCK, "row control"),
    Line("  slowest heartbeat beside it", LOCK, "row beat"),
    Line("  the same for 100 rows", LOCK, "rows"),
    Line("  CPU of this process", LOCK, "rows CPU"),
    Line("  a bare transaction", LOCK, "rows control"),
    Line("  slowest heartbeat beside it", LOCK, "rows beat"),
    Line("  slowest heartbeat, nothing else", LOCK, "beat control"),
    Line("leader's check, files unchanged", "idle", "unchanged"),
    Line("leader's check after a heartbeat", "idle", "heartbeat"),
    Line("replica's check", "idle", "poll"),
    Line("  of it restic", "idle", "poll restic"),
    Line("peak memory: dump", "dump", "memory MB", "MB"),
    Line("peak memory: publish", "publish", "memory MB", "MB"),
    Line("peak memory: first apply", "apply", "memory MB", "MB"),
    Line("peak memory: one row", "change", "memory MB", "MB"),
    Line("peak memory: checks", "idle", "memory MB", "MB"),
    Line("  restic's own, at most", "apply", "restic MB", "MB"),
    Line("SQLite → MariaDB: first apply", ENGINES, "first"),
    Line("  of it restic", ENGINES, "first restic"),
    Line("  CPU of this process", ENGINES, "first CPU"),
    Line("  CPU of mariadbd", ENGINES, "first server CPU"),
    Line("  one changed row: apply", ENGINES, "row"),
    Line("  of it restic", ENGINES, "row restic"),
    Line("  CPU of this process", ENGINES, "row CPU"),
    Line("  CPU of mariadbd", ENGINES, "row server CPU"),
    Line("MariaDB leader: check", ENGINES, "check"),
    Line("  one changed row: publish", ENGINES, "publish"),
    Line("  of it restic", ENGINES, "publish restic"),
    Line("  CPU of this process", ENGINES, "publish CPU"),
    Line("  CPU of mariadbd", ENGINES, "publish server CPU"),
    Line("MariaDB → SQLite: first apply", ENGINES, "back"),
    Line("  of it restic", ENGINES, "back restic"),
    Line("  CPU of this process", ENGINES, "back CPU"),
    Line("  one changed row: apply", ENGINES, "back row"),
    Line("  of it restic", ENGINES, "back row restic"),
    Line("  CPU of this process", ENGINES, "back row CPU"),
    Line("peak memory: across engines", ENGINES, "memory MB", "MB"),
    Line("Kuma's own stop + start", OUTAGE, "plain"),
    Line("a restore's outage, 100 changes", OUTAGE, "restore"),
    Line("  between Kuma's end and start", OUTAGE, "held"),
    Line("a leader at rest, of a core", RUN, "leader", "%"),
    Line("  control: nobody beats", RUN, "control", "%"),
    Line("a replica at rest, of a core", RUN, "replica", "%"),
    Line("a leader with the page and 5 peers, of a core", RUN, "with the page and peers", "%"),
    Line("  its resident memory", RUN, "with the page and peers MB", "MB"),
    Line("resident memory of a leader", RUN, "leader MB", "MB"),
    Line("resident memory of a replica", RUN, "replica MB", "MB"),
)

LIVE_LINES = (
    Line("one edit: commit to its beat", LIVE, "one beats"),
    Line("  commit to the agent's answer", LIVE, "one answered"),
    Line("  beats of others that are missed", LIVE, "missed", ""),
    Line("    control", LIVE, "missed, control", ""),
    Line("  lateness of others, p99", LIVE, "lateness"),
    Line("    control", LIVE, "lateness, control"),
    Line("  HTTP, p99", LIVE, "HTTP"),
    Line("    control", LIVE, "HTTP, control"),
    Line("100 edits: commit to the last beat", LIVE, "many beat"),
    Line("  beats of others that are missed", LIVE, "many missed", ""),
    Line("nothing changed: a reconcile", LIVE, "nothing"),
    Line("Kuma's memory with the agent", LIVE, "memory MB", "MB"),
    Line("  without it", LIVE, "memory without MB", "MB"),
)

TARGETS = (
    Target("read + dump, as a multiple of sqlite3 .dump", "dump", "ratio", 3.0, unit="x"),
    Target("read + dump, as a multiple of sqlite3 .dump", "dump", "ratio", 1.5, 180_000, unit="x"),
    Target("first apply", "apply", "apply", 4.0, 10_000),
    Target("first apply", "apply", "apply", 60.0, 180_000),
    Target("one changed row, published, without restic", "change", "publish ours", 1.2, 10_000),
    Target("one changed row, applied, without restic", "change", "apply ours", 1.2, 10_000),
    Target("one changed row, applied, without restic", "change", "apply ours", 4.0, 180_000),
    *(
        Target(f"write lock of a live apply, {rows}", LOCK, name, seconds, size)
        for size, seconds in ((300, 0.05), (1_000, 0.1), (10_000, 0.5))
        for rows, name in (("one row", "row"), ("100 rows", "rows"))
    ),
    Target("check, files unchanged", "idle", "unchanged", 0.010),
    Target("first apply, SQLite to MariaDB", ENGINES, "first", 15.0, 10_000),
    Target("first apply, MariaDB to SQLite", ENGINES, "back", 15.0, 10_000),
    Target("one changed row, SQLite to MariaDB", ENGINES, "row", 2.0, 10_000),
    Target("one changed row, MariaDB to SQLite", ENGINES, "back row", 2.0, 10_000),
    *(
        Target(f"peak memory: {measure}", measure, "memory MB", 150.0, unit="MB")
        for measure in MODULES
    ),
    Target("outage beyond Kuma's own stop + start", OUTAGE, "beyond", 0.3),
    Target("a leader at rest, of a core", RUN, "leader", 0.5, unit="%"),
    Target("a replica at rest, of a core", RUN, "replica", 0.3, unit="%"),
    Target("resident memory of a leader", RUN, "leader MB", 70.0, unit="MB"),
    Target("resident memory of a replica", RUN, "replica MB", 70.0, unit="MB"),
)
LIVE_TARGETS = (
    Target("one edit: commit to its beat", LIVE, "one beats", 0.3, 300),
    Target("one edit: commit to its beat", LIVE, "one beats", 0.5, 1_000),
    Target("  beats of others missed, beyond the control's", LIVE, "more missed", 0.0, unit=""),
    Target("  lateness p99 beyond the control's", LIVE, "more late", 0.05),
    Target("  HTTP p99, as a multiple of the control's", LIVE, "HTTP ratio", 2.0, unit="x"),
    Target("100 edits: commit to the last beat", LIVE, "many beat", 3.0),
    Target("nothing changed: a reconcile", LIVE, "nothing", 0.1, 300),
    Target("memory that the agent adds", LIVE, "memory more MB", 10.0, unit="MB"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    wanted = set(options.only)
    if "dump" in wanted and shutil.which("sqlite3") is None:
        print("bench: the program sqlite3 is missing (dump compares with it)", file=sys.stderr)
        return 2
    if ENGINES in wanted and (missing := _no_mariadb()):
        print(f"bench: {ENGINES} is left out: {missing}", file=sys.stderr)
        wanted.remove(ENGINES)
    with tempfile.TemporaryDirectory(prefix="replicator-bench-", dir=options.dir) as folder:
        results = {
            size: dict(_measure(Path(folder) / str(size), size, wanted, options.runs))
            for size in options.sizes
        }
        if options.kuma:
            results.setdefault(1_000, {})[OUTAGE] = _child(
                "scripts.bench_kuma", OUTAGE, Path(folder) / OUTAGE, 1_000, options.runs
            )
        if options.run:
            print(f"  1,000 monitors: {RUN}", file=sys.stderr, flush=True)
            results.setdefault(1_000, {})[RUN] = _child(
                "scripts.bench_run", RUN, Path(folder) / RUN, 1_000, options.run
            )
        live = dict(_live(Path(folder), options)) if options.live else {}
    if options.json:
        print(json.dumps({"machine": machine(), "results": results, LIVE: live}, indent=1))
        return 0
    if results:
        print(f"\n{machine()}; 3 tags and 2 notifications a monitor, 10 monitors a user\n")
        print("\n".join((*table(results), "", *verdicts(results))))
    for kuma, found in live.items():
        print(f"\nUptime Kuma {kuma} while it runs; {machine()}\n")
        print("\n".join((*table(found, LIVE_LINES), "", *verdicts(found, LIVE_TARGETS))))
    return 0


def _live(folder: Path, options: argparse.Namespace) -> Iterable[tuple[str, Results]]:
    """Per version of Kuma the figures of changes while it runs, by size."""
    for kuma in (kuma_dir(), *other_kumas()):
        version, found = kuma_version(kuma), dict[int, Mapping[str, Figures]]()
        for size in options.live:
            print(f"Uptime Kuma {version}, {size:,} monitors: {LIVE}", file=sys.stderr, flush=True)
            place = folder / LIVE / version / str(size)
            figures = _child("scripts.bench_live", LIVE, place, size, options.windows, str(kuma))
            found[size] = {LIVE: figures}
        if options.memory:
            place, starts = folder / LIVE / version / "memory", options.runs
            more = _child("scripts.bench_live", "memory", place, options.memory, starts, str(kuma))
            found[options.live[0]] = {LIVE: {**found[options.live[0]][LIVE], **more}}
        yield version, found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench", description="Measure dump and apply.")
    parser.add_argument("--sizes", type=_sizes, default=SIZES, help="monitors, like 100,1000")
    parser.add_argument(
        "--only", type=_measures, default=tuple(MODULES), help=f"of {','.join(MODULES)}"
    )
    parser.add_argument("--runs", type=int, default=3, help="runs of each measure (default 3)")
    parser.add_argument("--kuma", action="store_true", help="also restart a real Uptime Kuma")
    parser.add_argument(
        "--run", type=int, default=0, help="seconds for which an idle `replicator run` is measured"
    )
    parser.add_argument("--live", type=_sizes, default=(), help="monitors of a Kuma that runs")
    parser.add_argument("--windows", type=int, default=5, help="windows of --live (default 5)")
    parser.add_argument(
        "--memory", type=int, default=0, help="with --live: seconds after which it is measured"
    )
    parser.add_argument("--json", action="store_true", help="figures instead of tables")
    parser.add_argument("--dir", help="a folder on the disk to measure (1.5 GB at 180,000)")
    return parser


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(part.replace("_", "")) for part in text.split(",") if part)


def _measures(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := set(names) - set(MODULES):
        raise argparse.ArgumentTypeError(f"{unknown.pop()!r} is not one of {','.join(MODULES)}")
    return names


def _no_mariadb() -> str:
    """Why there is no server to measure with; empty where there is one."""
    try:
        program("mariadbd")
        program("mariadb-install-db")
    except ToolMissingError as error:
        return str(error)
    return ""


NEEDS = {
    "apply": ("publish",),
    "change": ("publish", "apply"),
    "idle": ("publish", "apply"),
    ENGINES: ("publish",),
}
"""measures that go on from what others left"""


def _measure(
    folder: Path, size: int, wanted: Iterable[str], runs: int
) -> Iterable[tuple[str, Figures]]:
    folder.mkdir(parents=True)
    needed = {need for name in wanted for need in (name, *NEEDS.get(name, ()))}
    if size > 50_000:
        runs = max(1, runs // 3)
    for name in ("prepare", *(name for name in MODULES if name in needed)):
        print(f"{size:>7,} monitors: {name}", file=sys.stderr, flush=True)
        cheap = name == "dump" and size <= 1_000
        module = MODULES.get(name, "scripts.bench_measures")
        yield name, _child(module, name, folder, size, runs * (3 if cheap else 1))


def _child(module: str, name: str, folder: Path, size: int, runs: int, *more: str) -> Figures:
    """One measure in a process of its own, so that its peak memory is its own."""
    command = [sys.executable, "-m", module, name, str(folder), str(size), str(runs), *more]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit(f"bench: {name} at {size:,} monitors ended with {done.returncode}")
    figures: Figures = json.loads(done.stdout)
    return figures


def machine() -> str:
    """What the figures depend on."""
    return (
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"{os.cpu_count()} cores, {platform.machine()}"
    )


def table(results: Results, lines: Sequence[Line] = LINES) -> Iterable[str]:
    """All figures, a column a size."""
    sizes = sorted(results)
    yield "".join((f"{'':36}", *(f"{size:>12,}" for size in sizes)))
    for line in lines:
        found = [results[size].get(line.measure, {}).get(line.figure) for size in sizes]
        if any(figure is not None for figure in found):
            cells = (f"{shown(figure, line.unit):>12}" for figure in found)
            yield f"{line.label:36}" + "".join(cells)


def shown(figure: float | None, unit: str) -> str:
    """A figure with its unit, as precise as it deserves."""
    if figure is None:
        return ""
    if unit == "s" and figure < 0.1:
        return f"{figure * 1000:.1f} ms"
    return f"{figure:.{2 if unit in 'sx%' and figure < 10 else 0 if figure > 100 else 1}f} {unit}"


def verdicts(results: Results, targets: Sequence[Target] = TARGETS) -> Iterable[str]:
    """Each target with the worst figure of the sizes that it is for: met or missed."""
    yield f"{'target':46}{'monitors':>10}{'to reach':>12}{'measured':>12}"
    for target in targets:
        found = [
            (figures[target.measure][target.figure], size)
            for size, figures in results.items()
            if target.figure in figures.get(target.measure, {}) and target.size in (None, size)
        ]
        if found:
            figure, size = max(found)
            verdict = "met" if figure <= target.limit else "MISSED"
            limit = f"≤ {shown(target.limit, target.unit)}"
            measured = shown(figure, target.unit)
            yield f"{target.words:46}{size:>10,}{limit:>12}{measured:>12}  {verdict}"


if __name__ == "__main__":
    sys.exit(main())
