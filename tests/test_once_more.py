"""CI's second run of a few failed tests: it decides by what fails again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tools import ROOT

FILE = """
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", range({count}))
def test_sometimes(number):
    mark = Path(f"came-{{number}}")
    there = mark.exists()
    mark.touch()
    assert there and {again}
"""


def runs(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("count", "again", "code", "says"),
    [
        (1, True, 0, "PASSED ALONE"),
        (3, False, 1, "FAILED AGAIN"),
        (4, True, 1, "4 tests failed: not once more"),
        (0, True, 1, "0 tests failed: not once more"),
    ],
)
def test_what_fails_again_fails(
    tmp_path: Path, count: int, again: bool, code: int, says: str
) -> None:
    (tmp_path / "test_it.py").write_text(FILE.format(count=count, again=again))
    runs(tmp_path, "pytest", "-q", "-n", "2")
    ended = runs(tmp_path, "scripts.once_more")
    assert (ended.returncode, says in ended.stdout) == (code, True), ended.stdout
    if "not once more" not in says:
        assert f"test_it.py::test_sometimes[{count - 1}]" in ended.stdout
