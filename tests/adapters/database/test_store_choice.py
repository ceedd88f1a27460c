"""A store with another choice of settings' keys: the conformance suite's part of it."""

from __future__ import annotations

from replicator_kuma.adapters.database import Reader, Store
from replicator_kuma.dump.select import select
from tests.support.engines import Engine


def keys(reader: Reader) -> list[str]:
    return [row[0] for row in reader.rows(select(reader.schema, "setting"))]


def test_the_keys_of_settings_may_be_chosen_anew(engine: Engine) -> None:
    engine.build(monitors=1, heartbeats=0)
    store: Store = engine.store()
    chosen = store.choosing({"entryPage", "jwtSecret"})
    with chosen.read() as reader:
        assert keys(reader) == ["entryPage", "jwtSecret"]
    with chosen.write() as writer:
        assert keys(writer) == ["entryPage", "jwtSecret"]
    with store.read() as reader:
        assert keys(reader) == ["entryPage", "keepDataPeriodDays", "steamAPIKey"]
