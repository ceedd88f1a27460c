"""Builds the Instance for cycles from Settings: the only place that chooses the parts."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from replicator_kuma.adapters.kuma import KumaService
from replicator_kuma.adapters.kuma.agent.client import Agent
from replicator_kuma.adapters.kuma.agent.launch import FILE, digest, with_agent
from replicator_kuma.adapters.kuma.readiness import (
    NotReady,
    Readiness,
    place,
    probe,
    taken,
    wait_ready,
)
from replicator_kuma.adapters.repository.pair import SECOND, Pair
from replicator_kuma.base.errors import DatabaseError, KumaError, ReplicatorError, SettingsError
from replicator_kuma.base.events import as_event
from replicator_kuma.base.processes import other_kuma
from replicator_kuma.base.threads import never
from replicator_kuma.base.times import lasting
from replicator_kuma.config.settings import Mode, Settings
from replicator_kuma.dump.transform.overrides import Overrides
from replicator_kuma.dump.transform.policy import Policy
from replicator_kuma.replication.change_log import ChangeLog
from replicator_kuma.replication.instance import Instance, Run, Way
from replicator_kuma.replication.restart_cooldown import Cooldown
from replicator_kuma.replication.state.file import StateFile

if TYPE_CHECKING:
    from replicator_kuma.adapters.database import Store
    from replicator_kuma.adapters.kuma.embedded_mariadb import EmbeddedDatabase
    from replicator_kuma.adapters.kuma.supervised import SupervisedKuma
    from replicator_kuma.adapters.kuma.throwaway import ThrowAway
    from replicator_kuma.adapters.litestream.restore import Replica
    from replicator_kuma.adapters.notify import Notifier, Pings
    from replicator_kuma.adapters.notify.ntfy import Ntfy
    from replicator_kuma.adapters.notify.targets import Targets
    from replicator_kuma.adapters.repository.restic.maintenance import KeptRepository

DATABASE = "kuma.db"

logger = logging.getLogger(__name__)


def build_supervised(settings: Settings) -> SupervisedKuma:
    """The Kuma that `replicator run` supervises, as its child or not."""
    from replicator_kuma.adapters.kuma.child import ChildKuma
    from replicator_kuma.adapters.kuma.supervised import SupervisedKuma

    if settings.kuma_service(supervised=True) != "child":
        return SupervisedKuma(build_service(settings))
    child = ChildKuma(
        settings.kuma_command,
        settings.kuma_dir,
        settings.kuma_environment,
        database=_embedded_database(settings),
        launch=partial(_with_agent, settings),
    )
    return SupervisedKuma(child, child)


def _with_agent(
    settings: Settings, command: Sequence[str], environment: Mapping[str, str]
) -> tuple[Sequence[str], Mapping[str, str]]:
    """Kuma's command and environment with the agent, unless that is not wanted or has hung."""
    if settings.apply == Way.RESTART.value or not FILE.is_file():
        return command, environment
    with contextlib.suppress(ReplicatorError):
        hung = StateFile(settings.state_dir).load().running.agent_hung
        if hung and hung == digest():
            logger.warning(
                "Uptime Kuma starts without the agent, in which it hung before",
                extra=as_event("kuma_without_agent"),
            )
            return command, environment
    return with_agent(command, environment, settings.agent_socket, fast_start=settings.fast_start)


def build_replica(settings: Settings, folder: Path) -> Replica | None:
    """Litestream's replica of this instance; None without REPLICATOR_LITESTREAM_URL.

    ``folder`` is for its files. Raises HistoryError if Litestream is not installed.
    """
    from replicator_kuma.adapters.litestream import program
    from replicator_kuma.adapters.litestream.restore import Replica

    above, place = settings.history, settings.history_place
    if above is None or place is None:
        return None
    environment = settings.history_environment
    return Replica(program.find(), environment, place, above, settings.data_dir / DATABASE, folder)


def build_service(settings: Settings) -> KumaService:
    """The service that stops and starts a Kuma that is not our child, with its embedded MariaDB."""
    from replicator_kuma.adapters.kuma.embedded_mariadb import EmbeddedKuma

    service: KumaService
    tools = settings.tool_environment
    match settings.kuma_service(supervised=False):
        case "none":
            from replicator_kuma.adapters.kuma.none import NoKuma

            return NoKuma()
        case "docker":
            from replicator_kuma.adapters.kuma.docker import DockerKuma

            service = DockerKuma(settings.kuma_container, environment=tools)
        case "systemd":
            from replicator_kuma.adapters.kuma.systemd import SystemdKuma

            service = SystemdKuma(settings.kuma_unit, environment=tools)
        case _:
            from replicator_kuma.adapters.kuma.command import CommandKuma

            stop, start = settings.kuma_stop_command, settings.kuma_start_command
            status = settings.kuma_status_command or None
            service = CommandKuma(stop, start, status, environment=tools)
    return EmbeddedKuma(service, _embedded_database(settings))


def _embedded_database(settings: Settings) -> EmbeddedDatabase:
    from replicator_kuma.adapters.kuma.embedded_mariadb import EmbeddedDatabase

    return EmbeddedDatabase(settings.data_dir, settings.kuma_environment)


def build_store(settings: Settings) -> Store:
    """Kuma's database, with the chosen keys of settings; nothing is opened yet.

    Raises SettingsError, DatabaseError.
    """
    from replicator_kuma.adapters.database.detect import open_store

    return open_store(settings.data_dir, settings.kuma_environment, settings.setting_keys)


def build_throwaway(settings: Settings, *, interrupted: Callable[[], bool] = never) -> ThrowAway:
    """The throw-away Kuma of a drill, booted by the real Kuma's command."""
    from replicator_kuma.adapters.kuma.throwaway import ThrowAway

    return ThrowAway(
        settings.kuma_command,
        settings.kuma_dir,
        settings.kuma_environment,
        settings.ready_timeout,
        interrupted,
    )


def _store_for_now(settings: Settings) -> Store:
    """The store; on an error a placeholder, so that the next cycle fails, notes it and tells it."""
    from replicator_kuma.adapters.database.detect import UnknownStore

    try:
        return build_store(settings)
    except (SettingsError, DatabaseError) as error:
        return UnknownStore(error)


def build_repository(
    settings: Settings, *, interrupted: Callable[[], bool] = never
) -> KeptRepository | Pair:
    """The restic repository with its own environment; a pair if a second one is configured."""
    places = build_repositories(settings, interrupted)
    return Pair(*places) if len(places) == 2 else places[0]


def build_repositories(
    settings: Settings, interrupted: Callable[[], bool]
) -> tuple[KeptRepository] | tuple[KeptRepository, KeptRepository]:
    """Each repository by itself."""
    first = _place(settings, settings.restic_environment, interrupted)
    if not settings.second_environment:
        return (first,)
    second = _place(settings, settings.second_environment, interrupted)
    second.name = SECOND
    return first, second


def _place(
    settings: Settings, environment: Mapping[str, str], interrupted: Callable[[], bool]
) -> KeptRepository:
    """One repository, with restic's cache in the state directory."""
    from replicator_kuma.adapters.repository.restic.maintenance import KeptRepository

    return KeptRepository(
        settings.restic,
        environment,
        # a command that only reads must not create a mistyped DATA_DIR
        settings.state_dir / "cache" if os.path.isdir(settings.state_dir.parent) else None,  # noqa: PTH112
        settings.instance,
        interrupted=interrupted,
        # only logged: while a repository is away there are three a cycle
        on_retry=_say_retry,
    )


def _say_retry(error: ReplicatorError, pause: float) -> None:
    """Log a retry below warning level: if the last attempt fails too, that error is reported."""
    logger.debug("%s; trying again in %s", error, lasting(pause))


def build(
    settings: Settings,
    *,
    service: SupervisedKuma | None = None,
    run: Run | None = None,
    repository_interrupted: Callable[[], bool] | None = None,
) -> Instance:
    """The instance that the settings describe; raises SettingsError and DatabaseError.

    ``service`` is the supervisor's, which has Kuma as its child; a one-shot command uses the
    settings. ``run``: how the action is carried out.
    """
    from replicator_kuma.dump.catalog import choose

    run = run or Run()
    interrupted = run.interrupted
    kuma = service or build_service(settings)
    policy = read_policy(settings)
    try:
        tables = choose(settings.include, settings.exclude)
        leading = choose(settings.include, settings.exclude_leading)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    places = build_repositories(settings, repository_interrupted or interrupted)
    pair = Pair(*places) if len(places) == 2 else None
    return Instance(
        name=settings.instance,
        fleet=settings.fleet,
        data_dir=settings.data_dir,
        tables=tables,
        leading=leading,
        state=StateFile(settings.state_dir),
        store=_store_for_now(settings),
        repository=pair or places[0],
        repositories=places,
        pair=pair,
        kuma=kuma,
        wait_ready=partial(_await_managed, settings, kuma, interrupted),
        way=Way(settings.apply),
        agent=None if settings.apply == "restart" else build_agent(settings),
        notifier=build_notifier(settings),
        signal=build_signal(settings),
        pings=build_pings(settings),
        policy=policy,
        shrink_limit=settings.shrink_limit,
        find_store=lambda: build_store(settings),
        listens=partial(taken, settings.kuma_url),
        answers=partial(_await_answer, settings, kuma, interrupted),
        up=lambda: probe(settings.kuma_url) is Readiness.READY,
        end_hung=service.kill if service is not None and service.owned else None,
        setup=_setup(settings, kuma),
        cooldown=Cooldown(settings.restore_interval),
        database_up=_database_up(settings, kuma),
        run=run,
        leads=settings.leads,
        change_log=ChangeLog(settings.state_dir) if settings.http else None,
        supervised=service is not None,
        forgetful=settings.forgetful,
    )


def build_agent(settings: Settings) -> Agent:
    """The agent in Kuma's process; Kuma may run as the owner of its data directory."""

    def owners() -> tuple[int, ...]:
        with contextlib.suppress(OSError):
            return (settings.data_dir.stat().st_uid,)
        return ()

    return Agent(settings.agent_socket, owners)


def targets_of(settings: Settings) -> Targets:
    """Who gets messages and pings, by NTFY_URL, NTFY_TOKEN and REPLICATOR_NOTIFY.

    Raises SettingsError.
    """
    from replicator_kuma.adapters.notify import targets
    from replicator_kuma.adapters.notify.ntfy import Ntfy

    first = [Ntfy.at(settings.ntfy_url, settings.ntfy_token or None)] if settings.ntfy_url else []
    found = targets.read(settings.notify, first)
    if found.problems:
        raise SettingsError("; ".join(found.problems))
    return found


def build_notifier(settings: Settings) -> Notifier:
    """What sends each service the messages that REPLICATOR_TELL chooses; without one, nothing.

    Raises SettingsError.
    """
    from replicator_kuma.adapters.notify import NullNotifier
    from replicator_kuma.adapters.notify.delivery import Delivery
    from replicator_kuma.adapters.notify.several import SeveralNotifiers

    services = targets_of(settings).services
    if not services:
        return NullNotifier()
    name, tell = settings.instance, settings.tell
    return SeveralNotifiers([Delivery(service, name, tell) for service in services])


def build_pings(settings: Settings) -> Pings:
    """What pings each target of pings at each cycle; without one, nobody. Raises SettingsError."""
    from replicator_kuma.adapters.notify import NoPings
    from replicator_kuma.adapters.notify.pinging import Pinging
    from replicator_kuma.adapters.notify.several import SeveralPings

    targets = targets_of(settings).pings
    return SeveralPings([Pinging(target) for target in targets]) if targets else NoPings()


def signal_topic(settings: Settings) -> Ntfy | None:
    """The topic of REPLICATOR_SIGNAL_URL; None if it is not set."""
    from replicator_kuma.adapters.notify.ntfy import Ntfy

    name = "REPLICATOR_SIGNAL_URL"
    url = settings.signal_url
    return Ntfy.at(url, variable=name, for_programs=True) if url else None


def build_signal(settings: Settings) -> Notifier:
    """What sends hints to the topic of REPLICATOR_SIGNAL_URL, whatever REPLICATOR_TELL says."""
    from replicator_kuma.adapters.notify import NullNotifier
    from replicator_kuma.adapters.notify.delivery import Delivery

    topic = signal_topic(settings)
    return Delivery(topic, settings.instance, newest_only=True) if topic else NullNotifier()


def read_policy(settings: Settings) -> Callable[[], Policy]:
    """A function that returns the policy; each call reads the file of overrides.

    A leader takes its own rows back unchanged: for it only the settings' keys count. The call
    raises SettingsError for a file that cannot be read or parsed.
    """

    def read() -> Policy:
        if settings.mode is Mode.BACKUP:
            return Policy(settings=settings.setting_keys)
        return Policy(
            settings=settings.setting_keys,
            heal=settings.strategy.heals,
            local=settings.local,
            overrides=_overrides(settings.overrides),
            compatible=settings.compatible,
            truncate=settings.truncate,
        )

    return read


def _overrides(path: Path | None) -> Overrides:
    if path is None:
        return Overrides()
    again = "Mend the file"
    try:
        return Overrides.parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        why, again = f"cannot be read: {error.strerror}", "Put it there, readable for this user"
    except UnicodeError:
        why = "is not UTF-8 text"
    except ValueError as error:
        why = f"cannot be understood: {error}"
    raise SettingsError(
        f"the file of REPLICATOR_OVERRIDES, {path}, {why}",
        hint=f"Nothing was applied. {again}: it is read again at the next cycle.",
    )


def _database_up(
    settings: Settings, kuma: KumaService
) -> Callable[[], AbstractContextManager[None]]:
    embedded = _embedded_database(settings)
    # a unit or a command may start a container: only a child's mariadbd surely runs on this host
    return embedded.up if kuma.owned else embedded.elsewhere


def _await_managed(settings: Settings, kuma: KumaService, interrupted: Callable[[], bool]) -> None:
    """Wait for Kuma, unless we do not manage it."""
    if kuma.manages:
        _await_kuma(settings, kuma, interrupted)


def _await_kuma(settings: Settings, kuma: KumaService, interrupted: Callable[[], bool]) -> None:
    wait_ready(
        settings.kuma_url,
        kuma.running,
        settings.ready_timeout,
        ended_with=kuma.ended_with,
        stranger=lambda: _stranger(settings, kuma),
        interrupted=interrupted,
        on_state=_say,
    )


def _stranger(settings: Settings, kuma: KumaService) -> str:
    """Which other Kuma answers at our child's address, in words; "" if none is visible."""
    if kuma.pid is None:
        return ""
    other = other_kuma(*place(settings.kuma_url), kuma.pid)
    return "" if other is None else str(other)


def _await_answer(settings: Settings, kuma: KumaService, interrupted: Callable[[], bool]) -> None:
    """Wait until a starting Kuma answers; if it never does, we must not stop it."""
    try:
        _await_kuma(settings, kuma, interrupted)
    except NotReady as error:
        if error.state is None:
            return  # it has ended meanwhile
        raise KumaError(
            "Kuma runs and is not ready where it should answer, so that nobody would see it "
            f"come back: it was not stopped ({error})",
            hint="Set REPLICATOR_KUMA_URL to where it answers (host, port, http or https). "
            "If Kuma itself hangs: replicator restore --now",
        ) from error


def _setup(settings: Settings, kuma: KumaService) -> str:
    """A fingerprint of how Kuma is run; it is a hash, since the values may be secret."""
    commands = (settings.kuma_stop_command, settings.kuma_start_command, *settings.kuma_command)
    parts = (kuma.name, settings.kuma_url, settings.kuma_container, settings.kuma_unit, *commands)
    return hashlib.sha256("\0".join(map(str, parts)).encode(errors="replace")).hexdigest()[:16]


def _say(state: Readiness) -> None:
    logger.debug("Uptime Kuma: %s", state.value)
    if state is Readiness.MIGRATING:
        logger.info(
            "Uptime Kuma migrates its database: it is not stopped before it has finished",
            extra=as_event("kuma_migrates"),
        )
