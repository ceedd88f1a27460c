"""Where the HTTP server listens: REPLICATOR_HTTP."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

EXPECTED = "off, or an address and a port: 127.0.0.1:8067, 0.0.0.0:8067, [::1]:8067"
OPEN = "none"
"""the token that opens the server to everybody, knowingly"""
SHORTEST_TOKEN = 16
_PLACE = re.compile(r"(?:\[(?P<six>[^\[\]%]+)\]|(?P<four>[^:\[\]]+)):(?P<port>[0-9]{1,5})")
_TOKEN = re.compile(rf"[!-~]{{{SHORTEST_TOKEN},1024}}")


@dataclass(frozen=True)
class Listen:
    """An address of this machine and a port (0: any free one)."""

    host: str
    """an IP address without brackets"""
    port: int

    @classmethod
    def parse(cls, text: str) -> Listen | None:
        """The address that was typed; None for `off`. Raises ValueError."""
        text = text.strip()
        if text.lower() == "off":
            return None
        found = _PLACE.fullmatch(text)
        if found is None or int(found["port"]) > 65535:
            raise ValueError(text)
        if found["six"] is not None:
            return cls(str(ipaddress.IPv6Address(found["six"])), int(found["port"]))
        host = "127.0.0.1" if found["four"].lower() == "localhost" else found["four"]
        return cls(str(ipaddress.IPv4Address(host)), int(found["port"]))

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def usable_token(text: str) -> bool:
    """Whether it can be a token: visible ASCII characters, long enough that nobody guesses it."""
    return _TOKEN.fullmatch(text) is not None
