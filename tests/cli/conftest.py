"""A leader and a replica for commands that run in this process, with a folder as repository."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.cli.main import main
from replicator_kuma.config import build as building
from tests.support.databases import build
from tests.support.folder_repository import FolderRepository
from tests.support.status_schema import faults


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class World:
    """A leader's and a replica's data directory, and commands on them in this process.

    Their repository is ``repository``; where a mode is in ``reach``, the one that this names.
    """

    folder: Path
    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch
    repository: FolderRepository
    reach: Mapping[str, str] = field(default_factory=dict)

    @property
    def leader(self) -> Path:
        return self.folder / "leader"

    @property
    def replica(self) -> Path:
        return self.folder / "replica"

    def call(self, *arguments: str) -> Done:
        """One command through `main`, the error boundary included.

        What `status` prints for programs is as its schema says, whatever state it is of.
        """
        self.capsys.readouterr()
        code = main(arguments)
        out, err = self.capsys.readouterr()
        if arguments[:1] == ("status",) and "--json" in arguments and '"supervisor"' in out:
            assert faults(json.loads(out)) == []
        return Done(code, out, err)

    def on_leader(self, *arguments: str) -> Done:
        return self.call(arguments[0], *self._side("BACKUP", self.leader, "alpha"), *arguments[1:])

    def on_replica(self, *arguments: str) -> Done:
        return self.call(arguments[0], *self._side("RESTORE", self.replica, "beta"), *arguments[1:])

    def _side(self, mode: str, folder: Path, name: str) -> Sequence[str]:
        side = ("--mode", mode, "--data-dir", str(folder), "--instance", name)
        return (*side, "--repo", self.reach[mode]) if mode in self.reach else side

    def at_a_terminal(self, *, out: bool = True, err: bool = True) -> None:
        self.monkeypatch.setattr("sys.stdout.isatty", lambda: out)
        self.monkeypatch.setattr("sys.stderr.isatty", lambda: err)

    def begin(self) -> World:
        """The leader publishes 1.1."""
        assert self.on_leader("init").code == 0
        assert self.on_leader("backup").code == 0
        return self


@pytest.fixture
def world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> World:
    repository = FolderRepository(tmp_path / "repository")
    monkeypatch.setattr(building, "build_repositories", lambda *_args: (repository,))
    for name in ("REPLICATOR_FLEET", "REPLICATOR_STATE_DIR", "NTFY_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RESTIC_REPOSITORY", str(tmp_path / "repository"))
    monkeypatch.setenv("RESTIC_PASSWORD", "only-a-test")
    made = World(tmp_path, capsys, monkeypatch, repository)
    for folder, monitors in ((made.leader, 12), (made.replica, 3)):
        folder.mkdir()
        build(folder / "kuma.db", "2.3", monitors=monitors)
    return made


@pytest.fixture
def published(world: World) -> World:
    return world.begin()
