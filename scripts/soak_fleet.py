"""The fleet of the soak: a leader and three replicas under the real `replicator run`."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import time
from datetime import datetime
from pathlib import Path

from replicator_kuma.adapters.kuma.agent.client import Agent
from replicator_kuma.base.errors import DatabaseError
from replicator_kuma.dump.format import write_tables
from replicator_kuma.dump.manifest import digest
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.observe import observe
from tests.adapters.repository.places import PASSWORD, S3_KEY, S3_SECRET
from tests.support import cycles, databases
from tests.support.compare import config_differences
from tests.support.folder_repository import FolderRepository
from tests.support.instances import make_instance
from tests.support.supervised import FAKE_KUMA, Side
from tests.support.tools import ROOT, restic_014, restic_018

MONITORS = 40
REPLICAS = 3
EVERY = "2s"
SAFETY = "60s"
"""where edits are noticed and replicas are told: nothing waits for it but what an outage delayed"""


class Fleet:
    """``edit`` changes the leader's rows and remembers what they are; ``look`` watches replicas.

    ``topic``: hints go by it, and the intervals are long; else the intervals do all.
    """

    def __init__(self, folder: Path, url: str, topic: str = "") -> None:
        self._topic = topic
        self.leader = self._side(folder, "leader", "BACKUP", url)
        self.replicas = [
            self._side(folder, f"replica-{n + 1}", "RESTORE", url) for n in range(REPLICAS)
        ]
        cycles.fill(self.leader.data_dir, monitors=MONITORS, wal=True)
        for replica in self.replicas:
            databases.create(replica.database, wal=True)
        self._seen_by = [self._instance(side) for side in (self.leader, *self.replicas)]
        self._digests: list[str] = []
        self._rows = {self._rows_of(instance) for instance in self._seen_by}
        self._dead: dict[str, float] = {}
        self._edits = 0
        self.looks = self.restarts = 0
        self._remember()

    @property
    def sides(self) -> list[Side]:
        return [self.leader, *self.replicas]

    def _side(self, folder: Path, name: str, mode: str, url: str) -> Side:
        notes = folder / f"{name}-kuma"
        notes.mkdir(parents=True)
        # one replica has a Kuma that is restarted for each change
        behaviour = {"agent": name != "replica-3"}
        (notes / "behaviour.json").write_text(json.dumps(behaviour))
        return Side(
            folder,
            name,
            mode,
            # an old restic beside new ones, on one repository
            restic_014() if name == "replica-2" else restic_018(),
            notes=notes,
            PYTHONPATH=str(ROOT),
            RESTIC_REPOSITORY=url,
            RESTIC_PASSWORD=PASSWORD,
            RESTIC_PASSWORD_FILE="",
            AWS_ACCESS_KEY_ID=S3_KEY,
            AWS_SECRET_ACCESS_KEY=S3_SECRET,
            REPLICATOR_BACKUP_INTERVAL=SAFETY if self._topic else EVERY,
            REPLICATOR_RESTORE_INTERVAL=SAFETY if self._topic else EVERY,
            REPLICATOR_SIGNAL_URL=self._topic,
            REPLICATOR_HOUSEKEEPING_SCHEDULE="off",
        )

    def _instance(self, side: Side) -> Instance:
        return make_instance(side.data_dir, FolderRepository(side.data_dir / "none"))

    # --- edits ------------------------------------------------------------------------------

    def edit(self, chance: random.Random) -> None:
        """One change, in one transaction, or of a file; each makes rows that never were before."""
        self._edits += 1
        number = self._edits
        kind = chance.choice(("rename", "rename", "add", "delete", "link", "logo"))
        if kind == "logo":
            logo = self.leader.data_dir / "upload" / "logo2.png"
            new = logo.with_name("new.tmp")
            new.write_bytes(b"\x89PNG" + str(number).encode())
            new.replace(logo)
        else:
            self._edit_rows(kind, number, chance)
        self._remember()

    def _edit_rows(self, kind: str, number: int, chance: random.Random) -> None:
        with contextlib.closing(sqlite3.connect(self.leader.database, timeout=30)) as connection:
            ids = [row[0] for row in connection.execute("SELECT id FROM monitor ORDER BY id")]
            target = chance.choice(ids)
            with connection:
                connection.execute("PRAGMA foreign_keys = ON")
                connection.execute("UPDATE tag SET name = ? WHERE id = 1", (f"edit {number}",))
                if kind == "rename":
                    sql = "UPDATE monitor SET name = ? WHERE id = ?"
                    connection.execute(sql, (f"monitor {number}", target))
                elif kind == "add":
                    row = {"name": f"added {number}", "user_id": 1, "type": "http"}
                    made = databases.insert(connection, "monitor", **row)
                    databases.insert(connection, "monitor_tag", monitor_id=made, tag_id=1)
                elif kind == "delete" and len(ids) > MONITORS // 2:
                    connection.execute(
                        "UPDATE monitor SET parent = NULL WHERE parent = ?", (target,)
                    )
                    connection.execute("DELETE FROM monitor WHERE id = ?", (target,))
                elif kind == "link":
                    databases.insert(connection, "monitor_tag", monitor_id=target, tag_id=1)

    def _remember(self) -> None:
        leader = self._seen_by[0]
        self._digests.append(observe(leader).manifest.digest)
        self._rows.add(self._rows_of(leader))

    def digest(self) -> str:
        """The digest of what the leader holds now."""
        return self._digests[-1]

    def place(self, wanted: str) -> int:
        """After which edit the leader held this; raises ValueError where it never did."""
        return self._digests.index(wanted)

    def seconds_to_cycle(self) -> float:
        """Seconds until the leader's next cycle at its interval; 0 while none is planned."""
        told = self.leader.json("status", "--offline")["supervisor"]
        due = told and told["next_cycle"]
        return datetime.fromisoformat(due).timestamp() - time.time() if due else 0.0

    # --- looks ------------------------------------------------------------------------------

    def look(self) -> None:
        """Each replica's tables are those of one state of the leader, never a part."""
        for instance, side in zip(self._seen_by[1:], self.replicas, strict=True):
            try:
                rows = self._rows_of(instance)
            except DatabaseError:
                continue  # it is being written
            assert rows in self._rows, f"{side.name} holds what the leader never held"
            self.looks += 1

    def _rows_of(self, instance: Instance) -> str:
        with instance.store.read() as reader:
            entries, _named = write_tables(None, reader, reader.schema.require(instance.tables))
        return digest(entries, {})

    def differences(self) -> list[str]:
        """What replicas have otherwise than the leader, as SQLite compares it; files too."""
        found = []
        for replica in self.replicas:
            found += config_differences(replica.database, self.leader.database)
            logos = [s.data_dir / "upload" / "logo2.png" for s in (self.leader, replica)]
            contents = [logo.read_bytes() if logo.exists() else b"" for logo in logos]
            found += [] if contents[0] == contents[1] else [f"{replica.name}: logo"]
        return found

    def stale(self) -> list[str]:
        """Replicas whose running Kuma holds other rows in memory than its database has."""
        live = [side for side in self.replicas if side.name != "replica-3"]
        return [
            f"{side.name}: {differs}"
            for side in live
            if (differs := Agent(side.data_dir / "replicator" / "agent.sock").differ())
        ]

    def applies(self) -> tuple[int, int]:
        """How many changes the replicas' Kumas took while they ran, and how many by a restart."""
        logs = "".join(side.log for side in self.replicas)
        live = logs.count("without a restart of Kuma")
        return live, logs.count(" applied 1.") - live

    # --- lives ------------------------------------------------------------------------------

    def start(self) -> None:
        for side in self.sides:
            side.run()

    def kill(self, chance: random.Random) -> None:
        """SIGKILL for a replicator and its Kuma; its restic lives on, as outside a container."""
        side = chance.choice(self.sides)
        if side.process is None or side.process.poll() is not None:
            return
        kumas = _kumas(side.process.pid)
        side.process.kill()
        side.process.wait(10)
        for pid in kumas:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self._dead[side.name] = time.monotonic() + chance.uniform(0, 4)

    def kill_kuma(self, chance: random.Random) -> bool:
        """SIGKILL for a Kuma alone, as from the OOM killer; False where it does not run now."""
        side = chance.choice(self.sides)
        if side.process is None or side.process.poll() is not None:
            return False
        kumas = _kumas(side.process.pid)
        for pid in kumas:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        return bool(kumas)

    def bad(self) -> list[str]:
        """Snapshots that a replica holds bad; here Kuma starts on each, where it is let live."""
        states = (instance.state.load() for instance in self._seen_by[1:])
        return [
            snapshot
            for state in states
            for snapshot in (*state.applying.bad, state.applying.suspect)
            if snapshot
        ]

    def restart_the_dead(self) -> None:
        """As `restart: always` does."""
        for side in self.sides:
            if side.process is not None and side.process.poll() is None:
                continue
            if time.monotonic() >= self._dead.get(side.name, 0.0):
                side.run()
                self.restarts += 1

    def stop(self) -> None:
        """SIGTERM for all; raises where one does not end."""
        for side in self.sides:
            if side.process is not None and side.process.poll() is None:
                side.process.send_signal(signal.SIGTERM)
        for side in self.sides:
            side.stop()

    def end(self) -> None:
        """Whatever happened, nothing is left running."""
        for side in self.sides:
            if side.process is not None and side.process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    side.kill()


def _kumas(supervisor: int) -> list[int]:
    """The process ids of its Kuma."""
    found = []
    for path in Path(f"/proc/{supervisor}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for pid in path.read_text().split():
                if str(FAKE_KUMA).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(int(pid))
    return found
