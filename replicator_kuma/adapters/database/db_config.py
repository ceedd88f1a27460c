"""Which database Kuma uses, and how to log in: db-config.json and UPTIME_KUMA_DB_*, as Kuma reads
them (its server/setup-database.js and database.js; sockets and TLS since 2.1).
"""

from __future__ import annotations

import errno
import json
import os
import pwd
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from replicator_kuma.base.errors import DatabaseError, SettingsError
from replicator_kuma.base.folders import Folder, HardLinkRefused, LinkRefused
from replicator_kuma.base.os_errors import remedy

ENV = "UPTIME_KUMA_DB_"
_PORT = 3306
_SOCKETS = ("run/mariadb.sock", "run/mariadb/mysqld.sock")
"""Of the embedded MariaDB, below the data directory: the second is that of builds before 2.0."""
_AS_KUMA = (
    "Give the replicator what Kuma itself has: the same db-config.json, or the same "
    "UPTIME_KUMA_DB_… variables."
)
_OF_KUMA = "Kuma writes this file at its set-up: look at it, or take it from a backup."


@dataclass(frozen=True)
class Login:
    """The address and login of a MariaDB. Its repr shows no secret.

    ``sockets``: the first that exists is used instead of ``hostname`` and ``port``. ``ca`` is the
    text of PEM certificates; empty: the system's certificates.
    """

    database: str
    username: str
    password: str = field(repr=False)
    hostname: str = "localhost"
    port: int = _PORT
    sockets: tuple[Path, ...] = ()
    ssl: bool = False
    ca: str = field(default="", repr=False)
    embedded: bool = False

    def socket(self) -> Path | None:
        """The Unix socket to use; None for TCP."""
        if not self.sockets:
            return None
        return next((path for path in self.sockets if path.exists()), self.sockets[0])

    @property
    def place(self) -> str:
        """The server's place, in words for a message."""
        socket = self.socket()
        return f"socket {socket}" if socket else f"{self.hostname}:{self.port}"


def read_login(data_dir: Path, environ: Mapping[str, str]) -> Login | None:
    """The login of this Kuma's MariaDB; None if Kuma uses kuma.db.

    ``environ`` is Kuma's environment: with UPTIME_KUMA_DB_TYPE in it, Kuma writes db-config.json
    anew at each start, so it wins. Without both it is kuma.db (Kuma 1.23). Raises SettingsError for
    what Kuma could not start with, DatabaseError when db-config.json cannot be read.
    """
    if environ.get(f"{ENV}TYPE"):
        config = _of_environment(environ)
        source = f"{ENV}…"
    else:
        path = data_dir / "db-config.json"
        config = _of_file(path)
        source = str(path)
        _forbid_own_name(config, path)
    match config["type"]:
        case "sqlite":
            return None
        case "mariadb":
            return _login(config, source)
        case "embedded-mariadb":
            sockets = tuple(data_dir.absolute() / name for name in _SOCKETS)
            return Login("kuma", _own_name(), "", sockets=sockets, embedded=True)
        case other:
            raise SettingsError(
                f"{source}: Kuma uses {other!r}, which this version does not replicate",
                hint="It replicates sqlite, mariadb and embedded-mariadb.",
            )


def _of_file(path: Path) -> dict[str, Any]:
    try:
        with Folder.open(path.parent) as folder:
            file = folder.open_regular(path.name, follow=True)
            if file is None:
                return {"type": "sqlite"}
        with file:
            config = json.loads(file.read().decode())
    except FileNotFoundError:
        return {"type": "sqlite"}
    except (LinkRefused, HardLinkRefused) as error:
        raise DatabaseError(
            f"cannot read {path}: {error.strerror}",
            hint="Put the file itself there, or run the replicator as Kuma's own user.",
        ) from error
    except OSError as error:
        hint = _OF_KUMA if error.errno == errno.EINVAL else remedy(error)
        raise DatabaseError(f"cannot read {path}: {error.strerror}", hint=hint) from error
    except (ValueError, RecursionError):  # json's exception holds the whole text
        raise DatabaseError(f"{path} is not JSON", hint=_OF_KUMA) from None
    if not isinstance(config, dict) or not isinstance(config.get("type"), str):
        raise DatabaseError(f"{path} names no type of database", hint=_OF_KUMA)
    return config


def _forbid_own_name(config: Mapping[str, Any], path: Path) -> None:
    """Forbid that another user makes root log in as root by a socket, without a password.

    Raises SettingsError.
    """
    if os.geteuid() != 0 or config["type"] != "mariadb" or not config.get("socketPath"):
        return
    if config.get("username") != _own_name() or not _may_be_anothers(path):
        return
    raise SettingsError(
        f"{path} asks root to log in to a MariaDB of this machine as {config['username']}, and "
        "another user may have written that",
        hint="Give Kuma a user of its own in MariaDB, or run the replicator as Kuma's own user.",
    )


def _may_be_anothers(path: Path) -> bool:
    """Whether somebody other than root may write or replace this file."""
    with Folder.open(path.parent) as above, above.end(path.name) as (folder, name):
        opened = (os.fstat(each.descriptor) for each in (above, folder))
        places = (folder.stat(name, follow=True), *opened)
    return any(
        found is not None and (found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
        for found in places
    )


def _of_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """The values that Kuma would write into db-config.json."""
    return {
        "type": environ[f"{ENV}TYPE"],
        "hostname": environ.get(f"{ENV}HOSTNAME"),
        "port": environ.get(f"{ENV}PORT"),
        "dbName": environ.get(f"{ENV}NAME"),
        "username": _value_or_file(environ, "USERNAME"),
        "password": _value_or_file(environ, "PASSWORD"),
        "socketPath": (environ.get(f"{ENV}SOCKET") or "").strip(),
        "ssl": (_value_or_file(environ, "SSL") or "").lower() == "true",
        "ca": _value_or_file(environ, "CA"),
    }


def _value_or_file(environ: Mapping[str, str], name: str) -> str | None:
    value, path = environ.get(ENV + name), environ.get(f"{ENV}{name}_FILE")
    if value and path:
        raise SettingsError(
            f"both {ENV}{name} and {ENV}{name}_FILE are set: Kuma takes one only",
            hint=_AS_KUMA,
        )
    if not path:
        return value
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(
            f"cannot read {ENV}{name}_FILE ({path}): {error.strerror}", hint=_AS_KUMA
        ) from error
    except UnicodeDecodeError:
        raise SettingsError(f"{ENV}{name}_FILE ({path}) is no UTF-8", hint=_AS_KUMA) from None


def _login(config: Mapping[str, Any], source: str) -> Login:
    missing = [name for name in ("dbName", "username") if not config.get(name)]
    if missing:
        raise SettingsError(
            f"{source} names no {' and no '.join(missing)} for MariaDB", hint=_AS_KUMA
        )
    try:
        port = int(config.get("port") or _PORT)  # the set-up page stores it as text
        if not 0 < port < 65536:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise SettingsError(
            f"{source}: the port of MariaDB is no number of 1 to 65535", hint=_AS_KUMA
        ) from None
    socket = config.get("socketPath")
    return Login(
        database=str(config["dbName"]),
        username=str(config["username"]),
        password=str(config.get("password") or ""),
        hostname=str(config.get("hostname") or "localhost"),
        port=port,
        sockets=(Path(str(socket)),) if socket else (),
        ssl=bool(config.get("ssl")),
        ca=str(config.get("ca") or "").strip(),
    )


def _own_name() -> str:
    """The operating system's name of this process: MariaDB compares it with the socket's peer."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise SettingsError(
            f"user {os.geteuid()} has no name here, so it cannot log in to the embedded MariaDB",
            hint="Run replicator-kuma as the user that runs Kuma.",
        ) from None
