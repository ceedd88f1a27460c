"""A small client of Kuma's Socket.IO: engine.io by HTTP polling, for a log-in and a few events.

https://socket.io/docs/v4/engine-io-protocol/ — 0x1e separates the packets of one answer. A
packet begins with its kind: 0 open, 2 ping, 3 pong, 4 message. A Socket.IO message begins with 0
connect, 2 event, 3 acknowledgement; a number may precede its JSON.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from typing import Any

import requests

from replicator_kuma.base.errors import KumaError

_SEPARATOR = "\x1e"
_SILENCE = 5.0
"""Seconds without a packet before we connect again, since abandoning a poll ends the
connection."""


def session_token(username: str, password: str, secret: str) -> str:
    """The token that Kuma gives a page at a log-in: a JWT by ``secret`` (setting jwtSecret).

    ``password`` is the hash in the user's row.
    """
    mark = hashlib.shake_256(password.encode()).hexdigest(16)
    parts = ({"alg": "HS256", "typ": "JWT"}, {"username": username, "h": mark})
    text = b".".join(_base64(json.dumps(part).encode()) for part in parts)
    return (text + b"." + _base64(hmac.digest(secret.encode(), text, "sha256"))).decode()


def _base64(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


def list_monitors(url: str, token: str, timeout: float) -> dict[int, str]:
    """The monitors by id and name that Kuma shows to the owner of ``token``.

    Raises KumaError if Kuma refuses the token, or shows no list within ``timeout`` seconds.
    """
    end = time.monotonic() + timeout
    try:
        with requests.Session() as session:
            session.trust_env = False  # proxies do not know a server beside us
            return _log_in(_Polling(session, url), token, end)
    except (requests.RequestException, ValueError, TypeError, AttributeError, KeyError) as error:
        raise KumaError(
            f"Uptime Kuma answers over Socket.IO otherwise than expected ({type(error).__name__})"
        ) from error


def _log_in(polling: _Polling, token: str, end: float) -> dict[int, str]:
    while time.monotonic() < end:
        # 1.23 has its handlers at once. 2.x drops earlier events, and says when it is ready
        polling.open()
        polling.emit("loginByToken", token)
        try:
            while time.monotonic() < end:
                for kind, data in polling.read():
                    if kind == "loginRequired":
                        polling.emit("loginByToken", token)
                    if kind == "ack" and not data[0].get("ok"):
                        said = str(data[0].get("msg"))[:200]
                        raise KumaError(f"Uptime Kuma refuses the log-in: {said}")
                    if kind == "monitorList":
                        return {int(key): str(row["name"]) for key, row in data[0].items()}
        except requests.Timeout:
            continue
    raise KumaError("Uptime Kuma shows no list of its monitors")


class _Polling:
    """One connection; `read` yields (event, arguments), with "ack" for an answer."""

    def __init__(self, session: requests.Session, url: str) -> None:
        self._session = session
        self._url = f"{url}/socket.io/"
        self._parameters: dict[str, str] = {}

    def open(self) -> None:
        """Open a new connection; the old one is dropped."""
        self._parameters = {"EIO": "4", "transport": "polling"}
        (first,) = self._get()
        self._parameters["sid"] = str(json.loads(first[1:])["sid"])
        self._post("40")

    def emit(self, event: str, *arguments: Any) -> None:
        """Send an event that asks for an answer."""
        self._post("420" + json.dumps([event, *arguments]))

    def read(self) -> Iterator[tuple[str, list[Any]]]:
        """Wait for packets and yield them. After requests.Timeout the connection is unusable."""
        for packet in self._get():
            if packet == "2":
                self._post("3")
            elif found := re.match(r"4([23])\d*", packet):
                data = json.loads(packet[found.end() :])
                yield ("ack", data) if found[1] == "3" else (str(data[0]), data[1:])

    def _get(self) -> list[str]:
        answer = self._session.get(self._url, params=self._parameters, timeout=_SILENCE)
        answer.raise_for_status()
        return answer.content.decode().split(_SEPARATOR)

    def _post(self, packet: str) -> None:
        self._session.post(
            self._url,
            params=self._parameters,
            data=packet.encode(),
            headers={"Content-Type": "text/plain;charset=UTF-8"},
            timeout=_SILENCE,
        ).raise_for_status()
