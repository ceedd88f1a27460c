"""The agent's file by itself: it is in the package, its syntax is old enough, node's tests pass."""

from __future__ import annotations

import os
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

from tests.support.live_kuma import AGENT
from tests.support.tools import kuma_disabled

needs_node = pytest.mark.skipif(kuma_disabled(), reason="REPLICATOR_TEST_NO_KUMA=1")

TESTS = Path(__file__).with_name("agent.test.cjs")

# Node has a parser of its own, which knows versions of the language; it is for node's own use.
PARSE = """
const { parse } = require("internal/deps/acorn/acorn/dist/acorn");
const text = require("fs").readFileSync(process.argv[1], "utf8");
parse(text, { ecmaVersion: Number(process.argv[2]), sourceType: "script" });
"""


def parse(path: Path, version: int) -> subprocess.CompletedProcess[str]:
    command = ["node", "--expose-internals", "-e", PARSE, str(path), str(version)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_it_is_in_the_package() -> None:
    assert files("replicator_kuma.adapters.kuma.agent").joinpath("agent.cjs").read_text()


@needs_node
def test_each_node_that_runs_kuma_can_parse_it(tmp_path: Path) -> None:
    """1.23 runs on Node 14, whose language is that of 2020. Older ones parse 2019's."""
    found = parse(AGENT, 2019)
    assert found.returncode == 0, found.stderr
    newer = tmp_path / "newer.cjs"
    newer.write_text('"use strict"; let a; a ??= 1;')
    assert "SyntaxError" in parse(newer, 2020).stderr
    assert parse(newer, 2021).returncode == 0


@needs_node
def test_node_s_own_tests_pass() -> None:
    environment = {
        name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ
    }
    found = subprocess.run(
        ["node", "--test", str(TESTS)], capture_output=True, text=True, timeout=250, env=environment
    )
    assert found.returncode == 0, found.stdout
