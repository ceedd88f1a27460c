"""The environments of child processes: each gets only its own part."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

_PATHS = ("RESTIC_CACERT", "RESTIC_TLS_CLIENT_CERT", "GOOGLE_APPLICATION_CREDENTIALS")
_BACKEND = ("RESTIC_", "AWS_", "B2_", "AZURE_", "GOOGLE_", "OS_", "ST_", "RCLONE_")
_SYSTEM = (
    *("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TZ", "LANG", "LC_ALL"),
    *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "SSH_AUTH_SOCK", "KRB5CCNAME"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
    *("http_proxy", "https_proxy", "no_proxy", "all_proxy", "GOMAXPROCS", "GOGC"),
)

_RESTIC = frozenset(
    f"RESTIC_{name}"
    for name in (
        # where the repository is, and how to open it
        *("REPOSITORY", "REPOSITORY_FILE", "PASSWORD", "PASSWORD_FILE", "PASSWORD_COMMAND"),
        *("KEY_HINT", "INSECURE_NO_PASSWORD", "CACERT", "TLS_CLIENT_CERT"),
        *("REST_USERNAME", "REST_PASSWORD", "HTTP_USER_AGENT"),
        # how data is stored, never what a command does; FEATURES change how a backend is accessed
        *("COMPRESSION", "PACK_SIZE", "READ_CONCURRENCY", "FEATURES"),
    )
)
_RESTIC_GROUPS = ("RESTIC_AWS_ASSUME_ROLE_",)
RESTIC_IGNORED = frozenset(
    f"RESTIC_{name}"
    for name in (
        "HOST",  # since 0.17 `snapshots` would list only this host's snapshots
        "CACHE_DIR",  # the cache is in the state directory
        "PROGRESS_FPS",  # nobody watches the progress
        *("FROM_REPOSITORY", "FROM_REPOSITORY_FILE", "FROM_PASSWORD", "FROM_PASSWORD_FILE"),
        *("FROM_PASSWORD_COMMAND", "FROM_KEY_HINT"),  # of `restic copy`
        "DEBUG_STACKTRACE_SIGINT",  # the replicator ends a call by SIGINT
    )
)
"""Variables of restic 0.14 to 0.18 that are never passed on: they would change our calls."""
_RCLONE_CHOOSES = re.compile(
    r"RCLONE_(DRY_RUN|INTERACTIVE|IMMUTABLE|IGNORE_\w+|(INCLUDE|EXCLUDE|FILTER|FILES)(_\w+)?"
    r"|(MAX|MIN)_(AGE|SIZE|DEPTH|DELETE\w*|TRANSFER)|BACKUP_DIR|SUFFIX\w*|DELETE_EXCLUDED)"
)
"""Variables that make rclone skip files or only print its work: a snapshot would be missing."""
_SHELL = ("PWD", "OLDPWD", "SHLVL", "_")
_OWN = ("REPLICATOR_", "RESTORE_", "NTFY_", "LITESTREAM_", "UPTIME_KUMA_")
_PASSWORD_TOOLS = (
    *("CREDENTIALS_DIRECTORY", "GNUPGHOME", "GPG_", "PASSWORD_STORE_", "VAULT_", "OP_", "BWS_"),
    *("BW_", "BITWARDENCLI_", "AGE_", "SOPS_", "INFISICAL_", "DOPPLER_"),
)
"""Variables by which a password command logs in: Kuma does not need them."""


def handed_to_restic(name: str) -> bool:
    """Whether restic gets this variable, which is its own or one of its backends'."""
    if name.startswith("RESTIC_"):
        return name in _RESTIC or name.startswith(_RESTIC_GROUPS)
    return name.startswith(_BACKEND) and not _RCLONE_CHOOSES.fullmatch(name)


def unknown_to_restic(name: str) -> bool:
    """Whether a name looks like restic's but is unknown here: it is not passed on to restic."""
    return name.startswith("RESTIC_") and not (
        handed_to_restic(name) or name in RESTIC_IGNORED or name.startswith("RESTIC_TEST_")
    )


def restic_environment(values: Mapping[str, str]) -> dict[str, str]:
    """The environment of restic: what opens the repository, nothing that changes what a call does.

    A password command is the user's own program: with RESTIC_PASSWORD_COMMAND, or a command of
    rclone, the user's other variables are passed on too, but never the replicator's or Kuma's.
    restic runs in a dump's folder, so relative paths are made absolute.
    """
    all_of_it = any(name.endswith("_COMMAND") and handed_to_restic(name) for name in values)
    return {
        name: _absolute(name, value)
        for name, value in values.items()
        if name in _SYSTEM
        or handed_to_restic(name)
        or (all_of_it and not name.startswith((*_BACKEND, *_OWN)) and name not in _SHELL)
    }


SECOND = "REPLICATOR_2_"


def second_environment(values: Mapping[str, str]) -> dict[str, str]:
    """The environment of restic for the second repository; empty if there is none.

    It has no variable of the first repository: REPLICATOR_2_AWS_… becomes AWS_….
    """
    if "REPLICATOR_REPOSITORY_2" not in values:
        return {}
    own = {name.removeprefix(SECOND): v for name, v in values.items() if name.startswith(SECOND)}
    own = {name: value for name, value in own.items() if name.startswith(_BACKEND)}
    own["RESTIC_REPOSITORY"] = values["REPLICATOR_REPOSITORY_2"]
    if "REPLICATOR_PASSWORD_2" in values:
        own["RESTIC_PASSWORD"] = values["REPLICATOR_PASSWORD_2"]
    others = {name: value for name, value in values.items() if not name.startswith(_BACKEND)}
    return restic_environment({**others, **own})


def for_second(name: str) -> bool:
    """Whether a variable belongs to the second repository."""
    return name.startswith(SECOND) and name.removeprefix(SECOND).startswith(_BACKEND)


_STORES = {
    "file": {},
    "sftp": {},
    "s3": {},
    "b2": {"B2_ACCOUNT_ID": "AWS_ACCESS_KEY_ID", "B2_ACCOUNT_KEY": "AWS_SECRET_ACCESS_KEY"},
    "abs": {
        "AZURE_ACCOUNT_KEY": "LITESTREAM_AZURE_ACCOUNT_KEY",
        "AZURE_ACCOUNT_SAS": "LITESTREAM_AZURE_SAS_TOKEN",
    },
    "gs": {},
}
"""By the kind of Litestream's store: restic's names of its secrets, and Litestream's."""
_STORE_GROUPS = {"s3": "AWS_", "abs": "AZURE_", "gs": "GOOGLE_"}
"""By the kind of store: the variables that its client reads by itself, such as a role's token."""


def litestream_environment(values: Mapping[str, str], kind: str) -> dict[str, str]:
    """The environment of Litestream: what opens this kind of store, and nothing of another.

    Amazon's SDK in Litestream 0.5 takes no AWS_CA_BUNDLE ("unable to add custom RootCAs") and does
    not start with one: Go's own name for such a file does the same.
    """
    group = _STORE_GROUPS.get(kind)
    found = {
        name: _absolute(name, value)
        for name, value in values.items()
        if (name in _SYSTEM and name != "SSH_AUTH_SOCK")
        or (group is not None and name.startswith(group))
    }
    if roots := found.pop("AWS_CA_BUNDLE", ""):
        found["SSL_CERT_FILE"] = _absolute("SSL_CERT_FILE", roots)
    return found | {
        theirs: values[ours] for ours, theirs in _STORES[kind].items() if ours in values
    }


def _absolute(name: str, value: str) -> str:
    if name == "RESTIC_REPOSITORY":
        kind, _, place = (
            value.rpartition("local:") if value.startswith("local:") else ("", "", value)
        )
        local = not kind and not re.match(r"[a-z0-9]+:", place)
        return str(Path(place).absolute()) if local and place else value
    path = name.endswith("_FILE") or name in _PATHS
    return str(Path(value).absolute()) if path and value and Path(value).exists() else value


def kuma_environment(values: Mapping[str, str], data_dir: Path) -> dict[str, str]:
    """Kuma's environment: none of our secrets, and the data directory that we replicate.

    DATA_DIR ends in a slash: Kuma 1.x appends file names to it directly.
    """
    ours = (*_BACKEND, *_OWN[:-1], *_PASSWORD_TOOLS, "SSH_AUTH_SOCK")
    kept = {name: value for name, value in values.items() if not name.startswith(ours)}
    return {**kept, "DATA_DIR": f"{data_dir}/"}


def tool_environment(values: Mapping[str, str], data_dir: Path) -> dict[str, str]:
    """The environment of `docker`, `systemctl` and the operator's own commands for Kuma.

    It is Kuma's, with the keys to reach another host (`ssh`, DOCKER_HOST=ssh://…). It has DATA_DIR
    only if the user has set it: `docker compose` would prefer it to the one in its .env file.
    """
    found = kuma_environment(values, data_dir)
    if "DATA_DIR" not in values:
        del found["DATA_DIR"]
    if "SSH_AUTH_SOCK" in values:
        found["SSH_AUTH_SOCK"] = values["SSH_AUTH_SOCK"]
    return found
