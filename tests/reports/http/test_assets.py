"""What the page brings along: htmx as it was published, small style, nothing from outside."""

from __future__ import annotations

import hashlib
import re
import tomllib
from fnmatch import fnmatch
from typing import get_args

import pytest

from replicator_kuma.reports.fleet import signs
from replicator_kuma.reports.fleet.documents import CellStatus, InstanceState, Verdict
from replicator_kuma.reports.http.monitor_grid import KINDS
from replicator_kuma.reports.http.summary import State
from tests.support.tools import ROOT

HTTP = ROOT / "replicator_kuma" / "reports" / "http"
STATIC = HTTP / "static"
CSS = (STATIC / "page.css").read_text()
FILES = sorted((*STATIC.iterdir(), *(HTTP / "templates").iterdir()))

HTMX = {
    # of htmx.org 4.0.1 as it was published: dist/htmx.min.js and LICENSE
    "htmx-4.0.1.min.js": "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130",
    "htmx-LICENSE.txt": "d3d2456f76414f2456104660ebd65aff1c04cd7966b942bdabd63f3cdb316a38",
}


@pytest.mark.parametrize("name", HTMX)
def test_htmx_is_the_published_file(name: str) -> None:
    assert hashlib.sha256((STATIC / name).read_bytes()).hexdigest() == HTMX[name]


def test_the_style_is_below_8_kb() -> None:
    assert len(CSS.encode()) < 8_000


def test_no_asset_names_an_address_outside() -> None:
    own = [path for path in FILES if path.name not in HTMX]
    for path in own:
        text = path.read_text().replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?:|//[a-z]|@import|url\(", text.replace("// ", "")), path.name


def test_the_script_makes_no_html_and_no_code() -> None:
    script = (STATIC / "page.js").read_text()
    forbidden = r"innerHTML|outerHTML|insertAdjacent|\beval\b|Function\(|document\.write"
    assert not re.search(forbidden, script)


def test_every_asset_is_in_the_package() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
        "package-data"
    ]["replicator_kuma"]
    for path in FILES:
        name = str(path.relative_to(ROOT / "replicator_kuma"))
        assert any(fnmatch(name, pattern) for pattern in patterns), name


def test_every_state_has_a_sign_and_a_word_of_its_own() -> None:
    assert set(signs.CELLS) == set(get_args(CellStatus))
    assert set(signs.VERDICTS) == set(get_args(Verdict))
    assert set(signs.INSTANCES) == set(get_args(InstanceState))
    for table in (signs.CELLS, signs.VERDICTS):
        assert len({sign for sign, _word in table.values()}) == len(table)
    assert len({word for _sign, word in signs.INSTANCES.values()}) == len(signs.INSTANCES)
    assert set(signs.CONDITIONS) == {*get_args(State), "unknown"}
    assert len({sign for sign, _word in signs.CONDITIONS.values()}) == len(signs.CONDITIONS)


def test_the_documentation_tells_every_sign_and_word() -> None:
    told = (ROOT / "docs" / "page.md").read_text()
    for sign, word in (*signs.CELLS.values(), *signs.INSTANCES.values()):
        assert f"| {sign} |" in told, sign
        assert word in told, word
    for words in KINDS.values():
        assert words in told, words


def _palettes() -> dict[str, dict[str, str]]:
    light, dark = re.findall(r":root \{([^}]*)\}", CSS)
    colours = [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6})", part)) for part in (light, dark)]
    return {"light": colours[0], "dark": colours[1]}


def _luminance(colour: str) -> float:
    """As WCAG 2.2 defines relative luminance."""
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_signs_stand_out(scheme: str) -> None:
    """4.5 to 1 for text, 3 to 1 for the bars (WCAG 2.2, 1.4.3 and 1.4.11)."""
    palette = _palettes()[scheme]
    assert palette.keys() == _palettes()["light"].keys()
    needed = {name: 3.0 if name.startswith("b-") else 4.5 for name in palette}
    del needed["ground"], needed["card"], needed["line"]
    for name, ratio in needed.items():
        for ground in ("ground", "card"):
            bright, faint = sorted(
                (_luminance(palette[name]), _luminance(palette[ground])), reverse=True
            )
            assert (bright + 0.05) / (faint + 0.05) >= ratio, (name, ground)
