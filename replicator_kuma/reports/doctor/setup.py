"""Checks of the setup: settings, folders, restic, notifications, Uptime Kuma."""

from __future__ import annotations

import os
import shutil

from replicator_kuma.adapters.kuma.readiness import Readiness, probe
from replicator_kuma.adapters.notify import Message, Trial, where
from replicator_kuma.adapters.notify.answers import refused
from replicator_kuma.adapters.notify.by_apprise import ByApprise
from replicator_kuma.base.errors import DatabaseError, DatabaseMissing, SettingsError, StateError
from replicator_kuma.base.folders import Folder
from replicator_kuma.base.state_directory import unusable
from replicator_kuma.base.text import sized
from replicator_kuma.config import build
from replicator_kuma.replication import push
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.reports.doctor.findings import Context, Found, ok, warn

LEAST_SPACE = 64 << 20
STATE_SIZE = 64 << 10
"""Bytes: more than the state file ever has."""


def settings(context: Context) -> Found:
    """The role, and settings that are probably wrong. Raises SettingsError."""
    said = context.settings
    role = said.mode.value if said.mode else ""
    if not role:
        raise SettingsError("REPLICATOR_MODE is unset: expected BACKUP or RESTORE")
    yield ok(f"{role}, fleet {said.fleet}, instance {said.instance}")
    for warning in said.warnings:
        yield warn(warning)


def data_directory(context: Context) -> Found:
    """Whether DATA_DIR is usable. Raises DatabaseError."""
    data = context.settings.data_dir
    if not data.is_dir():
        raise DatabaseMissing(f"{data} is not a folder")
    try:
        Folder.open(data).close()
    except OSError as error:
        raise DatabaseError(
            f"{data} cannot be used: {error.strerror}",
            hint="Set DATA_DIR to the folder itself, or run the replicator as Kuma's own user.",
        ) from error
    yield ok(str(data))


def state_directory(context: Context) -> Found:
    """Whether the state can be read, and written with room to spare. Raises StateError."""
    state = StateFile(context.settings.state_dir)
    if not state.name.parent.is_dir():
        raise StateError(f"cannot use {state.name}: there is no folder above it")
    state.prepare()
    probe_file = f"doctor.{os.getpid()}"
    try:
        # A full disk still takes an empty file.
        with Folder.open(state.folder) as folder:
            folder.write(probe_file, lambda file: file.write(bytes(STATE_SIZE)))
            folder.remove(probe_file)
    except OSError as error:
        raise unusable(f"cannot write in {state.name}", error) from error
    state.load()
    free = shutil.disk_usage(state.folder).free
    if free < LEAST_SPACE:
        yield warn(f"{sized(free)} left in {state.name}", "Make room on the disk.")
    data = context.settings.data_dir
    if data.is_dir() and data.stat().st_dev != state.folder.stat().st_dev:
        yield warn(
            f"{state.name} is on another file system than {data}: files are copied there",
            "Leave REPLICATOR_STATE_DIR in the data directory.",
        )
    yield ok(f"{state.name} is writable")
    if os.geteuid() == 0 and data.is_dir() and data.stat().st_uid != 0:
        yield ok(
            f"this is root, and {data} belongs to user {data.stat().st_uid}: no link that this "
            "user may have made is followed there",
        )


def restic(context: Context) -> Found:
    """restic's version. Raises RepositoryErrors if restic is missing or too old."""
    version = build.build_repository(context.settings, interrupted=context.interrupted).version()
    yield ok(f"restic {version}")


def notifications(context: Context) -> Found:
    """Whether failures are told to anybody. Raises SettingsError."""
    targets = build.targets_of(context.settings)
    names = [target.name for target in (*targets.services, *targets.pings)]
    if not names:
        yield warn("nobody is told of failures", "Set NTFY_URL or REPLICATOR_NOTIFY.")
        return
    for service in targets.services:
        if isinstance(service, ByApprise) and (why := service.problem()):
            yield warn(f"{service.name}: {why}", "Check REPLICATOR_NOTIFY.")
    yield ok(f"told: {', '.join(names)}")


def notification_targets(context: Context) -> Found:
    """Whether each target answers, and takes the login where that shows without a message."""
    targets = build.targets_of(context.settings)
    for target in (*targets.services, *targets.pings):
        trial = target.trial()
        if trial is None:
            yield ok(f"{where(target)}: only a message shows it (replicator notify --test)")
        elif why := refused(target, trial):
            yield warn(f"{where(target)}: {why}", "Check its address: nobody is told there.")
        else:
            yield ok(f"{where(target)}: {trial.shows}")


def hints(context: Context) -> Found:
    """Whether this instance may send hints, or read them. (A hint that comes twice is no harm.)"""
    topic = build.signal_topic(context.settings)
    if topic is None:
        return
    if context.leads:
        published = StateFile(context.settings.state_dir).load().leading.published
        if published is None:
            yield ok(f"hints are sent to {topic.host} once something is published")
            return
        text = push.as_text(push.hint_of(published), context.settings.fleet)
        message = Message(f"{context.settings.instance}: published {published.position}", text)
        does, request = "sent", topic.request(message)
    else:
        does, request = "read", topic.subscription("1s", once=True)
    why = refused(topic, Trial(request, f"hints can be {does}"))
    if why:
        yield warn(
            f"hints cannot be {does} at {topic.host}: {why}",
            "Check REPLICATOR_SIGNAL_URL. Until then replicas look at their interval.",
        )
    else:
        yield ok(f"hints can be {does} at {topic.host}")


def kuma(context: Context) -> Found:
    """Whether Kuma answers at its configured address."""
    state = probe(context.settings.kuma_url)
    address = context.settings.kuma_url.rpartition("@")[2]
    if state is Readiness.READY:
        yield ok(f"ready at {address}")
        return
    found = context.store().holders() if context.store().shows_processes else ()
    runs = next((h for h in found if h.maybe_kuma), None)
    starting = "nobody answers: it is starting, or does not run"
    if runs is not None:
        starting = f"nobody answers, and {runs} has the database open: it is starting, or "
        starting += "answers elsewhere, and is then never stopped for an apply"
    yield warn(
        f"at {address}: {starting if state is Readiness.STARTING else state.value}",
        "If it runs elsewhere, set REPLICATOR_KUMA_URL.",
    )
