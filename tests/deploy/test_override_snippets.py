"""The compose overrides that pages of docs show: each is merged with the files that it is for."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.composed import composed
from tests.support.tools import ROOT

DOCS = ROOT / "docs"
ROLES = ("leader", "replica")


def snippets() -> dict[str, str]:
    """The overrides in blocks of YAML, by page and number: what speaks of nothing but our service.

    Fluent Bit's, say, is a whole file of its own.
    """
    found: dict[str, str] = {}
    for page in sorted(DOCS.glob("*.md")):
        for block in re.findall(r"(?ms)^```yaml\n(.*?)^```$", page.read_text()):
            what = yaml.safe_load(block)
            ours = isinstance(what, dict) and what.keys() <= {"services", "volumes"}
            if ours and what.get("services", {}).keys() <= {"kuma"}:
                number = sum(name.startswith(f"{page.stem} ") for name in found)
                found[f"{page.stem} {number + 1}"] = block
    return found


SNIPPETS = snippets()
each = pytest.mark.parametrize("name", SNIPPETS)
each_role = pytest.mark.parametrize("role", ROLES)


def merged(name: str, role: str, tmp_path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What compose makes of the role's file alone, and with the override given after it."""
    own = tmp_path / "docker-compose.override.yml"
    # As the pages tell who has a replica.
    own.write_text(SNIPPETS[name].replace("leader-data", f"{role}-data"))
    return alone(role), composed(file_of(role), own, environment={})


def file_of(role: str) -> Path:
    return ROOT / f"docker-compose.{role}.yml"


@functools.cache
def alone(role: str) -> dict[str, Any]:
    return composed(file_of(role), environment={})


def arguments(made: dict[str, Any]) -> dict[str, str]:
    """The arguments of the image's build."""
    return dict(each.split("=", 1) for each in made["services"]["kuma"]["build"].get("args", ()))


def test_the_pages_that_show_one_are_known() -> None:
    assert {name.split()[0] for name in SNIPPETS} >= {
        "install",
        "litestream",
        "moving",
        "repository",
    }


@each
@each_role
def test_an_override_changes_what_it_names_and_nothing_else(
    name: str, role: str, tmp_path: Path
) -> None:
    before, after = merged(name, role, tmp_path)
    own = yaml.safe_load(SNIPPETS[name].replace("leader-data", f"{role}-data"))
    assert after["volumes"].keys() == before["volumes"].keys(), "it names a volume of the file"
    for volume, how in own.get("volumes", {}).items():
        assert after["volumes"][volume] == how
    kuma, was = after["services"]["kuma"], before["services"]["kuma"]
    added = own.get("services", {}).get("kuma", {})
    assert added.keys() <= {"build", "volumes"}
    assert set(added.get("volumes", ())) <= set(kuma["volumes"])
    assert arguments(after) == added.get("build", {}).get("args", {})
    assert kuma["build"]["context"] == was["build"]["context"]
    untouched = was.keys() - added.keys()
    assert {key: kuma[key] for key in untouched} == {key: was[key] for key in untouched}


@each
def test_an_override_gives_the_image_arguments_that_it_has(name: str) -> None:
    known = set(re.findall(r"(?m)^ARG (\w+)", (ROOT / "Dockerfile").read_text()))
    kuma = yaml.safe_load(SNIPPETS[name]).get("services", {}).get("kuma", {})
    assert kuma.get("build", {}).get("args", {}).keys() <= known


@each_role
def test_litestream_s_override_builds_the_image_with_it(role: str, tmp_path: Path) -> None:
    """YAML reads `on` without quotes as true, and the Dockerfile would leave Litestream out."""
    (name,) = (name for name in SNIPPETS if name.startswith("litestream "))
    wanted = re.findall(r'"\$LITESTREAM" = (\w+)', (ROOT / "Dockerfile").read_text())
    assert [arguments(merged(name, role, tmp_path)[1])["LITESTREAM"]] == wanted
