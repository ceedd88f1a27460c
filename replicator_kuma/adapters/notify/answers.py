"""One request to a service, and what went wrong with it in words without a secret.

A target may be slow on purpose: all of an attempt is bounded in time, up to the end of its answer's
headers. Proxies and certificates are those of the environment, as the library `requests` finds
them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from replicator_kuma.adapters.notify import Request, Result, Target, Trial
from replicator_kuma.base.connections import Connections
from replicator_kuma.base.times import lasting

if TYPE_CHECKING:
    from requests import PreparedRequest, Response, Session

PARTS = 3
"""times the timeout: the connection, its TLS and the answer may each take all of it"""


class TooSlow(Exception):
    """The headers of an answer were not whole within so many seconds, its first argument."""


@contextlib.contextmanager
def answer(request: Request, timeout: float | tuple[float, float]) -> Iterator[Response]:
    """The answer, whose body is not read yet; raises what `requests` raises, TooSlow (`failure`).

    ``timeout``: seconds to connect and between two parts of the answer, or both apart.
    """
    import requests

    connections = Connections()
    first = timeout[0] if isinstance(timeout, tuple) else timeout
    with contextlib.closing(connections), requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, connections.adapter)
        try:
            with connections.within(PARTS * first):
                response = _headers(session, request, timeout)
        except Exception as error:
            raise (TooSlow(PARTS * first) if connections.late else error) from None
        with response:
            if connections.late:  # the end of the connection may look like that of the headers
                raise TooSlow(PARTS * first)
            yield response


def _headers(session: Session, request: Request, timeout: float | tuple[float, float]) -> Response:
    """The answer as soon as its headers are whole."""

    def with_headers(prepared: PreparedRequest) -> PreparedRequest:
        prepared.headers.update(request.headers)
        return prepared

    return session.request(
        request.method,
        request.url,
        data=request.body or None,
        # Set here, and not as `headers`: a ~/.netrc would replace an Authorization there.
        auth=with_headers,
        timeout=timeout,
        # A redirected POST becomes a GET, whose 200 would look like success.
        allow_redirects=False,
        stream=True,
    )


def attempted(target: Target, request: Request, timeout: float) -> Result:
    """Make one request: why it failed (None: it did not), and whether a retry can help."""
    try:
        with answer(request, timeout) as response:
            status = response.status_code
    except Exception as error:
        return failure(error, timeout)
    if 200 <= status < 300:
        return None, False
    return in_words(target, status), status == 429 or status >= 500


def failure(error: Exception, silence: float) -> tuple[str, bool]:
    """Why a request failed, and whether a retry can help; ``silence``: the seconds of a timeout."""
    import requests
    import urllib3

    if isinstance(error, TooSlow):
        return f"no whole answer within {lasting(error.args[0])}", True
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return f"no answer within {lasting(silence)}", True
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not accepted", False
    if isinstance(error, requests.ConnectionError | urllib3.exceptions.HTTPError):
        return "no connection", True
    return type(error).__name__, False  # its text may hold the URL


def in_words(target: Target, status: int) -> str:
    """What an HTTP status other than success means."""
    why = target.refusal(status) if 300 <= status < 500 else ""
    return f"HTTP {status}{why and f', {why}'}"


def refused(target: Target, trial: Trial, timeout: float = 10.0) -> str:
    """Make the request of a trial, and return in words what is wrong; "" if nothing is."""
    try:
        with answer(trial.request, timeout) as response:
            status = response.status_code
    except Exception as error:
        return failure(error, timeout)[0]
    return "" if status in trial.good else in_words(target, status)
