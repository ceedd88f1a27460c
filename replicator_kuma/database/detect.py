"""Which database an instance has, as Kuma itself decides it."""

from __future__ import annotations

import json
from pathlib import Path

from replicator_kuma.database import Store
from replicator_kuma.errors import DatabaseError, SettingsError


def open_store(data_dir: Path) -> Store:
    """The store that db-config.json names; kuma.db where there is none (Kuma 1.23).

    Raises SettingsError for an engine that this version does not replicate, DatabaseError when
    db-config.json cannot be read.
    """
    config = data_dir / "db-config.json"
    try:
        kind = json.loads(config.read_text())["type"]
    except FileNotFoundError:
        kind = "sqlite"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatabaseError(f"cannot read {config}: {error}") from error
    if kind != "sqlite":
        raise SettingsError(
            f"Kuma uses {kind!r} here; this version of replicator-kuma replicates SQLite only",
            hint="MariaDB comes in a later version.",
        )
    from replicator_kuma.database.sqlite import SqliteStore

    return SqliteStore(data_dir)
