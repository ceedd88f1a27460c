"""docs/databases.md, «From SQLite to MariaDB», done as it stands, with two real Uptime Kumas.

The test reads the page: its SQL makes the database, its variables start the new instance. The npm
build notes its patches on SQLite only: hence REPLICATOR_SCHEMA=compatible, which the page has not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.two_kumas import published_after
from tests.support import databases, weak_repository
from tests.support.mariadb import Server
from tests.support.supervised import Running, Side
from tests.support.tools import restic_018
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kuma, pytest.mark.restic, pytest.mark.slow]

PAGE = Path(__file__).parents[2] / "docs" / "databases.md"


def guide() -> str:
    return PAGE.read_text().partition("## From SQLite to MariaDB")[2]


def statements() -> list[str]:
    """The page's SQL: a database, a login, its rights."""
    found = re.search(r"```sql\n(.*?)```", guide(), re.DOTALL)
    assert found is not None
    return [line.strip().rstrip(";") for line in found.group(1).splitlines() if line.strip()]


def variables() -> dict[str, str]:
    """The page's variables of the new instance."""
    found = re.search(r"```\n\s*(REPLICATOR_MODE=RESTORE.*?)```", guide(), re.DOTALL)
    assert found is not None
    lines = [line.strip() for line in found.group(1).splitlines() if line.strip()]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def login(told: dict[str, str]) -> dict[str, str]:
    """db-config.json of these variables, as Kuma 2.0 and later writes it."""
    names = {"TYPE": "type", "HOSTNAME": "hostname", "PORT": "port", "USERNAME": "username"}
    found = {key: told[f"UPTIME_KUMA_DB_{name}"] for name, key in names.items()}
    return found | {"password": told["UPTIME_KUMA_DB_PASSWORD"]}


@pytest.fixture(scope="module")
def fleet(
    tmp_path_factory: pytest.TempPathFactory, web: str, mariadb: Server, kuma_folder: Path
) -> Iterator[Running]:
    """The old instance leads on SQLite; the new one is not started yet."""
    folder = tmp_path_factory.mktemp("migration")
    weak_repository.make(folder / "repository")
    with closing(mariadb.connect()) as root, root.cursor() as cursor:
        cursor.execute('DROP DATABASE IF EXISTS "migrated"')  # another Kuma's
        cursor.execute("DROP USER IF EXISTS migrated")
        for statement in statements():
            cursor.execute(statement.replace("kuma", "migrated").replace("`", '"'))
    told = variables()
    assert (told["UPTIME_KUMA_DB_TYPE"], told["UPTIME_KUMA_DB_NAME"]) == ("mariadb", "kuma")
    told |= {
        "UPTIME_KUMA_DB_HOSTNAME": "127.0.0.1",
        "UPTIME_KUMA_DB_PORT": str(mariadb.port),
        "UPTIME_KUMA_DB_NAME": "migrated",
        "UPTIME_KUMA_DB_USERNAME": "migrated",
        "REPLICATOR_SCHEMA": "compatible",
    }
    old = Side(folder, "old", "BACKUP", restic_018(), UPTIME_KUMA_DB_TYPE="sqlite")
    old.environment["REPLICATOR_SCHEMA"] = "compatible"
    new = Side(folder, "new", "RESTORE", restic_018())
    new.environment |= told
    # this build takes all but the database's name from its variables
    (new.data_dir / "db-config.json").write_text(json.dumps({"dbName": "migrated"} | login(told)))
    with Running(folder, old, new) as made:
        old.set_up()
        with closing(old.page()) as page:
            page.add_monitor("First 🚀", web, description="  null\n")
            page.add_monitor("null", web)
        wait_until(lambda: made.positions() != [], "the first snapshot", 60)
        yield made


def shown(fleet: Running, side: Side) -> dict[str, str | None]:
    """Names and descriptions of the monitors, as a page of this side shows them."""
    with closing(side.page()) as client:
        return {m["name"]: m["description"] for m in client.monitor_list().values()}


def test_1_the_old_instance_is_asked_what_would_not_fit(fleet: Running) -> None:
    findings = {f["check"]: f for f in fleet.leader.json("doctor")["findings"]}
    assert findings["MariaDB replicas"]["level"] == "OK"


def test_3_the_rows_come_to_an_empty_new_instance(fleet: Running, mariadb: Server) -> None:
    fleet.replica.run()
    fleet.replica.wait_ready(120)
    fleet.wait_applied(deadline=120)
    fleet.replica.wait_ready()
    assert shown(fleet, fleet.replica) == {"First 🚀": "  null\n", "null": None}
    assert "no change" in fleet.replica.command("diff").stdout
    assert not fleet.replica.database.exists(), "it has no kuma.db"
    with closing(mariadb.connect("migrated")) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM monitor")
        assert cursor.fetchone() == (2,)


def test_4_the_new_instance_leads(fleet: Running, web: str) -> None:
    assert "REPLICATOR_MODE=BACKUP" in fleet.replica.command("promote").stdout
    assert fleet.positions()[-1] == "2.1"
    # this build asks MariaDB for SQLite's PRAGMA at its end, and ends with 1
    assert fleet.replica.stop() in (0, 1)
    fleet.replica.environment["REPLICATOR_MODE"] = "BACKUP"
    fleet.replica.run()
    fleet.replica.wait_ready()
    assert fleet.leader.command("backup", check=False).returncode == 17
    with closing(fleet.replica.page()) as client:
        client.add_monitor("made on MariaDB", web)
    published_after(fleet, "2.1")


def test_5_the_old_one_follows_on_sqlite(fleet: Running) -> None:
    assert fleet.leader.stop() == 0
    fleet.leader.environment["REPLICATOR_MODE"] = "RESTORE"
    fleet.leader.run()
    sql = "SELECT name FROM monitor WHERE name = 'made on MariaDB'"
    wait_until(lambda: databases.query(fleet.leader.database, sql), "the way round", 90, 0.3)
    fleet.leader.wait_ready()
    assert shown(fleet, fleet.leader) == shown(fleet, fleet.replica)
    assert set(shown(fleet, fleet.leader)) == {"First 🚀", "null", "made on MariaDB"}
