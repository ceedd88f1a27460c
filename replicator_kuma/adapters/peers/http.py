"""A peer asked by HTTP. Its answer is untrusted: bounded in time and bytes, and not redirected.

Proxies and certificates are those of the environment, as the library `requests` finds them.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from replicator_kuma import __version__
from replicator_kuma.adapters.peers import Peer, Unheard
from replicator_kuma.adapters.peers.packing import MOST, WORTH, packed, too_large, unpacked
from replicator_kuma.base.connections import Connections
from replicator_kuma.base.times import lasting

if TYPE_CHECKING:
    from requests import PreparedRequest, Response

DEADLINE = 3.0
"""seconds for one whole call, from the connection to the last byte"""
_PART = 64 * 1024

logger = logging.getLogger(__name__)


class HttpLine:
    """The way to one peer: a connection that is kept, in the hands of one thread at a time."""

    def __init__(
        self, peer: Peer, token: str = "", deadline: float = DEADLINE, *, direct: bool = False
    ) -> None:
        """``direct``: by no proxy, as to this machine itself."""
        self._peer = peer
        self._deadline = deadline
        self._connections = Connections()
        self._environment = _environment(peer.url, direct=direct)
        self._headers = {
            "User-Agent": f"replicator-kuma/{__version__}",
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            **({"Authorization": f"Bearer {token}"} if token else {}),
        }
        self._prepared: dict[tuple[str, str], PreparedRequest] = {}

    def ask(self, body: bytes | None, path: str) -> bytes:
        """POST the JSON ``body`` (GET without one); the answer's body. Raises Unheard."""
        line = self._connections
        try:
            with line.within(self._deadline):
                found = self._twice(body, path)
            if line.late:  # the end of the connection may look like the end of the answer
                raise self._silence()
            return found
        except Unheard as error:
            raise self._silence() if line.late else error from None
        except Exception as error:
            logger.debug("%s", self._peer.name, exc_info=True)
            raise self._silence() if line.late else Unheard(_failure(error)) from None

    def cut(self) -> None:
        """End a call that another thread waits for, and close all connections."""
        self._connections.cut()

    def _silence(self) -> Unheard:
        return Unheard(f"no whole answer within {lasting(self._deadline)}")

    def _twice(self, body: bytes | None, path: str) -> bytes:
        """The answer; asks again where a server has just closed the connection that was kept."""
        import requests

        kept = self._connections.kept
        try:
            return self._answer(body, path)
        except requests.ConnectionError:
            if not kept or self._connections.late:
                raise
        return self._answer(body, path)

    def _answer(self, body: bytes | None, path: str) -> bytes:
        import requests

        key = ("GET" if body is None else "POST", path)
        if key not in self._prepared:
            request = requests.Request(key[0], self._peer.url + path, self._headers)
            self._prepared[key] = request.prepare()
        prepared = self._prepared[key].copy()
        if body is not None:
            pack = len(body) >= WORTH
            prepared.prepare_body(packed(body) if pack else body, None)
            prepared.headers["Content-Type"] = "application/json"
            prepared.headers.update({"Content-Encoding": "gzip"} if pack else {})
        # Not by a session: it looks through the environment at each call, keeps cookies, follows
        # redirects (which may lead the token elsewhere), and takes a login from ~/.netrc instead.
        with self._connections.adapter.send(
            prepared, timeout=self._deadline, **self._environment
        ) as response:
            return _body(response)


def _body(response: Response) -> bytes:
    if response.status_code != 200:
        # what a server or a proxy says while it starts or is overloaded is no lasting trouble
        raise Unheard(_in_words(response.status_code), answered=response.status_code < 500)
    found = bytearray()
    while part := response.raw.read(_PART, decode_content=False):
        found += part
        if len(found) > MOST:
            raise too_large()
    return unpacked(bytes(found), response.headers.get("Content-Encoding", ""))


def _in_words(status: int) -> str:
    why = {
        401: "it does not accept our token: REPLICATOR_HTTP_TOKEN must be the same there",
        403: "it does not let us in",
        404: "no replicator-kuma of this version answers at this address",
        503: "it is not ready yet",
    }.get(status, "it redirects: name the address itself" if 300 <= status < 400 else "")
    return f"HTTP {status}{why and f', {why}'}"


def _failure(error: Exception) -> str:
    import requests
    import urllib3

    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return "no connection within the time"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not accepted"
    if isinstance(error, requests.ConnectionError | urllib3.exceptions.HTTPError):
        return "no connection"
    return type(error).__name__  # its text may hold an address


def _environment(url: str, *, direct: bool) -> dict[str, Any]:
    """Proxies and certificates by the environment, and that the body is read by us."""
    import requests

    found = requests.Session().merge_environment_settings(url, {}, True, None, None)
    return {**found, "proxies": {}} if direct else dict(found)
