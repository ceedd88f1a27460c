"""A drill's scratch: a folder in the state directory, and an instance inside it.

A drill locks its folder; the kernel frees the lock when the drill ends in any way. So a folder
without a lock was left by a killed drill.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from replicator_kuma.adapters.kuma.none import NoKuma
from replicator_kuma.adapters.kuma.throwaway import end_left
from replicator_kuma.base.errors import AlreadyRunning, ReplicatorError
from replicator_kuma.base.state_directory import unusable
from replicator_kuma.dump.transform.policy import Policy
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.state.file import StateFile

FOLDER = "drill"

log = logging.getLogger(__name__)


@contextlib.contextmanager
def opened(instance: Instance) -> Iterator[Instance]:
    """A scratch instance for the block: like ``instance`` as a leader, but without its rows.

    It is deleted after the block. Raises AlreadyRunning while another drill runs,
    StateError, DatabaseErrors and SettingsError.
    """
    instance.state.prepare()
    folder = instance.state.folder / FOLDER
    policy = instance.as_leader().policy()
    with _locked(folder):
        try:
            _clear(folder)
            # SQLite and Kuma open their path again: a random name keeps others from replacing the
            # folder
            here = folder / secrets.token_hex(8)
            try:
                for path in (here, here / "data", here / "state", here / "state" / "work"):
                    path.mkdir(mode=0o700)
            except OSError as error:
                raise unusable("cannot make a scratch folder", error) from error
            # local tables, overrides and strategy belong to a replica only
            own = replace(Policy(settings=policy.settings), compatible=policy.compatible)
            with instance.store.scratch(here / "data") as store:
                yield replace(
                    instance.as_leader(),
                    data_dir=here / "data",
                    scratch="work",
                    state=StateFile(here / "state"),
                    store=store,
                    kuma=NoKuma(),
                    find_store=None,
                    policy=lambda: own,
                )
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def forget(instance: Instance) -> None:
    """Delete what a killed drill left, which includes secrets; harmless while a drill runs."""
    folder = instance.state.folder / FOLDER
    if not folder.exists():
        return
    try:
        with _locked(folder):
            _clear(folder)
            instance.store.forget_scratch()
            shutil.rmtree(folder, ignore_errors=True)
    except AlreadyRunning:
        return
    except ReplicatorError as error:  # the folder stays, so that the next cycle tries again
        log.debug("what a killed drill left is not all gone yet: %s", error)


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        end_left(path if path.name == "data" else path / "data")  # as 0.3.0 had it
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Create the folder if needed, and lock it for the block."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise unusable(f"cannot use the scratch folder {folder}", error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            same = folder.stat().st_ino == os.fstat(descriptor).st_ino
        except (BlockingIOError, FileNotFoundError):
            same = False
        if not same:
            raise AlreadyRunning("another drill is at work here", hint="Wait for its end.")
        yield
    finally:
        os.close(descriptor)
