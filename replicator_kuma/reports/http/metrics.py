"""`/metrics`: what is known of this instance, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Blueprint, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from replicator_kuma.base import counters
from replicator_kuma.base.counters import COUNTED
from replicator_kuma.base.errors import ReplicatorError
from replicator_kuma.config.settings import Settings
from replicator_kuma.daemon import heartbeat
from replicator_kuma.reports.http.here import Here
from replicator_kuma.reports.http.metric_families import FAMILIES, Scrape

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics(here: Here, settings: Settings) -> Blueprint:
    """The resource `/metrics`, from a registry of its own."""
    blueprint = Blueprint("metrics", __name__)
    registry = CollectorRegistry()
    registry.register(_Known(here, settings))

    @blueprint.get("/metrics")
    def scraped() -> Response:
        return Response(generate_latest(registry), 200, content_type=CONTENT_TYPE)

    return blueprint


class _Known(Collector):
    def __init__(self, here: Here, settings: Settings) -> None:
        self._here, self._settings = here, settings

    def describe(self) -> Iterator[Metric]:
        """The names, for `register`, without a scrape."""
        return (family.empty() for family in FAMILIES)

    def collect(self) -> Iterator[Metric]:
        """All metrics; raises ReplicatorErrors."""
        scrape = self._scrape()
        return iter([family.made(scrape) for family in FAMILIES])

    def _scrape(self) -> Scrape:
        here = self._here
        status, beat = here.status(), heartbeat.read(self._settings.state_dir)
        kuma, restic = status.changes.agent or "", ""
        for labels in COUNTED.of(counters.RESTIC_VERSION):
            restic = dict(labels)["version"]
        try:
            fleet = here.fleet()
            kuma = kuma or here.own().kuma or ""
        except ReplicatorError:
            fleet = None
        return Scrape(
            self._settings,
            here.state(),
            status,
            beat.kuma if beat is not None and heartbeat.alive(beat) else "",
            fleet,
            {"kuma": kuma, "restic": restic},
        )
