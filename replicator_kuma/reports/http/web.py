"""The HTTP server of `replicator run`, as a service beside the cycles."""

from __future__ import annotations

from replicator_kuma.base.errors import SettingsError
from replicator_kuma.config.listen import Listen
from replicator_kuma.config.settings import Settings
from replicator_kuma.reports.http.access import Access
from replicator_kuma.reports.http.here import Here, Peers, States


class Web:
    """A SideService: serves the API, health and metrics while `run` runs.

    Flask, cheroot and the rest are imported when it begins: a run without REPLICATOR_HTTP has none
    of them in its memory, and needs none of them installed.
    """

    def __init__(
        self, settings: Settings, exchange: Peers | None = None, states: States | None = None
    ) -> None:
        """``exchange``: what knows the fleet; ``states``: what reads Kuma's heartbeats.

        Raises SettingsError if the settings open it to other machines without a token, if
        REPLICATOR_HTTP is off, or where the extra `web` is not installed.
        """
        if settings.http is None:
            raise SettingsError("REPLICATOR_HTTP is off: there is nothing to serve")
        self._listen = settings.http
        self._settings, self._access = settings, Access.of(settings, settings.http)
        self.here = Here(settings, exchange, states)
        try:
            from replicator_kuma.reports.http.api import api
            from replicator_kuma.reports.http.app import create_app
            from replicator_kuma.reports.http.metrics import metrics
            from replicator_kuma.reports.http.pages import pages
            from replicator_kuma.reports.http.server import HttpServer
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("replicator_kuma"):
                raise
            raise SettingsError(
                f"REPLICATOR_HTTP is set, and {error.name} is not installed",
                hint="Install the extra: pip install '.[web]' in the clone (the image has it). Or "
                "leave REPLICATOR_HTTP out.",
            ) from error
        self._app = create_app(
            self._access,
            api(self.here, self._access, self.here.peers),
            metrics(self.here, settings),
            pages({self.here.name: self.here}),
        )
        self._server = HttpServer(self._listen, self._app)

    @property
    def address(self) -> Listen:
        """Where it listens; after `start` with the port that it got."""
        return self._server.address

    def start(self) -> None:
        """Begin. Raises SettingsError or MachineError if the address cannot be used."""
        self._server.start()

    def stop(self) -> None:
        """End within 0.3 s. Never raises."""
        self._server.stop()
