"""The HTTP server: cheroot, with bounded threads, connections, times and sizes."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import wait
from typing import Any

from cheroot.server import HeaderReader, HTTPConnection, HTTPRequest
from cheroot.wsgi import Server as WsgiServer

from replicator_kuma.base import allocator
from replicator_kuma.base.errors import MachineError, ReplicatorError, SettingsError
from replicator_kuma.base.seldom import Seldom
from replicator_kuma.base.threads import started
from replicator_kuma.config.listen import Listen
from replicator_kuma.reports.http.app import MAX_BODY
from replicator_kuma.reports.http.lobby import MAX_HEAD, Lobby

WORKERS = 4
MOST_CONNECTIONS = 200
"""open at once: descriptors are for restic and Kuma's database too, and systemd gives 1,024"""
MOST_KEPT = 16
"""connections that are kept open for a next request"""
MOST_QUEUED = 64
A_BEGIN = 5.0
STOP = 0.25
"""seconds; a worker that computes is left behind"""
_LOOK = 1.0
"""seconds between looks for kept connections that are old"""
_NUDGE = 0.03

logger = logging.getLogger(__name__)


class _Headers(HeaderReader):
    def _allow_header(self, name: bytes) -> bool:
        # `Sec_Fetch_Site` must not pass for `Sec-Fetch-Site`: to WSGI both are one name
        return b"_" not in name


class _Request(HTTPRequest):
    header_reader = _Headers()

    last = False
    """the client wants no other answer on this connection"""

    def parse_request(self) -> None:
        super().parse_request()
        if self.ready and (
            self.chunked_read or self.inheaders.get(b"Content-Length", b"0") != b"0"
        ):
            # else cheroot reads a body that nobody wanted, however slowly it comes
            self.last = self.close_connection
            self.close_connection = True
            self.conn.bodied = True

    def send_headers(self) -> None:
        if self.conn.bodied and getattr(self.rfile, "remaining", 1) == 0:
            # it was read to its end: peers call every 5 s, and a new connection costs the most
            self.close_connection = self.last
            self.conn.bodied = False
        super().send_headers()


class _Connection(HTTPConnection):
    RequestHandlerClass = _Request
    server: _Server
    bodied = False
    """a request with a body came: some of it may be unread"""

    def communicate(self) -> bool:
        with self.server.lobby.serving(self):
            return bool(super().communicate())  # type: ignore[no-untyped-call]

    def close(self) -> None:
        self.server.forget(self)
        self.linger = self.bodied
        with contextlib.suppress(OSError):
            super().close()
        if self.bodied:
            self.server.lobby.farewell(self.socket)


class _Server(WsgiServer):
    ConnectionClass = _Connection
    max_request_header_size = MAX_HEAD
    max_request_body_size = MAX_BODY
    keep_alive_conn_limit = MOST_KEPT
    expiration_interval = _LOOK

    def __init__(self, listen: Listen, app: Callable[..., Any]) -> None:
        super().__init__(
            (listen.host, listen.port),
            app,
            numthreads=WORKERS,
            max=WORKERS,
            server_name="replicator-kuma",
            request_queue_size=128,
            timeout=10,
            shutdown_timeout=0,
            accepted_queue_size=MOST_QUEUED,
            accepted_queue_timeout=0,
        )
        self.lobby = Lobby(self._serve)
        self._open = set[_Connection]()
        self._lock = threading.Lock()
        self._seldom = Seldom(logger)

    def process_conn(self, conn: _Connection) -> None:
        """Called with each new connection, and with one that is kept and has data again."""
        with self._lock:
            room = conn in self._open or len(self._open) < MOST_CONNECTIONS
            if room:
                self._open.add(conn)
        if not room and not self.lobby.make_room():
            conn.close()
            return
        with self._lock:
            self._open.add(conn)
        if conn.rfile.has_data():
            self._serve(conn)
        else:
            self.lobby.wait(conn)

    def _serve(self, conn: Any) -> None:
        super().process_conn(conn)

    def forget(self, conn: _Connection) -> None:
        with self._lock:
            self._open.discard(conn)

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        """cheroot's own words, which may hold what a client sent: shown seldom, and cut."""
        if level < logging.ERROR:
            logger.debug("cheroot: %.300s", msg)
            return
        kind = sys.exc_info()[0]
        name = kind.__name__ if kind is not None else "error"
        self._seldom.say(logging.WARNING, "request_failed", f"the HTTP server met {name}")
        logger.debug("cheroot: %.300s", msg, exc_info=traceback)
        if kind is not None and issubclass(kind, OSError):
            # without descriptors, cheroot would try to accept the same connection without a pause
            time.sleep(0.1)


class HttpServer:
    """Serves a WSGI application in threads of its own, none of which keeps the process alive."""

    def __init__(self, listen: Listen, app: Callable[..., Any]) -> None:
        self._listen = listen
        self._server = _Server(listen, app)
        self._begun = False

    @property
    def address(self) -> Listen:
        """Where it listens; after `start` with the port that it got."""
        host, port = self._server.bind_addr[:2]
        return Listen(str(host), int(port))

    def start(self) -> None:
        """Listen and serve. Raises SettingsError or MachineError if the address cannot be used."""
        if refused := _refusal(self._listen):
            raise refused
        allocator.give_back()
        try:
            # threads inherit that they are daemons from the thread that starts them
            ready = started("http-begin", self._server.prepare)
            ready.result(A_BEGIN)
            self._begun = True
            self._server.lobby.start()
            started("http", self._server.serve)
        except (OSError, TimeoutError) as error:
            raise MachineError(f"cannot listen at {self._listen}: {error}") from error
        except RuntimeError as error:
            self.stop()
            raise MachineError("the machine gives no thread for the HTTP server") from error

    def stop(self) -> None:
        """End within 0.3 s, whatever clients do. Never raises."""
        if not self._begun:
            return
        self._begun = False
        self._server.lobby.close()
        until = time.monotonic() + STOP
        try:
            done = started("http-stop", self._server.stop)
        except RuntimeError:  # no thread: what is left ends with the process
            return
        while not done.done() and time.monotonic() < until:
            self._nudge()
            wait([done], _NUDGE)

    def _nudge(self) -> None:
        """Connect: cheroot's loop sees only then that it is to stop."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.address.host, self.address.host)
        with (
            contextlib.suppress(OSError),
            socket.create_connection((host, self.address.port), _NUDGE),
        ):
            pass


def _refusal(listen: Listen) -> ReplicatorError | None:
    """Why this address cannot be listened at; cheroot's own error says it in no words of ours."""
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((listen.host, listen.port))
            sock.listen(1)
    except OSError as error:
        return _named(listen, error)
    return None


def _named(listen: Listen, error: OSError) -> ReplicatorError:
    match error.errno:
        case errno.EADDRINUSE:
            return MachineError(
                f"another program listens at {listen} already (REPLICATOR_HTTP)",
                hint=f"Which one: ss -ltnp 'sport = :{listen.port}'. Or set another port: "
                f"REPLICATOR_HTTP={listen.host}:8068",
            )
        case errno.EADDRNOTAVAIL | errno.EAFNOSUPPORT:
            return SettingsError(
                f"this machine has no address {listen.host} (REPLICATOR_HTTP)",
                hint="Its addresses: ip addr. For this machine alone: 127.0.0.1:8067",
            )
        case errno.EACCES | errno.EPERM:
            return SettingsError(
                f"this user may not listen at port {listen.port} (REPLICATOR_HTTP)",
                hint="Set a port above 1023: 127.0.0.1:8067",
            )
    return MachineError(f"cannot listen at {listen}: {error.strerror}")
