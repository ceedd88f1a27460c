"""A real Uptime Kuma for tests: how it is started, and a client of its Socket.IO."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import requests
import socketio

from tests.support.tools import kuma_dir, kuma_version
from tests.support.waiting import wait_until

Row = dict[str, Any]

READY_DEADLINE = 60.0
CALL_DEADLINE = 15.0


class KumaError(RuntimeError):
    """Uptime Kuma refused an event, or did not answer it."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def kuma_command() -> list[str]:
    """The command line of a real Uptime Kuma; it needs kuma_dir() as its working folder."""
    return ["node", "server/server.js"]


def kuma_environment(data_dir: Path, port: int) -> dict[str, str]:
    """What a server needs in its environment, beside PATH and HOME of this process."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | {
        "UPTIME_KUMA_HOST": "127.0.0.1",
        "UPTIME_KUMA_PORT": str(port),
        "DATA_DIR": f"{data_dir}{os.sep}",
    }


def prepare_data_dir(data_dir: Path) -> None:
    """Makes a data directory that starts on SQLite, without the question which database."""
    data_dir.mkdir(parents=True, exist_ok=True)
    config = data_dir / "db-config.json"
    if not config.exists():
        config.write_text(json.dumps({"type": "sqlite"}))


def is_ready(url: str) -> bool:
    """True once the server at url serves; false while it starts, migrates or wants set-up."""
    with contextlib.suppress(requests.RequestException, ValueError):
        answer = requests.get(f"{url}/api/entry-page", timeout=5)
        if answer.status_code == 200:
            return answer.json().get("type") in {"entryPage", "statusPageMatchedDomain"}
    return False


class KumaClient:
    """A person at Kuma's web page, over Socket.IO; a context manager."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._changed = threading.Condition()
        self._events: dict[str, list[tuple[Any, ...]]] = {}
        self._socket = socketio.Client(reconnection=False, handle_sigint=False)
        # Kuma sends its lists right after the log-in: listen before connecting.
        self._socket.on("*", self._note)

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def connect(self, deadline: float = READY_DEADLINE) -> None:
        """Connects, and returns when the server's handlers are there."""
        self._socket.connect(self.url, transports=["websocket"], wait_timeout=10)

        # A server of 2.x registers its handlers after an await and loses earlier events.
        def answers() -> bool:
            try:
                self._socket.call("needSetup", timeout=1)
            except socketio.exceptions.TimeoutError:
                return False
            return True

        wait_until(answers, f"{self.url} answers over Socket.IO", deadline)

    def close(self) -> None:
        """Disconnects."""
        self._socket.disconnect()

    # ------------------------------------------------------------- account

    def needs_setup(self) -> bool:
        """Whether the server wants its first user."""
        return bool(self._socket.call("needSetup", timeout=CALL_DEADLINE))

    def setup(self, username: str, password: str) -> None:
        """Makes the first user; raises KumaError. It does not log in."""
        self._call("setup", username, password)

    def login(self, username: str, password: str) -> str:
        """Logs in and waits for the monitors; returns the session's token."""
        self._forget("monitorList")
        answer = self._call("login", {"username": username, "password": password, "token": ""})
        self._wait_for("monitorList")
        return str(answer["token"])

    # ------------------------------------------------------------- monitors

    def monitor_list(self) -> dict[int, Row]:
        """All monitors of this user by id, read anew from the server."""
        self._forget("monitorList")
        self._call("getMonitorList")
        (monitors,) = self._wait_for("monitorList")
        return {int(key): value for key, value in monitors.items()}

    def get_monitor(self, monitor_id: int) -> Row:
        """One monitor with all that its editing page shows."""
        monitor: Row = self._call("getMonitor", monitor_id)["monitor"]
        return monitor

    def add_monitor(self, name: str, url: str, **fields: Any) -> int:
        """Adds a monitor (HTTP every 20 s, unless fields say else); returns its id."""
        # releases of 2.x want conditions; before them there is no such column
        release = kuma_version(kuma_dir())
        later: Row = {"conditions": []} if release >= "2" and "dev" not in release else {}
        return int(self._call("add", new_monitor(name, url) | later | fields)["monitorID"])

    def edit_monitor(self, monitor_id: int, **fields: Any) -> None:
        """Opens a monitor, changes fields and presses Save; without fields, only Save."""
        self._call("editMonitor", self.get_monitor(monitor_id) | fields)

    def delete_monitor(self, monitor_id: int) -> None:
        """Deletes a monitor with its history."""
        self._call("deleteMonitor", monitor_id)

    def heartbeats(self, monitor_id: int) -> list[Row]:
        """The beats that the server has sent this page since its log-in, oldest first.

        The server sends the earlier ones half a second after the log-in. (The npm
        build's own event getMonitorBeats is broken on SQLite.)
        """
        with self._changed:
            lists = [
                list(beats)
                for monitor, beats, *_ in self._events.get("heartbeatList", ())
                if int(monitor) == monitor_id
            ]
            live = [
                beat
                for (beat,) in self._events.get("heartbeat", ())
                if int(beat["monitorID"]) == monitor_id
            ]
        beats = {beat["time"]: beat for beat in (lists[-1] if lists else []) + live}
        return [beats[time] for time in sorted(beats)]

    # ------------------------------------------------------------- the rest

    def add_status_page(self, title: str, slug: str) -> None:
        """Adds an empty status page."""
        self._call("addStatusPage", title, slug)

    def save_status_page(
        self,
        slug: str,
        groups: Mapping[str, list[int]] | None = None,
        logo: str = "/icon.svg",
        **fields: Any,
    ) -> None:
        """Opens a status page, sets its groups of monitors and presses Save.

        A logo is a path, or a picture as data:image/png;base64,…
        """
        page: Row = self._call("getStatusPage", slug)["config"]
        config: Row = {"logo": page.get("icon"), "domainNameList": []} | page | fields
        public = [
            {"name": name, "monitorList": [{"id": monitor} for monitor in monitors]}
            for name, monitors in (groups or {}).items()
        ]
        self._call("saveStatusPage", slug, config, logo, public)

    # ------------------------------------------------------------- wire

    def _call(self, event: str, *arguments: Any) -> Row:
        try:
            answer = self._socket.call(event, arguments, timeout=CALL_DEADLINE)
        except socketio.exceptions.TimeoutError as error:
            raise KumaError(f"{event}: no answer within {CALL_DEADLINE:g} s") from error
        if not isinstance(answer, dict) or not answer.get("ok"):
            reason = answer.get("msg", answer) if isinstance(answer, dict) else answer
            raise KumaError(f"{event}: {reason}")
        return answer

    def _note(self, event: str, *arguments: Any) -> None:
        with self._changed:
            self._events.setdefault(event, []).append(arguments)
            self._changed.notify_all()

    def _forget(self, event: str) -> None:
        with self._changed:
            self._events.pop(event, None)

    def _wait_for(
        self,
        event: str,
        accept: Callable[[tuple[Any, ...]], bool] = lambda _arguments: True,
        deadline: float = CALL_DEADLINE,
    ) -> tuple[Any, ...]:
        def found() -> tuple[Any, ...] | None:
            seen = self._events.get(event, ())
            return next((item for item in reversed(seen) if accept(item)), None)

        with self._changed:
            value = self._changed.wait_for(found, deadline)
        if value is None:
            raise KumaError(f"the event {event} did not come within {deadline:g} s")
        return value


def new_monitor(name: str, url: str) -> Row:
    """What the page sends for a new HTTP monitor."""
    return {
        "type": "http",
        "name": name,
        "url": url,
        "method": "GET",
        "interval": 20,
        "retryInterval": 20,
        "resendInterval": 0,
        "maxretries": 0,
        "timeout": 16,
        "parent": None,
        "notificationIDList": {},
        "ignoreTls": False,
        "upsideDown": False,
        "packetSize": 56,
        "expiryNotification": False,
        "maxredirects": 10,
        "accepted_statuscodes": ["200-299"],
        "dns_resolve_type": "A",
        "dns_resolve_server": "127.0.0.1",
        "docker_container": "",
        "docker_host": None,
        "proxyId": None,
        "mqttUsername": "",
        "mqttPassword": "",
        "mqttTopic": "",
        "mqttSuccessMessage": "",
        "authMethod": None,
        "httpBodyEncoding": "json",
        "kafkaProducerBrokers": [],
        "kafkaProducerSaslOptions": {"mechanism": "None"},
        "kafkaProducerSsl": False,
        "kafkaProducerAllowAutoTopicCreation": False,
        "gamedigGivenPortOnly": True,
    }
