"""The environment variables as data, for the settings, the options and docs/settings.md.

``python -m replicator_kuma.config.variables`` prints the table of docs/settings.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Variable:
    name: str
    help: str
    default: str = ""
    secret: bool = False
    """never shown, and also read from the file that NAME_FILE names"""
    typed: bool = False
    """there is a command-line option for it, too"""
    note: str = ""
    """what the table shows instead of the default"""

    @property
    def shown_default(self) -> str:
        return self.note or (f"`{self.default}`" if self.default else "")

    @property
    def option(self) -> str:
        """The name of its command-line option; empty if it has none."""
        if not self.typed:
            return ""
        name = _SHORT.get(self.name) or self.name.removeprefix("REPLICATOR_")
        return f"--{name.lower().replace('_', '-')}"


_SHORT = {"RESTIC_REPOSITORY": "repo"}
_ALL = (
    Variable(
        "REPLICATOR_MODE",
        "`BACKUP`: this instance is the leader of its fleet. `RESTORE`: it is a replica. "
        "`RESTORE_LOCAL_ENTITY_REPLICATION`: a replica with proxies and remote browsers of its "
        "own. Anything else is an error: a leader with a typo must never be restored over",
        typed=True,
        note="required",
    ),
    Variable(
        "REPLICATOR_ENV_FILE",
        "a file of lines `NAME=value` with any of these variables and those of restic's backends; "
        "what the environment sets wins. What stands there is not in the container's environment, "
        "which `docker inspect` shows. The compose files give it their `.env`",
    ),
    Variable(
        "REPLICATOR_FLEET",
        "the leader and its replicas share this name; several fleets may share a repository",
        default="default",
        typed=True,
    ),
    Variable(
        "REPLICATOR_INSTANCE",
        "the name of this instance in snapshots and messages; let it outlive the container",
        typed=True,
        note="host name",
    ),
    Variable(
        "RESTIC_REPOSITORY",
        "where the snapshots are kept, as restic writes it (or `RESTIC_REPOSITORY_FILE`)",
        secret=True,
        typed=True,
        note="required",
    ),
    Variable(
        "RESTIC_PASSWORD",
        "the repository's password (or `RESTIC_PASSWORD_FILE`, `RESTIC_PASSWORD_COMMAND`). What "
        "opens a repository is passed to restic: `RESTIC_…`, `AWS_…`, `B2_…`, `AZURE_…`, "
        "`GOOGLE_…`, `OS_…`, `ST_…`, `RCLONE_…`, proxies; not what changes what a call means, "
        "like `RESTIC_HOST`",
        secret=True,
        note="required",
    ),
    Variable(
        "REPLICATOR_REPOSITORY_2",
        "a second repository: the leader publishes to both, and either is enough to read. What its "
        "backend needs is written with `REPLICATOR_2_` before it: `REPLICATOR_2_AWS_ACCESS_KEY_ID`",
        secret=True,
    ),
    Variable("REPLICATOR_PASSWORD_2", "its password", secret=True),
    Variable(
        "REPLICATOR_LITESTREAM_URL",
        "in `run`: where Litestream streams all of kuma.db, history included, and from where it is "
        "restored if there is no database: `s3://bucket/folder?endpoint=https://host`, "
        "`b2://…`, `sftp://…`, `abs://…`, `gs://…`, `file:///folder` (docs/litestream.md). The "
        "keys are restic's (`AWS_…`, `B2_…`, `AZURE_…`, `GOOGLE_…`). `/<fleet>/<instance>` is "
        "appended. It needs the extra `litestream`",
        secret=True,
        note="off",
    ),
    Variable(
        "REPLICATOR_LITESTREAM_STOP",
        "how long the end of `run` waits, once Kuma has ended, until Litestream has sent the rest",
        default="5s",
    ),
    Variable(
        "DATA_DIR", "Kuma's data directory, Kuma's own variable", default="/app/data", typed=True
    ),
    Variable(
        "REPLICATOR_STATE_DIR",
        "the replicator's memory, lock, restic's cache; on the same file system as the data. It "
        "must belong to the user that runs the replicator, and be no link",
        typed=True,
        note="`replicator/` in `DATA_DIR`",
    ),
    Variable(
        "REPLICATOR_BACKUP_INTERVAL",
        "how often a leader has a cycle in any case: `30s`, `5m`, `1h30m`, `2d`. `run` notices an "
        "edit within a second",
        default="5m",
        typed=True,
    ),
    Variable(
        "REPLICATOR_RESTORE_INTERVAL",
        "how often a replica looks for a new snapshot. Also the least time between two restarts of "
        "its Kuma, or three times what Kuma's start takes where that is longer; at most 15 minutes",
        default="6m",
        typed=True,
    ),
    Variable(
        "REPLICATOR_TABLES",
        "replicate only these tables, separated by commas; a choice that breaks a reference is "
        "refused",
        typed=True,
        note="all of the catalog",
    ),
    Variable("REPLICATOR_EXCLUDE_TABLES", "replicate all tables but these", typed=True),
    Variable(
        "REPLICATOR_SETTINGS",
        "which keys of Kuma's settings are replicated: `+primaryBaseURL,-checkBeta` changes the "
        "default, a list without signs replaces it; what holds an instance's own secrets is "
        "refused",
        note="what belongs to the fleet",
    ),
    Variable(
        "RESTORE_MERGE_STRATEGY",
        "replica: `SNAPSHOT` takes new snapshots, and puts changed rows right at a start and with "
        "`--now`; `DEFAULT` leaves notifications alone and puts changed rows right at every "
        "cycle; `NOTIFICATIONS_INSERT_MERGE` does so with all tables",
        default="SNAPSHOT",
    ),
    Variable(
        "REPLICATOR_LOCAL_ENTITIES",
        "with `RESTORE_LOCAL_ENTITY_REPLICATION`: the tables whose rows arrive once and are the "
        "replica's own then, out of `proxy`, `remote_browser`, `docker_host`, `notification`",
        default="proxy,remote_browser",
    ),
    Variable(
        "REPLICATOR_OVERRIDES",
        "replica: a TOML file with rules that change or skip rows here, read at every cycle",
    ),
    Variable(
        "REPLICATOR_SCHEMA",
        "replica: `strict` takes snapshots of its own schema only; `compatible` also those of "
        "another one where nothing is lost",
        default="strict",
    ),
    Variable(
        "REPLICATOR_ON_MISFIT",
        "replica: `refuse` takes no snapshot with values that its database cannot hold; "
        "`truncate` cuts them",
        default="refuse",
    ),
    Variable(
        "REPLICATOR_SHRINK_LIMIT",
        "the part of the monitors, of ten or more, whose going a person has to allow, on a leader "
        "and on a replica; so has none left where there were some. `off`: nobody is asked",
        default="50%",
    ),
    Variable(
        "REPLICATOR_DRILL_SCHEDULE",
        "in `run`: when a drill proves that the newest snapshot can be recovered from: `off`, "
        "`03:30`, a random minute in `01:00-05:00` or `fri 01:00-05:00`, local time",
        default="off",
    ),
    Variable(
        "REPLICATOR_DRILL",
        "what that drill does: `load` loads and checks the rows; `kuma` boots a throw-away "
        "Uptime Kuma on them too (SQLite only); `kill` is another one: it ends the real Uptime "
        "Kuma by SIGKILL, and sees that it monitors again",
        default="load",
    ),
    Variable(
        "REPLICATOR_HOUSEKEEPING_SCHEDULE",
        "leader, in `run`: when old snapshots go and a part of the repository is checked: `off`, "
        "`03:30`, a random minute in `01:00-05:00` or `fri 01:00-05:00`, local time",
        default="01:00-05:00",
    ),
    Variable(
        "REPLICATOR_KEEP_LAST",
        "leader: how many snapshots stay, the newest first (`off`: all)",
        default="50",
    ),
    Variable("REPLICATOR_KEEP_HOURS", "all of so many hours before the newest one, too", "24"),
    Variable("REPLICATOR_KEEP_HOURLY", "then one an hour, for so many hours that have some", "168"),
    Variable("REPLICATOR_KEEP_DAILY", "then one a day, for so many days that have some", "30"),
    Variable("REPLICATOR_KEEP_MONTHLY", "then one a month, for so many months", "12"),
    Variable(
        "REPLICATOR_CHECK_PARTS",
        "the parts of the repository's data, of which each housekeeping reads and checks one",
        default="30",
    ),
    Variable(
        "NTFY_URL",
        "a topic of an ntfy server, told of backups, restores, failures and recoveries",
        secret=True,
    ),
    Variable("NTFY_TOKEN", "an access token for it", secret=True),
    Variable(
        "REPLICATOR_NOTIFY",
        "who else is told, as addresses with blanks or new lines between them: `ntfys://`, "
        "`gotifys://`, `webhook+https://`, each that Apprise knows (`mailtos://`, `tgram://`, …); "
        "and who is pinged after each cycle: `kuma+https://` (a push monitor), `ping+https://` "
        "(Healthchecks): docs/notifications.md",
        secret=True,
    ),
    Variable(
        "REPLICATOR_TELL",
        "of what messages are sent: `failures` (with recoveries, and drills that fail), "
        "`applies` and `publishes` (once a minute at most, summed up), `drills`",
        default="failures,applies,publishes,drills",
    ),
    Variable(
        "REPLICATOR_SIGNAL_URL",
        "a topic of an ntfy server, of its own: there the leader tells its replicas of each new "
        "snapshot, and they look at once. The same on all of them; a token stands before the @ "
        "(`https://tk_…@host/topic`)",
        secret=True,
        note="off: replicas look at their interval",
    ),
    Variable(
        "REPLICATOR_PEERS",
        "the other instances of the fleet, `fra-1=https://…,nyc-1=https://…`, by the names of "
        "their `REPLICATOR_INSTANCE`. `run` tells them the states of its monitors and hears theirs "
        "(docs/fleet.md). Plain `http://` only to loopback, private addresses and names without a "
        "dot; elsewhere it has to be written `http+insecure://`",
        note="none",
    ),
    Variable(
        "REPLICATOR_KUMA",
        "how Kuma is stopped and started: `child` (of `replicator run`), `docker`, `systemd`, "
        "`command`, `none`",
        typed=True,
        note="`child` in `run`, else `none`",
    ),
    Variable(
        "REPLICATOR_KUMA_COMMAND",
        "`child`: what starts Kuma",
        default="node server/server.js",
        typed=True,
    ),
    Variable("REPLICATOR_KUMA_DIR", "`child`: Kuma's program folder", default="/app", typed=True),
    Variable("REPLICATOR_KUMA_CONTAINER", "`docker`: the container's name", typed=True),
    Variable("REPLICATOR_KUMA_UNIT", "`systemd`: the unit's name", typed=True),
    Variable("REPLICATOR_KUMA_STOP_COMMAND", "`command`: what stops Kuma, and waits for its end"),
    Variable(
        "REPLICATOR_KUMA_START_COMMAND",
        "`command`: what starts Kuma, and returns. It has none of the replicator's and restic's "
        "variables, and `SSH_AUTH_SOCK` only where the line itself runs `ssh`, `docker` or "
        "`podman`",
    ),
    Variable(
        "REPLICATOR_KUMA_STATUS_COMMAND",
        "`command`: ends with 0 while Kuma runs, with 1 when it does not",
    ),
    Variable(
        "REPLICATOR_KUMA_URL",
        "where Kuma answers",
        typed=True,
        note="from Kuma's own `UPTIME_KUMA_HOST`, `UPTIME_KUMA_PORT`, `UPTIME_KUMA_SSL_KEY`",
    ),
    Variable(
        "REPLICATOR_APPLY",
        "how Kuma gets new rows: `auto` gives them to the running Kuma where that is proved for "
        "its version, else it restarts Kuma; `live` never restarts it, and tells what has to wait; "
        "`restart` always stops it, writes, and starts it",
        default="auto",
    ),
    Variable(
        "REPLICATOR_AGENT_SOCKET",
        "where the agent in Kuma's process listens; both must run as the same user",
        note="`agent.sock` in the state directory",
    ),
    Variable(
        "REPLICATOR_FAST_START",
        "`on`: the agent starts the monitors of a started Kuma at most 12 a second, and 2 a second "
        "for one host; `off`: Kuma starts them one after another, 0.65 s each; `auto`: `on` where "
        "it was proved on this version of Kuma",
        default="auto",
    ),
    Variable(
        "REPLICATOR_READY_TIMEOUT",
        "how long a started Kuma may take until it answers; a migration has no limit",
        default="2m",
    ),
    Variable(
        "REPLICATOR_HTTP",
        "in `run`: where the page, the API, health and metrics are served: `127.0.0.1:8067`, "
        "`0.0.0.0:8067`, `[::1]:8067`. It needs the extra `web`, which the image has",
        default="off",
    ),
    Variable(
        "REPLICATOR_HTTP_TOKEN",
        "who asks there needs this token, of 16 characters at least (but for probes and the "
        "badge), and so each instance of a fleet shows it to the others: the same on all. An "
        "address that other machines reach needs one; `none` opens it to everybody, knowingly",
        secret=True,
    ),
    Variable("REPLICATOR_RESTIC", "restic's program, 0.14 or later", default="restic", typed=True),
    Variable(
        "REPLICATOR_LOG_FORMAT",
        "of `run`: `text`, or `json`: one object a line, for a collector (docs/logs.md)",
        default="text",
        typed=True,
    ),
    Variable(
        "REPLICATOR_LOG_LEVEL", "`debug`, `info`, `warning`, `error`", default="info", typed=True
    ),
)

VARIABLES: Mapping[str, Variable] = {variable.name: variable for variable in _ALL}
"""Every variable of the replicator itself, in the order of the table of docs/settings.md."""

BACKEND_SECRETS = (
    *("RESTIC_REST_USERNAME", "RESTIC_REST_PASSWORD"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    *("B2_ACCOUNT_ID", "B2_ACCOUNT_KEY"),
    *("AZURE_ACCOUNT_NAME", "AZURE_ACCOUNT_KEY", "AZURE_ACCOUNT_SAS"),
    *("GOOGLE_PROJECT_ID", "GOOGLE_ACCESS_TOKEN"),
    *("OS_USERNAME", "OS_PASSWORD", "OS_AUTH_TOKEN", "OS_APPLICATION_CREDENTIAL_ID"),
    *("OS_APPLICATION_CREDENTIAL_SECRET", "ST_USER", "ST_KEY", "RCLONE_CONFIG_PASS"),
)
"""Secrets of restic's backends that we also read from NAME_FILE, which restic itself cannot.

Other *_FILE names (AWS_SHARED_CREDENTIALS_FILE, AWS_WEB_IDENTITY_TOKEN_FILE, …) belong to the
backends' own libraries and are passed through untouched.
"""


def markdown() -> str:
    """The table of variables of docs/settings.md."""
    lines = ["| variable | default | option | means |", "|---|---|---|---|"]
    for variable in VARIABLES.values():
        name = f"`{variable.name}`" + (", also `…_FILE`" if variable.secret else "")
        option = f"`{variable.option}`" if variable.option else ""
        lines.append(f"| {name} | {variable.shown_default} | {option} | {variable.help} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(markdown())
