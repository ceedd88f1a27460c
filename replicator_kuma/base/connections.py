"""HTTP connections of the library `requests` that end at a deadline, whatever a server sends.

Each read has its own timeout, which a server that sends a byte a second never reaches: at the
deadline the connection is shut down under whoever waits for it. A connection through a SOCKS proxy
is of another class, and has only the timeouts of its reads.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from replicator_kuma.base.watchdog import Watchdog

if TYPE_CHECKING:
    from requests.adapters import HTTPAdapter
    from urllib3.connection import HTTPConnection

_deadlines = Watchdog()


class Connections:
    """The connections of one ``adapter`` of `requests`, used by one thread at a time."""

    def __init__(self) -> None:
        # Here, and not in the thread that asks: `requests` is imported late, and threads that
        # import parts of it at the same time may find it half made.
        self.adapter: HTTPAdapter = _adapter(self)
        self._lock = threading.Lock()
        self._links: dict[HTTPConnection, socket.socket] = {}
        """open connections, each with a second handle of its socket"""
        self._late = False

    @property
    def late(self) -> bool:
        """The last block of `within` was cut: the end of its answer may be none."""
        return self._late

    @property
    def kept(self) -> bool:
        """There are connections that a server may have closed meanwhile."""
        return bool(self._links)

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Cut all connections, also new ones, if the block takes longer; `late` tells afterwards.

        Raises RuntimeError, before the block, if the machine gives no thread.
        """
        with self._lock:
            self._late = False
        try:
            with _deadlines.within(seconds, self.cut):
                yield
        finally:
            self._let_go()

    def cut(self) -> None:
        """End what another thread waits for, and close all connections."""
        with self._lock:
            self._late = True
            for handle in self._links.values():
                with contextlib.suppress(OSError):
                    handle.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of all connections; an answer that is still read keeps its own."""
        self.adapter.close()
        with self._lock:
            for handle in self._links.values():
                handle.close()
            self._links.clear()

    def _hold(self, connection: HTTPConnection, link: socket.socket) -> None:
        """Keep a second handle of a connection's socket, by which `cut` can end it.

        Another thread reads the connection's own, TLS replaces it, and an answer outlives it.
        """
        with self._lock:
            if (old := self._links.pop(connection, None)) is not None:
                old.close()
            self._links[connection] = link.dup()
            if self._late:
                link.shutdown(socket.SHUT_RDWR)

    def _let_go(self) -> None:
        """Close the handles of connections that are not kept: they would hold them open."""
        with self._lock:
            for connection in [one for one in self._links if one.sock is None or self._late]:
                connection.close()
                self._links.pop(connection).close()


def _adapter(connections: Connections) -> HTTPAdapter:
    """What makes connections, and tells of their sockets as soon as there is one."""
    from requests.adapters import HTTPAdapter
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            link = super()._new_conn()
            connections._hold(self, link)
            return link

    class Secure(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            link = super()._new_conn()
            connections._hold(self, link)
            return link

    pools = {
        "http": type("_Plain", (HTTPConnectionPool,), {"ConnectionCls": Plain}),
        "https": type("_Secure", (HTTPSConnectionPool,), {"ConnectionCls": Secure}),
    }

    class Held(HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
            super().init_poolmanager(*arguments, **options)
            self.poolmanager.pool_classes_by_scheme = pools

        def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
            manager = super().proxy_manager_for(proxy, **options)
            if not proxy.startswith("socks"):  # whose connections are of other classes
                manager.pool_classes_by_scheme = pools
            return manager

    return Held(pool_connections=1, pool_maxsize=1, max_retries=0)
