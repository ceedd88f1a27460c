"""Prometheus and promtool as Debian has them, and what queries name."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.kuma_server import free_port
from tests.support.waiting import wait_until

_SELECTOR = re.compile(r"\breplicator_kuma_(\w+)(?:\{([^}]*)\})?")
_LABELS = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_GROUPS = re.compile(r"\b(?:by|on|group_left|without|ignoring)\s*\(([^)]*)\)")


def need(program: str) -> str:
    """Path of promtool or prometheus; skips without it, or fails by REPLICATOR_TEST_REQUIRE."""
    found = shutil.which(program)
    if found is None:
        assert "prometheus" not in os.environ.get("REPLICATOR_TEST_REQUIRE", ""), program
        pytest.skip(f"{program} is not installed (Debian's package prometheus)")
    return found


def promtool(folder: Path, *arguments: str) -> None:
    """Run it in a folder; fails with what it says unless it finds all well."""
    done = subprocess.run(
        [need("promtool"), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def selectors(expr: str) -> list[tuple[str, set[str]]]:
    """The metrics in a query, without their prefix, each with the labels it is asked by."""
    return [(name, set(_LABELS.findall(labels))) for name, labels in _SELECTOR.findall(expr)]


def grouped(expr: str) -> set[str]:
    """The labels by which a query groups and joins."""
    return {label.strip() for found in _GROUPS.findall(expr) for label in found.split(",")} - {""}


class Prometheus:
    """A server that runs; ``ask`` reads its API."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}/api/v1"

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer; raises OSErrors, HTTPError where it refuses the query."""
        url = f"{self._base}/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]

    def values(self, expr: str) -> list[tuple[dict[str, str], float]]:
        """What a query is now."""
        found = self.ask("query", query=expr)["result"]
        return [(one["metric"], float(one["value"][1])) for one in found]


@contextmanager
def running(folder: Path, config: Path) -> Iterator[Prometheus]:
    """A Prometheus on loopback with a configuration, its data below ``folder``."""
    program, port = need("prometheus"), free_port()
    log = folder / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=output,
            stderr=output,
        )
    server = Prometheus(port)

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return bool(server.ask("status/buildinfo"))
        except OSError:
            return False

    try:
        wait_until(answers, "Prometheus answers", 60)
        yield server
    finally:
        process.kill()
        process.wait()
