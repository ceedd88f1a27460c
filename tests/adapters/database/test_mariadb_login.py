"""What a server may ask of a login, and what it may not get: a server that is made up here."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from replicator_kuma.adapters.database.db_config import Login
from replicator_kuma.adapters.database.mariadb.store import MariadbStore
from replicator_kuma.base.errors import DatabaseUnreachable, ReplicatorError, SettingsError

SECRET = "S3CRET-password"
OK = b"\0\0\0\2\0\0\0"
LOCAL_FILE = b"\xfb/etc/hostname"
DIALOG = b"\xfedialog\0\x04Password: "
CLEAR = b"\xfemysql_clear_password\0"


def packet(number: int, body: bytes) -> bytes:
    return struct.pack("<I", len(body))[:3] + bytes([number]) + body


def greeting(plugin: bytes) -> bytes:
    """What a server of 10.11 says first; no TLS, each login by ``plugin``."""
    able = 0x1 | 0x4 | 0x8 | 0x200 | 0x2000 | 0x8000 | 0x80000
    return (
        b"\x0a10.11.0\0" + struct.pack("<I", 1) + b"12345678\0" + struct.pack("<H", able & 0xFFFF)
        + b"\x2d" + struct.pack("<H", 2) + struct.pack("<H", able >> 16) + b"\x15" + bytes(10)
        + b"123456789012\0" + plugin + b"\0"
    )  # fmt: skip


@contextmanager
def answering(
    *answers: bytes, path: Path | None = None, plugin: bytes = b"mysql_native_password"
) -> Iterator[tuple[Login, list[bytes]]]:
    """A login to what gives these answers, one after another, and all that it is sent."""
    listening = socket.socket(socket.AF_INET if path is None else socket.AF_UNIX)
    listening.bind(("127.0.0.1", 0) if path is None else str(path))
    listening.listen()
    got: list[bytes] = []

    def answer() -> None:
        with listening.accept()[0] as peer:
            peer.settimeout(10)
            peer.sendall(packet(0, greeting(plugin)))
            got.append(peer.recv(9999))
            for body in answers:
                # the numbers go on from those of the request
                peer.sendall(packet(got[-1][3] + 1, body))
                got.append(peer.recv(9999))
                if not got[-1]:
                    return

    thread = threading.Thread(target=answer)
    thread.start()
    port = 0 if path else listening.getsockname()[1]
    try:
        yield Login("kuma", "kuma", SECRET, "127.0.0.1", port, (path,) if path else ()), got
        thread.join(10)
        assert not thread.is_alive()
    finally:
        listening.close()


@pytest.mark.parametrize("asked", [CLEAR, DIALOG])
def test_a_password_does_not_go_in_clear_text_over_tcp(asked: bytes) -> None:
    error = pytest.raises(DatabaseUnreachable, match="in clear text")
    with answering(asked) as (login, got), error as caught:
        MariadbStore(login).exists()
    assert "ssl" in caught.value.hint
    assert SECRET.encode() not in b"".join(got)
    assert SECRET not in repr(caught.value)


@pytest.mark.parametrize("plugin", [b"mysql_clear_password", b"dialog"])
def test_a_server_that_asks_for_clear_text_at_once_gets_none(plugin: bytes) -> None:
    error = pytest.raises(DatabaseUnreachable, match="in clear text")
    with answering(b"\x01more", plugin=plugin) as (login, got), error:
        MariadbStore(login).exists()
    assert SECRET.encode() not in b"".join(got)


@pytest.mark.parametrize("asked", [CLEAR, DIALOG])
def test_over_a_unix_socket_a_password_may_be_asked_for(asked: bytes, tmp_path: Path) -> None:
    """PAM needs it; who listens there is of this machine, and nobody reads along."""
    error = pytest.raises(DatabaseUnreachable)  # it says no more after that
    with answering(asked, path=tmp_path / "m.sock") as (login, got), error:
        MariadbStore(login, connect_timeout=0.5).exists()
    assert SECRET.encode() + b"\0" in got[1]


@pytest.mark.parametrize("before", [0, 1, 2, 3])
def test_a_server_that_asks_for_a_file_gets_an_error(before: int) -> None:
    """In the login's own statements, and in those that follow."""

    def talk(login: Login) -> None:
        with MariadbStore(login).connect() as link:
            for _ in range(3):
                link.run("DO 1")

    error = pytest.raises(DatabaseUnreachable)
    with answering(*[OK] * before, LOCAL_FILE) as (login, got), error as caught:
        talk(login)
    assert "way to log in" not in str(caught.value)
    assert len(got) == before + 2


@pytest.mark.parametrize(
    ("login", "what"),
    [
        (Login("kuma", "kuma", f"{SECRET}\udcff", "127.0.0.1"), "password"),
        (Login("kuma", "ku\udcff", SECRET, "127.0.0.1"), "user"),
        (Login("ku\udcff", "kuma", SECRET, "127.0.0.1"), "database"),
    ],
)
def test_a_login_that_is_no_utf8_is_a_setting(login: Login, what: str) -> None:
    with pytest.raises(SettingsError, match=f"{what}.* is no UTF-8") as caught:
        MariadbStore(login).exists()
    assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r}"
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "login",
    [
        Login("kuma", "kuma", SECRET, "maria..db"),
        Login("kuma", "kuma", SECRET, "m" * 64),
        Login("kuma", "kuma", SECRET, "m\udcff"),
    ],
)
def test_a_place_that_cannot_be_is_told_so(login: Login) -> None:
    with pytest.raises(ReplicatorError, match="can be no such name"):
        MariadbStore(login).exists()
