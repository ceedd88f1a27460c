"""Reads the variables, their file and the files of secrets, and collects the problems it finds.

An empty variable counts as unset: compose files write ``NAME=`` for an unset one.
"""

from __future__ import annotations

import codecs
import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from replicator_kuma.base.times import parse_duration
from replicator_kuma.base.windows import Window
from replicator_kuma.config import earlier_versions, env_file
from replicator_kuma.config.child_environments import (
    SECOND,
    for_second,
    handed_to_restic,
    restic_environment,
    second_environment,
    unknown_to_restic,
)
from replicator_kuma.config.variables import BACKEND_SECRETS, VARIABLES

PASSWORDS = {
    *("RESTIC_PASSWORD", "RESTIC_PASSWORD_FILE", "RESTIC_PASSWORD_COMMAND"),
    "RESTIC_INSECURE_NO_PASSWORD",
}

_KUBERNETES = re.compile(
    r"REPLICATOR(_[A-Z0-9_]+)?_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP)"
    r"(_(ADDR|PORT|PROTO))?)?)"
)


# what Go's strings.TrimSpace removes
_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_READ_BY_RESTIC = ("RESTIC_PASSWORD", "RESTIC_REPOSITORY")


def as_restic_reads(raw: bytes) -> str:
    """A file's text without its byte order mark and outer white space; raises UnicodeError.

    restic reads its password files the same way (internal/textfile, then strings.TrimSpace).
    """
    utf_16 = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return raw.decode("utf-16" if utf_16 else "utf-8-sig").strip(_SPACE)


def _place(environment: Mapping[str, str]) -> str | None:
    repository = environment.get("RESTIC_REPOSITORY")
    return repository.removeprefix("local:").rstrip("/") if repository else None


class Source:
    """The variables, each NAME_FILE read and empty ones dropped, and the problems so far.

    They are those of the environment, then those of the file of REPLICATOR_ENV_FILE.
    """

    def __init__(self, environ: Mapping[str, str], overrides: Mapping[str, str]) -> None:
        self.values = {name: value for name, value in environ.items() if value}
        self.problems: list[str] = []
        self.secrets = {name for name, variable in VARIABLES.items() if variable.secret}
        from_file = self._add_env_file()
        for name, value in overrides.items():
            self.values[name] = value
            self.values.pop(f"{name}_FILE", None)
        second = [f"{SECOND}{name}" for name in BACKEND_SECRETS]
        ours = ("REPLICATOR_REPOSITORY_2", "REPLICATOR_PASSWORD_2", "REPLICATOR_SIGNAL_URL")
        history = ("REPLICATOR_LITESTREAM_URL",)
        told = ("NTFY_URL", "NTFY_TOKEN", "REPLICATOR_NOTIFY", "REPLICATOR_HTTP_TOKEN")
        for name in (*BACKEND_SECRETS, *second, *ours, *history, *told):
            self._read_file(name)
        for name in _READ_BY_RESTIC:
            self._check_file(name)
        # In the environment too, where the manifests of deploy/kubernetes put this one.
        self._refuse_placeholders(dict.fromkeys((*from_file, *history)))
        earlier = earlier_versions.warnings(self.values)
        self.warnings = [*earlier, *self._unknown(), *self._odd_values()]

    def _add_env_file(self) -> Collection[str]:
        """Add the variables of the file that REPLICATOR_ENV_FILE names; returns their names."""
        path = self.values.get(env_file.NAME)
        if path is None:
            return ()
        try:
            text = Path(path).read_bytes().decode("utf-8-sig")
            found = env_file.added(self.values, text)
        except OSError as error:
            self.problem(env_file.NAME, f"a readable file ({error.strerror})")
        except UnicodeError:
            self.problem(env_file.NAME, "a readable file (not UTF-8 text)")
        except ValueError as error:
            self.problem(env_file.NAME, f"a file of lines NAME=value ({error})")
        else:
            self.values.update(found)
            return found
        return ()

    def _refuse_placeholders(self, names: Collection[str]) -> None:
        for name in names:
            if self.unedited(name):
                self.problem(name, f"a value of your own, not {env_file.UNEDITED!r}")

    def unedited(self, name: str) -> bool:
        """Whether a value still has what the examples have in its place."""
        return env_file.UNEDITED in self.values.get(name, "")

    def problem(self, name: str, expected: str) -> None:
        value = self.values.get(name, "")
        shown = "(secret)" if value and name in self.secrets else repr(value) if value else "unset"
        self.problems.append(f"{name} is {shown}: expected {expected}")

    def message(self) -> str:
        """All problems in one text, warnings beside them."""
        if len(self.problems) == 1 and not self.warnings:
            return self.problems[0]
        count = len(self.problems)
        title = "1 setting is wrong" if count == 1 else f"{count} settings are wrong"
        notes = (f"(note: {line})" for line in self.warnings)
        return "\n  ".join([f"{title}:", *self.problems, *notes])

    def _file(self, name: str) -> str | None:
        """The text of the file that NAME_FILE names; None if it is unset or has a problem."""
        path = self.values.get(f"{name}_FILE")
        if path is None:
            return None
        if name in self.values:
            self.problems.append(f"{name} and {name}_FILE are both set: expected one of them")
            return None
        try:
            text = as_restic_reads(Path(path).read_bytes())
        except (OSError, UnicodeError) as error:
            if isinstance(error, UnicodeError) and name in _READ_BY_RESTIC:
                return ""  # restic accepts any bytes as a password
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            self.problem(f"{name}_FILE", f"a readable file ({reason})")
            return None
        if not text or "\0" in text:
            kind = "that is not empty" if not text else "of text, without NUL bytes"
            self.problem(f"{name}_FILE", f"a file {kind}")
            return None
        return text

    def _read_file(self, name: str) -> None:
        text = self._file(name)
        if self.values.pop(f"{name}_FILE", None) is not None and text is not None:
            self.values[name] = text

    def _check_file(self, name: str) -> None:
        """Check a file that restic reads itself, to report a bad one before restic runs.

        A relative path in it is made absolute, as in a variable: restic runs in a dump's folder.
        """
        text = self._file(name)
        if name == "RESTIC_REPOSITORY" and text and restic_environment({name: text})[name] != text:
            self.values[name] = text
            del self.values[f"{name}_FILE"]

    def _unknown(self) -> list[str]:
        known = [name for name in VARIABLES if name.startswith("REPLICATOR_")]
        warnings = []
        for name in sorted(self.values):
            # Kubernetes injects some for a service called «replicator»: nobody wrote them.
            if (
                not name.startswith("REPLICATOR_")
                or name in known
                or for_second(name)
                or _KUBERNETES.fullmatch(name)
                or name.startswith("REPLICATOR_TEST_")
            ):
                continue
            import difflib

            near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            hint = f"; did you mean {near[0]}?" if near else ""
            warnings.append(f"{name} is not a variable of replicator-kuma{hint}")
        return warnings

    def _odd_values(self) -> Iterator[str]:
        """Warnings of values with a carriage return or quotes, and of unknown restic variables."""
        for name, value in sorted(self.values.items()):
            if unknown_to_restic(name.removeprefix(SECOND)):
                yield f"{name} is no variable of restic that is known here: restic does not get it"
            if name not in VARIABLES and not handed_to_restic(name.removeprefix(SECOND)):
                continue
            if value.endswith("\r"):
                yield (
                    f"{name} ends in a carriage return, which is taken for a part of it: was its "
                    "file written on Windows? Try: dos2unix"
                )
            elif value[0] == value[-1] and value[0] in "\"'" and not name.endswith("_COMMAND"):
                yield (
                    f"{name} stands in quotes, which are taken for a part of it: an env file "
                    "needs none"
                )

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

    def second(self) -> dict[str, str]:
        """The environment of restic for the second repository; empty if there is none."""
        made = second_environment(self.values)
        own = [name for name in self.values if for_second(name) or name == "REPLICATOR_PASSWORD_2"]
        if own and not made:
            names = ", ".join(sorted(own))
            self.warnings.append(f"{names}: nothing without REPLICATOR_REPOSITORY_2")
        first = restic_environment(self.values)
        if made and not made.keys() & PASSWORDS:
            self.problem("REPLICATOR_PASSWORD_2", "the second repository's password")
        if made and _place(made) == _place(first):
            self.problem("REPLICATOR_REPOSITORY_2", "another repository than the first")
        return made

    def number(self, name: str, low: int, high: int) -> int:
        text = self.text(name).strip()
        if text.isascii() and text.isdigit() and low <= int(text) <= high:
            return int(text)
        self.problem(name, f"a number from {low} to {high}")
        return low

    def window(self, name: str) -> Window:
        try:
            return Window.parse(self.text(name))
        except ValueError as error:
            self.problem(name, str(error))
            return Window()

    def path(self, name: str, default: Path | None = None) -> Path:
        text = self.text(name)
        if not text and default is not None:
            return default
        if not text.startswith("/"):
            self.problem(name, "an absolute path")
        return Path(text)

    def command(self, name: str) -> tuple[str, ...]:
        try:
            if words := shlex.split(self.text(name)):
                return tuple(words)
            why = "it is empty"
        except ValueError as error:
            why = str(error)
        self.problem(name, f"a command line ({why})")
        return ()

    def names(self, name: str) -> frozenset[str]:
        return frozenset(part.strip() for part in self.text(name).split(",") if part.strip())
