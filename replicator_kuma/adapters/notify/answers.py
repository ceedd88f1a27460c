"""One request to a service, and what went wrong with it in words without a secret.

Proxies and certificates are those of the environment, as the library `requests` finds them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from replicator_kuma.adapters.notify import Request, Service
from replicator_kuma.base.times import lasting

if TYPE_CHECKING:
    from requests import PreparedRequest, Response


@contextlib.contextmanager
def answer(
    method: str, request: Request, timeout: float | tuple[float, float]
) -> Iterator[Response]:
    """The answer, whose body is not read yet; raises what `requests` raises (`failure`).

    ``timeout``: seconds to connect and between two parts of the answer, or both apart.
    """
    import requests

    def with_headers(prepared: PreparedRequest) -> PreparedRequest:
        prepared.headers.update(request.headers)
        return prepared

    with requests.request(
        method,
        request.url,
        data=request.body or None,
        # Set here, and not as `headers`: a ~/.netrc would replace an Authorization there.
        auth=with_headers,
        timeout=timeout,
        # A redirected POST becomes a GET, whose 200 would look like success.
        allow_redirects=False,
        stream=True,
    ) as response:
        yield response


def failure(error: Exception, silence: float) -> tuple[str, bool]:
    """Why a request failed, and whether a retry can help; ``silence``: the seconds of a timeout."""
    import requests
    import urllib3

    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return f"no answer within {lasting(silence)}", True
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not accepted", False
    if isinstance(error, requests.ConnectionError | urllib3.exceptions.HTTPError):
        return "no connection", True
    return type(error).__name__, False  # its text may hold the URL


def in_words(service: Service, status: int) -> str:
    """What an HTTP status other than success means."""
    why = service.refusal(status) if 300 <= status < 500 else ""
    return f"HTTP {status}{why and f', {why}'}"


def refused(service: Service, method: str, request: Request, timeout: float = 10.0) -> str:
    """Make one request, and return in words why the service did not take it; "" if it did."""
    try:
        with answer(method, request, timeout) as response:
            status = response.status_code
    except Exception as error:
        return failure(error, timeout)[0]
    return "" if 200 <= status < 300 else in_words(service, status)
