"""A fast stand-in for a restic repository, for tests where the fault is ours, not restic's."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from replicator_kuma.adapters.repository import Label, Limits, Listing, Snapshot
from replicator_kuma.base.effects import effect
from replicator_kuma.base.errors import (
    Interrupted,
    ReplicatorError,
    RepositoryDamaged,
    RepositoryError,
    RepositoryMissing,
    SnapshotNotFound,
    SnapshotRefused,
)
from replicator_kuma.base.threads import never
from tests.support.forked import DIED, forked


class FolderRepository:
    """Snapshots as folders. ``calls`` counts; ``fail`` is raised by the next call of a name.

    ``before`` and ``after`` run around a call of a name: a rival, a kill.
    """

    def __init__(self, folder: Path, name: str = "repository") -> None:
        self.folder, self.name = folder, name
        self.down: ReplicatorError | None = None
        """what each call raises, until it is None again"""
        self.append_only = False
        self.damaged = False
        self.warnings: list[str] = []
        self.calls: list[str] = []
        self.fail: dict[str, ReplicatorError] = {}
        self.before: dict[str, Callable[[], None]] = {}
        self.after: dict[str, Callable[[], None]] = {}

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if hook := self.before.pop(name, None):
            hook()
        if error := self.down or self.fail.pop(name, None):
            raise error
        if name != "init" and not self.folder.exists():
            raise RepositoryMissing("there is no repository")

    def _done(self, name: str) -> None:
        effect(f"repository: {name}")
        if hook := self.after.pop(name, None):
            hook()

    def version(self) -> str:
        return "0.18.0"

    def check_access(self) -> None:
        self._call("check_access")

    def init(self) -> bool:
        self._call("init")
        made = not self.folder.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        return made

    def snapshots(self, fleet: str) -> Listing:
        self._call("snapshots")
        found = []
        for path in self.folder.glob("*.json"):
            raw = json.loads(path.read_text())
            label = Label.from_tags(raw["tags"])
            if label is not None and label.fleet == fleet:
                found.append(Snapshot(path.stem, label, raw["time"]))
        self._done("snapshots")
        return Listing(found, warnings=self.warnings)

    def publish(self, folder: Path, label: Label) -> str:
        self._call("publish")
        name = self.add(folder, label)
        self._done("publish")
        return name

    def add(self, folder: Path, label: Label) -> str:
        """What a publish stores; also by a rival's hand."""
        name = secrets.token_hex(32)
        shutil.copytree(folder, self.folder / name)
        note = {"id": name, "tags": label.tags(), "time": "2031-01-01T00:00:00Z"}
        (self.folder / f"{name}.json").write_text(json.dumps(note))
        return name

    def date(self, position: str, time: str) -> None:
        """Give the snapshots at a position another time."""
        for path in self.folder.glob("*.json"):
            note = json.loads(path.read_text())
            label = Label.from_tags(note["tags"])
            if label is not None and str(label.position) == position:
                path.write_text(json.dumps({**note, "time": time}))

    def fetch(
        self,
        snapshot: Snapshot,
        into: Path,
        accept: Callable[[str], bool],
        limits: Limits = Limits(),  # noqa: B008
        unwanted: Callable[[], bool] = never,
    ) -> None:
        self._call("fetch")
        source = self.folder / snapshot.id
        if not source.exists():
            raise SnapshotNotFound(f"no snapshot {snapshot.short_id}")
        for path in sorted(source.rglob("*")):
            if unwanted():
                raise Interrupted("nobody wants it")
            name = str(path.relative_to(source))
            if path.is_file():
                if not accept(name):
                    raise SnapshotRefused(f"odd member {name}")
                target = into / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
        self._done("fetch")

    def read(
        self,
        snapshot: Snapshot,
        name: str,
        limit: int,
        unwanted: Callable[[], bool] = never,
    ) -> bytes:
        self._call("read")
        source = self.folder / snapshot.id
        if not source.exists():
            raise SnapshotNotFound(f"no snapshot {snapshot.short_id}")
        if unwanted():
            raise Interrupted("nobody wants it")
        if not (source / name).is_file():
            raise RepositoryError(f"the snapshot has no {name}")
        content = (source / name).read_bytes()
        if len(content) > limit:
            raise SnapshotRefused(f"{name} is larger than {limit} bytes")
        self._done("read")
        return content

    def forget(self, fleet: str, ids: Sequence[str]) -> Sequence[str]:
        self._call("forget")
        if self.append_only:
            return list(ids)
        for name in ids:
            (self.folder / f"{name}.json").unlink()
            shutil.rmtree(self.folder / name)
        self._done("forget")
        return []

    def prune(self) -> bool:
        self._call("prune")
        if self.damaged:
            raise RepositoryDamaged("a pack is gone")
        return not self.append_only

    def check(self, part: int, parts: int) -> None:
        self._call(f"check {part}/{parts}")
        if self.damaged:
            raise RepositoryDamaged("a pack is gone")

    def size(self) -> int:
        self._call("size")
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


def dies_in(
    repository: FolderRepository, moment: str, call: str, work: Callable[[], object]
) -> None:
    """Run ``work`` in a child that dies ``before`` or ``after`` a call, with no clean-up at all."""

    def dies() -> None:
        getattr(repository, moment)[call] = lambda: os._exit(DIED)
        work()

    assert forked(dies) == DIED
