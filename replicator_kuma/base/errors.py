"""Every error that an operator can meet, each with a hint and an exit code of its own.

    ReplicatorError
    ├── SettingsError                 3   a variable is wrong, or a command does not fit the mode
    │   └── HoldWouldNotLast              the note of a hold would go with an ephemeral disk
    ├── DatabaseError                 4   Kuma's tables could not be read or written whole
    │   ├── DatabaseMissing               no database where Kuma should have one
    │   ├── DatabaseUnreachable           MariaDB does not answer, or not to this login
    │   ├── DatabaseLocked                another process holds it
    │   ├── DatabaseCorrupt               SQLite calls it malformed, or it is no database
    │   ├── RowFault                      a row of its own that no replica would take
    │   ├── DatabaseMigrating             Kuma is changing the schema right now
    │   ├── DatabaseUnset                 no user: Kuma was never set up
    │   ├── TableMissing                  a table or column that this schema must have
    │   └── NotAsWritten                  what was written does not read back equal
    ├── RepositoryError
    │   ├── RepositoryUnreachable     5   network, credentials, deadline, anything unknown
    │   ├── WrongPassword             6   the repository has another one
    │   ├── RepositoryLocked          7   another restic works on it, or died there
    │   ├── RepositoryMissing         8   nothing was ever initialised there
    │   ├── ResticMissing             9   no restic to run, or one that is too old
    │   ├── PublishIncomplete         5   restic read the dump in part and kept a partial snapshot
    │   ├── RepositoryDamaged        20   restic reached it and found parts missing or altered
    │   ├── RepositoryLost           10   this fleet has published, and no snapshot of it is there
    │   └── EarlierRepository        33   replicator-kuma v1 or v2 keeps its snapshots there
    ├── SnapshotRefused              11   what was fetched is not what a leader publishes
    │   ├── SchemaMismatch           12   made by another schema of Kuma
    │   ├── SnapshotMisfit           21   rows that this database cannot hold without loss
    │   └── SnapshotShrinks          22   most monitors would go: applied only when told so
    ├── SnapshotNotFound             13   no snapshot of this fleet, or of that name
    ├── NothingKept                  27   no rows are kept from before an apply, or no older ones
    │   └── KeptDamaged                   there are, and they cannot be read whole
    ├── Unpublished                  29   rows here were never published, and would be lost
    ├── Held                         26   a person holds this replica at a position
    ├── KumaError                    14   Kuma did not stop, start or come back
    │   ├── KumaKilled                    a signal ended it while it started: no fault of the rows
    │   └── StoppedInVain                 it did, for an apply that failed: not again for nothing
    ├── KumaRunning                  15   refused to write under a running Kuma
    ├── AlreadyRunning               16   another cycle holds the lock
    ├── Fenced                       17   another writer holds the newest position
    │   └── TwoLeaders                    two writers in the newest epoch: a replica keeps its rows
    ├── ShrinkRefused                18   half of the monitors gone: publish only when told so
    ├── DrillFailed                  25   a recovery would not have gone well
    ├── NotTold                      31   a target of notifications did not take a test message
    ├── StateError                   19   the state directory cannot be read or written
    ├── InstanceUnreachable          30   no running instance tells of its fleet
    ├── HistoryError                 32   Litestream, or its replica of the whole database
    │   ├── HistoryUnreachable            its store gives no answer
    │   ├── HistoryDamaged                what is there could not be restored
    │   └── HistoryElsewhere              another Litestream's replica: never start empty over it
    ├── MachineError                 28   no room, memory or descriptors left, or a disk that fails
    │   └── CacheFull                     no room for what restic remembers of the repository
    └── Interrupted                 130   a signal asked to stop; nothing is half done

1 is a bug (with a traceback), 2 a wrong command line (click), 130 Ctrl-C.
"""

from __future__ import annotations

from replicator_kuma.base.text import named


class ReplicatorError(Exception):
    """The message says what happened and why; ``hint`` says what to type or look at next.

    ``retryable``: the same call can succeed later without a person.
    """

    exit_code = 1
    hint = ""
    retryable = False
    way_back = ""
    """The hint to restore rows from a snapshot; used only if there is a snapshot."""
    lasting = False
    """The error stays until something outside changes: it is logged once."""
    refusal = False
    """A person's command was refused without a change: it does not count as a failed cycle."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        # replaced here: the message is noted and sent to processes with other descriptors
        super().__init__(named(message))
        if hint is not None:
            self.hint = named(hint)


def point_back(error: ReplicatorError, known: bool) -> None:
    """Give an error its ``way_back`` hint if ``known``: this instance has had a snapshot."""
    if known and error.way_back and error.hint == type(error).hint:
        error.hint = error.way_back


class SettingsError(ReplicatorError):
    exit_code = 3
    hint = "See the table of variables in docs/settings.md, or run: replicator doctor"


class HoldWouldNotLast(SettingsError):
    refusal = True
    hint = (
        "Nothing was changed. Set REPLICATOR_STATE_DIR to a lasting folder beside DATA_DIR, and "
        "start `replicator run` again; or go back for the whole fleet, on the leader: replicator "
        "rollback POSITION"
    )


class DatabaseError(ReplicatorError):
    exit_code = 4
    hint = "Try: replicator doctor"


class DatabaseMissing(DatabaseError):
    hint = (
        "Check DATA_DIR: it must be the folder that holds Kuma's kuma.db or db-config.json. If "
        "Kuma never ran here, start it once: it makes them."
    )


class DatabaseUnreachable(DatabaseError):
    retryable = True
    hint = (
        "Check that MariaDB runs, and db-config.json (or UPTIME_KUMA_DB_…): host, port, login. "
        "Try: replicator doctor"
    )


class DatabaseLocked(DatabaseError):
    retryable = True
    hint = (
        "Another program holds Kuma's database. Close it, then run this again; a scheduled cycle "
        "does so by itself."
    )


class DatabaseCorrupt(DatabaseError):
    hint = (
        "Nothing was published or changed. Stop Kuma and keep a copy of kuma.db (with -wal and "
        "-shm): no snapshot holds these rows. What can be saved of them, into a new file: "
        "sqlite3 kuma.db .recover | sqlite3 saved.db\nWhere that says «SQL logic error», this "
        "sqlite3 has no .recover (Debian's has none); then: "
        "sqlite3 kuma.db .dump | sed 's/^ROLLBACK.*/COMMIT;/' | sqlite3 saved.db"
    )
    way_back = (
        "Nothing was published or changed. Stop Kuma, move kuma.db (with -wal and -shm) away and "
        "start again: a replica gets all rows of the newest snapshot, a leader takes its own back."
    )


class RowFault(DatabaseError):
    """A row of this instance that no replica would accept; the database file is intact."""

    hint = (
        "Nothing was published or changed. The file is whole. Edit this row in Kuma and press "
        "Save, or delete it there; or, with Kuma stopped, put it right in the database."
    )


class DatabaseMigrating(DatabaseError):
    retryable = True
    hint = (
        "Kuma is changing its schema. Let it finish (do not stop it); the next cycle tries again."
    )


class DatabaseUnset(DatabaseError):
    hint = (
        "Finish Kuma's set-up page: create the first user. Then the next cycle publishes; type a "
        "command again."
    )


class NotAsWritten(DatabaseError):
    hint = "Look for other programs or triggers that write to Kuma's database."


class TableMissing(DatabaseError):
    hint = (
        "This database does not have the tables of its own schema. Is it Kuma's, and does DATA_DIR "
        "name the right folder?"
    )
    way_back = (
        "This database does not have the tables of its own schema. A kuma.db that is moved away, "
        "with Kuma stopped, is made anew at Kuma's next start and filled from the newest snapshot."
    )


class RepositoryError(ReplicatorError):
    exit_code = 5


class RepositoryUnreachable(RepositoryError):
    retryable = True
    hint = "Check RESTIC_REPOSITORY, the network and the credentials. Try: restic snapshots"


class WrongPassword(RepositoryError):
    exit_code = 6
    hint = "Check RESTIC_PASSWORD or RESTIC_PASSWORD_FILE: the repository has another password."


class RepositoryLocked(RepositoryError):
    exit_code = 7
    retryable = True
    hint = "Another restic works on the repository. A stale lock goes by: restic unlock"


class RepositoryMissing(RepositoryError):
    exit_code = 8
    hint = "Check RESTIC_REPOSITORY. If it is right and this is the first start: replicator init"


class ResticMissing(RepositoryError):
    exit_code = 9
    hint = "Install restic 0.14 or later, or name it: REPLICATOR_RESTIC=/path/to/restic"


class PublishIncomplete(RepositoryError):
    retryable = True
    hint = "Replicas refuse the partial snapshot; the next cycle publishes at the next position."


class RepositoryDamaged(RepositoryError):
    exit_code = 20
    hint = (
        "Nothing was applied. Look for what is damaged: restic check --read-data. What mends it: "
        "docs/repository.md, «Damage»"
    )


class RepositoryLost(RepositoryError):
    exit_code = 10
    hint = (
        "Nothing was changed. Check RESTIC_REPOSITORY and REPLICATOR_FLEET. If the snapshots are "
        "really gone, its leader begins again by: replicator promote --force"
    )


class EarlierRepository(RepositoryError):
    """A leader's first publish would go where instances of v1 or v2 take the latest snapshot."""

    exit_code = 33
    hint = (
        "Nothing was published. Set RESTIC_REPOSITORY to a place of its own, and move the fleet "
        "as docs/moving.md says. If no instance of v1 or v2 runs there any more, and this one is "
        "to go on there: replicator promote --force"
    )


class SnapshotRefused(ReplicatorError):
    exit_code = 11
    hint = "Nothing was applied. Try: replicator snapshots"


class SchemaMismatch(SnapshotRefused):
    exit_code = 12
    hint = "Nothing was applied. Install the leader's version of Uptime Kuma here."


class SnapshotMisfit(SnapshotRefused):
    exit_code = 21
    hint = (
        "Nothing was applied. Change these rows on the leader, or cut them here to what fits: "
        "REPLICATOR_ON_MISFIT=truncate"
    )


class SnapshotShrinks(SnapshotRefused):
    exit_code = 22
    hint = (
        "Nothing was applied. If it is meant: replicator restore --now --allow-shrink. If not, put "
        "the monitors back on the leader: its next snapshot that fits is followed by itself."
    )


class SnapshotNotFound(ReplicatorError):
    exit_code = 13
    hint = "Try: replicator snapshots"
    none_yet = "Does the leader run, with this RESTIC_REPOSITORY and REPLICATOR_FLEET? See its log."
    """The hint if the fleet has no snapshot at all."""


class NothingKept(ReplicatorError):
    exit_code = 27
    hint = (
        "What is kept: replicator undo --list. Or go back by snapshots: replicator snapshots, "
        "then: replicator restore --now --snapshot POSITION (on a leader: replicator rollback "
        "POSITION)"
    )


class KeptDamaged(NothingKept):
    hint = "Nothing was changed. What else is kept, by its number: replicator undo --list"


class Unpublished(ReplicatorError):
    exit_code = 29
    hint = (
        "Publish them first: replicator backup. Or go back without them, adding --force: they are "
        "kept, and `replicator undo` brings them back."
    )


class Held(ReplicatorError):
    exit_code = 26
    hint = "To go on to the newest: replicator restore --resume"


class KumaError(ReplicatorError):
    exit_code = 14
    hint = "Look at Kuma's own log."


class KumaKilled(KumaError):
    hint = (
        "This is no fault of the snapshot: a replica tries it again by itself. Was there too "
        "little memory? Look for it: journalctl --dmesg --grep=oom (or dmesg)"
    )


class StoppedInVain(KumaError):
    """``exit_code`` is that of the cause."""

    lasting = True


class KumaRunning(ReplicatorError):
    exit_code = 15
    hint = (
        "Stop Kuma, run this again, and start Kuma. Or tell how to stop it: REPLICATOR_KUMA="
        "docker, systemd or command. restore, promote, undo and rollback write all the same with "
        "--force; restart Kuma then: it shows old rows, and may write them back, until it does."
    )


class AlreadyRunning(ReplicatorError):
    exit_code = 16
    retryable = True
    hint = "Another replicator works on this instance. Wait for it with --wait."


class Fenced(ReplicatorError):
    exit_code = 17
    hint = (
        "Three ways: follow the other, by REPLICATOR_MODE=RESTORE here and a restart; lead, by: "
        "replicator promote, which fences the other; or, if the other publishes by mistake, stop "
        "it first, then: replicator promote"
    )


class TwoLeaders(Fenced):
    hint = (
        "Two instances publish as leaders of this fleet. Keep one: set REPLICATOR_MODE=RESTORE on "
        "the other, then run on the one that stays: replicator promote"
    )


class ShrinkRefused(ReplicatorError):
    exit_code = 18
    hint = (
        "If this is meant: replicator backup --allow-shrink. If not, go back to the rows that were "
        "published: replicator snapshots, then: replicator rollback POSITION --force"
    )


class DrillFailed(ReplicatorError):
    exit_code = 25
    hint = "Nothing was touched. Look at the cause, mend it, then: replicator drill"


class NotTold(ReplicatorError):
    exit_code = 31
    hint = "Check these addresses in NTFY_URL and REPLICATOR_NOTIFY: docs/notifications.md"


class StateError(ReplicatorError):
    exit_code = 19
    hint = (
        "Check REPLICATOR_STATE_DIR: space, permissions. A damaged state.json may be moved away "
        "while nothing of the replicator runs: a replica then begins anew, a leader goes by its "
        "REPLICATOR_INSTANCE name, which must be as before."
    )


class InstanceUnreachable(ReplicatorError):
    exit_code = 30
    retryable = True
    hint = (
        "Does `replicator run` run there, with REPLICATOR_HTTP, and with the REPLICATOR_HTTP_TOKEN "
        "that is set here? Another instance: replicator fleet --url https://…"
    )


class HistoryError(ReplicatorError):
    exit_code = 32
    hint = "See docs/litestream.md. Try: replicator doctor"


class HistoryUnreachable(HistoryError):
    retryable = True
    hint = (
        "Kuma is not started: it would begin without its history. Check REPLICATOR_LITESTREAM_URL, "
        "the network and the credentials, and start again."
    )


class HistoryDamaged(HistoryError):
    hint = (
        "Kuma is not started: it would begin without its history. What can be done: "
        "docs/litestream.md, «A damaged replica»"
    )


class HistoryElsewhere(HistoryError):
    hint = "See docs/litestream.md, «A replica of your own Litestream»"


class MachineError(ReplicatorError):
    exit_code = 28
    retryable = True
    hint = "Look at the machine: df, free, ulimit -n, dmesg. The next cycle begins anew."


class CacheFull(MachineError):
    hint = "Make room where REPLICATOR_STATE_DIR is: restic's cache is there. Try: df"


class Interrupted(ReplicatorError):
    exit_code = 130
    retryable = True
    hint = "The next run goes on where this one was stopped."


def describe(error: BaseException) -> str:
    """An error in one line; of a bug only the type, since its text may hold a password."""
    if isinstance(error, ReplicatorError):
        return str(error)
    return f"{type(error).__name__}: this is a bug in replicator-kuma"
