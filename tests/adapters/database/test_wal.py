"""What a write transaction knows of the time between its look and its lock, by SQLite's log.

The rule: a table whose rows another program has changed is never called unchanged.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from replicator_kuma.adapters.database import Reader
from replicator_kuma.adapters.database.sqlite import store as module
from replicator_kuma.adapters.database.sqlite import wal
from replicator_kuma.adapters.database.sqlite.store import SqliteStore
from replicator_kuma.base.errors import DatabaseError
from replicator_kuma.dump.catalog import TABLES
from replicator_kuma.dump.format import write_tables
from tests.support import databases
from tests.support.effects import at_effect
from tests.support.openers import opened

ALL = frozenset(TABLES)
SIZES = (512, 4096, 65536)
BEAT = "INSERT INTO heartbeat (monitor_id, status, msg, time) VALUES (1, 1, 'ok', '2025-01-01')"
RENAME = "UPDATE monitor SET name = 'x' || random() WHERE id = 3"


def make(folder: Path, page_size: int = 4096, auto_vacuum: int = 0) -> Path:
    """A database in WAL mode with rows longer than a page."""
    source = databases.build(folder / "source.db", monitors=40, heartbeats=20)
    path = databases.create(folder / "kuma.db", page_size=page_size, auto_vacuum=auto_vacuum)
    with closing(sqlite3.connect(path, isolation_level=None)) as link:
        link.execute("ATTACH ? AS source", (str(source),))
        link.execute("BEGIN")
        names = link.execute("SELECT name FROM source.sqlite_master WHERE type = 'table'")
        for (name,) in names.fetchall():
            if name != "sqlite_sequence":
                link.execute(f'DELETE FROM main."{name}"')
                link.execute(f'INSERT INTO main."{name}" SELECT * FROM source."{name}"')
        link.execute("UPDATE monitor SET body = hex(randomblob(3000)) WHERE id % 3 = 0")
        link.execute("COMMIT")
        link.execute("PRAGMA journal_mode = WAL")
    return path


def hashes(reader: Reader) -> dict[str, tuple[str, str]]:
    entries, _named = write_tables(None, reader, TABLES)
    return {name: (entry.sha256, entry.runtime) for name, entry in entries.items()}


def unchanged_after(path: Path, meanwhile: Callable[[], object]) -> tuple[frozenset[str], set[str]]:
    """What a writer calls unchanged after something between look and lock; and what has changed."""
    seen: dict[str, tuple[str, str]] = {}
    with (
        at_effect("taking the lock", meanwhile),
        SqliteStore(path.parent).write(lambda reader: seen.update(hashes(reader))) as writer,
    ):
        now = hashes(writer)
        return writer.unchanged, {name for name in TABLES if seen[name] != now[name]}


@pytest.fixture
def kuma(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(connected(make(tmp_path))) as link:
        yield link


def connected(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, timeout=0)


def run(link: sqlite3.Connection, *statements: str) -> Callable[[], None]:
    def call() -> None:
        for statement in statements:
            link.execute(statement).fetchall()

    return call


# --- between look and lock ------------------------------------------------------------------------


@pytest.mark.parametrize("page_size", SIZES)
def test_heartbeats_change_no_table_of_the_catalog(tmp_path: Path, page_size: int) -> None:
    path = make(tmp_path, page_size)
    with closing(connected(path)) as link:
        assert unchanged_after(path, run(link, *[BEAT] * 300)) == (ALL, set())
        full = run(link, *[BEAT] * 50, "PRAGMA wal_checkpoint(PASSIVE)", *[BEAT] * 50)
        assert unchanged_after(path, full) == (ALL, set())


CHECKPOINTS = ("", "PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA wal_checkpoint(RESTART)")


@pytest.mark.parametrize("page_size", SIZES)
@pytest.mark.parametrize("first", CHECKPOINTS)
@pytest.mark.parametrize("then", CHECKPOINTS)
def test_a_changed_row_is_seen_wherever_the_log_begins_anew(
    tmp_path: Path, page_size: int, first: str, then: str
) -> None:
    """``first`` before the look, so that its read uses no log; ``then`` on both sides of a row."""
    path = make(tmp_path, page_size)
    with closing(connected(path)) as link:
        run(link, BEAT, RENAME, *filter(None, [first]))()
        then_ = [then] if then else []
        unchanged, changed = unchanged_after(path, run(link, *then_, RENAME, *then_, BEAT))
    assert changed == {"monitor"}
    assert unchanged == ALL - {"monitor"}


def test_a_log_that_begins_anew_right_before_the_look(tmp_path: Path) -> None:
    path = make(tmp_path)
    with closing(connected(path)) as link:
        run(link, *[BEAT] * 5)()

        def look(reader: Reader) -> None:
            run(link, BEAT)()  # into a log with other salts than those that were read
            reader.count("tag")

        run(link, "PRAGMA wal_checkpoint(TRUNCATE)")()
        with (
            at_effect("taking the lock", run(link, RENAME)),
            SqliteStore(path.parent).write(look) as writer,
        ):
            assert writer.unchanged == ALL - {"monitor"}


def test_the_fingerprint_of_a_look_is_not_older_than_its_read(
    tmp_path: Path, kuma: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would vouch for rows that were written into a log which nobody reads any more."""
    monkeypatch.setattr(module, "_SETTLE_NS", 0)
    store, seen = SqliteStore(tmp_path), list[tuple[str, str]]()
    readable = store._readable

    def raced() -> sqlite3.Connection:
        run(kuma, RENAME, "PRAGMA wal_checkpoint(TRUNCATE)", BEAT)()
        return readable()

    monkeypatch.setattr(store, "_readable", raced)
    with store.write(lambda reader: seen.append((reader.fingerprint(), store.fingerprint()))):
        pass
    ((of_the_look, now),) = seen
    assert of_the_look == now


@pytest.mark.parametrize(
    "statement",
    [
        "VACUUM",
        "ALTER TABLE tag ADD COLUMN more",
        "CREATE TRIGGER t AFTER INSERT ON tag BEGIN SELECT 1; END",
    ],
)
def test_after_a_change_of_the_schema_nothing_is_called_unchanged(
    tmp_path: Path, kuma: sqlite3.Connection, statement: str
) -> None:
    with (
        at_effect("taking the lock", run(kuma, statement)),
        SqliteStore(tmp_path).write(lambda reader: reader.count("tag")) as writer,
    ):
        assert writer.unchanged == frozenset()
        assert ("more" in writer.schema.tables["tag"].columns) == ("more" in statement)


def test_a_migration_that_begins_meanwhile_is_met(tmp_path: Path, kuma: sqlite3.Connection) -> None:
    with (
        at_effect("taking the lock", run(kuma, "UPDATE knex_migrations_lock SET is_locked = 1")),
        pytest.raises(DatabaseError, match="migrating"),
        SqliteStore(tmp_path).write(lambda reader: reader.count("tag")),
    ):
        pass


def test_no_proof_without_dbstat_or_without_a_log(
    tmp_path: Path, kuma: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, looks = SqliteStore(tmp_path), list[Reader]()
    beat = partial(at_effect, "taking the lock", run(kuma, BEAT))
    with beat(), store.write(looks.append) as writer:
        assert writer.unchanged == ALL
    monkeypatch.setattr(module, "pages_of", lambda *_given: None)
    with store.write(looks.append) as writer:
        assert writer.unchanged == ALL, "nobody has written"
    with beat(), store.write(looks.append) as writer:
        assert writer.unchanged == frozenset()
    kuma.close()
    with closing(connected(tmp_path / "kuma.db")) as link:
        link.execute("PRAGMA journal_mode = DELETE")
    with store.write(looks.append) as writer:
        assert writer.unchanged == frozenset()
    assert len(looks) == 3, "a read beside a transaction without a log would bar its commit"


def test_what_a_look_raises_is_raised_on_and_holds_nothing(tmp_path: Path) -> None:
    path = make(tmp_path)

    def look(_reader: Reader) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), SqliteStore(tmp_path).write(look):
        pass
    databases.edit(path, RENAME)


EDITS = (
    BEAT,
    RENAME,
    "UPDATE monitor SET body = hex(randomblob(4000)) WHERE id = 6",
    "UPDATE monitor SET body = replace(body, substr(body, 5000, 4), 'ABCD') WHERE id = 9",
    "UPDATE monitor SET dns_last_result = random() WHERE id = 4",
    "DELETE FROM monitor_tag WHERE id = (SELECT max(id) FROM monitor_tag)",
    "INSERT INTO tag (name, color) VALUES (hex(randomblob(400)), 'c')",
    "DELETE FROM tag WHERE id > 12",
    "UPDATE setting SET value = random() WHERE key = 'entryPage'",
    "DELETE FROM heartbeat WHERE id IN (SELECT id FROM heartbeat LIMIT 30)",
    "PRAGMA incremental_vacuum(2)",
    *(f"PRAGMA wal_checkpoint({how})" for how in ("PASSIVE", "RESTART", "TRUNCATE")),
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    before=st.lists(st.sampled_from(EDITS), max_size=4),
    between=st.lists(st.sampled_from(EDITS), max_size=6),
    page_size=st.sampled_from(SIZES),
    auto_vacuum=st.sampled_from((0, 1, 2)),
)
def test_a_changed_table_is_never_called_unchanged(
    tmp_path_factory: pytest.TempPathFactory,
    before: list[str],
    between: list[str],
    page_size: int,
    auto_vacuum: int,
) -> None:
    path = make(tmp_path_factory.mktemp("property"), page_size, auto_vacuum)
    with closing(connected(path)) as link:
        run(link, *before)()
        unchanged, changed = unchanged_after(path, run(link, *between))
    assert not unchanged & changed
    if set(between) <= {BEAT, *CHECKPOINTS}:
        assert unchanged == ALL


# --- the log itself -------------------------------------------------------------------------------


def test_frames_that_nobody_committed_hide_no_later_write(tmp_path: Path) -> None:
    """A transaction too large for its cache writes into the log, and is then rolled back."""
    path = make(tmp_path)
    with closing(connected(path)) as link:
        pages = wal.pages_of(link, TABLES)
        assert pages is not None
        spill = (
            "PRAGMA cache_size = 1",
            "BEGIN",
            "UPDATE monitor SET body = hex(randomblob(9000))",
        )
        run(link, BEAT, *spill)()
        before = wal.read_log(path)
        assert len(before) > 20, "it has spilled"
        run(link, "ROLLBACK", "PRAGMA cache_size = 100", RENAME)()
        now = wal.read_log(path)
        assert len(now) == len(before), "the new frames lie upon the old"
        assert "monitor" in {pages.get(page) for page in wal.pages_since(before, now)}


def test_what_was_committed_by_another_process_is_seen(tmp_path: Path) -> None:
    path = make(tmp_path)

    def elsewhere() -> None:
        with opened(path, RENAME):
            pass

    with closing(connected(path)) as link:
        run(link, BEAT)()
        assert unchanged_after(path, elsewhere) == (ALL - {"monitor"}, {"monitor"})


def test_no_log_an_empty_one_and_one_that_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "kuma.db"
    assert wal.read_log(path) == ()
    log = Path(f"{path}-wal")
    for content in (b"", b"x" * 31):
        log.write_bytes(content)
        assert wal.read_log(path) == ()
    log.unlink()
    log.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DatabaseError, match="cannot read"):
        wal.read_log(path)
    log.unlink()
    os.mkfifo(log)
    with pytest.raises(DatabaseError, match="cannot read"):
        wal.read_log(path)


def test_the_pages_of_a_table_are_those_of_its_rows_indexes_and_long_values(tmp_path: Path) -> None:
    path = make(tmp_path)
    with closing(connected(path)) as link:
        pages = wal.pages_of(link, {"monitor"})
        sql = "SELECT count(*), sum(pagetype = 'overflow') FROM dbstat WHERE name IN ({})"
        named = link.execute("SELECT name FROM sqlite_master WHERE tbl_name = 'monitor'")
        trees = [name for (name,) in named]
        marks = ", ".join("?" * len(trees))
        ((count, overflow),) = link.execute(sql.format(marks), trees)
    assert pages is not None
    assert overflow > 10
    assert (len(pages), set(pages.values())) == (count, {"monitor"})
