"""The addresses of peers, as REPLICATOR_PEERS and `fleet --url` write them."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit, urlunsplit

INSECURE = "http+insecure"
"""the scheme by which an operator says that the way may be listened to"""
_SHARED = ipaddress.ip_network("100.64.0.0/10")
"""of carriers and overlay networks (RFC 6598): no public address, yet not `is_private`"""


def base_address(text: str) -> str:
    """An instance's address without a slash at its end, as http:// or https://.

    Raises ValueError with what was expected: plain http:// is for loopback, private networks and
    names of one label, since the token and names of monitors go over it.
    """
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname, parts.port
        text.encode("ascii")
    except ValueError:
        host = port = None
    if not host or parts.scheme not in ("http", "https", INSECURE):
        raise ValueError("an address like https://fra-1.example.com")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            "an address without a login, ? and #: the token is that of REPLICATOR_HTTP_TOKEN"
        )
    if parts.scheme == "http" and not _near(host):
        raise ValueError(
            f"https:// (or {INSECURE}:// where the way to {host} is safe in another manner: "
            "names, states and the token go over it in the clear)"
        )
    scheme = "http" if parts.scheme == INSECURE else parts.scheme
    netloc = f"[{host}]" if ":" in host else host
    netloc += f":{port}" if port is not None else ""
    return urlunsplit((scheme, netloc, parts.path.rstrip("/"), "", ""))


def _near(host: str) -> bool:
    """Whether an address is loopback or private, or a name is one of this network."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return "." not in host.rstrip(".") or host.rstrip(".").endswith(".localhost")
    mapped = getattr(address, "ipv4_mapped", None) or address
    near = mapped.is_loopback or mapped.is_private or mapped.is_link_local
    return near or (mapped.version == 4 and mapped in _SHARED)
