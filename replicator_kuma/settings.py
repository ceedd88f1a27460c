"""Settings, read once from the environment; nothing else in the project reads the environment.

All problems come in one SettingsError, each with its name, its value (never a secret's) and what
was expected. An empty variable counts as unset: compose files write ``NAME=`` for that.
"""

from __future__ import annotations

import enum
import os
import re
import shlex
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from replicator_kuma.environments import kuma_environment, restic_environment
from replicator_kuma.errors import SettingsError
from replicator_kuma.variables import BACKEND_SECRETS, VARIABLES

KUMA_SERVICES = ("child", "docker", "systemd", "command", "none")
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_LONGEST = 366 * 86400

_KUBERNETES = re.compile(
    r"REPLICATOR(_[A-Z0-9_]+)?_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP)"
    r"(_(ADDR|PORT|PROTO))?)?)"
)


class Mode(enum.Enum):
    BACKUP = "BACKUP"
    RESTORE = "RESTORE"


class Need(enum.Enum):
    """What a command cannot do without."""

    ROLE = "role"
    REPOSITORY = "repository"
    DATA = "data"


@dataclass(frozen=True)
class Settings:
    """What the environment and the command line say, checked. Secrets are not in its repr."""

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
    restic: str
    kuma: str
    """child, docker, …; empty when nobody chose"""
    kuma_command: tuple[str, ...]
    kuma_dir: Path
    kuma_container: str
    kuma_unit: str
    kuma_stop_command: str = field(repr=False)
    """a line for `sh`; may hold a secret"""
    kuma_start_command: str = field(repr=False)
    kuma_status_command: str = field(repr=False)
    kuma_url: str
    ready_timeout: float
    log_format: str
    log_level: str
    ntfy_url: str = field(repr=False)
    ntfy_token: str = field(repr=False)
    restic_environment: Mapping[str, str] = field(repr=False)
    """all that restic and its backends may see, and nothing else"""
    kuma_environment: Mapping[str, str] = field(repr=False)
    """for Kuma as our child: everything but the replicator's and the repository's variables"""
    warnings: tuple[str, ...] = ()

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
        source = _Source(os.environ if environ is None else environ, overrides)
        settings = _build(source, needs)
        if source.problems:
            raise SettingsError(_message(source.problems, source.warnings))
        return settings

    @classmethod
    def of_folders(cls, overrides: Mapping[str, str]) -> Settings:
        """Where the instance is, and no more: the file of a secret must not make it unhealthy."""
        names = ("DATA_DIR", "REPLICATOR_STATE_DIR")
        return cls.load({name: os.environ[name] for name in names if name in os.environ}, overrides)


def _message(problems: list[str], warnings: list[str]) -> str:
    if len(problems) == 1 and not warnings:
        return problems[0]
    title = "1 setting is wrong" if len(problems) == 1 else f"{len(problems)} settings are wrong"
    return "\n  ".join([f"{title}:", *problems, *(f"(note: {line})" for line in warnings)])


def parse_duration(text: str) -> float:
    """Seconds of `30s`, `5m`, `1h30m`, `2d`; raises ValueError. A bare number may mean anything."""
    pattern = r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?"
    match = re.fullmatch(pattern, text.strip().lower(), re.ASCII)
    parts = zip(match.groups(), _UNITS.values(), strict=True) if match else ()
    seconds = sum(int(number) * unit for number, unit in parts if number)
    if not 1 <= seconds <= _LONGEST:
        raise ValueError(f"{text!r} is no duration of 1s to 366d")
    return float(seconds)


class _Source:
    """The variables with NAME_FILE read and empty ones gone, and the problems found so far."""

    def __init__(self, environ: Mapping[str, str], overrides: Mapping[str, str]) -> None:
        self.values = {name: value for name, value in environ.items() if value}
        self.problems: list[str] = []
        for name, value in overrides.items():
            self.values[name] = value
            self.values.pop(f"{name}_FILE", None)
        self.secrets = {name for name, variable in VARIABLES.items() if variable.secret}
        for name in (*BACKEND_SECRETS, "NTFY_URL", "NTFY_TOKEN"):
            self._read_file(name)
        for name in ("RESTIC_PASSWORD", "RESTIC_REPOSITORY"):
            self._check_file(name)
        self.warnings = list(self._unknown())

    def problem(self, name: str, expected: str) -> None:
        value = self.values.get(name, "")
        shown = "(secret)" if value and name in self.secrets else repr(value) if value else "unset"
        self.problems.append(f"{name} is {shown}: expected {expected}")

    def _file(self, name: str) -> str | None:
        """The text of the file that NAME_FILE names; None where there is none, or it is wrong."""
        path = self.values.get(f"{name}_FILE")
        if path is None:
            return None
        if name in self.values:
            self.problems.append(f"{name} and {name}_FILE are both set: expected one of them")
            return None
        try:
            text = Path(path).read_text()
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            self.problem(f"{name}_FILE", f"a readable file ({reason})")
            return None
        if not text.strip():
            self.problem(f"{name}_FILE", "a file that is not empty")
            return None
        return text

    def _read_file(self, name: str) -> None:
        text = self._file(name)
        if self.values.pop(f"{name}_FILE", None) is not None and text is not None:
            self.values[name] = text.removesuffix("\n").removesuffix("\r")

    def _check_file(self, name: str) -> None:
        """restic reads these two by itself; a bad file is better reported before it tries."""
        self._file(name)

    def _unknown(self) -> list[str]:
        known = [name for name in VARIABLES if name.startswith("REPLICATOR_")]
        warnings = []
        for name in sorted(self.values):
            # Kubernetes injects some for a service called «replicator»; nobody wrote them.
            if (
                not name.startswith("REPLICATOR_")
                or name in known
                or _KUBERNETES.fullmatch(name)
                or name.startswith("REPLICATOR_TEST_")
            ):
                continue
            import difflib

            near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            hint = f"; did you mean {near[0]}?" if near else ""
            warnings.append(f"{name} is not a variable of replicator-kuma{hint}")
        return warnings

    def text(self, name: str) -> str:
        return self.values.get(name, VARIABLES[name].default)

    def choice(self, name: str, allowed: Collection[str]) -> str:
        value = self.text(name).strip().lower()
        if value and value not in allowed:
            self.problem(name, "one of " + ", ".join(allowed))
        return value

    def duration(self, name: str) -> float:
        try:
            return parse_duration(self.text(name))
        except ValueError:
            self.problem(name, "a duration of 1s to 366d, like 30s, 5m, 1h30m or 2d")
            return 0.0

    def path(self, name: str, default: Path | None = None) -> Path:
        text = self.text(name)
        if not text and default is not None:
            return default
        if not text.startswith("/"):
            self.problem(name, "an absolute path")
        return Path(text)

    def command(self, name: str) -> tuple[str, ...]:
        try:
            return tuple(shlex.split(self.text(name)))
        except ValueError as error:
            self.problem(name, f"a command line ({error})")
            return ()

    def names(self, name: str) -> frozenset[str]:
        return frozenset(part.strip() for part in self.text(name).split(",") if part.strip())


def _build(source: _Source, needs: Collection[Need]) -> Settings:
    data_dir = source.path("DATA_DIR")
    include, exclude = _tables(source)
    if Need.REPOSITORY in needs:
        _need_repository(source)
    if Need.DATA in needs and data_dir.is_absolute() and not data_dir.is_dir():
        source.problem("DATA_DIR", "a folder that is there: Kuma's data directory")
    return Settings(
        mode=_mode(source, needs),
        fleet=_fleet(source),
        instance=_instance(source),
        data_dir=data_dir,
        state_dir=source.path("REPLICATOR_STATE_DIR", data_dir / "replicator"),
        backup_interval=source.duration("REPLICATOR_BACKUP_INTERVAL"),
        restore_interval=source.duration("REPLICATOR_RESTORE_INTERVAL"),
        include=include,
        exclude=exclude,
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
        ready_timeout=source.duration("REPLICATOR_READY_TIMEOUT"),
        log_format=source.choice("REPLICATOR_LOG_FORMAT", LOG_FORMATS),
        log_level=source.choice("REPLICATOR_LOG_LEVEL", LOG_LEVELS),
        ntfy_url=_ntfy_url(source),
        ntfy_token=source.text("NTFY_TOKEN"),
        restic_environment=MappingProxyType(restic_environment(source.values)),
        kuma_environment=MappingProxyType(kuma_environment(source.values, data_dir)),
        warnings=tuple(source.warnings),
    )


def _mode(source: _Source, needs: Collection[Need]) -> Mode | None:
    value = source.text("REPLICATOR_MODE")
    if value in Mode.__members__:
        return Mode(value)
    if value == "RESTORE_LOCAL_ENTITY_REPLICATION":
        source.problem("REPLICATOR_MODE", "BACKUP or RESTORE; this mode comes in a later version")
    elif value or Need.ROLE in needs:
        source.problem("REPLICATOR_MODE", "BACKUP (the leader) or RESTORE (a replica)")
    return None


def _fleet(source: _Source) -> str:
    value = source.text("REPLICATOR_FLEET")
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", value):
        source.problem("REPLICATOR_FLEET", "1 to 64 letters, digits, dots, dashes or underscores")
    return value


def _instance(source: _Source) -> str:
    """It goes into a tag of restic, which separates tags by commas."""
    value = source.text("REPLICATOR_INSTANCE") or socket.gethostname()
    if not re.fullmatch(r"[^,\x00-\x1f\x7f]{1,128}", value) or value != value.strip():
        source.problem("REPLICATOR_INSTANCE", "1 to 128 characters without commas and line breaks")
    return value


def _tables(source: _Source) -> tuple[frozenset[str] | None, frozenset[str]]:
    include = source.names("REPLICATOR_TABLES") or None
    exclude = source.names("REPLICATOR_EXCLUDE_TABLES")
    if include or exclude:
        from replicator_kuma.dump import catalog

        try:
            catalog.choose(include, exclude)
        except ValueError as error:
            name = "REPLICATOR_TABLES" if include else "REPLICATOR_EXCLUDE_TABLES"
            source.problem(name, f"tables that can go without the rest ({error})")
    return include, exclude


def _need_repository(source: _Source) -> None:
    values = source.values
    if not {"RESTIC_REPOSITORY", "RESTIC_REPOSITORY_FILE"} & values.keys():
        source.problem("RESTIC_REPOSITORY", "a repository, like s3:https://host/bucket")
    passwords = {
        *("RESTIC_PASSWORD", "RESTIC_PASSWORD_FILE", "RESTIC_PASSWORD_COMMAND"),
        "RESTIC_INSECURE_NO_PASSWORD",
    }
    if not passwords & values.keys():
        source.problem("RESTIC_PASSWORD", "the repository's password, or RESTIC_PASSWORD_FILE")


def _kuma(source: _Source) -> str:
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


def _kuma_url(source: _Source) -> str:
    """Where Kuma listens, by the same variables and the same order of precedence as Kuma's own."""
    url = source.text("REPLICATOR_KUMA_URL")
    if url:
        if not re.match(r"https?://[^/\s]+", url):
            source.problem("REPLICATOR_KUMA_URL", "an address like http://127.0.0.1:3001")
        return url.rstrip("/")
    values = source.values
    host = values.get("UPTIME_KUMA_HOST") or values.get("HOST") or ""
    if host in ("", "0.0.0.0", "::", "[::]"):
        host = "127.0.0.1"
    elif ":" in host and not host.startswith("["):
        host = f"[{host}]"
    ports = (values.get("UPTIME_KUMA_PORT", ""), values.get("PORT", ""), "3001")
    port = next(text for text in ports if text.isascii() and text.isdigit())
    secure = all(
        values.get(f"UPTIME_KUMA_{name}") or values.get(name) for name in ("SSL_KEY", "SSL_CERT")
    )
    return f"{'https' if secure else 'http'}://{host}:{port}"


def _ntfy_url(source: _Source) -> str:
    url = source.text("NTFY_URL").strip()
    if url:
        from replicator_kuma.notify.ntfy import parse_target

        try:
            parse_target(url)
        except SettingsError as error:
            source.problem("NTFY_URL", f"a topic's address ({error})")
    return url
