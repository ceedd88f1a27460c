"""Every call that leaves the process, how long it may take, and the test that holds it."""

from __future__ import annotations

from dataclasses import dataclass

from replicator_kuma.adapters.database.mariadb import connection
from replicator_kuma.adapters.database.sqlite import store
from replicator_kuma.adapters.kuma import (
    command,
    docker,
    embedded_mariadb,
    process,
    readiness,
    systemd,
)
from replicator_kuma.adapters.kuma.agent import client
from replicator_kuma.adapters.notify import answers, outbox, stream
from replicator_kuma.adapters.repository.restic.client import Timeouts
from replicator_kuma.base.times import lasting
from replicator_kuma.daemon import control, heartbeat, startup, supervisor
from replicator_kuma.reports.http import remote

_HANG = "tests/adapters/repository/test_restic_hang.py::"
_KUMA = "tests/adapters/kuma/"
_RESTIC = f"{_HANG}test_every_call_has_a_deadline"
_FIRST = f"{_HANG}test_the_first_call_has_a_deadline_of_its_own"
_LATER = f"{_HANG}test_after_an_answer_a_listing_may_take_longer"
_LOCK = f"{_HANG}test_a_lock_is_waited_for_and_unlock_called_once"
_RUNNER = f"{_KUMA}test_services.py::test_a_client_that_hangs_is_ended_but_not_what_it_started"
_MARIADB = "tests/adapters/database/test_mariadb.py::test_a_server_that"
_EMBEDDED = f"{_KUMA}test_embedded.py::test_a_mariadb_that_cannot_be_seen"
_CONTROL = "tests/daemon/test_control.py::test_a_silent_supervisor_and_one_that_is_only_slow"
_REQUEST = "tests/daemon/test_control.py::test_a_client_that_sends_byte_by_byte_has_one_deadline"
_BUDGET = "tests/daemon/test_supervisor.py::test_kuma_starts_although_the_repository_never_answers"
_CHILD = f"{_KUMA}test_child.py::test_a_job_does_not_wait_for_ever_for_a_kuma_that_does_not_end"
_STOP = f"{_KUMA}test_services.py::test_a_kuma_that_stays_is_an_error"
_READY = f"{_KUMA}test_ready.py::"
_SLOW = "tests/adapters/notify/test_slow_answers.py::"
_AGENT = f"{_KUMA}agent/test_client.py::"


@dataclass(frozen=True)
class Deadline:
    """``test`` is the file and the test's name, or how the names of several tests begin."""

    call: str
    seconds: float | str
    test: str

    @property
    def shown(self) -> str:
        return self.seconds if isinstance(self.seconds, str) else lasting(self.seconds)


_times = Timeouts()
DEADLINES = (
    Deadline("restic: the version", _times.version, _RESTIC),
    Deadline("restic: the first listing of a process", _times.first_call, _FIRST),
    Deadline("restic: later listings, `init`, `unlock`", _times.listing, _LATER),
    Deadline("restic: publish, and fetch", _times.publish, _RESTIC),
    Deadline("restic: another's lock before a publish", _times.lock, _LOCK),
    Deadline("all of restic before Kuma's first start", startup.START_BUDGET, _BUDGET),
    Deadline(
        "who is told: connecting, each part of an answer (three attempts, beside the cycles)",
        outbox.TIMEOUT,
        "tests/adapters/notify/test_delivery.py::test_no_answer_in_time_is_a_failure",
    ),
    Deadline(
        "who is told: one whole attempt, up to the end of the answer's headers",
        answers.PARTS * outbox.TIMEOUT,
        f"{_SLOW}test_a_message_is_given_up_and_the_next_one_has_its_turn",
    ),
    Deadline(
        "who is told by Apprise: one whole attempt",
        outbox.CALL,
        "tests/adapters/notify/test_by_apprise.py"
        "::test_a_server_that_answers_a_byte_at_a_time_is_given_up",
    ),
    Deadline(
        "the stream of hints: until it begins",
        answers.PARTS * stream.CONNECT,
        f"{_SLOW}test_a_subscription_that_never_begins_is_given_up",
    ),
    Deadline(
        "the stream of hints: silence (ntfy sends a line each 45 s)",
        stream.SILENCE,
        "tests/adapters/notify/test_stream.py::test_a_dead_server_is_noticed",
    ),
    Deadline(
        "Kuma by HTTP: one whole look", readiness.PROBE_TIMEOUT, f"{_READY}test_an_answer_in_drops"
    ),
    Deadline(
        "Kuma: until it is ready", readiness.TIMEOUT, f"{_READY}test_it_gives_up_after_two_minutes"
    ),
    Deadline("Kuma as a child: its end in a cycle", process.STOP_DEADLINE, _CHILD),
    Deadline("the agent in Kuma: an answer", client.AN_ANSWER, f"{_AGENT}test_a_late_answer"),
    Deadline(
        "the agent in Kuma: no answer to anything in a reconcile",
        client.DEAF,
        f"{_AGENT}test_a_process_that_hangs_in_a_reconcile",
    ),
    Deadline(
        "the agent in Kuma: a whole reconcile",
        client.LONGEST,
        f"{_AGENT}test_a_reconcile_has_an_end",
    ),
    Deadline("docker: inspect", process.ASK_DEADLINE, _RUNNER),
    Deadline("docker: start", docker.START_DEADLINE, _RUNNER),
    Deadline("systemctl: is-active", process.ASK_DEADLINE, _RUNNER),
    Deadline("systemctl: start", systemd.START_DEADLINE, _RUNNER),
    Deadline("systemctl: stop", process.STOP_DEADLINE, _RUNNER),
    Deadline("own commands: status", process.ASK_DEADLINE, _RUNNER),
    Deadline("own commands: start", command.START_DEADLINE, _RUNNER),
    Deadline("own commands: stop", process.STOP_DEADLINE, _STOP),
    Deadline(
        "SQLite: another's lock",
        store.BUSY_TIMEOUT,
        "tests/adapters/database/test_store.py::test_a_lock_that_stays_is_an_error_of_its_own",
    ),
    Deadline("MariaDB: connecting", connection.CONNECT_TIMEOUT, f"{_MARIADB}_takes_connections"),
    Deadline("MariaDB: silence in a query", connection.TIMEOUT, f"{_MARIADB}_hangs_later"),
    Deadline("an embedded MariaDB: its end", embedded_mariadb.LIMIT, _EMBEDDED),
    Deadline("the control socket: silence of the supervisor", control.SILENCE_DEADLINE, _CONTROL),
    Deadline("the control socket: a client's whole request", control.REQUEST_DEADLINE, _REQUEST),
    Deadline(
        "`fleet --serve`: all answers of one page together",
        remote.PAGE,
        "tests/reports/http/test_slow_instance.py"
        "::test_a_page_shows_what_came_in_time_and_names_the_rest",
    ),
    Deadline(
        "SIGTERM: until a database says whether Kuma migrates",
        supervisor.AN_ANSWER,
        "tests/daemon/test_supervisor.py::test_kumas_end_waits_for_no_database",
    ),
    Deadline(
        "files on a file system that hangs: no deadline is possible; the health check tells",
        heartbeat.JOB_PATIENCE,
        "tests/faults/test_deadlines.py::test_a_job_that_does_not_end",
    ),
    Deadline(
        "Kuma's end when the supervisor is asked to end: none, since one that is killed in a "
        "migration never starts again; whoever stops the container sets the limit",
        "none",
        "tests/daemon/test_supervisor.py::test_sigterm_waits_for_the_end_of_a_migration",
    ),
)


def table() -> str:
    """The table of docs/faults.md."""
    lines = ["| call | at most | held by |", "|---|---|---|"]
    for entry in DEADLINES:
        lines.append(f"| {entry.call} | {entry.shown} | `{entry.test}` |")
    return "\n".join(lines) + "\n"
