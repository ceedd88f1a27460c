"""`make demo`: a real leader and a real replica; an edit on the one arrives on the other.

Everything lives in a folder that is removed at the end. At a terminal the two servers stay until
Ctrl-C, so that one can look around; elsewhere the demo ends by itself.
"""

from __future__ import annotations

import argparse
import http.server
import secrets
import shutil
import socket
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from replicator_kuma.adapters.kuma.agent.client import Agent, Hello
from tests.support.supervised import Side
from tests.support.tools import ToolMissingError, kuma_dir, restic_014, restic_018

USER, PASSWORD = "demo", "Demo-password-1"
NAME = "Added on the leader 🚀"
START = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - START:5.1f} s] {text}", flush=True)


def restic() -> Path:
    """The newest restic that is here."""
    for find in (restic_018, restic_014):
        try:
            return find()
        except ToolMissingError:
            continue
    if found := shutil.which("restic"):
        return Path(found)
    raise SystemExit("demo: no restic. Try: make tools")


def wait(what: str, ready: Callable[[], Any], deadline: float = 60.0) -> Any:
    """The first truthy value of ``ready``; ends the demo when there is none in time."""
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        if value := ready():
            return value
        time.sleep(0.1)
    raise SystemExit(f"demo: {what} did not happen within {deadline:.0f} s")


def free(port: int) -> int:
    """The port if it is free, else 0: any."""
    with socket.socket() as probe:
        return port if probe.connect_ex(("127.0.0.1", port)) else 0


def side(folder: Path, name: str, mode: str, port: int) -> Side:
    return Side(
        folder,
        name,
        mode,
        restic(),
        port=free(port),
        REPLICATOR_BACKUP_INTERVAL="2s",
        REPLICATOR_RESTORE_INTERVAL="2s",
        UPTIME_KUMA_DB_TYPE="sqlite",
    )


@contextmanager
def target() -> Iterator[str]:
    """A little web server to be monitored."""

    class Quiet(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            return None

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()


def with_kuma(folder: Path, *, stay: bool) -> None:
    from tests.support.kuma_server import KumaClient

    leader = side(folder, "leader", "BACKUP", 3001)
    replica = side(folder, "replica", "RESTORE", 3002)
    try:
        say(f"starting two Uptime Kumas, each under `replicator run`: {leader.url} {replica.url}")
        leader.run()
        replica.run()
        leader.wait_ready()
        with target() as web, KumaClient(leader.url) as client:
            client.setup(USER, PASSWORD)
            client.login(USER, PASSWORD)
            client.add_monitor("First", web)
            say("leader: first user and a monitor made through Kuma's own interface")
            wait("the first restore", lambda: applied(replica))
            say(f"replica: {applied(replica)}")
            replica.wait_ready()
            wait("the replica's first beat", lambda: beats(replica))
            name, kuma = NAME, process(replica)
            say(f"replica: its Uptime Kuma is process {kuma.pid}, and «First» beats every 20 s")
            before = leader.json("snapshots")
            client.add_monitor(name, web)
            edited = time.monotonic()
            say(f"leader: monitor «{name}» added")
            wait("a newer snapshot", lambda: newer(leader, len(before)))
            shown = wait("the arrival", lambda: shows(replica, name))
            say(f"replica: its own interface shows «{shown}», {time.monotonic() - edited:.1f} s")
            say(f"replica: {applied(replica)}")
            say(f"replica: {went_on(replica, kuma)}")
            print("\n$ replicator snapshots\n" + out(leader, "snapshots"))
            print("\n$ replicator status   (on the replica)\n" + out(replica, "status"))
            finish(leader, replica, stay=stay)
    finally:
        replica.stop()
        leader.stop()


def process(side: Side) -> Hello:
    """Its Kuma's process, as the agent in it tells."""
    return Agent(side.data_dir / "replicator" / "agent.sock").hello()


def beats(side: Side) -> list[float]:
    """When «First» has beaten, in seconds since the epoch."""
    if "First" not in database_names(side):
        return []
    sql = (
        "SELECT (julianday(time) - 2440587.5) * 86400 FROM heartbeat "
        "JOIN monitor ON monitor.id = monitor_id WHERE name = 'First' ORDER BY heartbeat.id"
    )
    return [float(row[0]) for row in side.query(sql)]


def went_on(side: Side, kuma: Hello) -> str:
    """Whether its Kuma went on over the edit, in words; waits for the next beat."""
    seen = len(beats(side))
    wait("the next beat", lambda: len(beats(side)) > seen)
    *_, before, last = beats(side)
    now = process(side)
    up = f"process {now.pid}, up for {time.time() - now.begun:.0f} s"
    if (now.pid, now.begun) != (kuma.pid, kuma.begun):
        return f"its Uptime Kuma was restarted for it: {up}"
    return (
        f"its Uptime Kuma went on all the time: {up}; the last two beats of «First» are "
        f"{last - before:.1f} s apart"
    )


def out(side: Side, *arguments: str) -> str:
    """What a replicator command prints."""
    return side.command(*arguments).stdout.rstrip()


def newer(side: Side, count: int) -> bool:
    return len(side.json("snapshots")) > count


def applied(side: Side) -> str:
    """The last restore as the supervisor's log has it; empty before the first."""
    lines = [line for line in side.log.splitlines() if "applied" in line]
    return lines[-1][lines[-1].index("applied") :] if lines else ""


def shows(side: Side, name: str) -> str:
    """The monitor's name as the side's own Socket.IO gives it, after a log-in."""
    from tests.support.kuma_server import KumaClient, KumaError, is_ready

    if not is_ready(side.url) or name not in database_names(side):
        return ""
    try:
        with KumaClient(side.url) as client:
            client.login(USER, PASSWORD)
            names = [str(m["name"]) for m in client.monitor_list().values()]
    except (KumaError, OSError):
        return ""
    return name if name in names else ""


def database_names(side: Side) -> list[str]:
    with sqlite3.connect(f"file:{side.database}?mode=ro", uri=True) as connection:
        return [row[0] for row in connection.execute("SELECT name FROM monitor")]


def finish(leader: Side, replica: Side, *, stay: bool) -> None:
    print(f"\nLeader:  {leader.url}\nReplica: {replica.url}   user {USER}, password {PASSWORD}")
    print(f"Logs and data: {leader.data_dir.parent}")
    if stay:
        print("Edit a monitor on the leader and watch the replica. Ctrl-C ends the demo.")
        try:
            while all(s.process and s.process.poll() is None for s in (leader, replica)):
                time.sleep(0.5)
        except KeyboardInterrupt:
            print()
    say("stopping both")


def without_kuma(folder: Path) -> None:
    """The same without node: databases of the described schema, and commands by hand."""
    from tests.support.databases import NEWEST, build, create, edit

    say("no node here: showing it on databases that are made now, without a running Kuma")
    leader = side(folder, "leader", "BACKUP", 3001)
    replica = side(folder, "replica", "RESTORE", 3002)
    build(leader.database, monitors=20)
    create(replica.database, NEWEST)
    say(out(leader, "init"))
    for first in (True, False):
        if not first:
            edit(
                leader.database,
                ("INSERT INTO monitor (name, type, user_id) VALUES (?, 'http', 1)", [NAME]),
            )
            say("leader: a monitor added")
        say(f"leader:  {out(leader, 'backup', '-v')}")
        say(f"replica: {out(replica, 'restore', '--now', '-v')}")
    print("\n$ replicator snapshots\n" + out(leader, "snapshots"))
    print("\n$ replicator status   (on the replica)\n" + out(replica, "status"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-kuma", action="store_true", help="as on a machine without node")
    parser.add_argument("--once", action="store_true", help="end also at a terminal")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="replicator-demo-"))
    (folder / "password").write_text(secrets.token_urlsafe())
    try:
        try:
            kuma_dir()
            node = shutil.which("node") is not None
        except ToolMissingError:
            node = False
        if node and not options.no_kuma:
            with_kuma(folder, stay=sys.stdin.isatty() and not options.once)
        else:
            without_kuma(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
