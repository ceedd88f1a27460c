"""restic's argument lists, as pure functions. They never hold a secret."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from replicator_kuma.adapters.repository.snapshot import MARK, Label, tag

Version = tuple[int, int, int]

OLDEST: Version = (0, 14, 0)

_VERSION = re.compile(r"^restic (\d+)\.(\d+)(?:\.(\d+))?", re.MULTILINE)


def parse_version(text: str) -> Version | None:
    """The version that ``restic version`` printed; None if it is no restic."""
    found = _VERSION.search(text)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def version() -> list[str]:
    # Text: 0.14 has no --json here, and all later versions print the same first line.
    return ["version"]


def init() -> list[str]:
    return ["init"]


def config(cache: Path | None) -> list[str]:
    """Opens the repository, reads its config: whether it is there and the password is right."""
    return ["cat", "config", "--no-lock", *_cache(cache)]


def listing(fleet: str, cache: Path | None) -> list[str]:
    # One --tag with a comma is "both"; two --tag are "either".
    tags = f"{MARK},{tag('fleet', fleet)}"
    return ["snapshots", "--json", "--no-lock", *_cache(cache), "--tag", tags]


def latest(cache: Path | None) -> list[str]:
    """Lists the newest snapshot of each host and set of folders, whoever wrote it."""
    return ["snapshots", "--json", "--no-lock", *_cache(cache), "--latest", "1"]


def folder(snapshot_id: str, name: str, cache: Path | None) -> list[str]:
    """Prints the names in one folder of a snapshot, a line each."""
    return ["ls", "--no-lock", *_cache(cache), snapshot_id, name]


def backup(label: Label, host: str, cache: Path | None, restic: Version) -> list[str]:
    """``restic backup .``: to be run in the dump's folder, so that names in it are relative."""
    tags = [part for text in label.tags() for part in ("--tag", text)]
    # --force: read every file again, whatever its size and times say.
    options = ["--json", "--quiet", "--force", *_cache(cache), "--host", host]
    # The scan only serves a progress bar.
    scan = ["--no-scan"] if restic >= (0, 15, 0) else []
    return ["backup", *options, *scan, *tags, "."]


def dump(snapshot_id: str, cache: Path | None) -> list[str]:
    return ["dump", "--no-lock", *_cache(cache), "--archive", "tar", snapshot_id, "/"]


def read(snapshot_id: str, name: str, cache: Path | None) -> list[str]:
    """Prints one file as it is. A snapshot of `backup` has the dump's files at its top."""
    return ["dump", "--no-lock", *_cache(cache), snapshot_id, f"/{name}"]


def names(snapshot_id: str, cache: Path | None) -> list[str]:
    """Reads every tree of a snapshot: fails if one is damaged, which `dump` may not."""
    return ["ls", "--no-lock", *_cache(cache), snapshot_id]


def unlock(cache: Path | None) -> list[str]:
    """Removes stale locks only: those of dead processes of this host, and old ones."""
    return ["unlock", *_cache(cache)]


def forget(ids: Sequence[str], cache: Path | None) -> list[str]:
    """Takes full ids only: a policy of `forget` goes by time, and two --tag mean "either"."""
    return ["forget", "--quiet", *_cache(cache), *ids]


def prune(cache: Path | None) -> list[str]:
    return ["prune", "--quiet", *_cache(cache)]


def check(part: int, parts: int, cache: Path | None) -> list[str]:
    """Checks the structure and one part of the data; not from the cache, which may be wrong."""
    return ["check", "--quiet", *_cache(cache), f"--read-data-subset={part}/{parts}"]


def stats(cache: Path | None) -> list[str]:
    return ["stats", "--json", "--no-lock", *_cache(cache), "--mode", "raw-data"]


def _cache(folder: Path | None) -> Sequence[str]:
    return ["--no-cache"] if folder is None else ["--cache-dir", str(folder)]
