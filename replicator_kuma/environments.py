"""What child processes may see of the environment: each its own part, and no more."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

_PATHS = ("RESTIC_CACERT", "RESTIC_TLS_CLIENT_CERT", "GOOGLE_APPLICATION_CREDENTIALS")
_BACKEND = ("RESTIC_", "AWS_", "B2_", "AZURE_", "GOOGLE_", "OS_", "ST_", "RCLONE_")
_SYSTEM = (
    *("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TZ", "LANG", "LC_ALL"),
    *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
    *("http_proxy", "https_proxy", "no_proxy", "all_proxy", "GOMAXPROCS", "GOGC"),
)


def restic_environment(values: Mapping[str, str]) -> dict[str, str]:
    """What restic may see. It runs in a dump's folder, so relative paths are made absolute."""
    return {
        name: _absolute(name, value)
        for name, value in values.items()
        if name in _SYSTEM or name.startswith(_BACKEND)
    }


SECOND = "REPLICATOR_2_"


def second_environment(values: Mapping[str, str]) -> dict[str, str]:
    """The same for a second repository; empty without one.

    It gets none of the first one's variables: REPLICATOR_2_AWS_… is its AWS_….
    """
    if "REPLICATOR_REPOSITORY_2" not in values:
        return {}
    own = {name.removeprefix(SECOND): v for name, v in values.items() if name.startswith(SECOND)}
    own = {name: value for name, value in own.items() if name.startswith(_BACKEND)}
    own["RESTIC_REPOSITORY"] = values["REPLICATOR_REPOSITORY_2"]
    if "REPLICATOR_PASSWORD_2" in values:
        own["RESTIC_PASSWORD"] = values["REPLICATOR_PASSWORD_2"]
    system = {name: value for name, value in values.items() if name in _SYSTEM}
    return restic_environment({**system, **own})


def for_second(name: str) -> bool:
    """Whether a variable is one of the second repository's own."""
    return name.startswith(SECOND) and name.removeprefix(SECOND).startswith(_BACKEND)


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
    """Kuma gets no secret of ours; its data directory is the one that we replicate.

    Kuma 1.x pastes names to DATA_DIR without a slash of its own.
    """
    ours = (*_BACKEND, "REPLICATOR_", "RESTORE_MERGE_STRATEGY", "NTFY_")
    kept = {name: value for name, value in values.items() if not name.startswith(ours)}
    return {**kept, "DATA_DIR": f"{data_dir}/"}
