"""The small client of Socket.IO, against a server that does what Kuma's can do to it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from replicator_kuma.adapters.kuma import socketio
from replicator_kuma.adapters.kuma.socketio import list_monitors, session_token
from replicator_kuma.base.errors import KumaError
from tests.support.loopback import Loopback, Quiet

MONITORS = {"3": {"name": "null"}, "12": {"name": "Ünï \x1f ✓"}}


class Server(Loopback):
    """engine.io by polling. ``loses`` so many first events; ``refuses`` the token."""

    def __init__(self) -> None:
        self.loses, self.refuses, self.silent, self.says_so = 0, False, False, True
        self.changed = threading.Condition()
        self.patience = 0.1
        self.events: list[Any] = []
        self.pongs = 0
        self._outbox: list[str] = []
        server = self

        class Handler(Quiet):
            def get(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                assert query["EIO"] == ["4"]
                if "sid" not in query:
                    self._say('0{"sid":"one","upgrades":["websocket"],"pingInterval":25000}')
                    return
                with server.changed:
                    server.changed.wait_for(lambda: server._outbox, server.patience)
                    packets, server._outbox = server._outbox, []
                self._say("\x1e".join(packets or ["2"]))

            def post(self) -> None:
                server.take(self.body().decode())
                self._say("ok")

            def _say(self, text: str) -> None:
                with contextlib.suppress(BrokenPipeError):  # who asked has given up
                    self.say(200, text.encode())

        super().__init__(Handler)

    def take(self, body: str) -> None:
        with self.changed:
            self._take(body)
            self.changed.notify_all()

    def _take(self, body: str) -> None:
        if body == "40":
            self._outbox += ['40{"sid":"two"}', '42["info",{"version":"2.5.3"}]']
        elif body == "3":
            self.pongs += 1
        else:
            assert body.startswith("420")
            self.events.append(json.loads(body[3:]))
            if len(self.events) == self.loses and self.says_so:
                self._outbox.append('42["loginRequired"]')
            if len(self.events) > self.loses and not self.silent:
                answer = {"ok": False, "msg": "Invalid token."} if self.refuses else {"ok": True}
                # as Kuma does: the list may come before the answer
                self._outbox += [f'42["monitorList",{json.dumps(MONITORS)}]'] * (not self.refuses)
                self._outbox += [f"430[{json.dumps(answer)}]"]


@pytest.fixture
def server() -> Iterator[Server]:
    with contextlib.closing(Server()) as made:
        yield made


def test_the_monitors_by_id_and_name(server: Server) -> None:
    assert list_monitors(server.url, "a token", 10) == {3: "null", 12: "Ünï \x1f ✓"}
    assert server.events == [["loginByToken", "a token"]]


def test_an_event_that_got_lost_is_sent_again(server: Server) -> None:
    """2.x registers its handlers after an await, and says when it wants a log-in."""
    server.loses = 1
    assert len(list_monitors(server.url, "a token", 10)) == 2
    assert len(server.events) == 2


def test_a_server_that_falls_silent_is_asked_on_a_new_connection(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socketio, "_SILENCE", 0.3)
    server.loses, server.says_so, server.patience = 1, False, 1.0
    assert len(list_monitors(server.url, "a token", 10)) == 2
    assert len(server.events) == 2


def test_pings_are_answered_or_the_server_hangs_up(server: Server) -> None:
    server.silent = True
    with pytest.raises(KumaError, match="shows no list"):
        list_monitors(server.url, "a token", 0.5)
    assert server.pongs > 0


def test_a_token_that_is_refused(server: Server) -> None:
    server.refuses = True
    with pytest.raises(KumaError, match="refuses the log-in: Invalid token"):
        list_monitors(server.url, "a token", 10)


def test_a_token_is_a_jwt_with_the_mark_of_the_password() -> None:
    parts = session_token("admin ✓", "$2a$10$hash", "secret").split(".")
    head, body, signature = (base64.urlsafe_b64decode(p + "=" * (-len(p) % 4)) for p in parts)
    assert json.loads(head) == {"alg": "HS256", "typ": "JWT"}
    mark = hashlib.shake_256(b"$2a$10$hash").hexdigest(16)
    assert json.loads(body) == {"username": "admin ✓", "h": mark}
    signed = f"{parts[0]}.{parts[1]}".encode()
    assert signature == hmac.new(b"secret", signed, hashlib.sha256).digest()
