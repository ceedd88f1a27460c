"""Three real Kumas under `replicator run`, each in a network of its own, that exchange documents.

What they watch and the repository stand in the middle: a place whose cable is cut reaches neither.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import requests

from tests.adapters.repository import places
from tests.support import weak_repository
from tests.support.loopback import Loopback, Quiet
from tests.support.networks import Network
from tests.support.supervised import Side
from tests.support.tools import restic_018
from tests.support.waiting import wait_until

NAMES = ("fra-1", "nyc-1", "sgp-1")
PORT = 8067
TOKEN = "the-token-of-three-places"
INTERVAL = 20
"""seconds from check to check: the shortest that Kuma takes"""


class Sites(Loopback):
    """The sites that all three watch; a test takes them down, for all or for one place."""

    def __init__(self, host: str) -> None:
        self.down = set[str]()
        self.unreachable = set[tuple[str, str]]()
        """address of a place, path"""
        owner = self

        class Handler(Quiet):
            def get(self) -> None:
                if (self.client_address[0], self.path) in owner.unreachable:
                    self.close_connection = True
                    self.connection.close()
                    return
                self.say(503 if self.path in owner.down else 200)

        super().__init__(Handler, host=host)


class Place:
    """One instance in its network."""

    def __init__(self, side: Side, network: Network, address: str) -> None:
        self.side, self.network, self.address = side, network, address
        self.name = side.name

    @contextlib.contextmanager
    def there(self) -> Iterator[None]:
        with self.network.inside(self.name):
            yield

    def get(self, path: str) -> requests.Response:
        """A resource of this instance, asked for in its own network."""
        with self.there():
            answer = requests.get(
                f"http://127.0.0.1:{PORT}{path}",
                headers={"Authorization": f"Bearer {TOKEN}"},
                timeout=5,
            )
        answer.raise_for_status()
        return answer

    def fleet(self) -> Any:
        return self.get("/api/v1/fleet").json()

    def monitor(self, name: str) -> Any:
        """What the fleet says of a monitor, as this place sees it."""
        return next(found for found in self.fleet()["monitors"] if found["name"] == name)

    def place(self, name: str) -> Any:
        """What this place says of another."""
        return next(found for found in self.fleet()["instances"] if found["name"] == name)

    def metrics(self) -> Mapping[str, float]:
        lines = self.get("/metrics").text.splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def told(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`replicator fleet` in this place."""
        return self.side.command("fleet", *arguments, check=False)

    def beaten(self, monitor: str, status: int) -> bool:
        """Whether the newest heartbeat of a monitor has this status in Kuma's own table."""
        with contextlib.suppress(Exception):
            rows = self.side.query(
                "SELECT status FROM heartbeat JOIN monitor ON monitor.id = monitor_id"
                f" WHERE name = '{monitor}' ORDER BY heartbeat.id DESC LIMIT 1"
            )
            return rows == [(status,)]
        return False


class ThreePlaces:
    """A leader in fra-1, replicas in nyc-1 and sgp-1; a context manager."""

    def __init__(self, folder: Path, monitors: Mapping[str, str]) -> None:
        """``monitors``: path on the site by name."""
        self._folder = folder
        self._monitors = monitors
        self._stack = ExitStack()
        self.places = list[Place]()

    def __enter__(self) -> ThreePlaces:
        try:
            self._build()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def __getitem__(self, name: str) -> Place:
        return self.places[NAMES.index(name)]

    def _build(self) -> None:
        self.network = self._stack.enter_context(Network())
        addresses = [self.network.join(name) for name in NAMES]
        with self.network.inside():
            self.sites = self._stack.enter_context(closing(Sites(self.network.hub)))
            store = self._stack.enter_context(places.rest(self._folder, host=self.network.hub))
        weak_repository.make(self._folder / "rest" / "fleet")
        for name, address in zip(NAMES, addresses, strict=True):
            peers = {n: a for n, a in zip(NAMES, addresses, strict=True) if n != name}
            mode = "BACKUP" if name == NAMES[0] else "RESTORE"
            side = Side(self._folder, name, mode, restic_018(), port=3001)
            side.environment |= {
                "RESTIC_REPOSITORY": places.rest_url(store),
                "REPLICATOR_SCHEMA": "compatible",
                "REPLICATOR_BACKUP_INTERVAL": "1m",
                "REPLICATOR_RESTORE_INTERVAL": "5s",
                "REPLICATOR_HTTP": f"0.0.0.0:{PORT}",
                "REPLICATOR_HTTP_TOKEN": TOKEN,
                "REPLICATOR_PEERS": ",".join(f"{n}=http://{a}:{PORT}" for n, a in peers.items()),
                "UPTIME_KUMA_DB_TYPE": "sqlite",
            }
            place = Place(side, self.network, address)
            self.places.append(place)
            self._stack.callback(self._end, side)
        leader, *replicas = self.places
        with leader.there():
            leader.side.set_up(
                **{name: self.sites.url + path for name, path in self._monitors.items()}
            )
        for replica in replicas:
            with replica.there():
                replica.side.run()
        for replica in replicas:
            with replica.there():
                replica.side.wait_ready()

    def restart(self, name: str) -> None:
        place = self[name]
        with place.there():
            place.side.run()

    @staticmethod
    def _end(side: Side) -> None:
        if side.process is not None and side.process.poll() is None:
            side.kill()

    def all_say(self, what: str, seconds: float, *names: str, **wanted: Any) -> float:
        """Seconds until these places (all) say this of a monitor, printed; raises TimeoutError."""
        began = time.monotonic()
        for name in names or NAMES:
            self.says(name, what, began + seconds - time.monotonic(), **wanted)
        took = time.monotonic() - began
        print(f"{took:4.1f} s: {', '.join(names or NAMES)} say of {what}: {wanted}")
        return took

    def says(self, name: str, monitor: str, seconds: float, **wanted: Any) -> None:
        place = self[name]

        def said() -> bool:
            with contextlib.suppress(requests.RequestException, StopIteration):
                found = place.monitor(monitor)
                return all(found[member] == value for member, value in wanted.items())
            return False

        wait_until(said, f"{name} says {wanted} of {monitor}", seconds, every=0.1)
