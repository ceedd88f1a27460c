"""Housekeeping of a restic repository: deletes old snapshots, checks data, measures size.

Learned from restic 0.14.0 and 0.18.0 with rest-server 0.13:

- `forget` in append-only mode exits with 0 in 0.18, but removes nothing; 0.14 retries for
  44 seconds ("403 Forbidden") and exits with 1. Only a listing shows what was removed.
- `forget` ignores an unknown id, and exits with 0.
- `prune` exits with 0 in append-only mode as long as there is nothing to remove.
- `check` exits with 1 and "repository contains errors" for damage, and also for a network failure
  in the middle: its earlier output shows which.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from replicator_kuma.adapters.repository.restic import arguments
from replicator_kuma.adapters.repository.restic.client import ResticRepository
from replicator_kuma.adapters.repository.restic.process import Deadline, Output, Stop
from replicator_kuma.base.errors import (
    RepositoryDamaged,
    RepositoryUnreachable,
)

FORGET_TIMEOUT = 600.0
PRUNE_TIMEOUT = 3600.0
"""seconds; the next prune continues an unfinished one"""
CHECK_TIMEOUT = 3600.0
SIZE_TIMEOUT = 300.0
LOCK_PATIENCE = 60.0
AT_ONCE = 200
"""the most snapshots for one call of `forget`"""

_REFUSED = re.compile(
    r"403 Forbidden|\(403\)|Access ?Denied|permission denied|read-only file system"
    r"|method not allowed|405 Method",
    re.IGNORECASE,
)
_ERRORS = re.compile(r"repository contains errors")
_DAMAGED = re.compile(
    r"does not match|ciphertext verification failed|does not exist|unexpected pack id"
    r"|contains \d+ errors|not found in index|no such file or directory|invalid data returned"
    r"|is damaged|not referenced in any index and|unexpected file size|is too short"
)
_AWAY = re.compile(
    r"connection re(fused|set)|no such host|i/o timeout|timeout|unexpected EOF"
    r"|50[0-9] |network is unreachable|broken pipe",
    re.IGNORECASE,
)
_REASON = re.compile(r"^(?!Fatal|Load\(|using temporary)(?=.*(?:pack|blob|tree|snapshot|error)).*$")


class KeptRepository(ResticRepository):
    """A `MaintainedRepository`: a restic repository with housekeeping.

    Its calls take an exclusive lock: they wait for others' locks, and remove a dead process's.
    """

    name = "repository"

    def forget(self, fleet: str, ids: Sequence[str]) -> Sequence[str]:
        """After an error, some may be removed; the others are unchanged."""
        asked = [name for name in ids if re.fullmatch(r"[0-9a-f]{64}", name)]
        if len(asked) != len(ids):
            raise ValueError("forget: only full ids of snapshots")
        deadline = Deadline(FORGET_TIMEOUT)
        for first in range(0, len(asked), AT_ONCE):
            call = arguments.forget(asked[first : first + AT_ONCE], self._cache)
            output = self._exclusive("forget snapshots", call, deadline, LOCK_PATIENCE)
            if _refused(output):
                break
            if not output.ended.succeeded:
                raise self._failure("forget snapshots", output.ended, deadline).error
        there = {snapshot.id for snapshot in self.snapshots(fleet)} if asked else set()
        return [name for name in asked if name in there]

    def prune(self) -> bool:
        deadline = Deadline(PRUNE_TIMEOUT)
        output = self._exclusive("prune", arguments.prune(self._cache), deadline, LOCK_PATIENCE)
        if output.ended.succeeded:
            return True
        if _refused(output):
            return False
        raise self._failure("prune", output.ended, deadline).error

    def check(self, part: int, parts: int) -> None:
        deadline = Deadline(CHECK_TIMEOUT)
        call = arguments.check(part, parts, self._cache)
        output = self._exclusive("check the repository", call, deadline, LOCK_PATIENCE)
        if output.ended.succeeded:
            return
        if reason := _damage(output):
            raise RepositoryDamaged(f"check the repository: {self._mask(reason)}")
        raise self._failure("check the repository", output.ended, deadline).error

    def size(self) -> int:
        deadline = Deadline(SIZE_TIMEOUT)
        output = self._run(arguments.stats(self._cache), deadline)
        if not output.ended.succeeded:
            raise self._failure("measure the repository", output.ended, deadline).error
        try:
            return int(json.loads(output.stdout)["total_size"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            raise RepositoryUnreachable("measure the repository: no answer in JSON") from None


def _refused(output: Output) -> bool:
    """Whether the server refused to remove. (0.18 calls that a success: list again.)"""
    return not output.ended.succeeded and bool(_REFUSED.search(output.ended.stderr))


def _damage(output: Output) -> str:
    """The damage that a check found, in one line; empty if none, or if it could not check."""
    text = output.ended.stderr
    if output.ended.stopped is Stop.HOPELESS:
        found = _DAMAGED.search(text) is not None
    elif output.ended.stopped is not None or not _ERRORS.search(text):
        found = False
    else:
        found = _DAMAGED.search(text) is not None or not _AWAY.search(text)
    if not found:
        return ""
    lines = [line.strip() for line in text.splitlines()]
    said = [line for line in lines if _REASON.match(line) and not line.startswith("restic ")]
    return said[0][:300] if said else "it contains errors"
