"""Secrets of every kind, and the places where none may ever show.

Real commands as processes of their own, real restic against rest-server, a MariaDB for the replica
(SQLite where none is installed), ntfy on loopback. What they print, log, note and send is searched
for every secret, and so is every command line on this machine while they run.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from replicator_kuma.config.settings import Settings
from replicator_kuma.reports.http.web import Web
from tests.adapters.notify.server import Server as Ntfy
from tests.adapters.repository import places
from tests.reports.http.conftest import Client
from tests.support import databases, mariadb
from tests.support.kuma_server import free_port
from tests.support.mariadb import Server
from tests.support.mariadb_build import create
from tests.support.supervised import Side
from tests.support.targets import APP_TOKEN, CHECK, PUSH_TOKEN
from tests.support.tools import restic_018

pytestmark = pytest.mark.restic

PASSWORD_2 = "c4nary+wr0ng/p4ssword"
TOKEN = "tk_c4naryt0kenc4naryt0ken"
TOPIC = "c4nary-topic-that-nobody-guesses"
SIGNAL_TOKEN = "tk_c4naryh1nt"
SIGNALS = "c4nary-topic-of-hints"
HTTP_TOKEN = "c4nary-token-of-http"
PATHS = (
    *("/healthz", "/readyz", "/api/v1/status", "/api/v1/snapshots", "/api/v1/log", "/metrics"),
    *("/api/v1/monitors", "/api/v1/fleet", "/api/v1/summary", "/api/v1/beats/1", "/nowhere"),
    *("/api/v1/exchange", "/badge/state.svg", "/schema/status.json", "/"),
)
HOOK_SECRET = "c4nary-key-of-a-webhook"
APPRISE_SECRET = "c4nary-t0ken-in-an-address"
ROW = re.compile(rb"S3CRET-[A-Z2-7]{8}")
"""What `nasty.secret` makes: passwords and keys in rows of monitors."""
OUTSIDE = {
    "the repository's password": places.PASSWORD,
    "a wrong password of it": PASSWORD_2,
    "the login of the REST server": places.USER_PASSWORD,
    "the keys of a bucket": places.S3_SECRET,
    "the token of ntfy": TOKEN,
    "the topic of ntfy": TOPIC,
    "the token of the hints": SIGNAL_TOKEN,
    "the topic of the hints": SIGNALS,
    "MariaDB's password": mariadb.PASSWORD,
    "the token of HTTP": HTTP_TOKEN,
    "the token of Gotify": APP_TOKEN,
    "the address of a check": CHECK,
    "the token of a push monitor": PUSH_TOKEN,
    "the key of a webhook": HOOK_SECRET,
    "the token of a service of Apprise": APPRISE_SECRET,
}


def found_in(data: bytes) -> list[str]:
    """Which secrets are in what somebody could read."""
    named = [what for what, text in OUTSIDE.items() if text.encode() in data]
    return named + (["a secret of a row"] if ROW.search(data) else [])


_LOOKS = 10


class _Watch:
    """Reads all command lines of this machine, over and over, until it is told to end."""

    def __init__(self) -> None:
        self.seen = set[str]()
        self.of_restic = 0
        self._read: dict[str, int] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._end.wait(0.01):
            there = [name for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208
            # a new process has its parent's line before it has its own
            self._read = {name: self._read.get(name, 0) + 1 for name in there}
            for name in (name for name in there if self._read[name] <= _LOOKS):
                with contextlib.suppress(OSError):
                    line = Path(f"/proc/{name}/cmdline").read_bytes()
                    # the servers of these tests are told their keys in this way
                    if b"rclone" in line or b"mariadbd" in line or b"pytest" in line:
                        continue
                    self.of_restic += line.startswith(os.fsencode(restic_018()))
                    self.seen.update(found_in(line))

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._end.set()
        self._thread.join()


class Heard(Side):
    """One instance, and what its commands print."""

    def __init__(self, folder: Path, name: str, mode: str, repository: str, ntfy: str) -> None:
        super().__init__(folder, name, mode, restic_018(), REPLICATOR_LOG_LEVEL="debug")
        del self.environment["RESTIC_PASSWORD_FILE"]
        self.repository = repository
        self.environment |= {
            "NTFY_URL": f"http://{ntfy}/{TOPIC}",
            "NTFY_TOKEN": TOKEN,
            "REPLICATOR_PEERS": f"other=http://{ntfy}",
            "REPLICATOR_SIGNAL_URL": f"http://{SIGNAL_TOKEN}@{ntfy}/{SIGNALS}",
            **places.environment(repository),
            "RESTIC_PASSWORD": places.PASSWORD,
            "REPLICATOR_HTTP": "127.0.0.1:8067",  # its cycles keep what they see
            "REPLICATOR_HTTP_TOKEN": HTTP_TOKEN,
        }
        refuses = f"127.0.0.1:{free_port()}"
        self.environment["REPLICATOR_NOTIFY"] = (
            f"gotify://{refuses}/{APP_TOKEN} webhook+http://{refuses}/x#{HOOK_SECRET}\n"
            f"json://{refuses}/{APPRISE_SECRET} nosuch://{APPRISE_SECRET}\n"
            f"ping+http://{refuses}/{CHECK} kuma+http://{ntfy}/api/push/{PUSH_TOKEN}"
        )
        self.shown: list[str] = []

    def command(
        self, *arguments: str, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        done = super().command(*arguments, check=check, **environment)
        self.shown += [done.stdout, done.stderr]
        return done

    def left(self) -> Iterator[tuple[Path, bytes]]:
        """All files of the state directory, but those that hold rows: as `kept/` does."""
        state = self.data_dir / "replicator"
        for path in (path for path in state.rglob("*") if path.is_file()):
            assert path.stat().st_mode & 0o077 == 0 or "cache" in path.parts, path
            if path.relative_to(state).parts[0] not in ("kept", "published", "last-read"):
                yield path, path.read_bytes()


def _sides(folder: Path, address: str, told: Ntfy, server: Server | None) -> tuple[Heard, Heard]:
    url = places.rest_url(address, f"{places.USER}/fleet")
    leader = Heard(folder, "leader", "BACKUP", url, told.address)
    replica = Heard(folder, "replica", "RESTORE", url, told.address)
    databases.build(leader.database, monitors=12, secrets=True)
    if server is None:
        databases.build(replica.database, monitors=3)
    else:
        create(server.database("canaries", replica.data_dir))
    return leader, replica


def _commands(leader: Heard, replica: Heard) -> None:
    """All of them, with success and with every failure that knows a secret."""
    leader.command("init", "-v")
    leader.command("backup", "-v")
    leader.command("doctor", "--json")
    leader.command("notify", "--test", check=False)
    wrong = f"{APP_TOKEN}:// gotify://{APP_TOKEN} https://h/{CHECK} kuma+https://h/{PUSH_TOKEN}"
    leader.command("notify", check=False, REPLICATOR_NOTIFY=wrong.replace(APP_TOKEN, CHECK))
    edits: Sequence[str] = (
        "UPDATE monitor SET basic_auth_pass = 'S3CRET-AAAAAAAA' WHERE id = 1",
        'UPDATE notification SET config = \'{"token": "S3CRET-BBBBBBBB"}\' WHERE id = 1',
        "UPDATE user SET twofa_secret = 'S3CRET-CCCCCCCC', password = 'S3CRET-DDDDDDDD'",
        "UPDATE monitor SET url = 'https://me:S3CRET-EEEEEEEE@x.example/?key=S3CRET-FFFFFFFF' "
        "WHERE id = 2",
    )
    replica.command("restore", "--now", "-v")
    databases.edit(leader.database, *edits)
    leader.command("backup", "-v")
    for command in ("snapshots", "status", "doctor", "diff", "diff --json"):
        replica.command(*command.split(), check=False)
    replica.command("restore", "--now", "-v")
    broken = leader.repository.replace(places.USER_PASSWORD, PASSWORD_2)
    leader.command("backup", "-v", check=False, RESTIC_PASSWORD=PASSWORD_2)
    replica.command("restore", "--json", check=False, RESTIC_REPOSITORY=broken)
    replica.command("doctor", check=False, RESTIC_REPOSITORY=broken)
    replica.command("status", check=False, NTFY_URL=f"http://u:{PASSWORD_2}@[x/{TOPIC}")
    replica.command("promote", "-v")
    # what answers there is another server, which says 4xx or the like
    replica.command("fleet", "-v", check=False)
    replica.command("fleet", "--json", check=False)
    replica.command(
        "fleet", check=False, REPLICATOR_PEERS=f"x=https://me:{HTTP_TOKEN}@other.example"
    )


def _served(side: Heard) -> list[bytes]:
    """What each resource answers: all headers and bodies."""
    web = Web(Settings.load({**side.environment, "REPLICATOR_HTTP": "127.0.0.1:0"}), None)
    web.start()
    try:
        client, found = Client(web.address.port), []
        asked = {"Authorization": f"Bearer {HTTP_TOKEN}"}
        for rule in sorted(PATHS):
            for headers in (asked, {}, {"Authorization": "Bearer x"}):
                answer = client.get(rule, headers)
                found.append(str(answer.headers).encode() + answer.body)
        return found
    finally:
        web.stop()


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Server | None:
    return request.getfixturevalue("mariadb") if mariadb.installed() else None


def test_no_secret_leaves_its_place(tmp_path: Path, server: Server | None) -> None:
    with (
        places.rest(tmp_path, "--private-repos") as address,
        contextlib.closing(Ntfy()) as told,
        _Watch() as watch,
    ):
        leader, replica = _sides(tmp_path, address, told, server)
        _commands(leader, replica)
        shown = [*_served(leader), *_served(replica)]
        modes = {
            side.data_dir.joinpath("replicator").stat().st_mode & 0o777
            for side in (leader, replica)
        }
        assert modes == {0o700}
    assert watch.of_restic > 0, "it did look while restic ran"
    assert watch.seen == set()
    for side in (leader, replica):
        for text in side.shown:
            assert found_in(text.encode()) == [], text
        kept = [(path, found_in(data)) for path, data in side.left()]
        assert [(path, what) for path, what in kept if what] == []
        assert kept, "it has looked"
    assert any(b"basic_auth_pass" in answer for answer in shown), "it has shown changes"
    for answer in shown:
        assert found_in(answer) == [], answer
    posts = [post for post in told.posts if post.body]
    sent = {(post.body.pop("topic"), post.headers["Authorization"]) for post in posts}
    # ntfy's own API has the topic in the body
    assert sent == {(TOPIC, f"Bearer {TOKEN}"), (SIGNALS, f"Bearer {SIGNAL_TOKEN}")}
    assert len(posts) >= 6
    beats = [post for post in told.posts if post.path.startswith("GET /api/push/")]
    assert {"up", "down"} == {re.findall("status=([a-z]+)", post.path)[0] for post in beats}
    said = "".join(text for side in (leader, replica) for text in side.shown)
    for name in ("gotify", "webhook", "ping"):
        assert re.search(rf"{name} at 127\.0\.0\.1:\d+: no connection", said), name
    assert "json: A Connection error occurred" in said
    for post in posts:
        assert found_in(json.dumps(post.body).encode()) == []


def test_the_search_finds_what_it_looks_for(tmp_path: Path) -> None:
    text = tmp_path / "x"
    for secret in (*OUTSIDE.values(), "S3CRET-AAAAAAAA"):
        assert found_in(f"… {secret} …".encode()) != []
    text.write_text("none")
    assert found_in(text.read_bytes()) == []
    with _Watch() as watch:
        call = [sys.executable, "-c", "input()", PASSWORD_2]
        with subprocess.Popen(call, stdin=subprocess.PIPE) as process:
            while "a wrong password of it" not in watch.seen:
                assert process.poll() is None
            process.communicate(b"\n")
