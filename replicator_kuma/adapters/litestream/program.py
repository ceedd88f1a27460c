"""Litestream's program: where it is, which version, and its short calls."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from replicator_kuma.base import core_dumps
from replicator_kuma.base.errors import HistoryError, Interrupted
from replicator_kuma.base.os_errors import unnamed_file
from replicator_kuma.base.processes import end_child
from replicator_kuma.base.state_directory import handed_on
from replicator_kuma.base.text import plain_line
from replicator_kuma.base.threads import never
from replicator_kuma.base.times import lasting

NAME = "litestream"
SERIES = "0.5."
"""the versions whose words and store's format are known here"""
_KEPT = 1 << 16
"""bytes of what is said on stderr"""
_MOST_OUTPUT = 1 << 25
"""bytes; a list of a store's files has 200 for each, and there may be thousands"""
_POLL = 0.05
_GRACE = 5.0
_INSTALL = (
    "Install the extra: pip install '.[litestream]' in the clone, or build the image with "
    "--build-arg LITESTREAM=on"
)


@dataclass(frozen=True)
class Ended:
    """A call that has ended. ``complaint`` is the last line that it wrote to stderr."""

    code: int
    output: str
    complaint: str


def find() -> Path:
    """The program: beside this Python, where the extra puts it, else on PATH.

    Raises HistoryError.
    """
    beside = Path(sys.executable).with_name(NAME)
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which(NAME)
    if not found:
        raise HistoryError("litestream is not installed", hint=_INSTALL)
    return Path(found)


def version(program: Path) -> str:
    """Its version; raises HistoryError if it is none that is known here."""
    said = run([str(program), "version"], {}, deadline=30).output.strip()
    if not said.removeprefix("v").startswith(SERIES):
        raise HistoryError(
            f"{program} is Litestream {plain_line(said[:40]) or 'of no version'}: replicator-kuma "
            f"needs {SERIES}x",
            hint=_INSTALL,
        )
    return said


def run(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    deadline: float,
    interrupted: Callable[[], bool] = never,
    growing: Callable[[], int] | None = None,
) -> Ended:
    """Run one call to its end; any exit code is a result.

    The deadline, in seconds, begins anew each time that ``growing`` (bytes) is another number.
    Raises HistoryError if it cannot be started or overruns its deadline, Interrupted.
    """
    with unnamed_file() as output, unnamed_file() as complaint:
        process = _started(arguments, environment, output, complaint)
        end, size = time.monotonic() + deadline, -1
        try:
            while process.poll() is None:
                if interrupted():
                    raise Interrupted("stopped by a signal while Litestream was at work")
                if growing is not None and (now := growing()) != size:
                    end, size = time.monotonic() + deadline, now
                if time.monotonic() >= end:
                    raise HistoryError(
                        f"litestream {arguments[1]} has not ended within {lasting(deadline)}: "
                        f"{_last_line(complaint) or 'it said nothing'}"
                    )
                time.sleep(_POLL)
        finally:
            end_child(process, _GRACE)
        return Ended(process.returncode, _text(output), _last_line(complaint))


def _started(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    output: IO[bytes],
    complaint: IO[bytes],
) -> subprocess.Popen[bytes]:
    try:
        with core_dumps.forbidden():
            return subprocess.Popen(
                arguments,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=complaint,
                pass_fds=handed_on(arguments),
                start_new_session=True,
            )
    except OSError as error:
        raise HistoryError(f"{arguments[0]} could not be run: {error.strerror}") from error


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(_MOST_OUTPUT).decode(errors="replace")


def _last_line(file: IO[bytes]) -> str:
    """The last line that is no line of its log, without `Error: `; else the log's last error."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _KEPT))
    lines = file.read().decode(errors="replace").splitlines()
    said = [line for line in lines if line.strip() and not line.startswith("{")]
    return complaint_of(said[-1] if said else _logged(lines))


def _logged(lines: Sequence[str]) -> str:
    for line in reversed(lines):
        if error := error_of(line):
            return error
    return ""


def message_of(line: str) -> str:
    """What a line of Litestream's log is about; empty for a line that is none of its log."""
    return str(_entry(line).get("msg", ""))


def _entry(line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


def error_of(line: str) -> str:
    """The error in a line of Litestream's log; empty for other lines."""
    entry = _entry(line)
    if entry.get("level") not in ("ERROR", "WARN"):
        return ""
    why = entry.get("error")
    return complaint_of(f"{entry.get('msg', '')}{f': {why}' if why else ''}")


def complaint_of(text: str) -> str:
    """Its words on one line, without what may be a secret in an address."""
    line = plain_line(text.removeprefix("Error: ").strip())
    return re.sub(r"(://)[^/@\s]+@", r"\1***@", line)[:400]
