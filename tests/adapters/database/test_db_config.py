"""Which database Kuma uses: db-config.json and its variables, read as Kuma reads them."""

from __future__ import annotations

import getpass
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.adapters.database.db_config import Login, read_login
from replicator_kuma.adapters.database.detect import open_store
from replicator_kuma.adapters.database.mariadb.store import MariadbStore
from replicator_kuma.adapters.database.sqlite.store import SqliteStore
from replicator_kuma.base.errors import DatabaseError, SettingsError
from replicator_kuma.dump.select import select
from tests.support.databases import build

SECRET = "S3CRET-of-nobody"
CONFIG = {
    "type": "mariadb",
    "hostname": "db.example",
    "port": "3307",
    "dbName": "kuma",
    "username": "me",
    "password": SECRET,
}
VARIABLES = {
    "UPTIME_KUMA_DB_TYPE": "mariadb",
    "UPTIME_KUMA_DB_HOSTNAME": "other.example",
    "UPTIME_KUMA_DB_PORT": "3308",
    "UPTIME_KUMA_DB_NAME": "kuma2",
    "UPTIME_KUMA_DB_USERNAME": "you",
    "UPTIME_KUMA_DB_PASSWORD": SECRET,
}


def write(folder: Path, **config: Any) -> Path:
    (folder / "db-config.json").write_text(json.dumps(config))
    return folder


def login(folder: Path, environ: dict[str, str] | None = None) -> Login:
    found = read_login(folder, environ or {})
    assert found is not None
    return found


def test_db_config_names_a_server(tmp_path: Path) -> None:
    found = login(write(tmp_path, **CONFIG))
    assert found == Login("kuma", "me", SECRET, "db.example", 3307)
    assert found.place == "db.example:3307"


def test_a_socket_a_tls_and_a_ca_of_db_config(tmp_path: Path) -> None:
    folder = write(tmp_path, **CONFIG, socketPath="/run/x.sock", ssl=True, ca=" PEM\n")
    found = login(folder)
    assert (found.socket(), found.ssl, found.ca) == (Path("/run/x.sock"), True, "PEM")
    assert found.place == "socket /run/x.sock"


def test_variables_win_over_db_config_whole(tmp_path: Path) -> None:
    """Kuma writes db-config.json from them at each start: also what they do not name is new."""
    folder = write(tmp_path, **CONFIG, socketPath="/run/x.sock", ssl=True)
    assert login(folder, VARIABLES) == Login("kuma2", "you", SECRET, "other.example", 3308)
    few = {k: v for k, v in VARIABLES.items() if k[15:] in ("TYPE", "NAME", "USERNAME")}
    assert login(folder, few) == Login("kuma2", "you", "", "localhost", 3306)
    assert read_login(folder, {"UPTIME_KUMA_DB_TYPE": "sqlite"}) is None


def test_variables_without_a_type_say_nothing(tmp_path: Path) -> None:
    rest = {**VARIABLES, "UPTIME_KUMA_DB_TYPE": ""}
    assert read_login(tmp_path, rest) is None
    assert login(write(tmp_path, **CONFIG), rest).database == "kuma"


def test_variables_for_socket_and_tls(tmp_path: Path) -> None:
    more = {
        "UPTIME_KUMA_DB_SOCKET": " /run/x.sock ",
        "UPTIME_KUMA_DB_SSL": "True",
        "UPTIME_KUMA_DB_CA": "PEM",
    }
    found = login(tmp_path, VARIABLES | more)
    assert (found.socket(), found.ssl, found.ca) == (Path("/run/x.sock"), True, "PEM")
    assert not login(tmp_path, VARIABLES | {"UPTIME_KUMA_DB_SSL": "1"}).ssl


@pytest.mark.parametrize("name", ["USERNAME", "PASSWORD", "CA", "SSL"])
def test_files_of_secrets(name: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(" true \n")
    variables = {k: v for k, v in VARIABLES.items() if k != f"UPTIME_KUMA_DB_{name}"}
    variables[f"UPTIME_KUMA_DB_{name}_FILE"] = str(file)
    found = login(tmp_path, variables)
    got = {"USERNAME": found.username, "PASSWORD": found.password, "CA": found.ca}
    assert found.ssl if name == "SSL" else got[name] == "true"
    file.unlink()
    with pytest.raises(SettingsError, match=f"{name}_FILE"):
        read_login(tmp_path, variables)
    with pytest.raises(SettingsError, match="both"):
        read_login(tmp_path, variables | {f"UPTIME_KUMA_DB_{name}": SECRET})


def test_the_embedded_server_has_a_socket_in_the_data_directory(tmp_path: Path) -> None:
    found = login(write(tmp_path, type="embedded-mariadb"))
    assert (found.database, found.username, found.password) == ("kuma", getpass.getuser(), "")
    assert found.embedded
    assert found.socket() == tmp_path / "run" / "mariadb.sock"
    older = tmp_path / "run" / "mariadb" / "mysqld.sock"
    older.parent.mkdir(parents=True)
    older.touch()
    assert found.socket() == older
    (tmp_path / "run" / "mariadb.sock").touch()
    assert found.socket() == tmp_path / "run" / "mariadb.sock"


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ("{", DatabaseError),
        ("[]", DatabaseError),
        ("{}", DatabaseError),
        ('{"type": 7}', DatabaseError),
        ('{"type": "postgres"}', SettingsError),
        ('{"type": "mariadb", "username": "me"}', SettingsError),
        ('{"type": "mariadb", "dbName": "kuma"}', SettingsError),
        ('{"type": "mariadb", "dbName": "kuma", "username": "me", "port": "x"}', SettingsError),
        ('{"type": "mariadb", "dbName": "kuma", "username": "me", "port": 70000}', SettingsError),
        ('{"type": "mariadb", "dbName": "kuma", "username": "me", "port": [1]}', SettingsError),
    ],
)
def test_what_kuma_could_not_start_with(
    config: str, error: type[Exception], tmp_path: Path
) -> None:
    (tmp_path / "db-config.json").write_text(config)
    with pytest.raises(error) as caught:
        open_store(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_password_is_in_no_message(tmp_path: Path) -> None:
    folder = write(tmp_path, **CONFIG, ca=SECRET)
    assert SECRET not in repr(login(folder))
    (folder / "db-config.json").write_text(json.dumps(CONFIG)[:-1])
    with pytest.raises(DatabaseError) as caught:
        open_store(folder)
    assert SECRET not in repr(caught.value)
    assert caught.value.__cause__ is None


def test_the_store_that_fits_is_opened(tmp_path: Path) -> None:
    store = open_store(tmp_path)  # Kuma 1.23 has no db-config.json
    assert isinstance(store, SqliteStore)
    assert not store.embedded
    store = open_store(tmp_path, VARIABLES)
    assert isinstance(store, MariadbStore)
    assert (store.engine, store.embedded) == ("mariadb", False)
    assert isinstance(open_store(write(tmp_path, type="sqlite")), SqliteStore)
    assert open_store(write(tmp_path, type="embedded-mariadb")).embedded


def test_without_pymysql_a_hint_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [
        n for n in sys.modules if n.startswith("replicator_kuma.adapters.database.mariadb")
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pymysql", None)
    with pytest.raises(SettingsError) as caught:
        open_store(tmp_path, VARIABLES)
    assert 'pip install "replicator-kuma[mariadb]"' in caught.value.hint
    assert isinstance(open_store(tmp_path), SqliteStore)


def test_the_chosen_settings_are_those_that_are_read(tmp_path: Path) -> None:
    build(tmp_path / "kuma.db", monitors=1)
    for chosen in ({"entryPage", "primaryBaseURL"}, set[str]()):
        with open_store(tmp_path, settings=chosen).read() as reader:
            rows = reader.rows(select(reader.schema, "setting"))
            assert {row[0] for row in rows} == chosen
