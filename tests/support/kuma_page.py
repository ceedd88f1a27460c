"""What answers in the place of a Kuma's page, on loopback: a test can change it at any time."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

from tests.support.kuma_server import free_port
from tests.support.loopback import Loopback, Quiet

ENTRY = (200, json.dumps({"type": "entryPage", "entryPage": "dashboard"}))
DOMAIN = (200, json.dumps({"type": "statusPageMatchedDomain", "statusPageSlug": "x"}))
SETUP = (200, json.dumps({"type": "setup-database"}))
MIGRATING = (404, "Cannot GET /api/entry-page")


class Stage:
    """A port where nobody listens, until open(); ``answer`` is what it then says."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.answer: tuple[int, str] = ENTRY
        self.asked: list[str] = []
        self._server: Loopback | None = None

    def open(self, answer: tuple[int, str]) -> None:
        """Listen, and answer so from now on."""
        self.answer = answer
        if self._server is None:
            stage = self

            class Handler(Quiet):
                def get(self) -> None:
                    stage.asked.append(self.path)
                    status, body = stage.answer
                    self.say(status, body.encode())

            self._server = Loopback(Handler, self.port)

    def close(self) -> None:
        """Listen no longer."""
        if self._server is not None:
            self._server.close()
            self._server = None


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """A Stage that is closed at the end."""
    made = Stage()
    try:
        yield made
    finally:
        made.close()
