"""Compares a command's settings with the running supervisor's, which does the work by its own.

A command sends salted digests of its values, never the values. The supervisor answers which values
are equal to its own, and its own value for each of the others, with secrets masked.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replicator_kuma.adapters.kuma.process import mask
from replicator_kuma.base.json_members import DIGESTS, NAME, check
from replicator_kuma.base.secret_variables import Mask
from replicator_kuma.config.settings import Settings
from replicator_kuma.config.variables import VARIABLES

COMMAND = "settings"
"""The request that a client sends to the supervisor before its own command."""
SECRET = frozenset({"RESTIC_PASSWORD", "REPLICATOR_PASSWORD_2"})
_NEVER_SHOWN = "(secret)"
HINT = (
    "Leave the option out, and the supervisor's own setting holds. Or change its settings and "
    "restart `replicator run`. Or stop `replicator run` (its Kuma stops with it), and type the "
    "command again."
)


def values(settings: Settings) -> dict[str, str]:
    """The effective values by variable, in one canonical form each; includes passwords."""
    first, second = settings.restic_environment, settings.second_environment
    found = {
        "REPLICATOR_MODE": settings.role,
        "REPLICATOR_FLEET": settings.fleet,
        "REPLICATOR_INSTANCE": settings.instance,
        "DATA_DIR": os.path.realpath(settings.data_dir),
        "RESTIC_REPOSITORY": _place(_value(first, "RESTIC_REPOSITORY")),
        "RESTIC_PASSWORD": _value(first, "RESTIC_PASSWORD"),
        "REPLICATOR_REPOSITORY_2": _place(_value(second, "RESTIC_REPOSITORY")),
        "REPLICATOR_PASSWORD_2": _value(second, "RESTIC_PASSWORD"),
        "REPLICATOR_RESTIC": os.path.realpath(_restic(settings) or settings.restic),
        "REPLICATOR_TABLES": _list(settings.include or ()),
        "REPLICATOR_EXCLUDE_TABLES": _list(settings.exclude_leading),
        "REPLICATOR_SETTINGS": _list(settings.setting_keys),
        "RESTORE_MERGE_STRATEGY": settings.strategy.value,
        "REPLICATOR_LOCAL_ENTITIES": _list(settings.local),
        "REPLICATOR_OVERRIDES": str(settings.overrides or ""),
        "REPLICATOR_SCHEMA": "compatible" if settings.compatible else "strict",
        "REPLICATOR_ON_MISFIT": "truncate" if settings.truncate else "refuse",
        "REPLICATOR_SHRINK_LIMIT": str(settings.shrink_limit.percent or "off"),
        "REPLICATOR_KUMA": settings.kuma_service(supervised=True),
        "REPLICATOR_KUMA_COMMAND": shlex.join(settings.kuma_command),
        "REPLICATOR_KUMA_DIR": str(settings.kuma_dir),
        "REPLICATOR_KUMA_CONTAINER": settings.kuma_container,
        "REPLICATOR_KUMA_UNIT": settings.kuma_unit,
        "REPLICATOR_KUMA_URL": settings.kuma_url,
    }
    assert found.keys() <= VARIABLES.keys()
    return found


def given(settings: Settings) -> dict[str, str]:
    """The part of `values` that the environment or the command line sets, without defaults."""
    said = settings.given | {name.removesuffix("_FILE") for name in settings.given}
    if "REPLICATOR_STATE_DIR" not in said:
        # it led to the supervisor: it is the same folder, maybe mounted at another path there
        said -= {"DATA_DIR"}
    return {n: v for n, v in values(settings).items() if n in said and (v or n not in SECRET)}


def not_here(settings: Settings) -> set[str]:
    """Variables that cannot be compared here: cron's PATH may lack the folder of restic."""
    return set() if _restic(settings) else {"REPLICATOR_RESTIC"}


def shown(settings: Settings, name: str) -> str:
    """A value of `values` for people, without secrets."""
    value = values(settings)[name]
    if not value:
        return "unset"
    if name in SECRET:
        return _NEVER_SHOWN
    for environment in (settings.restic_environment, settings.second_environment):
        value = Mask(environment)(value)
    return mask(value)


def digests(said: Mapping[str, str], salt: str) -> dict[str, str]:
    """The digests that go over the socket in place of the values."""
    salted = {n: f"{salt}\0{v}".encode(errors="surrogateescape") for n, v in said.items()}
    return {name: hashlib.sha256(value).hexdigest() for name, value in salted.items()}


def answer(settings: Settings, options: Mapping[str, Any]) -> dict[str, Any]:
    """The supervisor's answer: the names that are ``same``, and its values (``has``) of the others.

    Raises SettingsError for options that are not exactly ``salt`` and ``digests``.
    """
    check(COMMAND, options, {"salt": NAME, "digests": DIGESTS})
    ours, asked = values(settings), options["digests"]
    own = digests({n: v for n, v in ours.items() if n in asked}, options["salt"])
    same = sorted(n for n, d in own.items() if d == asked[n] or _only_restic_knows(settings, n))
    return {"same": same, "has": {n: shown(settings, n) for n in sorted(own.keys() - set(same))}}


@dataclass(frozen=True)
class Difference:
    """A setting that differs in the supervisor; ``there`` None: its value is unknown."""

    name: str
    here: str
    there: str | None

    def __str__(self) -> str:
        option = VARIABLES[self.name].option
        name = f"{option} ({self.name})" if option else self.name
        if self.there is None:
            return f"{name}: a supervisor of another version cannot compare it"
        if self.there == self.here:
            return f"{name}: another one there than here"
        return f"{name}: {self.there} there, {self.here} here"


def differences(
    settings: Settings, names: Iterable[str], told: Mapping[str, Any] | None
) -> list[Difference]:
    """The settings that differ in the supervisor. ``told``: its `answer`, or None."""
    same, has = (told or {}).get("same", ()), (told or {}).get("has", {})
    return [
        Difference(name, shown(settings, name), has.get(name)) for name in names if name not in same
    ]


def _restic(settings: Settings) -> str | None:
    return shutil.which(settings.restic)


def _only_restic_knows(settings: Settings, name: str) -> bool:
    """Whether the setting is a password that a command prints: only restic runs that command."""
    places = {
        "RESTIC_PASSWORD": settings.restic_environment,
        "REPLICATOR_PASSWORD_2": settings.second_environment,
    }
    return "RESTIC_PASSWORD_COMMAND" in places.get(name, {})


def _value(environment: Mapping[str, str], name: str) -> str:
    """A value of restic's environment, or the text of the file it names; "" if there is none."""
    if name in environment:
        return environment[name]
    with suppress(OSError, UnicodeError):
        if path := environment.get(f"{name}_FILE"):
            return Path(path).read_text(encoding="utf-8-sig").strip()
    return ""


def _place(repository: str) -> str:
    """A repository in one form: for restic `local:/x/` and `/x` are the same."""
    return repository.removeprefix("local:").rstrip("/") or repository


def _list(names: Iterable[str]) -> str:
    return ",".join(sorted(names))
