"""Rules of one replica for tests: the file, and an instance that goes by it as the program does."""

from __future__ import annotations

from pathlib import Path

from replicator_kuma.config.build import read_policy
from replicator_kuma.config.settings import Settings, Strategy
from replicator_kuma.dump import catalog
from replicator_kuma.replication.instance import Instance
from tests.support import databases
from tests.support.cycles import db

PAUSED = '[[rule]]\ntable = "monitor"\nwhere = { type = "push" }\nset = { active = false }\n'
NO_TAG = '[[rule]]\ntable = "monitor"\nwhere = { tag = "eu-only" }\nskip = true\n'
EVERY_RULE = (
    PAUSED + NO_TAG + '[[rule]]\ntable = "proxy"\nwhere = { host = "proxy1*" }\nskip = true\n'
    '[[rule]]\ntable = "status_page"\nwhere = { slug = "public" }\nset = { title = "Here" }\n'
    """[[rule]]\ntable = "setting"\nwhere = { key = "entryPage" }\nset = { value = '"x"' }\n"""
    '[[rule]]\ntable = "monitor"\nwhere = { id = 8 }\nset = { timeout = 7, interval = 61.0 }\n'
)


def rules(replica: Instance, text: str, strategy: Strategy = Strategy.SNAPSHOT) -> Path:
    """Write the file of a replica's rules, which it reads as the program does."""
    path = replica.data_dir.parent / "overrides.toml"
    path.write_text(text)
    environ = {
        "DATA_DIR": str(replica.data_dir),
        "REPLICATOR_MODE": "RESTORE",
        "REPLICATOR_OVERRIDES": str(path),
        "RESTORE_MERGE_STRATEGY": strategy.value,
    }
    chosen = Settings.load(environ)
    replica.policy = read_policy(chosen)
    replica.tables = catalog.choose(chosen.include, chosen.exclude)
    return path


def tagged(leader: Instance) -> set[int]:
    """Give some monitors the tag `eu-only`, and history to one of them on either side."""
    databases.edit(db(leader), "UPDATE tag SET name = 'eu-only' WHERE id = 5")
    found = databases.query(db(leader), "SELECT monitor_id FROM monitor_tag WHERE tag_id = 5")
    return {row[0] for row in found}


def column(database: Path, monitor: int, name: str) -> object:
    return databases.query(database, f"SELECT {name} FROM monitor WHERE id = ?", (monitor,))[0][0]
