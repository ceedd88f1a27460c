"""The replicated tables as data, parents first: their references, keys and runtime columns.

The facts are those of Uptime Kuma 1.23 to 2.5 (docs/kuma.md has their sources). Columns are not
listed: they are read from the database, so that a new schema can be replicated too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from urllib.parse import unquote, urlsplit


class Dangle(Enum):
    """What happens to a row whose reference points nowhere (old leaders have some)."""

    ROW = "the row is left out"
    """the row is useless without its parent: a link, a group without its status page"""
    NULL = "the reference is left out"
    """the row is useful without it; Kuma's own ON DELETE SET NULL does the same"""
    KEEP = "it stays as it is"
    """Kuma declares no such reference and works without it: a notification still alerts"""


@dataclass(frozen=True)
class Reference:
    column: str
    table: str
    dangle: Dangle


@dataclass(frozen=True)
class Table:
    """``key`` orders the rows. ``unkeyed``: rows have no lasting id of their own.

    In an unkeyed table, two rows with the same content are the same row: whenever somebody presses
    Save, Kuma writes links and domain names again, with new ids (saveStatusPage).
    """

    name: str
    key: tuple[str, ...] = ("id",)
    references: tuple[Reference, ...] = ()
    runtime: frozenset[str] = frozenset()
    """columns that Kuma itself writes: never a change, and never overwritten on a replica"""
    quiet: frozenset[str] = frozenset()
    """columns that Save writes even if nothing changed: no change by themselves"""
    unkeyed: bool = False
    since: str = ""
    """the knex migration that creates the table; empty: every version since 1.23 has it"""
    label: tuple[str, ...] = ("name",)
    """the columns to name a row by: the first that exists and is not empty is used"""

    @property
    def not_compared(self) -> frozenset[str]:
        """The columns in which a change alone is no change."""
        return self.runtime | self.quiet | (frozenset({"id"}) if self.unkeyed else frozenset())


def _link(name: str, first: Reference, second: Reference) -> Table:
    return Table(
        name,
        key=(first.column, second.column),
        references=(first, second),
        unkeyed=True,
        label=(),
    )


_MONITOR = Reference("monitor_id", "monitor", Dangle.ROW)
_MAINTENANCE = Reference("maintenance_id", "maintenance", Dangle.ROW)
_PAGE = Reference("status_page_id", "status_page", Dangle.ROW)
_OWNER_KEPT = (Reference("user_id", "user", Dangle.KEEP),)
_OWNER_NULL = Reference("user_id", "user", Dangle.NULL)

_ORDER = (
    Table("user", runtime=frozenset({"twofa_last_token"}), label=("username",)),
    Table("setting", key=("key",), label=()),
    Table("proxy", references=_OWNER_KEPT, label=("host",)),
    Table("docker_host", references=_OWNER_KEPT),
    Table("remote_browser", references=(_OWNER_NULL,), since="create-remote-browsers"),
    Table("notification", references=_OWNER_KEPT),
    Table("tag"),
    # saveStatusPage sets the date even if nothing else has changed
    Table("status_page", quiet=frozenset({"modified_date"}), label=("title", "slug")),
    Table("status_page_cname", ("status_page_id",), (_PAGE,), unkeyed=True, label=("domain",)),
    Table("group", references=(_PAGE,)),
    Table("incident", references=(_PAGE,), label=("title",)),
    Table(
        "maintenance",
        references=(_OWNER_NULL,),
        runtime=frozenset({"last_start_date"}),
        label=("title",),
    ),
    Table("api_key", references=(Reference("user_id", "user", Dangle.ROW),)),
    Table(
        "monitor",
        references=(
            _OWNER_NULL,
            Reference("proxy_id", "proxy", Dangle.NULL),
            Reference("docker_host", "docker_host", Dangle.NULL),
            Reference("remote_browser", "remote_browser", Dangle.NULL),
            Reference("parent", "monitor", Dangle.NULL),
        ),
        runtime=frozenset({"dns_last_result"}),
    ),
    _link(
        "monitor_notification",
        _MONITOR,
        Reference("notification_id", "notification", Dangle.ROW),
    ),
    _link("monitor_tag", _MONITOR, Reference("tag_id", "tag", Dangle.ROW)),
    _link("monitor_group", _MONITOR, Reference("group_id", "group", Dangle.ROW)),
    _link("monitor_maintenance", _MONITOR, _MAINTENANCE),
    _link("maintenance_status_page", _PAGE, _MAINTENANCE),
)

TABLES: Mapping[str, Table] = {table.name: table for table in _ORDER}
"""Every replicated table, parents before children."""

HISTORY = (
    *("heartbeat", "stat_minutely", "stat_hourly", "stat_daily", "monitor_tls_info"),
    "notification_sent_history",
)
"""Local tables whose rows belong to a monitor by ``monitor_id``."""

LOCAL = frozenset(
    {
        *HISTORY,
        *("domain_expiry", "knex_migrations", "knex_migrations_lock", "sqlite_sequence"),
        *("_litestream_lock", "_litestream_seq"),  # Litestream makes them where it streams
    }
)
"""Tables that belong to the instance and are never replicated."""

SETTINGS = frozenset(
    (
        *("tlsExpiryNotifyDays", "domainExpiryNotifyDays", "keepDataPeriodDays"),
        *("searchEngineIndex", "entryPage", "checkUpdate", "checkBeta", "steamAPIKey"),
        *("globalpingApiToken", "serverTimezone", "initServerTimezone", "apiKeysEnabled"),
        *("webpushPublicVapidKey", "webpushPrivateVapidKey"),
    )
)
"""Keys of `setting` that are configuration of the fleet."""

SETTINGS_OPTIONAL = frozenset(
    ("primaryBaseURL", "disableAuth", "trustProxy", "nscd", "dnsCache", "chromeExecutable")
)
"""Known keys that are replicated only if the operator chooses them."""

SETTINGS_NEVER = frozenset(
    (
        *("jwtSecret", "database_version", "databasePatchedFiles", "migrateAggregateTableState"),
        *("rdapDnsData", "cloudflaredTunnelToken"),
    )
)
"""Keys that are never replicated, even on request: the instance's secrets, schema and tunnel."""

SECRETS = re.compile(
    r"pass|secret|token|config|headers|body|tls_key|tls_cert|auth|connection_string|private|vapid"
    r"|apikey|api_key|\bkey\b|sasl|metadata|community|message|cookie|credential",
    re.IGNORECASE,
)
"""Columns and setting keys whose values are never shown; to match too many does no harm."""

_UPLOAD = re.compile(r"/upload/(logo[0-9]{0,18}\.png)(?:\?.*)?", re.DOTALL)
"""A name without a number is the only logo of a Kuma before 1.13; its migration kept it."""
_LONGEST_NAME = 200
_HOST = re.compile(r"(?!\.{1,2}$)[a-z0-9._\[\]:-]{1,253}")
_FILE = re.compile(
    r"upload/logo[0-9]{0,18}\.png|docker-tls/(?!\.{1,2}/)[a-z0-9._\[\]:-]{1,253}/(?:ca|cert|key)\.pem"
)
_PEMS = ("ca.pem", "cert.pem", "key.pem")


def choose(include: Collection[str] | None, exclude: Collection[str]) -> frozenset[str]:
    """The tables to replicate; ``include`` None means all.

    Raises ValueError, with the reason, for an unknown name, and if a chosen table refers to a table
    that is not chosen: its rows would point at another instance's rows.
    """
    for name in (*(include or ()), *exclude):
        if name not in TABLES:
            kind = "belongs to the instance" if name in LOCAL else "is not a table of Uptime Kuma"
            raise ValueError(f"{name!r} {kind}; choose from: {', '.join(TABLES)}")
    chosen = frozenset(TABLES if include is None else include) - frozenset(exclude)
    if not chosen:
        raise ValueError("no table is left to replicate")
    for name in TABLES:
        for reference in TABLES[name].references if name in chosen else ():
            if reference.table not in chosen:
                raise ValueError(
                    f"{name} needs {reference.table}: its {reference.column} refers to it; "
                    f"choose both or neither"
                )
    return chosen


def files_of(table: str, value: object) -> tuple[str, ...]:
    """The files, relative to the data directory, that a row's value names.

    ``value`` is status_page.icon (`/upload/logo3.png?t=…`) or docker_host.docker_daemon (its host
    names a folder of docker-tls/, docker.js). Anything else names nothing.
    """
    if not isinstance(value, str):
        return ()
    if table == "status_page":
        match = _UPLOAD.fullmatch(value)
        return (f"upload/{match.group(1)}",) if match else ()
    if table == "docker_host":
        host = _host(value)
        if ":" in host:
            host = f"[{host}]"  # Kuma names the folder by JavaScript's URL.hostname
        return tuple(f"docker-tls/{host}/{pem}" for pem in _PEMS) if _HOST.fullmatch(host) else ()
    return ()


def left_behind(table: str, value: object) -> tuple[str, ...]:
    """The files in Kuma's data directory that a row's value names and that no dump carries.

    Kuma gives no logo such a name; a script or a person who edits the row may. A folder of
    certificates has such a name if Kuma's JavaScript spells the host's name differently.
    """
    if not isinstance(value, str) or files_of(table, value):
        return ()
    if table == "status_page" and value.startswith("/upload/"):
        return (value[1:].partition("?")[0][:_LONGEST_NAME],)
    if table == "docker_host" and (host := _host(value)):
        return (f"docker-tls/{host[:_LONGEST_NAME]}",)
    return ()


def _host(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


_OUTSIDE = re.compile(
    r"[?&;\s](?:sslrootcert|sslcert|sslkey|tlscafile|tlscertificatekeyfile|tlscrlfile)=([^&;\s]+)",
    re.IGNORECASE,
)


def outside_files(connection: object) -> tuple[str, ...]:
    """Files of the machine that a monitor's connection string names (PostgreSQL, MongoDB)."""
    if not isinstance(connection, str):
        return ()
    return tuple(unquote(name)[:_LONGEST_NAME] for name in _OUTSIDE.findall(connection))


FILE_COLUMNS: Mapping[str, str] = {"status_page": "icon", "docker_host": "docker_daemon"}
"""The columns whose values name files."""


def file_table(name: str) -> str:
    """The table whose rows name a file of a dump."""
    return "status_page" if name.startswith("upload/") else "docker_host"


def is_file(name: str) -> bool:
    """Whether a dump may hold a file of this name."""
    return _FILE.fullmatch(name) is not None


def is_setting(key: object) -> bool:
    """Whether a dump may hold a row of `setting` with this key.

    A leader may publish more keys than `SETTINGS`. The replica's own choice decides which of them
    it takes.
    """
    return isinstance(key, str) and key not in SETTINGS_NEVER
