"""Reads Kuma's SQLite database: rows and schema; translates SQLite's errors into ours."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from replicator_kuma.adapters.database import notes_of
from replicator_kuma.adapters.database.migrations import read_migrations
from replicator_kuma.adapters.database.reader import SqlReader
from replicator_kuma.adapters.database.sql import SelectSql, double_quoted
from replicator_kuma.adapters.database.sqlite import lines, remembered
from replicator_kuma.adapters.database.sqlite.pages import Pages, Tree
from replicator_kuma.base.errors import (
    DatabaseCorrupt,
    DatabaseError,
    DatabaseLocked,
)
from replicator_kuma.dump.catalog import LOCAL, SETTINGS, TABLES
from replicator_kuma.dump.format import Lines, NotMade
from replicator_kuma.dump.manifest import TableEntry
from replicator_kuma.dump.schema import Column, Schema, TableSchema
from replicator_kuma.dump.select import Select, select

T = TypeVar("T")

_NOT_OURS = (
    "Look at the rights of kuma.db, of its -wal and -shm and of their folder, and whether they are "
    "mounted read-only. Run the replicator as root, or as Kuma's own user."
)
_DEFINITION = (
    "Nothing was published or changed. SQLite cannot read the definition that is named in "
    "brackets, and so no table. If somebody made it by hand (or with a newer SQLite), the rows are "
    "whole: copy kuma.db, stop Kuma, and drop that object with the SQLite that made it."
)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn sqlite3's errors into DatabaseErrors by their code, never by their text."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        # only the text of a constraint's error can hold a row's value: the writer translates
        # those errors itself
        raise _translate(error) from error


def _translate(error: sqlite3.DatabaseError) -> DatabaseError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    match code:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return DatabaseLocked("Kuma's database is locked by another program")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            # all damage has this code: only the text tells that a single definition is at fault
            hint = _DEFINITION if str(error).startswith("malformed database schema (") else None
            return DatabaseCorrupt(f"Kuma's database is damaged: {error}", hint=hint)
        case sqlite3.SQLITE_CANTOPEN:
            # the file is there and readable (`_require_file`): the files beside it are not
            return DatabaseError(f"Kuma's database cannot be opened: {error}", hint=_NOT_OURS)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return DatabaseError(f"Kuma's database cannot be written: {error}", hint=_NOT_OURS)
        case sqlite3.SQLITE_FULL:
            return DatabaseError(
                "no space left for Kuma's database; nothing was changed",
                hint="Free some space in DATA_DIR and in TMPDIR.",
            )
        case sqlite3.SQLITE_IOERR:
            return DatabaseError(
                f"Kuma's database cannot be read or written: {error}",
                hint="Look at the disk, or at the server that the folder comes from: dmesg, df.",
            )
    return DatabaseError(f"Kuma's database: {error}")


def _explained(made: Iterator[T]) -> Iterator[T]:
    with explained():
        yield from made


class Proof(NamedTuple):
    """What a reader needs to prove which rows are those of an earlier dump."""

    pages: Pages
    header: bytes
    """that of the wal-index at the begin of the transaction (`Pages.opened`)"""
    earlier: Path
    """the folder of that dump"""


class SqliteReader(SqlReader):
    """Reads through one connection that is inside a transaction."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        settings: frozenset[str] = SETTINGS,
        fingerprint: str = "",
        schema: Schema | None = None,
        proof: Proof | None = None,
    ) -> None:
        """``fingerprint``: that of the files before the transaction began.

        ``schema``: its tables are as they are; only the migrations are read anew.
        """
        super().__init__(
            read_schema(connection, settings, None if schema is None else schema.tables)
        )
        self._connection = connection
        self._before = fingerprint
        self._proof = proof

    def rows(self, select: Select, keys: Sequence[Any] | None = None) -> Iterator[tuple[Any, ...]]:
        key = double_quoted("key" if select.values is not None else "id")
        chosen = None if select.values is None else sorted(select.values)
        wanted = chosen if keys is None else keys
        where = f"t.{key} IN ({','.join('?' * len(wanted))})" if wanted is not None else ""
        sql = self._sql(select).rows(where, whole=select.table in self._whole)
        done = 0
        with explained():
            try:
                for row in self._connection.execute(sql, wanted or ()):
                    yield row
                    done += 1
                return
            except sqlite3.OperationalError as error:
                # CPython raises this for text that is not UTF-8, without an SQLite error code
                if getattr(error, "sqlite_errorcode", None) is not None:
                    raise
            cursor = self._connection.cursor()
            with self._raw_text():
                for number, row in enumerate(cursor.execute(sql, wanted or ())):
                    if number >= done:
                        yield row

    def lines(self, select: Select, *, faultless: bool) -> Iterator[Lines] | None:
        with explained():
            if not self._lines_as_python or (
                faultless and not lines.faultless(self._connection, select)
            ):
                return None
            if found := self._remembered(select):
                return _explained(found)
            whole, sql = select.table in self._whole, self._sql(select)
            made = lines.made_lines(self._connection, sql, whole=whole, row=self._row(sql, whole))
        return None if made is None else _explained(made)

    def known(self, select: Select) -> TableEntry | None:
        with explained():
            old = self._same_recipe(select)
            tree = self._trees.get(select.table) if old else None
        return old.entry if old and tree and old.tree.hashes == tree.hashes else None

    def remember(self, folder: Path, entries: Mapping[str, TableEntry]) -> None:
        noted = dict[str, remembered.Leaves]()
        with explained():
            for name, entry in entries.items():
                chosen, tree = select(self.schema, name), self._trees.get(name)
                if tree is None or name not in self._whole:
                    continue
                recipe = self._recipe(chosen)
                old = self._earlier.get(name)
                if old and (old.recipe, old.entry, old.tree) == (recipe, entry, tree):
                    noted[name] = old
                elif leaves := remembered.noted(folder, name, entry, tree, recipe, old):
                    noted[name] = leaves
        if noted:
            remembered.write(notes_of(folder), noted)

    def _remembered(self, select: Select) -> Iterator[Lines] | None:
        """A table's lines, most of them from the earlier dump; None if that proves too little."""
        old = self._same_recipe(select)
        tree = self._trees.get(select.table) if old else None
        wanted = remembered.steps(old.tree, tree) if old and tree else None
        if self._proof is None or not old or not tree or wanted is None:
            return None
        sql = self._sql(select)

        def rows(new: remembered.New) -> Iterator[Lines]:
            first, last = remembered.between(tree, new)
            where = f't."id" BETWEEN {first} AND {last}'
            row = self._row(sql, True)
            made = lines.made_lines(self._connection, sql, whole=True, row=row, where=where)
            if made is None:
                raise NotMade
            return made

        return remembered.lines(self._proof.earlier, select.table, old, wanted, rows)

    def _same_recipe(self, select: Select) -> remembered.Leaves | None:
        """The table in the earlier dump, if the same rows would still make the same lines."""
        old = self._earlier.get(select.table)
        if old is None or select.table not in self._whole or old.recipe != self._recipe(select):
            return None
        return old

    def _recipe(self, select: Select) -> str:
        sql = f"{self._sql(select).rows(whole=True)} {select.content} {select.runtime}"
        return remembered.recipe(self._connection, select.table, sql)

    @functools.cached_property
    def _earlier(self) -> dict[str, remembered.Leaves]:
        return remembered.read(notes_of(self._proof.earlier)) if self._proof else {}

    @functools.cached_property
    def _trees(self) -> dict[str, Tree]:
        """The leaves of large tables at this instant; of most as one, see `Tree.as_one`."""
        if self._proof is None:
            return {}
        tables = [n for n in TABLES if n != "setting" and n in self.schema.tables]
        trees = self._proof.pages.trees(self._connection, self._proof.header, tables)
        return {
            name: tree
            if not TABLES[name].unkeyed and remembered.by_rowid(self._connection, name)
            else tree.as_one
            for name, tree in trees.items()
        }

    def _row(self, sql: SelectSql, whole: bool) -> Callable[[int], tuple[Any, ...]]:
        statement = sql.rows("t._rowid_ = ?", whole=whole)

        def row(rowid: int) -> tuple[Any, ...]:
            with self._raw_text():
                found: tuple[Any, ...] = self._connection.execute(statement, (rowid,)).fetchone()
                return found

        return row

    @functools.cached_property
    def _lines_as_python(self) -> bool:
        return lines.as_python(self._connection)

    @contextlib.contextmanager
    def _raw_text(self) -> Iterator[None]:
        """Keep the bytes of text that is not UTF-8; it is slower, so used only where needed."""
        self._connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        try:
            yield
        finally:
            self._connection.text_factory = str

    def fingerprint(self) -> str:
        return self._before

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with explained():
            return self._connection.execute(sql).fetchall()

    def triggers(self) -> list[tuple[Any, ...]]:
        return self.query(
            "SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger' ORDER BY name"
        )

    def definitions(self) -> list[tuple[Any, ...]]:
        return self.query("SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2")


def read_schema(
    connection: sqlite3.Connection,
    settings: frozenset[str] = SETTINGS,
    tables: Mapping[str, TableSchema] | None = None,
) -> Schema:
    """Tables, columns and migrations as they are; raises DatabaseMigrating while they change.

    ``tables``, if they are known, are not read again.
    """
    with explained():
        known = _read_tables(connection) if tables is None else tables
        migrations = read_migrations(
            known, lambda sql: connection.execute(sql).fetchall(), double_quoted
        )
    return Schema(known, migrations, settings)


def _read_tables(connection: sqlite3.Connection) -> dict[str, TableSchema]:
    from sqlite_utils import Database

    database = Database(connection, recursive_triggers=False, execute_plugins=False)
    tables = {}
    for name in database.table_names():
        if name.startswith("sqlite_"):
            continue
        if name not in TABLES and name not in LOCAL:
            # not replicated: to read it may need a module or a function that SQLite lacks
            tables[name] = TableSchema({})
            continue
        table = database.table(name)
        columns = {
            c.name: Column(c.name, c.type.lower(), bool(c.notnull), c.default_value)
            for c in table.columns
        }
        unique = tuple(
            tuple(index.columns)
            for index in table.indexes
            if index.unique and index.columns and None not in index.columns
        )
        tables[name] = TableSchema(columns, unique)
    return tables
