"""Takes the URL of a target apart. No error shows any of it."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit, urlunsplit

from replicator_kuma.base.errors import SettingsError


@dataclass(frozen=True)
class Address:
    """An http or https URL without its login and fragment, and these two apart."""

    scheme: str
    host: str
    """with the port, if the URL has one"""
    path: str = field(repr=False)
    query: str = field(repr=False)
    login: str | None = field(repr=False)
    """the Authorization header of name and password before the @; None: there are none"""
    fragment: str = field(repr=False)

    @classmethod
    def of(cls, url: str) -> Address:
        """Raises SettingsError, which shows nothing of the URL."""
        try:
            parts = urlsplit(url.strip())
            url.encode()  # raises if it is not UTF-8
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host or parts.scheme not in ("http", "https"):
            raise SettingsError("it must be like https://host/path")
        address = f"[{host}]" if ":" in host else host
        return cls(
            scheme=parts.scheme,
            host=address if port is None else f"{address}:{port}",
            path=parts.path,
            query=parts.query,
            login=basic(unquote(parts.username or ""), unquote(parts.password or "")),
            fragment=unquote(parts.fragment),
        )

    def url(self, path: str | None = None, query: str | None = None) -> str:
        """The URL with another path or query."""
        path = self.path if path is None else path
        query = self.query if query is None else query
        return urlunsplit((self.scheme, self.host, path, query, ""))

    @property
    def headers(self) -> dict[str, str]:
        """The login as a header: a header appears in no access log."""
        return {} if self.login is None else {"Authorization": self.login}


def basic(user: str, password: str) -> str | None:
    """The Authorization header of a name and a password; None if both are empty."""
    if not user and not password:
        return None
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
