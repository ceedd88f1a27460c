"""The application: each request passes the rules of access, each answer gets the same headers.

Who makes the application gives it its blueprints: `api(…)`, `metrics(…)`, and the page's.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from flask import Blueprint, Flask, Response, request
from werkzeug.exceptions import HTTPException

from replicator_kuma.base.errors import ReplicatorError
from replicator_kuma.base.seldom import Seldom
from replicator_kuma.reports.document import as_json
from replicator_kuma.reports.http.access import UNGUARDED, Access, Refusal

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; object-src 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""of each answer that has not set its own"""
_WORDS = {
    400: ("bad_request", "The request cannot be understood."),
    404: ("not_found", "There is no such resource. What there is: docs/api.md"),
    405: ("method_not_allowed", "This resource is only read."),
    413: ("too_large", "The body is too large."),
    500: ("failed", "The answer could not be made; the log of this instance says why."),
    503: ("unavailable", "This is not known now; the log of this instance says why."),
}

MAX_BODY = 4 << 20
"""bytes of what a peer sends"""

logger = logging.getLogger(__name__)


def create_app(access: Access, *blueprints: Blueprint) -> Flask:
    """An application of these blueprints, behind the rules of ``access``."""
    app = Flask(__name__, static_folder=None, template_folder=None)
    # a redirect names the path as we see it: behind a proxy's path it would lead elsewhere
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    seldom = Seldom(logger)

    @app.before_request
    def refuse() -> Response | None:
        refused = access.refusal(request.method, request.path, dict(request.headers))
        if refused is None:
            return None
        if refused.wrong_token:
            seldom.say(
                logging.WARNING,
                "request_refused",
                "a request with a wrong token was refused",
                f", from {request.remote_addr}",
            )
        return _refused(refused)

    @app.after_request
    def finish(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if request.path in UNGUARDED:
            response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        if response.status_code == 200 and request.method in ("GET", "HEAD"):
            if not response.is_streamed:
                response.add_etag()
            response.make_conditional(request)
        return response

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        return _told(error.code or 500)

    @app.errorhandler(ReplicatorError)
    def not_known(error: ReplicatorError) -> Response:
        seldom.say(
            logging.WARNING, "request_failed", f"{_asked()} cannot be answered", f": {error}"
        )
        return _told(503)

    @app.errorhandler(Exception)
    def bug(error: Exception) -> Response:
        # the error's own text may hold what a client sent, or a secret
        text = f"{_asked()}: {type(error).__name__}: this is a bug in replicator-kuma"
        seldom.say(logging.ERROR, "bug", text, bug=True)
        return _told(500)

    for blueprint in blueprints:
        app.register_blueprint(blueprint)
    return app


def _asked() -> str:
    """The resource as we name it: a path may hold anything."""
    return request.url_rule.rule if request.url_rule is not None else "a request"


def answer(value: Any, status: int = 200) -> Response:
    """A JSON answer."""
    return ready_answer(printed(value), status)


def printed(value: Any) -> bytes:
    """The JSON of a value."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


class Printed:
    """The JSON of a document that stays the same object until something is new in it.

    That of 1,000 monitors at 6 places takes 50 ms, and pages ask for it every 10 seconds.
    """

    def __init__(self) -> None:
        self._last: tuple[object, bytes] | None = None

    def of(self, document: object) -> bytes:
        """Its JSON."""
        last = self._last
        if last is None or last[0] is not document:
            last = self._last = (document, printed(as_json(document)))
        return last[1]


def ready_answer(body: bytes, status: int = 200) -> Response:
    """An answer of JSON that has been made already."""
    return Response(body, status, mimetype="application/json")


def _told(status: int) -> Response:
    error, message = _WORDS.get(status, _WORDS[400 if status < 500 else 500])
    return answer({"error": error, "message": message}, status)


def _refused(refusal: Refusal) -> Response:
    response = answer({"error": refusal.error, "message": refusal.message}, refusal.status)
    for name, value in refusal.headers:
        response.headers.add(name, value)
    return response
