"""Settings, read once from the environment; nothing else in the project reads the environment.

All problems come in one SettingsError, each with its name, its value (never a secret's) and what
was expected (environ.py). Long because one file shows all settings and how each is read.
"""

from __future__ import annotations

import enum
import os
import re
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from replicator_kuma.adapters.litestream import place as litestream
from replicator_kuma.adapters.litestream.place import Place
from replicator_kuma.adapters.notify import Kind
from replicator_kuma.adapters.peers import Peer
from replicator_kuma.base.errors import SettingsError
from replicator_kuma.base.windows import Window
from replicator_kuma.config import env_file
from replicator_kuma.config.child_environments import (
    kuma_environment,
    litestream_environment,
    restic_environment,
    tool_environment,
)
from replicator_kuma.config.earlier_versions import OTHERS_WERE_RESTORE, topic_expected
from replicator_kuma.config.environ import PASSWORDS, Source
from replicator_kuma.config.listen import EXPECTED, OPEN, SHORTEST_TOKEN, Listen, usable_token
from replicator_kuma.config.peers import peers_of
from replicator_kuma.replication.leader.retention import Care, Keep
from replicator_kuma.replication.shrink import Limit

KUMA_SERVICES = ("child", "docker", "systemd", "command", "none")
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")
LOCAL_ENTITIES = ("proxy", "remote_browser", "docker_host", "notification")
"""tables whose rows a replica may own after it has received them once"""
NOTIFICATIONS = frozenset({"notification", "monitor_notification"})
SCHEMAS = ("strict", "compatible")
MISFITS = ("refuse", "truncate")
DRILLS = ("load", "kuma", "kill")
APPLIES = ("auto", "live", "restart")
SWITCH = ("off", "on")


class Mode(enum.Enum):
    BACKUP = "BACKUP"
    RESTORE = "RESTORE"
    RESTORE_LOCAL_ENTITY_REPLICATION = "RESTORE_LOCAL_ENTITY_REPLICATION"

    @property
    def replica(self) -> bool:
        """Whether it follows a leader."""
        return self is not Mode.BACKUP


class Strategy(enum.Enum):
    """RESTORE_MERGE_STRATEGY: which tables are replicated, and when drift is corrected."""

    SNAPSHOT = "SNAPSHOT"
    """all tables; drift is corrected at the next snapshot or start"""
    DEFAULT = "DEFAULT"
    """no notification tables; drift is corrected at every cycle"""
    NOTIFICATIONS_INSERT_MERGE = "NOTIFICATIONS_INSERT_MERGE"
    """all tables; drift is corrected at every cycle"""

    @property
    def heals(self) -> bool:
        return self is not Strategy.SNAPSHOT


class Need(enum.Enum):
    """A setting that a command requires."""

    ROLE = "role"
    REPOSITORY = "repository"
    DATA = "data"


@dataclass(frozen=True)
class Settings:
    """The checked settings of the environment and the command line; secrets are not in its repr."""

    mode: Mode | None
    fleet: str
    instance: str
    data_dir: Path
    state_dir: Path
    backup_interval: float
    restore_interval: float
    include: frozenset[str] | None
    """REPLICATOR_TABLES; None for all of the catalog"""
    exclude: frozenset[str]
    """REPLICATOR_EXCLUDE_TABLES, and the tables that the strategy excludes"""
    exclude_leading: frozenset[str]
    """REPLICATOR_EXCLUDE_TABLES alone: a strategy excludes no table on a leader"""
    strategy: Strategy
    local: frozenset[str]
    """tables whose rows are received once and then are this replica's own; empty in other modes"""
    overrides: Path | None
    """the file of REPLICATOR_OVERRIDES; it is read at each cycle, not here"""
    compatible: bool
    """REPLICATOR_SCHEMA"""
    truncate: bool
    """REPLICATOR_ON_MISFIT"""
    shrink_limit: Limit
    setting_keys: frozenset[str]
    """REPLICATOR_SETTINGS: the keys of `setting` that are replicated"""
    drill_schedule: Window
    drill: str
    """REPLICATOR_DRILL, what a scheduled drill does: load, kuma or kill"""
    care: Care
    """what housekeeping keeps and checks"""
    housekeeping: Window
    """REPLICATOR_HOUSEKEEPING_SCHEDULE"""
    restic: str
    kuma: str
    """child, docker, …; empty if nobody chose"""
    kuma_command: tuple[str, ...]
    kuma_dir: Path
    kuma_container: str
    kuma_unit: str
    kuma_stop_command: str = field(repr=False)
    """a line for `sh`; may hold a secret"""
    kuma_start_command: str = field(repr=False)
    kuma_status_command: str = field(repr=False)
    kuma_url: str
    apply: str
    """auto, live or restart"""
    agent_socket: Path
    fast_start: str
    ready_timeout: float
    log_format: str
    log_level: str
    ntfy_url: str = field(repr=False)
    ntfy_token: str = field(repr=False)
    notify: str = field(repr=False)
    """the addresses of REPLICATOR_NOTIFY"""
    tell: frozenset[Kind]
    """the kinds of messages that are sent"""
    signal_url: str = field(repr=False)
    """the topic of the hints; "" if there is none"""
    peers: tuple[Peer, ...]
    """the other instances of the fleet, as far as they are named here"""
    history: Place | None = field(repr=False)
    """REPLICATOR_LITESTREAM_URL; None: Litestream does not run"""
    history_stop: float
    """seconds that the end of `run` gives Litestream"""
    history_environment: Mapping[str, str] = field(repr=False)
    """the whole environment of Litestream; empty without one"""
    http: Listen | None
    """where the HTTP server listens; None: nowhere"""
    http_token: str = field(repr=False)
    """what its clients and the peers have to say; "": none is set, or it is open knowingly"""
    http_open: bool
    """REPLICATOR_HTTP_TOKEN=none: it may be open beyond loopback"""
    restic_environment: Mapping[str, str] = field(repr=False)
    """the whole environment of restic and its backends"""
    second_environment: Mapping[str, str] = field(repr=False)
    """the same for the second repository; empty without one"""
    kuma_environment: Mapping[str, str] = field(repr=False)
    """for Kuma as our child: all variables except the replicator's and the repository's.

    It includes UPTIME_KUMA_DB_…, which say where Kuma's database is; one of them is a password.
    """
    tool_environment: Mapping[str, str] = field(repr=False)
    """for the commands that stop and start a Kuma that is not our child"""
    warnings: tuple[str, ...] = ()
    given: frozenset[str] = frozenset()
    """the variables that are set, also by options; all others have their defaults"""

    @property
    def role(self) -> str:
        """The value of REPLICATOR_MODE; "" if it is unset."""
        return self.mode.value if self.mode else ""

    @property
    def leads(self) -> bool | None:
        """Whether this instance is the leader; None: no role is set."""
        return None if self.mode is None else not self.mode.replica

    @property
    def history_place(self) -> Place | None:
        """The folder of this instance in Litestream's store."""
        return None if self.history is None else self.history.below(self.fleet, self.instance)

    @property
    def forgetful(self) -> bool:
        """Whether the state directory is lost together with a disk that Litestream replaces."""
        if self.history is None:
            return False
        data = os.path.realpath(self.data_dir)
        return os.path.commonpath((data, os.path.realpath(self.state_dir))) == data

    @property
    def interval(self) -> float:
        return self.backup_interval if self.mode is Mode.BACKUP else self.restore_interval

    def kuma_service(self, *, supervised: bool) -> str:
        """How this process reaches Kuma: only `run` can have it as its child."""
        if supervised:
            return self.kuma or "child"
        return "none" if self.kuma in ("", "child") else self.kuma

    @classmethod
    def load(
        cls,
        environ: Mapping[str, str] | None = None,
        overrides: Mapping[str, str] = MappingProxyType({}),
        needs: Collection[Need] = (),
    ) -> Settings:
        """Read and check everything; raises one SettingsError with all problems.

        ``environ`` is the process's own when None; ``overrides`` are options of the command line,
        by variable name, and win over it.
        """
        source = Source(os.environ if environ is None else environ, overrides)
        settings = _build(source, needs)
        if source.problems:
            raise SettingsError(source.message())
        return settings

    @classmethod
    def of_folders(cls, overrides: Mapping[str, str]) -> Settings:
        """Read only the folders: a bad file of a secret must not make the instance unhealthy."""
        return cls._of(("DATA_DIR", "REPLICATOR_STATE_DIR"), overrides)

    @classmethod
    def of_schedule(cls, overrides: Mapping[str, str]) -> Settings:
        """Read only the folders, the role and the intervals of cycles."""
        intervals = ("REPLICATOR_BACKUP_INTERVAL", "REPLICATOR_RESTORE_INTERVAL")
        folders = ("DATA_DIR", "REPLICATOR_STATE_DIR")
        return cls._of((*folders, "REPLICATOR_MODE", *intervals), overrides)

    @classmethod
    def _of(cls, names: Collection[str], overrides: Mapping[str, str]) -> Settings:
        environ = {**env_file.added_if_readable(os.environ), **os.environ}
        return cls.load({name: environ[name] for name in names if name in environ}, overrides)


def _no_folder(path: Path) -> str | None:
    """Why a path is not a folder ("": it is missing, or a file); None if it is a folder."""
    try:
        return None if path.is_dir() else ""
    except OSError as error:
        return f" ({error.strerror})"


def _build(source: Source, needs: Collection[Need]) -> Settings:
    data_dir, mode, strategy = source.path("DATA_DIR"), _mode(source, needs), _strategy(source)
    include, exclude = _tables(source, mode, strategy)
    overrides = "REPLICATOR_OVERRIDES"
    state_dir = source.path("REPLICATOR_STATE_DIR", data_dir / "replicator")
    instance = _instance(source)
    if Need.REPOSITORY in needs:
        _need_repository(source)
    if Need.DATA in needs and data_dir.is_absolute() and (why := _no_folder(data_dir)) is not None:
        source.problem("DATA_DIR", f"a folder that is there: Kuma's data directory{why}")
    return Settings(
        mode=mode,
        fleet=_fleet(source),
        instance=instance,
        data_dir=data_dir,
        state_dir=state_dir,
        backup_interval=source.duration("REPLICATOR_BACKUP_INTERVAL"),
        restore_interval=source.duration("REPLICATOR_RESTORE_INTERVAL"),
        include=include,
        exclude=exclude,
        exclude_leading=source.names("REPLICATOR_EXCLUDE_TABLES"),
        strategy=strategy,
        local=_local(source, mode, include, exclude),
        overrides=source.path(overrides) if source.text(overrides) else None,
        compatible=source.choice("REPLICATOR_SCHEMA", SCHEMAS) == "compatible",
        truncate=source.choice("REPLICATOR_ON_MISFIT", MISFITS) == "truncate",
        shrink_limit=_shrink_limit(source),
        setting_keys=_setting_keys(source),
        drill_schedule=source.window("REPLICATOR_DRILL_SCHEDULE"),
        drill=source.choice("REPLICATOR_DRILL", DRILLS),
        care=_care(source),
        housekeeping=source.window("REPLICATOR_HOUSEKEEPING_SCHEDULE"),
        restic=source.text("REPLICATOR_RESTIC"),
        kuma=_kuma(source),
        kuma_command=source.command("REPLICATOR_KUMA_COMMAND"),
        kuma_dir=source.path("REPLICATOR_KUMA_DIR"),
        kuma_container=source.text("REPLICATOR_KUMA_CONTAINER"),
        kuma_unit=source.text("REPLICATOR_KUMA_UNIT"),
        kuma_stop_command=source.text("REPLICATOR_KUMA_STOP_COMMAND"),
        kuma_start_command=source.text("REPLICATOR_KUMA_START_COMMAND"),
        kuma_status_command=source.text("REPLICATOR_KUMA_STATUS_COMMAND"),
        kuma_url=_kuma_url(source),
        apply=source.choice("REPLICATOR_APPLY", APPLIES),
        agent_socket=source.path("REPLICATOR_AGENT_SOCKET", state_dir / "agent.sock"),
        fast_start=source.choice("REPLICATOR_FAST_START", ("auto", *SWITCH)),
        ready_timeout=source.duration("REPLICATOR_READY_TIMEOUT"),
        log_format=source.choice("REPLICATOR_LOG_FORMAT", LOG_FORMATS),
        log_level=source.choice("REPLICATOR_LOG_LEVEL", LOG_LEVELS),
        ntfy_url=_topic_url(source, "NTFY_URL"),
        ntfy_token=source.text("NTFY_TOKEN"),
        notify=_notify(source),
        tell=_tell(source),
        signal_url=_topic_url(source, "REPLICATOR_SIGNAL_URL"),
        peers=peers_of(source, instance),
        history=(history := _history(source)),
        history_stop=source.duration("REPLICATOR_LITESTREAM_STOP"),
        history_environment=MappingProxyType(
            litestream_environment(source.values, history.kind) if history else {}
        ),
        http=_http(source),
        http_token=_http_token(source),
        http_open=source.text("REPLICATOR_HTTP_TOKEN") == OPEN,
        restic_environment=MappingProxyType(restic_environment(source.values)),
        second_environment=MappingProxyType(source.second()),
        kuma_environment=MappingProxyType(kuma_environment(source.values, data_dir)),
        tool_environment=MappingProxyType(tool_environment(source.values, data_dir)),
        warnings=tuple(source.warnings),
        given=frozenset(source.values),
    )


def _mode(source: Source, needs: Collection[Need]) -> Mode | None:
    value = source.text("REPLICATOR_MODE")
    if value in Mode.__members__:
        return Mode(value)
    if value or Need.ROLE in needs:
        source.problem(
            "REPLICATOR_MODE",
            "BACKUP (the leader), RESTORE (a replica) or RESTORE_LOCAL_ENTITY_REPLICATION; "
            + OTHERS_WERE_RESTORE,
        )
    return None


def _fleet(source: Source) -> str:
    value = source.text("REPLICATOR_FLEET")
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", value):
        source.problem("REPLICATOR_FLEET", "1 to 64 letters, digits, dots, dashes or underscores")
    return value


def _instance(source: Source) -> str:
    """The instance's name. It becomes part of a restic tag, so it must have no comma."""
    value = source.text("REPLICATOR_INSTANCE") or socket.gethostname()
    if not re.fullmatch(r"[^,\x00-\x1f\x7f]{1,128}", value) or value != value.strip():
        source.problem("REPLICATOR_INSTANCE", "1 to 128 characters without commas and line breaks")
    return value


def _strategy(source: Source) -> Strategy:
    value = source.text("RESTORE_MERGE_STRATEGY").strip().upper()
    if value not in Strategy.__members__:
        source.problem("RESTORE_MERGE_STRATEGY", "one of " + ", ".join(Strategy.__members__))
        return Strategy.SNAPSHOT
    return Strategy(value)


def _tables(
    source: Source, mode: Mode | None, strategy: Strategy
) -> tuple[frozenset[str] | None, frozenset[str]]:
    include = source.names("REPLICATOR_TABLES") or None
    exclude = source.names("REPLICATOR_EXCLUDE_TABLES")
    if strategy is Strategy.DEFAULT and mode is not Mode.BACKUP:
        exclude |= NOTIFICATIONS
    if include or exclude:
        from replicator_kuma.dump import catalog

        try:
            catalog.choose(include, exclude)
        except ValueError as error:
            name = "REPLICATOR_TABLES" if include else "REPLICATOR_EXCLUDE_TABLES"
            source.problem(name, f"tables that can go without the rest ({error})")
    return include, exclude


def _local(
    source: Source, mode: Mode | None, include: frozenset[str] | None, exclude: frozenset[str]
) -> frozenset[str]:
    name = "REPLICATOR_LOCAL_ENTITIES"
    given, chosen = name in source.values, source.names(name)
    for wrong in sorted(chosen - set(LOCAL_ENTITIES)):
        source.problem(name, f"tables out of {', '.join(LOCAL_ENTITIES)} (not {wrong!r})")
    if mode is not Mode.RESTORE_LOCAL_ENTITY_REPLICATION:
        if given:
            source.warnings.append(
                f"{name} is for REPLICATOR_MODE=RESTORE_LOCAL_ENTITY_REPLICATION only: it does "
                "nothing here"
            )
        return frozenset()
    away = chosen & exclude if include is None else chosen - (include - exclude)
    if given and away:
        source.warnings.append(
            f"{name} names {', '.join(sorted(away))}, which is not replicated here"
        )
    return chosen - away


def _shrink_limit(source: Source) -> Limit:
    name = "REPLICATOR_SHRINK_LIMIT"
    try:
        return Limit.parse(source.text(name))
    except ValueError:
        source.problem(name, "a percentage of 1% to 100%, or off")
        return Limit()


def _setting_keys(source: Source) -> frozenset[str]:
    """The catalog's keys changed by `+key,-key`; or exactly the list, if its keys have no signs."""
    from replicator_kuma.dump.catalog import SETTINGS, SETTINGS_NEVER, SETTINGS_OPTIONAL

    name = "REPLICATOR_SETTINGS"
    given = source.names(name)
    added = {part[1:].strip() for part in given if part[0] == "+"}
    removed = {part[1:].strip() for part in given if part[0] == "-"}
    plain = {part for part in given if part[0] not in "+-"}
    if plain and (added or removed):
        source.problem(name, "a list of +key and -key, or one of keys without signs, not both")
    if "" in added | removed or added & removed:
        source.problem(name, "keys of Kuma's settings, each once, like +primaryBaseURL,-checkBeta")
    if never := sorted((added | plain) & SETTINGS_NEVER):
        source.problem(name, f"keys that may leave an instance ({', '.join(never)} never may)")
    known = SETTINGS | SETTINGS_OPTIONAL | SETTINGS_NEVER
    if unknown := sorted((added | removed | plain) - known - {""}):
        source.warnings.append(
            f"{name} names {', '.join(unknown)}: no setting of Kuma that replicator-kuma knows"
        )
    return frozenset(plain) if plain else SETTINGS - removed | added


def _need_repository(source: Source) -> None:
    values = source.values
    if not {"RESTIC_REPOSITORY", "RESTIC_REPOSITORY_FILE"} & values.keys():
        source.problem("RESTIC_REPOSITORY", "a repository, like s3:https://host/bucket")
    if not PASSWORDS & values.keys():
        source.problem("RESTIC_PASSWORD", "the repository's password, or RESTIC_PASSWORD_FILE")


def _kuma(source: Source) -> str:
    value = source.choice("REPLICATOR_KUMA", KUMA_SERVICES)
    needed = {
        "docker": ("REPLICATOR_KUMA_CONTAINER",),
        "systemd": ("REPLICATOR_KUMA_UNIT",),
        "command": ("REPLICATOR_KUMA_STOP_COMMAND", "REPLICATOR_KUMA_START_COMMAND"),
    }
    for name in needed.get(value, ()):
        if not source.text(name):
            source.problem(name, f"a value, because REPLICATOR_KUMA={value}")
    return value


def kuma_address(values: Mapping[str, str]) -> tuple[str, bool]:
    """Kuma's address by Kuma's own variables, and whether Kuma listens on all interfaces."""
    ports = (values.get("UPTIME_KUMA_PORT", ""), values.get("PORT", ""), "3001")
    port = int(next(text for text in ports if text.isascii() and text.isdigit()))
    host = values.get("UPTIME_KUMA_HOST") or values.get("HOST") or ""
    if everywhere := host in ("", "0.0.0.0", "::", "[::]"):
        host = "127.0.0.1"
    elif ":" in host and not host.startswith("["):
        host = f"[{host}]"
    secure = all(
        values.get(f"UPTIME_KUMA_{name}") or values.get(name) for name in ("SSL_KEY", "SSL_CERT")
    )
    return f"{'https' if secure else 'http'}://{host}:{port}", everywhere


def _kuma_url(source: Source) -> str:
    """REPLICATOR_KUMA_URL, else the address by Kuma's own variables, in Kuma's precedence."""
    url = source.text("REPLICATOR_KUMA_URL")
    if url:
        if not re.match(r"https?://[^/\s]+", url):
            source.problem("REPLICATOR_KUMA_URL", "an address like http://127.0.0.1:3001")
        return url.rstrip("/")
    return kuma_address(source.values)[0]


def _tell(source: Source) -> frozenset[Kind]:
    kinds = {kind.value: kind for kind in Kind}
    names = source.names("REPLICATOR_TELL")
    if names - set(kinds) or not names:
        source.problem("REPLICATOR_TELL", f"some of {','.join(kinds)}")
    return frozenset(kinds[name] for name in names if name in kinds)


def _notify(source: Source) -> str:
    text = source.text("REPLICATOR_NOTIFY").strip()
    if text:
        from replicator_kuma.adapters.notify import targets

        source.problems += targets.read(text).problems
    return text


def _topic_url(source: Source, name: str) -> str:
    url = source.text(name).strip()
    if url and (expected := topic_expected(url)):
        source.problem(name, expected)
    elif url:
        from replicator_kuma.adapters.notify.ntfy import Ntfy

        try:
            Ntfy.at(url, variable=name)
        except SettingsError as error:
            source.problem(name, f"a topic's address ({error})")
    return url


def _history(source: Source) -> Place | None:
    name = "REPLICATOR_LITESTREAM_URL"
    text = source.text(name).strip()
    if not text or source.unedited(name):
        return None
    region = source.values.get("AWS_REGION") or source.values.get("AWS_DEFAULT_REGION", "")
    try:
        return litestream.parse(text, region, source.values.get("AZURE_ACCOUNT_NAME", ""))
    except ValueError as error:
        source.problem(name, f"a store ({error}), like {litestream.EXPECTED}")
        return None


def _http(source: Source) -> Listen | None:
    try:
        return Listen.parse(source.text("REPLICATOR_HTTP"))
    except ValueError:
        source.problem("REPLICATOR_HTTP", EXPECTED)
        return None


def _http_token(source: Source) -> str:
    token = source.text("REPLICATOR_HTTP_TOKEN")
    if token in ("", OPEN):
        return ""
    if not usable_token(token):
        source.problem(
            "REPLICATOR_HTTP_TOKEN",
            f"{SHORTEST_TOKEN} or more visible ASCII characters (openssl rand -hex 24), or {OPEN}",
        )
    return token


def _care(source: Source) -> Care:
    """REPLICATOR_KEEP_… and REPLICATOR_CHECK_PARTS."""
    everything = source.text("REPLICATOR_KEEP_LAST").strip().lower() == "off"
    return Care(
        Keep(
            None if everything else source.number("REPLICATOR_KEEP_LAST", 1, 100_000),
            source.number("REPLICATOR_KEEP_HOURS", 0, 100_000),
            source.number("REPLICATOR_KEEP_HOURLY", 0, 100_000),
            source.number("REPLICATOR_KEEP_DAILY", 0, 100_000),
            source.number("REPLICATOR_KEEP_MONTHLY", 0, 100_000),
        ),
        source.number("REPLICATOR_CHECK_PARTS", 1, 256),
    )
