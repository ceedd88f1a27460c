"""TLS to MariaDB as Kuma has it, and what CHECK TABLE says of damage: servers of the tests' own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from replicator_kuma.adapters.database.db_config import Login
from replicator_kuma.adapters.database.mariadb.store import MariadbStore
from replicator_kuma.base.errors import DatabaseCorrupt, DatabaseUnreachable, SettingsError
from tests.conftest import need_mariadb
from tests.support import tools
from tests.support.mariadb import Database, Server, short_folder
from tests.support.mariadb_build import build


def openssl(*arguments: str | Path) -> None:
    subprocess.run([tools.openssl(), *arguments], check=True, capture_output=True, timeout=60)


def authority(folder: Path, name: str) -> Path:
    """A CA: its certificate; the key lies beside it."""
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
            f"/CN={name}", "-keyout", key, "-out", certificate)  # fmt: skip
    return certificate


def signed(folder: Path, ca: Path) -> tuple[Path, Path]:
    """A server's key and certificate, for a name that nobody connects to."""
    key, request, certificate = (folder / f"server.{end}" for end in ("key", "csr", "pem"))
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=another.example",
            "-keyout", key, "-out", request)  # fmt: skip
    openssl("x509", "-req", "-in", request, "-days", "2", "-CA", ca, "-CAkey",
            ca.with_suffix(".key"), "-set_serial", "7", "-out", certificate)  # fmt: skip
    return key, certificate


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with short_folder() as made:
        yield made


@pytest.fixture(scope="module")
def encrypted(folder: Path) -> Iterator[Database]:
    """A database whose user may log in with TLS only."""
    need_mariadb()
    key, certificate = signed(folder, authority(folder, "ours"))
    options = (f"--ssl-key={key}", f"--ssl-cert={certificate}")
    with Server(folder / "server", options=options) as server:
        database = build(server.database("kuma", folder / "data"), monitors=3)
        with closing(server.connect()) as root, root.cursor() as cursor:
            cursor.execute("ALTER USER 'kuma'@'127.0.0.1' REQUIRE SSL")
        yield database


@pytest.fixture
def login(encrypted: Database) -> Login:
    from replicator_kuma.adapters.database.db_config import read_login

    encrypted.write_config(ssl=True, ca=(encrypted.data_dir.parent / "ours.pem").read_text())
    found = read_login(encrypted.data_dir, {})
    assert found is not None
    return found


def test_with_its_ca_a_server_is_trusted_whatever_its_name(login: Login) -> None:
    store = MariadbStore(login)
    assert store.exists()
    with store.connect() as link:
        assert link.all("SHOW SESSION STATUS LIKE 'Ssl_cipher'")[0][1]


def test_a_server_of_another_ca_is_not_trusted(login: Login, tmp_path: Path) -> None:
    other = authority(tmp_path, "theirs").read_text()
    for ca in (other, ""):  # without one, those of the system count
        with pytest.raises(DatabaseUnreachable, match="certificate is not accepted"):
            MariadbStore(replace(login, ca=ca)).exists()


def test_what_is_no_ca_is_a_setting(login: Login) -> None:
    with pytest.raises(SettingsError, match="no PEM"):
        MariadbStore(replace(login, ca="/etc/ssl/ca.pem")).exists()


def test_without_tls_where_the_login_needs_it(login: Login) -> None:
    with pytest.raises(DatabaseUnreachable, match="1045"):
        MariadbStore(replace(login, ssl=False)).exists()


def test_a_server_without_tls_gets_no_login(mariadb: Server, login: Login, tmp_path: Path) -> None:
    build(mariadb.database("kuma", tmp_path), monitors=1)
    plain = replace(login, port=mariadb.port)
    assert MariadbStore(replace(plain, ssl=False)).exists()
    with pytest.raises(DatabaseUnreachable, match="offers no TLS"):
        MariadbStore(plain).exists()


def test_tls_over_a_socket(encrypted: Database, login: Login) -> None:
    store = MariadbStore(replace(login, sockets=(encrypted.server.socket,)))
    with store.connect() as link:
        assert link.all("SHOW SESSION STATUS LIKE 'Ssl_cipher'")[0][1]


# ----------------------------------------------------------------- damage


def damage(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        raw = file.read(200)
        file.seek(at)
        file.write(bytes(byte ^ 0xFF for byte in raw))


def test_a_damaged_page_is_found(tmp_path: Path) -> None:
    with short_folder() as folder, Server(folder) as server:
        database = build(server.database("kuma", folder / "data"), monitors=3)
        store = MariadbStore(Login("kuma", "root", "", sockets=(server.socket,)))
        database.edit("ALTER TABLE tag FORCE")
        store.check()
        server.stop()
        damage(server.datadir / "kuma" / "tag.ibd", 3 * 16384 + 200)  # its root page
        server.start()
        with pytest.raises(DatabaseCorrupt, match="table tag") as caught:
            store.check()
        assert "MariaDB's log" in caught.value.hint


def test_a_damaged_index_of_another_engine_is_found(mariadb: Server, tmp_path: Path) -> None:
    """Whoever made the tables with MyISAM has them looked over too."""
    database = build(mariadb.database("own", tmp_path), monitors=3)
    store = MariadbStore(Login("own", "root", "", sockets=(mariadb.socket,)))
    database.edit("CREATE TABLE copy LIKE tag", "ALTER TABLE copy ENGINE=MyISAM",
                  "INSERT INTO copy SELECT * FROM tag", "RENAME TABLE tag TO old, copy TO tag",
                  "FLUSH TABLES")  # fmt: skip
    store.check()
    damage(mariadb.datadir / "own" / "tag.MYI", 1024)
    database.edit("FLUSH TABLES")
    with pytest.raises(DatabaseCorrupt, match="table tag"):
        store.check()
