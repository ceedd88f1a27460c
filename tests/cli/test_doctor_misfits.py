"""A leader on SQLite says which rows a replica on MariaDB could not hold."""

from __future__ import annotations

from tests.cli.conftest import World
from tests.support.databases import edit

CHECK = "MariaDB replicas: "


def test_doctor_on_a_leader_warns_of_rows_that_mariadb_cannot_hold(world: World) -> None:
    assert f"OK   {CHECK}each row fits" in world.on_leader("doctor").out
    name = "n" * 151
    edit(world.leader / "kuma.db", ("UPDATE monitor SET name = ? WHERE id = 1", (name,)))
    done = world.on_leader("doctor")
    shown = f"WARN {CHECK}monitor 1 «{'n' * 60}…»: name has 151 characters where 150 fit\n"
    assert shown in done.out
    assert f"{CHECK}what a replica on MariaDB cannot hold: 1 in all\n     Change" in done.out
    assert CHECK not in world.on_replica("doctor").out


def test_doctor_shows_twenty_such_rows_and_counts_the_rest(world: World) -> None:
    rows = [
        ("INSERT INTO tag (name, color) VALUES (?, ?)", (f"tag {number}", "c" * 256))
        for number in range(30)
    ]
    edit(world.leader / "kuma.db", *rows)
    lines = [line for line in world.on_leader("doctor").out.splitlines() if CHECK in line]
    assert len(lines) == 21
    assert lines[0].endswith("color has 256 characters where 255 fit")
    assert lines[-1].endswith("30 in all")


def test_doctor_names_a_row_that_no_replica_would_take(world: World) -> None:
    assert "OK   rows: each replica would take them" in world.on_leader("doctor").out
    edit(
        world.leader / "kuma.db",
        "CREATE TABLE copied AS SELECT * FROM tag",
        "DROP TABLE tag",
        "ALTER TABLE copied RENAME TO tag",
        "UPDATE tag SET id = 2 WHERE id = 1",
    )
    done = world.on_leader("doctor")
    assert "FAIL rows: tag 2 " in done.out
    assert "two rows have one id" in done.out
