"""Names that a terminal has no characters for, in text and in JSON."""

from __future__ import annotations

import codecs
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import databases

ENCODINGS = ("latin-1", "cp1252", "euc_jp", "koi8-r", "utf-8", "utf-16")
PLACE = "ü 北 😀"


def _escapes(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


codecs.register_error("replicator-test", _escapes)


def replicator(data: Path, encoding: str, *arguments: str) -> bytes:
    done = subprocess.run(
        [sys.executable, "-m", "replicator_kuma", *arguments],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "PYTHONIOENCODING": f"{encoding}:strict",
            "DATA_DIR": str(data),
            "REPLICATOR_MODE": "BACKUP",
            "REPLICATOR_INSTANCE": PLACE,
            "RESTIC_REPOSITORY": str(data / "no repository"),
            "RESTIC_PASSWORD": "only-a-test",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
    )
    assert b"Traceback" not in done.stdout
    assert done.returncode not in (1, 2)
    return done.stdout


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_no_encoding_is_a_bug(tmp_path: Path, encoding: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    databases.build(data / "kuma.db", monitors=1)
    text = replicator(data, encoding, "doctor").decode(encoding)
    shown = PLACE.encode(encoding, "replicator-test").decode(encoding)
    assert f"instance {shown}" in text
    found = json.loads(replicator(data, encoding, "doctor", "--json").decode(encoding))
    messages = [one["message"] for one in found["findings"]]
    assert any(f"instance {PLACE}" in message for message in messages)


def shell(data: Path, command: str) -> subprocess.CompletedProcess[str]:
    """A command line with `$R` for the program."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "DATA_DIR": str(data),
        "REPLICATOR_MODE": "BACKUP",
        "R": f"{sys.executable} -m replicator_kuma",
    }
    return subprocess.run(
        ["sh", "-c", command], env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_bug(tmp_path: Path, closed: str) -> None:
    done = shell(tmp_path, f"$R log {closed}")
    assert done.returncode == 3  # no repository is named: what it ends with on a terminal, too
    assert "Traceback" not in done.stdout + done.stderr
    assert shell(tmp_path, f"$R status --help {closed}").returncode == 0


def test_an_output_that_is_full_is_the_machine_s(tmp_path: Path) -> None:
    done = shell(tmp_path, "$R status --help >/dev/full")
    assert done.returncode == 28
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
