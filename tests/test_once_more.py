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


def test_the_whole_file_where_its_tests_stand_on_each_other(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(FILE.format(count=2, again=True))
    (tmp_path / "came-0").touch()
    (tmp_path / "test_other.py").write_text("def test_it(): pass")
    runs(tmp_path, "pytest", "-q")
    ended = runs(tmp_path, "scripts.once_more", "--files")
    assert ended.returncode == 0, ended.stdout
    assert "2 passed" in ended.stdout, "the test that had passed too, and no other file"
    assert "test_it.py::test_sometimes[1]" in ended.stdout
