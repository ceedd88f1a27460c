"""A private MariaDB for tests: on loopback and a Unix socket, in a folder of its own.

    server = Server(folder)            # one's own, to be killed and started again
    server.start()
    database = server.database("kuma", data_dir)   # empty; data_dir/db-config.json names it
    fill(database)                     # tests/support/mariadb_build.py

Most tests share the one server of the session: the fixture `mariadb` (tests/conftest.py).
"""

from __future__ import annotations

import atexit
import contextlib
import getpass
import gzip
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import pymysql
from pymysql.constants import CLIENT, FIELD_TYPE
from pymysql.converters import conversions

from tests.support.kuma_server import free_port
from tests.support.tools import ToolMissingError
from tests.support.waiting import wait_until

PASSWORD = "S3CRET-of-a-mariadb-user"
"""Of the user that each `Server.database` makes; nobody may ever see it."""

READY, ENDED = 60.0, 60.0
_PORT_TAKEN = "Bind on TCP/IP port"
_SOCKET_BYTES = 100
_LOG_SIZE = "--innodb-log-file-size=32M"
_FAST = (
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-flush-method=nosync",
    "--innodb-buffer-pool-size=64M",
    _LOG_SIZE,
    "--key-buffer-size=1M",
    "--aria-pagecache-buffer-size=8M",
    "--performance-schema=0",
    "--debug-no-sync",
    "--skip-log-bin",
    "--skip-name-resolve",
    "--max-connections=60",
)
_WITH_PARENT = (
    "import ctypes, os, sys\n"
    "ctypes.CDLL(None).prctl(1, 15)\n"  # SIGTERM when the test process ends, however it does
    "os.getppid() == int(sys.argv[1]) and os.execv(sys.argv[2], sys.argv[2:])\n"
)
_AS_TEXT = {
    FIELD_TYPE.DATE,
    FIELD_TYPE.DATETIME,
    FIELD_TYPE.TIMESTAMP,
    FIELD_TYPE.TIME,
}
_CONVERSIONS = {kind: how for kind, how in conversions.items() if kind not in _AS_TEXT}


@cache
def program(name: str) -> str:
    """The path of a program of MariaDB's server package; raises ToolMissingError."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")
    if found is None:
        raise ToolMissingError(f"{name} is not installed. Try: apt-get install mariadb-server-core")
    return found


def installed() -> bool:
    """Whether this machine has a MariaDB server."""
    try:
        return bool(program("mariadbd") and program("mariadb-install-db"))
    except ToolMissingError:
        return False


@cache
def _installed(*options: str) -> Path:
    """A data directory that mariadb-install-db made, once a process; it goes with the process."""
    folder = new_short_folder("rk-installed-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    done = subprocess.run(
        [program("mariadb-install-db"), "--no-defaults", f"--datadir={folder / 'mariadb'}",
         "--skip-test-db", *options, *_as_user(), _LOG_SIZE],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "TMPDIR": str(folder)},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"mariadb-install-db: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    return folder / "mariadb"


@contextmanager
def short_folder() -> Iterator[Path]:
    """A temporary folder for the block; its path leaves room for a socket's name (108 bytes)."""
    folder = new_short_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def new_short_folder(prefix: str = "rk-") -> Path:
    """The same, which its caller deletes."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    if len(str(folder)) > _SOCKET_BYTES - 40:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
    return folder


class Server:
    """A mariadbd process; as a context manager it starts and stops.

    ``folder`` gets the data and what the server says; root logs in without a password.
    """

    def __init__(
        self,
        folder: Path,
        *,
        at: Path | None = None,
        tcp: bool = True,
        options: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.datadir = folder / "mariadb"
        self.socket = at or folder / "m.sock"
        self.pid_file = self.socket.with_name("mysqld.pid")
        # a mariadbd that starts deletes the temporary tables of all others in its folder
        self.temporary = folder / "mariadb-tmp"
        self.log = folder / "mariadb.log"
        self.port = free_port() if tcp else 0
        self.options = options
        self.user = "root"
        self.password = ""
        self._process: subprocess.Popen[bytes] | None = None
        if len(str(self.socket)) > _SOCKET_BYTES:
            raise ValueError(f"too long for a socket, see short_folder: {self.socket}")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    # ------------------------------------------------------------- process

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the server that start() made."""
        assert self._process is not None, "the server was not started"
        return self._process.pid

    def install(self) -> None:
        """Make the data directory, unless it is there."""
        if not self.datadir.exists():
            shutil.copytree(_installed(*self._install_options()), self.datadir)

    def _install_options(self) -> list[str]:
        return ["--auth-root-authentication-method=normal"]

    def start(self) -> None:
        """Start the process, with the data there is, and wait until it takes connections."""
        assert not self.running, "the server runs already"
        new = not self.datadir.exists()
        self.install()
        self.socket.parent.mkdir(parents=True, exist_ok=True)
        self.temporary.mkdir(exist_ok=True)
        try:
            self._start()
        except RuntimeError as error:
            # somebody took the port since it was chosen; one that is known already must stay
            if not new or _PORT_TAKEN not in str(error):
                raise
            self.port = free_port()
            self._start()

    def _start(self) -> None:
        network = [f"--port={self.port}", "--bind-address=127.0.0.1"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _WITH_PARENT, str(os.getpid()), program("mariadbd"),
                 "--no-defaults", f"--datadir={self.datadir}", f"--socket={self.socket}",
                 f"--pid-file={self.pid_file}", f"--tmpdir={self.temporary}", *_FAST,
                 *_as_user(), *self.options,
                 *(network if self.port else ["--skip-networking"])],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            wait_until(self._answers, "MariaDB to take connections", READY)
        except BaseException:
            self.kill()
            raise

    def _answers(self) -> bool:
        if not self.running:
            raise RuntimeError(f"mariadbd ended: {self.log.read_text(errors='replace')[-2000:]}")
        # PyMySQL leaves the socket of a refused connection open: so ask without it first
        refused = (OSError, pymysql.err.OperationalError)
        with contextlib.suppress(*refused), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(self.socket))
            self.connect().close()
            return True
        return False

    def stop(self) -> None:
        """A clean end; nothing when it does not run."""
        if self.running:
            assert self._process is not None
            self._process.terminate()
            self._process.wait(ENDED)

    def kill(self) -> None:
        """SIGKILL, as a power cut; its own process only."""
        if self.running:
            assert self._process is not None
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(ENDED)

    # ------------------------------------------------------------- databases

    def connect(self, database: str | None = None, **options: Any) -> Any:
        """An administrator's connection in autocommit: a pymysql.Connection.

        It reads "names" as SQLite does, and gives dates and times as text.
        """
        settings: dict[str, Any] = {
            "unix_socket": str(self.socket),
            "user": self.user,
            "password": self.password,
            "database": database,
            "charset": "utf8mb4",
            "autocommit": True,
            "ssl_disabled": True,
            "conv": _CONVERSIONS,
            "sql_mode": "ANSI_QUOTES,STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION",
        }
        return pymysql.connect(**(settings | options))

    def database(self, name: str, data_dir: Path, *, over: str = "tcp") -> Database:
        """A new, empty database with a user of its own, and a data directory that names both.

        ``over`` is tcp or socket. What had this name before goes.
        """
        made = Database(self, name, data_dir)
        with closing(self.connect()) as root, root.cursor() as cursor:
            cursor.execute(f'DROP DATABASE IF EXISTS "{name}"')
            cursor.execute(f'CREATE DATABASE "{name}" CHARACTER SET utf8mb4')
            for host in ("localhost", "127.0.0.1"):
                cursor.execute(f"CREATE OR REPLACE USER %s@'{host}' IDENTIFIED BY %s",
                               (name, PASSWORD))  # fmt: skip
                cursor.execute(f"GRANT ALL ON \"{name}\".* TO %s@'{host}'", (name,))
        made.write_config(over)
        return made


class Embedded(Server):
    """The layout and the log-in of server/embedded-mariadb.js, in an instance's data directory.

    mysql_install_db makes a user of the operating system's name, who logs in over the socket.
    """

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir, at=data_dir / "run" / "mariadb.sock", tcp=False)
        self.user = getpass.getuser()

    def _install_options(self) -> list[str]:
        return []

    def kuma(self) -> Database:
        """The database `kuma`, empty, as Kuma makes it; db-config.json says embedded-mariadb."""
        with closing(self.connect()) as root, root.cursor() as cursor:
            cursor.execute('DROP DATABASE IF EXISTS "kuma"')
            cursor.execute('CREATE DATABASE "kuma" CHARACTER SET utf8mb4')
        (self.folder / "db-config.json").write_text('{"type": "embedded-mariadb"}')
        return Database(self, "kuma", self.folder)


@dataclass(frozen=True)
class Database:
    """One database of a server, and the data directory of the instance that it belongs to."""

    server: Server
    name: str
    data_dir: Path

    @property
    def environment(self) -> dict[str, str]:
        """Kuma's variables for it, in place of a db-config.json."""
        return {
            "UPTIME_KUMA_DB_TYPE": "mariadb",
            "UPTIME_KUMA_DB_HOSTNAME": "127.0.0.1",
            "UPTIME_KUMA_DB_PORT": str(self.server.port),
            "UPTIME_KUMA_DB_NAME": self.name,
            "UPTIME_KUMA_DB_USERNAME": self.name,
            "UPTIME_KUMA_DB_PASSWORD": PASSWORD,
        }

    def write_config(self, over: str = "tcp", **more: Any) -> None:
        """Write db-config.json as Kuma's set-up page does; ``more`` adds or replaces keys."""
        config: dict[str, Any] = {
            "type": "mariadb",
            "hostname": "127.0.0.1",
            "port": self.server.port,
            "dbName": self.name,
            "username": self.name,
            "password": PASSWORD,
        }
        if over == "socket":
            config |= {"hostname": "localhost", "socketPath": str(self.server.socket)}
        self.data_dir.mkdir(parents=True, exist_ok=True)
        (self.data_dir / "db-config.json").write_text(json.dumps(config | more))

    def connect(self, **options: Any) -> Any:
        """See `Server.connect`."""
        return self.server.connect(self.name, **options)

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of a statement that only reads; marks are ``?``, names stand in double quotes."""
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(*_marked(sql, values))
            return list(cursor.fetchall())

    def edit(self, *statements: str | tuple[str, Sequence[Any]]) -> None:
        """Run statements in one transaction, with foreign keys off, as SQLite has them here."""
        with self.transaction() as cursor:
            for statement in statements:
                sql, values = (statement, ()) if isinstance(statement, str) else statement
                cursor.execute(*_marked(sql, values))

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """A cursor inside a transaction with foreign keys off."""
        with closing(self.connect(autocommit=False)) as connection:
            with connection.cursor() as cursor:
                cursor.execute("SET foreign_key_checks = 0, unique_checks = 0")
                yield cursor
            connection.commit()

    def load(self, source: str | Path) -> Self:
        """Run a script: SQL itself, or the path of an .sql or .sql.gz file (mariadb-dump)."""
        if isinstance(source, Path):
            raw = source.read_bytes()
            source = (gzip.decompress(raw) if source.suffix == ".gz" else raw).decode()
        flags = {"client_flag": CLIENT.MULTI_STATEMENTS, "sql_mode": "NO_AUTO_VALUE_ON_ZERO"}
        with closing(self.connect(**flags)) as connection, connection.cursor() as cursor:
            cursor.execute("SET foreign_key_checks = 0")
            cursor.execute(source)
            while cursor.nextset():
                pass
        return self

    def columns(self) -> Mapping[str, Mapping[str, str]]:
        """Of each table the type of each column, in lower case, in the table's order."""
        sql = (
            "SELECT table_name, column_name, column_type FROM information_schema.columns "
            "WHERE table_schema = ? ORDER BY table_name, ordinal_position"
        )
        found: dict[str, dict[str, str]] = {}
        for table, name, kind in self.query(sql, (self.name,)):
            found.setdefault(table, {})[name] = kind.lower()
        return found


def _marked(sql: str, values: Sequence[Any]) -> tuple[str, Sequence[Any] | None]:
    """SQLite's marks as PyMySQL's; without values a text goes as it is."""
    return (sql.replace("%", "%%").replace("?", "%s"), tuple(values)) if values else (sql, None)


def _as_user() -> list[str]:
    return ["--user=root"] if os.geteuid() == 0 else []
