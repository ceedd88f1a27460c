"""Encodes a login to MariaDB, and forbids to send a password in clear text without encryption."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from replicator_kuma.adapters.database.db_config import Login
from replicator_kuma.base.errors import DatabaseUnreachable, SettingsError


class _NotInClear:
    """A PyMySQL handler for a login method that would reveal the password: it sends nothing."""

    def __init__(self, connection: Any) -> None:
        pass

    def authenticate(self, packet: Any) -> NoReturn:
        raise DatabaseUnreachable(
            "Kuma's MariaDB, or what answers in its place, wants the password in clear text",
            hint="Set ssl in db-config.json (UPTIME_KUMA_DB_SSL), use its Unix socket, or give "
            "Kuma a login by mysql_native_password.",
        )


NOT_IN_CLEAR: dict[str, Callable[[Any], Any]] = {
    "mysql_clear_password": _NotInClear,
    "dialog": _NotInClear,
}
"""PyMySQL's ``auth_plugin_map`` for a connection that is neither TLS nor a Unix socket.

Without it, PyMySQL sends the password itself to any server that asks for it.
"""


def encoded(login: Login) -> tuple[bytes, bytes, bytes]:
    """User, password and database as bytes in UTF-8; raises SettingsError.

    PyMySQL would encode a password given as text in Latin-1.
    """
    user = _encoded("user", login.username)
    return user, _encoded("password", login.password), _encoded("database", login.database)


def _encoded(what: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise SettingsError(f"the {what} of the login to MariaDB is no UTF-8") from None
