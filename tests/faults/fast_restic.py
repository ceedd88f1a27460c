"""A restic in a few lines of shell: the real ResticRepository runs it, and it fails as it is told.

Only for faults that no real restic has on demand, and hundreds of them; what a real one says is
held by tests/repository.
"""

from __future__ import annotations

from pathlib import Path

from replicator_kuma.adapters.repository import Label
from replicator_kuma.adapters.repository.restic.client import ResticRepository, Timeouts

_SCRIPT = r"""#!/bin/sh
place=@PLACE@
case $1 in
version) echo 'restic 0.18.0 compiled with go1.24'; exit;;
snapshots) call=snapshots;;
backup) call=backup;;
dump) call=dump;;
cat) call=cat;;
*) exit 0;;
esac
list() {
    printf '['
    comma=
    for note in "$place"/*.json; do
        [ -e "$note" ] && printf '%s' "$comma" && cat "$note" && comma=,
    done
    printf ']'
}
store() {
    id=$(od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n')
    cp -r . "$place/$id"
    tags=
    while [ $# -gt 0 ]; do
        [ "$1" = --tag ] && tags="$tags${tags:+,}\"$2\""
        shift
    done
    printf '{"id":"%s","time":"2031-01-01T00:00:00Z","tags":[%s]}' "$id" "$tags" > "$place/new"
    mv "$place/new" "$place/$id.json"
}
send() {
    for word in "$@"; do [ -d "$place/$word" ] && [ ${#word} = 64 ] && id=$word; done
    [ -n "$id" ] || { echo 'Fatal: no matching ID found for prefix' >&2; exit 1; }
    tar cf - -C "$place/$id" .
}
do_it() {
    case $call in
    snapshots) list;;
    backup) store "$@";;
    dump) send "$@";;
    esac
}
say() { echo "$1" >&2; exit "$2"; }
fault=
[ -e "$place.fault/$call" ] && fault=$(cat "$place.fault/$call")
[ -n "$fault" ] && : > "$place.fault/met"
case $fault in
'') do_it "$@";;
unreachable) say 'Fatal: unable to open config file: dial tcp: connection refused' 1;;
slow) sleep 0.3; do_it "$@";;
flapping) rm "$place.fault/$call"; say 'Fatal: connection reset by peer' 1;;
'wrong password') say 'Fatal: wrong password or no key found' 12;;
locked) say 'unable to create lock in backend: repository is already locked' 11;;
hung) exec sleep 60;;
garbage) head -c 3000 /dev/urandom;;
truncated) do_it "$@" | head -c 300;;
'cut off') do_it "$@" | head -c 300; say 'connection reset by peer' 1;;
full) say 'Fatal: unable to save snapshot: write: no space left on device' 1;;
partial) do_it "$@"; exit 3;;
'answer lost') do_it "$@"; say 'connection reset by peer' 1;;
killed) kill -9 $$;;
flood) exec yes;;
'unknown code') exit 77;;
missing) say 'Fatal: repository does not exist' 10;;
damaged) say 'Fatal: ciphertext verification failed' 1;;
esac
"""

KINDS = (
    "unreachable",
    "slow",
    "flapping",
    "wrong password",
    "locked",
    "hung",
    "garbage",
    "truncated",
    "cut off",
    "full",
    "partial",
    "answer lost",
    "killed",
    "flood",
    "unknown code",
    "missing",
    "damaged",
)
"""What the script knows; each ends or distorts one call, until it is told otherwise."""

_CALM = Timeouts(first_call=60, listing=60, publish=60, fetch=60, lock=0.2)
_HASTY = Timeouts(first_call=0.4, listing=0.4, publish=0.4, fetch=0.4, lock=0.2)


class FastRestic(ResticRepository):
    """`ResticRepository` over the script; ``place`` holds the snapshots, as folders."""

    def __init__(self, folder: Path) -> None:
        self.place = folder / "repository"
        self.program = folder / "restic"
        self.faults = folder / "repository.fault"
        variables = {"PATH": "/usr/bin:/bin", "RESTIC_PASSWORD": "for this test only"}
        super().__init__(
            self.program, variables, folder / "cache", "here", _CALM, sleep=lambda _seconds: None
        )

    def install(self) -> None:
        """The program, beside a repository that a `FolderRepository` made."""
        self.program.write_text(_SCRIPT.replace("@PLACE@", str(self.place)))
        self.program.chmod(0o755)

    def fail(self, call: str, kind: str) -> None:
        """From now on each ``call`` (snapshots, backup, dump) fails in this way."""
        assert kind in KINDS
        self.faults.mkdir(exist_ok=True)
        (self.faults / call).write_text(kind)
        self._timeouts = _HASTY if kind in ("hung", "flood") else _CALM

    def mend(self) -> bool:
        """No call fails any more; whether one has met the fault."""
        met = (self.faults / "met").exists()
        for path in self.faults.glob("*"):
            path.unlink()
        self._timeouts = _CALM
        return met

    def published(self) -> list[tuple[Label, Path]]:
        """The label and the folder of each snapshot that is listed."""
        return [(s.label, self.place / s.id) for s in self.snapshots("default")]
