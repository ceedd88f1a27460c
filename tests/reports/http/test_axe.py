"""The page by axe-core's rules of what people with any eyes, hands and screens can use."""

from __future__ import annotations

import json
import re
import time
from html import unescape
from typing import Any

import pytest
from flask import Flask, Response, request

from tests.support import fleet_views
from tests.support.chromium import need_chromium, run, served
from tests.support.tools import ToolMissingError, axe

pytestmark = pytest.mark.slow

LOOK = """
<script src="/axe.js"></script>
<script>addEventListener("load", () => axe.run().then((found) => {
    const said = document.createElement("pre");
    said.id = "axe-said";
    said.textContent = JSON.stringify({
        passes: found.passes.length,
        violations: found.violations.map((v) => [v.id, v.nodes.map((n) => n.html)]),
    });
    document.body.append(said);
}));</script>
"""


def looked_at(state: str, query: str, *arguments: str) -> dict[str, Any]:
    """What axe finds in the page in this state."""
    try:
        script = axe().read_bytes()
    except ToolMissingError as error:
        pytest.skip(str(error))
    born = time.time()
    page = fleet_views.app_of({"home": fleet_views.STATES[state](born)}, lambda: born)
    app = Flask(__name__, static_folder=None)

    @app.get("/axe.js")
    def rules() -> Response:
        return Response(script, mimetype="text/javascript")

    @app.get("/")
    @app.get("/<path:path>")
    def any_path(path: str = "") -> Response:
        """As the page, and without its policy, which forbids scripts of others."""
        with page.test_client() as client:
            found = client.get(f"/{path}", query_string=request.query_string.decode())
            body = found.get_data()
            found.close()
        if found.mimetype == "text/html":
            body = body.replace(b"</head>", LOOK.encode() + b"</head>")
        return Response(body, found.status_code, mimetype=found.mimetype)

    with served(app) as url:
        dom = run(
            need_chromium(), url + query, "--virtual-time-budget=9000", "--dump-dom", *arguments
        )
    said = re.search(r'<pre id="axe-said">(.*?)</pre>', dom, re.DOTALL)
    assert said, dom[-2000:]
    answer: dict[str, Any] = json.loads(unescape(said[1]))
    return answer


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("state", "query"),
    [
        *((state, "") for state in fleet_views.STATES),
        ("down", "?monitor=1"),
        ("down", "?all=1"),
        ("down", "?status=1"),
        ("disagree", "?q=shop"),
    ],
)
def test_axe_finds_nothing(state: str, query: str, scheme: str) -> None:
    dark = ("--blink-settings=preferredColorScheme=0",) if scheme == "dark" else ()
    for width in (1280, 500):
        found = looked_at(state, query, f"--window-size={width},900", *dark)
        assert found["passes"] > 15, "it looked at the page"
        assert found["violations"] == [], (state, query, scheme, width)
