"""Who may ask for what: tokens, names of hosts, other sites (docs/threat-model.md)."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from replicator_kuma.base.errors import SettingsError
from replicator_kuma.config.listen import OPEN, SHORTEST_TOKEN, Listen
from replicator_kuma.config.settings import Settings

UNGUARDED = frozenset({"/healthz", "/livez", "/readyz", "/badge/state.svg"})
"""they need no token: a probe of Kubernetes and a picture in a README have none"""
EXCHANGE = "/api/v1/exchange"
CHALLENGES = ('Basic realm="replicator-kuma", charset="UTF-8"', 'Bearer realm="replicator-kuma"')
_OWN_SITE = ("same-origin", "none")
_READING = ("GET", "HEAD")


@dataclass(frozen=True)
class Refusal:
    """Why a request gets no answer: an HTTP status, a word for programs, words for people."""

    status: int
    error: str
    message: str
    headers: tuple[tuple[str, str], ...] = ()
    wrong_token: bool = False
    """a token was given, and it was another one"""


@dataclass(frozen=True)
class Access:
    """The rules of one server."""

    token: str = field(repr=False)
    """"": nobody needs one"""
    bound: str = "127.0.0.1"
    """the IP address it listens at"""
    opened: bool = False
    """REPLICATOR_HTTP_TOKEN=none: somebody chose that everybody who reaches it may ask"""

    @classmethod
    def of(cls, settings: Settings, listen: Listen) -> Access:
        """The rules that the settings choose.

        Raises SettingsError if other machines could ask without a token, and nobody chose that.
        """
        if not (listen.loopback or settings.http_token or settings.http_open):
            raise SettingsError(
                f"REPLICATOR_HTTP={listen} lets other machines ask, and there is no token",
                hint=f"Set REPLICATOR_HTTP_TOKEN (or REPLICATOR_HTTP_TOKEN_FILE) to "
                f"{SHORTEST_TOKEN} or more characters: openssl rand -hex 24. Or listen for this "
                f"machine alone: REPLICATOR_HTTP=127.0.0.1:{listen.port}. Or open it to "
                f"everybody who reaches it: REPLICATOR_HTTP_TOKEN={OPEN}",
            )
        return cls(settings.http_token, listen.host, settings.http_open)

    def refusal(self, method: str, path: str, headers: Mapping[str, str]) -> Refusal | None:
        """Why this request is refused; None: it may be answered. ``headers`` as werkzeug has them.

        The method is looked at first, since its answer tells nothing; then other sites, so that
        no browser asks its user for a token on their behalf.
        """
        if refused := _wrong_method(method, path):
            return refused
        if path in UNGUARDED:
            return None
        if _from_another_site(method, headers):
            return Refusal(403, "cross_site", "Another site's page may not ask here.")
        if self.token:
            return self._without_token(headers)
        if not self._host_is_ours(headers.get("Host", "")):
            return Refusal(
                403,
                "unknown_host",
                "Without a token, only names of this machine are answered. Ask by "
                "localhost or by an IP address, or set REPLICATOR_HTTP_TOKEN.",
            )
        if path == EXCHANGE and not self.opened:
            return Refusal(403, "token_needed", "Peers need REPLICATOR_HTTP_TOKEN on both sides.")
        return None

    def knows(self, headers: Mapping[str, str]) -> bool:
        """Whether who asks may read everything: the token was given, or nobody needs one.

        Also where nobody does, a page of another site may not, by a name that it leads here.
        """
        if not self.token:
            return self._host_is_ours(headers.get("Host", ""))
        given = _given(headers.get("Authorization", ""))
        return given is not None and self._is_token(given)

    def _without_token(self, headers: Mapping[str, str]) -> Refusal | None:
        given = _given(headers.get("Authorization", ""))
        if given is not None and self._is_token(given):
            return None
        return Refusal(
            401,
            "token_needed",
            "The token is missing or wrong (REPLICATOR_HTTP_TOKEN): send it as "
            "«Authorization: Bearer …», or as a password with any user.",
            tuple(("WWW-Authenticate", challenge) for challenge in CHALLENGES),
            wrong_token=given is not None,
        )

    def _is_token(self, given: bytes) -> bool:
        return hmac.compare_digest(given, self.token.encode())

    def _host_is_ours(self, host: str) -> bool:
        """Whether a Host header names this machine.

        A page of another site can let its own name lead to 127.0.0.1 (DNS rebinding): then the
        browser sends that name, and takes the answer for that site's. An address is nobody's name.
        Where it is open to everybody a name without a dot is good too: the instances of a compose
        network call one another so, and no site has one.
        """
        name = _hostname(host).lower()
        if self.opened and re.fullmatch(r"[a-z0-9_-]+", name):
            return True
        if name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        bound = ipaddress.ip_address(self.bound)
        return address.is_loopback or address == bound or not bound.is_loopback


def _wrong_method(method: str, path: str) -> Refusal | None:
    allowed = ("POST",) if path == EXCHANGE else _READING
    if method in allowed:
        return None
    allow = (("Allow", ", ".join(allowed)),)
    return Refusal(405, "method_not_allowed", f"Here: {' and '.join(allowed)}.", allow)


def _from_another_site(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a browser says that a page of another origin asks.

    To follow a link from there is no such request: no page can read what its user is shown then.
    """
    site = headers.get("Sec-Fetch-Site", "none")
    if site not in _OWN_SITE:
        whole_page = headers.get("Sec-Fetch-Mode") == "navigate"
        whole_page &= headers.get("Sec-Fetch-Dest") == "document"
        if not (whole_page and method in _READING):
            return True
    origin = headers.get("Origin")
    if origin is None:
        return False
    _scheme, _, host = origin.partition("://")
    return not host or host.lower() != headers.get("Host", "").lower()


def _hostname(host: str) -> str:
    """The name in a Host header, without its port and the brackets of IPv6."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _given(authorization: str) -> bytes | None:
    """The token in an Authorization header; None: there is none."""
    scheme, _, rest = authorization.strip().partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip().encode(errors="replace")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(rest.strip(), validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""
