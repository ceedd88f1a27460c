"""The resources of the API (docs/api.md). None of them asks the repository or a peer."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

from flask import Blueprint, Response, abort, request
from werkzeug.exceptions import BadRequest

from replicator_kuma.adapters.repository import Position
from replicator_kuma.reports.document import as_json
from replicator_kuma.reports.http.access import EXCHANGE, Access
from replicator_kuma.reports.http.app import Printed, answer, ready_answer
from replicator_kuma.reports.http.here import Peers
from replicator_kuma.reports.http.summary import State
from replicator_kuma.reports.http.view import View

MOST_ENTRIES = 50
"""entries of `/api/v1/log`: as many as are kept"""
SCHEMAS = Path(__file__).parent / "schema"
_COLOURS: dict[State, str] = {"ok": "#2c7a3f", "warn": "#8a6100", "fail": "#b3261e"}
_BADGE = """\
<svg xmlns="http://www.w3.org/2000/svg" width="82" height="20" role="img"
 aria-label="fleet: {state}"><title>fleet: {state}</title><rect width="40" height="20" fill="#444"/>
<rect x="40" width="42" height="20" fill="{colour}"/>
<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">
<text x="20" y="14">fleet</text><text x="61" y="14">{state}</text></g></svg>
"""


def api(view: View, access: Access, peers: Callable[[], Peers]) -> Blueprint:
    """The resources over ``view``; ``peers`` takes what peers send, and raises where none runs."""
    blueprint = Blueprint("api", __name__)
    _health(blueprint, view, access)
    _documents(blueprint, view)
    _static(blueprint, view)

    @blueprint.post(EXCHANGE)
    def exchange() -> Response:
        body, encoding = request.get_data(), request.headers.get("Content-Encoding", "")
        gzip = "gzip" in request.headers.get("Accept-Encoding", "")
        reply = peers().receive(body, encoding, accepts_gzip=gzip)
        response = ready_answer(reply.body, reply.status)
        if reply.encoding:
            response.headers["Content-Encoding"] = reply.encoding
        return response

    return blueprint


def _health(blueprint: Blueprint, view: View, access: Access) -> None:
    def said(why: str | None, well: str, otherwise: str) -> Response:
        """``why`` it is not well; who has not the token gets one word."""
        if why is None:
            return _text(well, 200)
        return _text(why if access.knows(dict(request.headers)) else otherwise, 503)

    @blueprint.get("/healthz")
    def healthz() -> Response:
        return said(view.trouble(), "healthy", "unhealthy")

    @blueprint.get("/livez")
    def livez() -> Response:
        return said(view.stuck(), "alive", "stuck")

    @blueprint.get("/readyz")
    def readyz() -> Response:
        return said(view.not_ready(), "ready", "not ready")


def _documents(blueprint: Blueprint, view: View) -> None:
    @blueprint.get("/api/v1/status")
    def status() -> Response:
        return answer(as_json(view.status()))

    @blueprint.get("/api/v1/snapshots")
    def snapshots() -> Response:
        return answer(view.snapshots())

    @blueprint.get("/api/v1/log")
    def log() -> Response:
        return answer(view.log(_limit(), _since()))

    own, seen = Printed(), Printed()

    @blueprint.get("/api/v1/monitors")
    def monitors() -> Response:
        return ready_answer(own.of(view.own()))

    @blueprint.get("/api/v1/fleet")
    def fleet() -> Response:
        return ready_answer(seen.of(view.fleet()))

    @blueprint.get("/api/v1/summary")
    def summary() -> Response:
        return answer(as_json(view.summary()))

    @blueprint.get("/api/v1/beats/<int:monitor>")
    def beats(monitor: int) -> Response:
        found = view.beats(monitor) if monitor < 2**53 else None
        if found is None:
            abort(404)
        return answer(as_json(found))


def _static(blueprint: Blueprint, view: View) -> None:
    @blueprint.get("/badge/state.svg")
    def badge() -> Response:
        state = view.summary().state
        text = _BADGE.format(state=state, colour=_COLOURS[state])
        return Response(text, 200, mimetype="image/svg+xml")

    @blueprint.get("/schema/<name>.json")
    def schema(name: str) -> Response:
        found = schemas().get(name)
        if found is None:
            abort(404)
        response = ready_answer(found)
        response.mimetype = "application/schema+json"
        return response


@cache
def schemas() -> dict[str, bytes]:
    """The schema of each document, by its name."""
    return {path.stem: path.read_bytes() for path in sorted(SCHEMAS.glob("*.json"))}


def _text(words: str, status: int) -> Response:
    return Response(f"{words}\n".encode("utf-8", "replace"), status, mimetype="text/plain")


def _limit() -> int:
    """`limit` of the query: 1 to MOST_ENTRIES, which it is if nothing is asked."""
    text = request.args.get("limit", str(MOST_ENTRIES))
    if not (text.isascii() and text.isdigit() and 1 <= len(text) <= 6 and int(text)):
        raise BadRequest
    return min(int(text), MOST_ENTRIES)


def _since() -> Position | None:
    text = request.args.get("since")
    try:
        return None if text is None else Position.parse(text)
    except ValueError:
        raise BadRequest from None
