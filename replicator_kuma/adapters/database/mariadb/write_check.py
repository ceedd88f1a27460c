"""Checks that rows can be written to a MariaDB, before Kuma is stopped for it."""

from __future__ import annotations

from collections.abc import Sequence

from replicator_kuma.adapters.database.mariadb.connection import Link, quoted
from replicator_kuma.base.errors import DatabaseError, DatabaseUnreachable


def check(link: Link, tables: Sequence[str]) -> None:
    """Run each kind of statement on no row; raises DatabaseError if a write would fail.

    This finds missing rights and keys, but no fault of a trigger: the server looks for the tables
    that a trigger names only when a row fires it.
    """
    keys = _keys(link)
    for name in tables:
        table = quoted(name)
        key = "key" if name == "setting" else "id"
        if (name, key) not in keys:  # without it, each apply would insert all rows again
            kind = "UNIQUE" if key == "key" else "PRIMARY KEY"
            raise DatabaseError(
                f"Kuma's table {name} has no key on {key}: no row of it can be found to be written",
                hint="Nothing was stopped or changed. Give it its key back: "
                f"ALTER TABLE {table} ADD {kind} ({quoted(key)})",
            )
        try:
            for sql in (
                f"INSERT INTO {table} SELECT * FROM {table} WHERE 1 = 0",
                f"UPDATE {table} SET `id` = `id` WHERE 1 = 0",
                f"DELETE FROM {table} WHERE 1 = 0",
            ):
                link.run(sql)
        except DatabaseUnreachable:
            raise
        except DatabaseError as error:
            raise DatabaseError(
                f"{error}: nothing can be written to {name}",
                hint="Nothing was stopped or changed. Kuma's login needs all rights on its own "
                "database: GRANT ALL PRIVILEGES ON … TO …. Else look at the table's triggers.",
            ) from error


def _keys(link: Link) -> set[tuple[str, str]]:
    """Pairs of a table and a column whose values are unique in it."""
    found = link.all(
        "SELECT table_name, max(column_name) FROM information_schema.statistics "
        "WHERE table_schema = database() AND non_unique = 0 "
        "GROUP BY table_name, index_name HAVING count(*) = 1"
    )
    return {(str(table), str(column)) for table, column in found}
