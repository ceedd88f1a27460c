"""Any number of requests before a cycle are one: what each of them knows is handed on."""

from __future__ import annotations

from replicator_kuma.adapters.repository import Position
from replicator_kuma.daemon.wake import Asked, Wake
from replicator_kuma.replication.instance import Hint

FIRST, SECOND = (Hint(Position(1, n), "a" * 64) for n in (1, 2))


def test_requests_become_one() -> None:
    rung = list[str]()
    wake = Wake(lambda: rung.append("rung"))
    wake.ask(FIRST)
    wake.ask(edited=True)
    wake.ask(SECOND)
    wake.ask()
    assert len(rung) == 4
    assert wake.take() == Asked(SECOND, edited=True)
    wake.ask()
    assert wake.take() == Asked()
