"""What `replicator run` does beside its cycles: the exchange with peers, and the HTTP server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from replicator_kuma.config.settings import Settings
from replicator_kuma.daemon.side_service import SideService
from replicator_kuma.daemon.supervisor import Question
from replicator_kuma.reports.fleet.documents import Monitors
from replicator_kuma.reports.fleet.exchange import QUESTION, Exchange, exchange_of
from replicator_kuma.reports.fleet.own_states import OwnStates
from replicator_kuma.reports.fleet.verdict import judge


def beside(settings: Settings) -> tuple[Sequence[SideService], Mapping[str, Question]]:
    """The side services, and what a client of the control socket may ask them.

    The exchange is there without peers too, for `replicator fleet`: it reads nothing until
    somebody asks. Raises SettingsError if the settings open the server to everybody, or where the
    extra `web` is missing.
    """
    states = OwnStates(settings)

    def own(exact: bool) -> Monitors:
        return states.document(exchange.heard(), exact=exact)

    exchange: Exchange = exchange_of(settings, own, judge)
    questions = {QUESTION: exchange.answer}
    if settings.http is None:
        return [exchange], questions
    from replicator_kuma.reports.http.web import Web

    return [exchange, Web(settings, exchange, states)], questions
