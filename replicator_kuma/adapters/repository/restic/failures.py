"""Explains how restic ended: by exit codes first, then by a few tested phrases.

Learned from restic 0.14.0 and 0.18.0, local, rest-server 0.13, rclone's S3:

- 0.14 ends with 1 whatever happened (3: a partial snapshot; 2: also "id … not found in repository"
  and Go panics). Codes 10, 11 came with 0.17, 12 with 0.17.1.
- "Is there a repository at the following location?" follows every failure to open, in 0.14 and
  0.18: a refused connection, an unknown host, HTTP 401, wrong S3 keys. It says nothing. Sure is
  only the reason before it: the backend looked, and the file `config` was not there.
- 0.18 tries again for 15 minutes where 0.14 fails at once (connection refused, wrong S3 keys,
  missing bucket: 0.14 calls that at once "The specified bucket does not exist").
- Both try again for 15 minutes to write a lock into a read-only repository; 0.14 also to read a
  pack that is gone, where 0.18 fails after two attempts.
- 12 and "wrong password or no key found" also come when the keys could not be listed (a web server
  that is no restic server, an interrupt): its log then has "List(key)" or "Load(<key/".
- `snapshots` ends with 0 and leaves out what it could not read; only its errors tell ("could not
  load snapshot" in 0.14, "Ignoring …: failed to load snapshot" later).
- `dump` ends with 0 and says nothing although a subfolder's tree was damaged: the archive has
  nothing of that folder, or nothing of it and all that comes after, and a proper end (0.14, 0.18;
  now and then 0.18 panics instead, "nil pointer dereference" in its walker). `ls` reads the trees
  too, and tells: 0.18 always by that panic.
- A pack that is shorter than the index says: 0.18 fails after two attempts ("file is too short",
  HTTP 416), 0.14 tries "EOF" for 15 minutes. On a file system that is damage; on a server it may
  be a connection that was cut, and only `check` can tell.
- `rclone serve s3 --read-only` answers each write with "Internal Error". At the lock, before
  anything was stored, three of these are enough: the next cycle tries again in any case.
- What rclone itself was refused, as restic's backend, is in lines of its own on restic's stderr;
  restic's say "500 Internal Server Error".
- A damaged key: "Unmarshal: …" in 0.14. One that is gone looks like a wrong password.
- `backup --force` trusts the index: it ends with 0 and refers to packs that are gone.
- `init` looks first and writes its config some two seconds later, over any other: two at once
  leave a repository that is "damaged" for both (0.14, 0.18).
- `init` onto keys without a config: 0.14 makes a second repository over the first, 0.18 refuses.
- `unlock` prints "successfully removed locks" in 0.14 even when it removed none.
- 0.18 with --json prints {"message_type":"exit_error"} on stderr, but not for cat, dump, unlock.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from replicator_kuma.adapters.repository.restic import network
from replicator_kuma.adapters.repository.restic.process import Ended, Stop
from replicator_kuma.base.errors import (
    CacheFull,
    Interrupted,
    MachineError,
    PublishIncomplete,
    ReplicatorError,
    RepositoryDamaged,
    RepositoryLocked,
    RepositoryMissing,
    RepositoryUnreachable,
    SnapshotNotFound,
    WrongPassword,
)
from replicator_kuma.base.secret_variables import Mask
from replicator_kuma.base.text import killed_by
from replicator_kuma.base.times import lasting

CODES: dict[int, type[ReplicatorError]] = {
    3: PublishIncomplete,
    10: RepositoryMissing,
    11: RepositoryLocked,
    12: WrongPassword,
}

# Searched in what restic gave as its reason, in this order.
PHRASES: tuple[tuple[re.Pattern[str], type[ReplicatorError]], ...] = (
    (re.compile(r"wrong password or no key found"), WrongPassword),
    (re.compile(r"an empty password is not|Resolving password failed"), WrongPassword),
    (re.compile(r"repository is already locked"), RepositoryLocked),
    (
        re.compile(
            r"unable to open config file: "
            r"(stat .*/config: no such file or directory"
            r"|<config/> does not exist"
            r"|Stat: The specified key does not exist\.)$",
            re.MULTILINE,
        ),
        RepositoryMissing,
    ),
    (
        re.compile(
            r"no matching ID found for prefix"
            r"|failed to find snapshot: .*(no such file or directory|does not exist\.?)$",
            re.MULTILINE,
        ),
        SnapshotNotFound,
    ),
    (
        re.compile(
            r"invalid data returned|ciphertext verification failed"
            r"|id [0-9a-f]{64} not found in repository|repository already contains keys"
            r"|<(data|index)/[0-9a-f]+>.*: (no such file or directory|<[^>]*> does not exist"
            r"|The specified key does not exist|unexpected HTTP response \(416\))"
            r"|file is too short|cached file <[^>]*> is too short|config file has zero size"
            r"|packs from index missing in repo|pack size does not match calculated size"
        ),
        RepositoryDamaged,
    ),
)

_UNRESOLVED = re.compile(r"Resolving password failed: (.*)|(an empty password is not .*)")

# Errors in lines of restic's own retries that no retry can cure; others may pass.
HOPELESS = re.compile(
    r"returned error, retrying after [^:\n]*: .*("
    r"read-only file system|no space left on device|permission denied"
    r"|40[13] (Unauthorized|Forbidden)|Access Denied"
    r"|The Access Key Id you provided does not exist"
    r"|The request signature we calculated does not match"
    r"|The specified bucket does not exist)"
    r"|^rclone: .*Post request \w+ error: .*"
    r"(read-only file system|no space left on device|permission denied|Access ?Denied)"
    r"|Save\(<lock/.* returned error, retrying after [^:\n]*: client\.PutObject: Internal Error"
    r"|Load\(<data/.* returned error, retrying after .*: "
    r"(no such file or directory|<data/[^>]*> does not exist|The specified key does not exist)",
    re.MULTILINE,
)
# The same for a repository on a file system, where no connection can have been cut.
_CUT = re.compile(r"Load\(<data/.* returned error, retrying after [^:\n]*: .*\bEOF$", re.MULTILINE)
# 0.18 panics like this for a tree that it could not load, for any reason.
_LOST_TREE = re.compile(r"^panic: runtime error.*restic/internal/walker", re.M | re.S)
_BAD_KEY = re.compile(r"^(Fatal: )?Unmarshal: ", re.MULTILINE)

# Failures that last longer than a second: an immediate retry is useless.
_LASTING = re.compile(
    r"parsing repository location failed|Please specify repository location"
    r"|executable file not found|no credentials found|401 Unauthorized|403 Forbidden|Access Denied"
    r"|Access Key Id|request signature we calculated|specified bucket does not exist"
    r"|read-only file system|no space left on device|permission denied|^panic: ",
    re.MULTILINE,
)
_NO_SPACE = "no space left on device"
_LOCAL = (
    (
        _NO_SPACE,
        "Make room where it says so: in the repository, or in REPLICATOR_STATE_DIR (restic's cache "
        "is there).",
    ),
    (
        "read-only file system",
        "The file system of the repository is mounted read-only. To publish there, mount it so "
        "that it can be written to.",
    ),
    (
        "permission denied",
        "There is no permission for this file. Look at its owner and rights, and at the user that "
        "the replicator (or the server of the repository) runs as.",
    ),
)
"""Messages of a file system (never of a network), and what to do about each."""
_SCRATCH = re.compile(
    r"/restic-(temp-pack|check-cache|temp)-\S*: "
    rf"({_NO_SPACE}|disk quota exceeded|read-only file system|permission denied|no such file)"
)
_SCRATCH_HINT = (
    "restic found no room for its temporary files: make some there, or set TMPDIR to a folder that "
    "has room and can be written to."
)
_NO_KEY_READ = re.compile(r"List\(key\)|Load\(<key/")
_PARTIAL_LISTING = re.compile(r"could not load snapshot|failed to load snapshot|^Ignoring \"", re.M)
_NOISE = re.compile(r"returned error, retrying after|unable to (open|create) cache|\) failed: ")
_RCLONE = re.compile(r"^rclone: .*ERROR : .*Post request \w+ error: ", re.M)
_RETRIED = re.compile(r"^.*returned error, retrying after [^:]*: ", re.M)
_REASON_LIMIT = 400


@dataclass(frozen=True)
class Where:
    """Where a call's repository and cache are."""

    folder: Path | None = None
    """the repository, if it is a folder of this machine"""
    cache: Path | None = None
    """restic's cache folder"""

    @classmethod
    def of(cls, environment: Mapping[str, str], cache: Path | None) -> Where:
        """The places that restic's variables name."""
        place = environment.get("RESTIC_REPOSITORY", "").removeprefix("local:")
        return cls(Path(place) if place.startswith("/") else None, cache)


_ANYWHERE = Where()


class Failure(Exception):
    """An error to raise, and whether the same call may succeed in a moment."""

    def __init__(self, error: ReplicatorError, *, transient: bool = False) -> None:
        super().__init__(str(error))
        self.error, self.transient = error, transient


def hopeless(stderr: str, *, local: bool = False) -> bool:
    """Whether restic has retried, at least three times, an error that cannot pass.

    ``local``: the repository is a folder.
    """
    return len(HOPELESS.findall(stderr)) >= 3 or (local and len(_CUT.findall(stderr)) >= 3)


def classify(
    what: str, ended: Ended, seconds: float, mask: Mask, where: Where = _ANYWHERE
) -> Failure:
    """The failure of a restic call; ``what`` names the call for people."""
    reason = mask(_reason(ended))[:_REASON_LIMIT]
    if ended.stopped is Stop.INTERRUPTED:
        return Failure(Interrupted(f"stopped by a signal: {what}"))
    if ended.stopped is Stop.FLOOD:
        return Failure(RepositoryUnreachable(f"{what}: restic's answer has no end"))
    if (missing := _no_password(what, ended, mask)) and ended.stopped is None:
        return Failure(missing)
    kind = _kind(ended, where)
    away = network.words(reason) if kind is RepositoryUnreachable else None
    if ended.stopped is Stop.DEADLINE:
        tried = f" (tried for {lasting(seconds)})"
        text = f"{what}: no answer within {lasting(seconds)}{f': {reason}' if reason else ''}"
        return Failure(_explained(kind, away + tried if away else text, ended))
    killed = f"restic was {killed_by(-ended.code)}" if ended.code < 0 else ""
    silent = f"restic ended with code {ended.code} and said nothing"
    message = away or f"{what}: {killed or reason or silent}"
    permanent = kind is not RepositoryUnreachable or _LASTING.search(ended.stderr)
    return Failure(_explained(kind, message, ended), transient=not permanent)


def _explained(kind: type[ReplicatorError], message: str, ended: Ended) -> ReplicatorError:
    """The error, with a special hint if restic says what is full or not permitted."""
    if kind is not RepositoryUnreachable:
        return kind(message)
    if _SCRATCH.search(_plain(ended.stderr)):
        return MachineError(message, hint=_SCRATCH_HINT)
    return kind(message, hint=next((hint for said, hint in _LOCAL if said in ended.stderr), None))


def _no_password(what: str, ended: Ended, mask: Mask) -> WrongPassword | None:
    """The error if restic got no password: its command failed or was silent, or no file."""
    text = _plain(ended.stderr)
    found = _UNRESOLVED.search(text)
    if found is None:
        return None
    said = text[: found.start()].removesuffix("Fatal: ").split("\n")
    command = " / ".join(line.strip() for line in said[-4:] if line.strip())
    why = (found[1] or found[2]).removeprefix("Fatal: ") + (f": {command}" if command else "")
    return WrongPassword(
        f"{what}: the password could not be had: {mask(why)[:_REASON_LIMIT]}",
        hint="RESTIC_PASSWORD_COMMAND or RESTIC_PASSWORD_FILE gave none; whether the password fits "
        "was not asked. Run the command by hand, as the user and with the variables that the "
        "replicator has.",
    )


def partial_listing(stderr: str, mask: Mask, where: Where = _ANYWHERE) -> Failure | None:
    """The failure of a listing that exited with 0 but left out unreadable snapshots."""
    if not _PARTIAL_LISTING.search(stderr):
        return None
    kind = _cache_full(stderr, where) or _damage(stderr) or RepositoryUnreachable
    lines = [line for line in stderr.splitlines() if _PARTIAL_LISTING.search(line)]
    message = f"list snapshots: {len(lines)} could not be read: {mask(lines[0])[:_REASON_LIMIT]}"
    return Failure(kind(message), transient=kind is RepositoryUnreachable)


def _kind(ended: Ended, where: Where) -> type[ReplicatorError]:
    if full := _cache_full(ended.stderr, where):
        return full
    if where.folder is not None and len(_CUT.findall(ended.stderr)) >= 3:
        return RepositoryDamaged
    if ended.stopped is not None:
        return _damage(ended.stderr) or RepositoryUnreachable
    text = _plain(ended.stderr)
    kind = CODES.get(ended.code)
    if kind is None:
        kind = next((kind for phrase, kind in PHRASES if phrase.search(text)), None)
    if kind is None or (kind is WrongPassword and _NO_KEY_READ.search(text)):
        return _unread(text) or RepositoryUnreachable
    return kind


def _cache_full(stderr: str, where: Where) -> type[CacheFull] | None:
    """CacheFull if restic failed because its cache has no room ("Copy: write …: no space")."""
    if where.cache is None:
        return None
    full = re.compile(rf"{re.escape(str(where.cache))}/\S*: ({_NO_SPACE}|disk quota exceeded)")
    return CacheFull if full.search(_plain(stderr)) else None


def _unread(text: str) -> type[RepositoryDamaged] | None:
    """Damage that restic does not name, if nothing points to a network fault."""
    if _RETRIED.search(text) or _NO_KEY_READ.search(text):
        return None
    return RepositoryDamaged if _LOST_TREE.search(text) or _BAD_KEY.search(text) else None


def _damage(stderr: str) -> type[RepositoryDamaged] | None:
    phrase = next(phrase for phrase, kind in PHRASES if kind is RepositoryDamaged)
    return RepositoryDamaged if phrase.search(_plain(stderr)) else None


def _messages(stderr: str) -> list[tuple[bool, str]]:
    """The lines of stderr, JSON decoded; True marks restic's final error."""
    found = []
    for line in filter(None, map(str.strip, stderr.splitlines())):
        try:
            value = json.loads(line) if line.startswith("{") else None
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            found.append((line.startswith("Fatal: "), line))
            continue
        inner = value.get("error")
        text = value.get("message") or (inner.get("message") if isinstance(inner, dict) else "")
        found.append((value.get("message_type") == "exit_error", str(text or line)))
    return found


def _plain(stderr: str) -> str:
    return "\n".join(text for _last, text in _messages(stderr))


def _reason(ended: Ended) -> str:
    """One line for people: restic's final error, else an error that it retried, else the first."""
    messages = _messages(ended.stderr)
    # If we ended restic, its final error is about that, and may be wrong ("wrong password").
    last = [text for final, text in messages if final and ended.stopped is None]
    said = [text for final, text in messages if not final and not _NOISE.search(text)]
    tried = [_RETRIED.sub("", text) for _final, text in messages if _RETRIED.search(text)]
    refused = [_RCLONE.sub("rclone: ", text) for _final, text in messages if _RCLONE.search(text)]
    chosen = (
        last[-1:]
        or refused[-1:]
        or tried[-1:]
        or said[:1]
        or [text for _final, text in messages[-1:]]
    )
    first_line = chosen[0].splitlines()[0] if chosen else ""
    return first_line.removeprefix("Fatal: ")
