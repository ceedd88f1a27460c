"""The way back where its operator chose other tables or settings since the apply was begun."""

from __future__ import annotations

import json

import pytest

from replicator_kuma.base.errors import KumaError, SettingsError
from replicator_kuma.dump.catalog import SETTINGS, TABLES
from replicator_kuma.dump.transform.policy import Policy
from replicator_kuma.replication.apply.recovery import resolve_before_start
from replicator_kuma.replication.instance import Instance, Outcome
from tests.support import cycles, databases
from tests.support.compare import damage, orphans
from tests.support.cycles import db, follow, lead, left_behind, name_of, publish
from tests.support.effects import at_effect, dies_at
from tests.support.instances import HastyStore, RecordingKuma

URL = "primaryBaseURL"
WIDE = frozenset({*SETTINGS, URL})
ALL = frozenset(TABLES)
NO_KEYS = ALL - {"api_key"}


def choose(
    instance: Instance, tables: frozenset[str] = ALL, settings: frozenset[str] = SETTINGS
) -> None:
    """As a start with another REPLICATOR_EXCLUDE or REPLICATOR_SETTINGS does."""
    instance.tables = tables
    instance.store = HastyStore(instance.data_dir, settings)
    instance.policy = lambda: Policy(settings=settings)


def put_setting(instance: Instance, value: str) -> None:
    databases.edit(
        db(instance),
        f"DELETE FROM setting WHERE key = '{URL}'",
        f"INSERT INTO setting (key, value, type) VALUES ('{URL}', '{value}', 'general')",
    )


def settings(instance: Instance) -> dict[str, str]:
    return dict(databases.query(db(instance), "SELECT key, value FROM setting"))


def keys(instance: Instance) -> list[str]:
    return [row[0] for row in databases.query(db(instance), "SELECT name FROM api_key")]


def name_keys(instance: Instance, name: str) -> None:
    databases.edit(db(instance), ("UPDATE api_key SET name = ?", (name,)))


def killed() -> None:
    raise KeyboardInterrupt


def apply_and_die(leader: Instance, replica: Instance, kuma: RecordingKuma) -> str:
    """Apply the leader's next snapshot and end before Kuma is ready; a monitor's name before."""
    before = name_of(db(replica), 3)
    publish(leader, "breaks Kuma")
    replica.wait_ready = killed
    with pytest.raises(KeyboardInterrupt):
        follow(replica)
    replica.wait_ready = kuma.wait_ready
    assert name_of(db(replica), 3) == "breaks Kuma"
    return before


def fails_and_goes_back(replica: Instance, kuma: RecordingKuma) -> None:
    kuma.refuses_to_be_ready = [True]
    with pytest.raises(KumaError, match="it runs on the rows from before"):
        follow(replica)
    assert kuma.up
    assert replica.state.load().applying.pending is None
    assert left_behind(replica) == []
    assert [*orphans(db(replica)), *damage(db(replica))] == []


@pytest.fixture(params=["begun under the narrow choice", "begun under the wide one"])
def wide_first(request: pytest.FixtureRequest) -> bool:
    return "wide" in request.param


def test_a_setting_that_was_not_chosen_then_stays_and_one_that_was_comes_back(
    leader: Instance, replica: Instance, kuma: RecordingKuma, wide_first: bool
) -> None:
    choose(leader, settings=WIDE)
    choose(replica, settings=WIDE if wide_first else SETTINGS)
    put_setting(leader, "https://one")
    lead(leader)
    follow(replica)
    if not wide_first:
        put_setting(replica, "https://mine")
    there = settings(replica)
    put_setting(leader, "https://two")
    before = apply_and_die(leader, replica, kuma)
    assert (settings(replica) != there) == wide_first
    choose(replica, settings=SETTINGS if wide_first else WIDE)
    fails_and_goes_back(replica, kuma)
    assert settings(replica) == there
    assert there[URL] == ("https://one" if wide_first else "https://mine")
    assert name_of(db(replica), 3) == before


def test_a_table_that_was_not_chosen_then_stays_and_one_that_was_comes_back(
    leader: Instance, replica: Instance, kuma: RecordingKuma, wide_first: bool
) -> None:
    choose(replica, ALL if wide_first else NO_KEYS)
    if not wide_first:
        name_keys(replica, "mine")
    there = keys(replica)
    name_keys(leader, "theirs")
    before = apply_and_die(leader, replica, kuma)
    assert keys(replica) == (["theirs"] if wide_first else ["mine"])
    choose(replica, NO_KEYS if wide_first else ALL)
    fails_and_goes_back(replica, kuma)
    assert keys(replica) == there
    assert name_of(db(replica), 3) == before


def test_what_was_chosen_since_comes_with_the_next_snapshot(
    leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    choose(replica, NO_KEYS)
    name_keys(replica, "mine")
    apply_and_die(leader, replica, kuma)
    choose(replica)
    fails_and_goes_back(replica, kuma)
    publish(leader, "mended")
    assert follow(replica).outcome is Outcome.APPLIED
    assert (keys(replica), name_of(db(replica), 3)) == (keys(leader), "mended")


def test_a_way_back_that_is_cut_is_known_again_under_another_choice(
    leader: Instance,
    replica: Instance,
    kuma: RecordingKuma,
    wide_first: bool,
) -> None:
    """Nothing of it was written: to take it for done would leave a Kuma that never comes up."""
    logo = replica.data_dir / "upload" / "logo2.png"
    (leader.data_dir / "upload" / "logo2.png").write_bytes(b"another logo")
    choose(replica, ALL if wide_first else NO_KEYS)
    before = apply_and_die(leader, replica, kuma)
    choose(replica, NO_KEYS if wide_first else ALL)
    kuma.refuses_to_be_ready = [True]

    with pytest.raises(KeyboardInterrupt), at_effect("rows written", killed):
        follow(replica)
    pending = replica.state.load().applying.pending
    assert pending is not None
    assert pending.rollback
    resolve_before_start(replica)
    assert logo.read_bytes() == b"another logo", "as old as its rows"
    fails_and_goes_back(replica, kuma)
    assert name_of(db(replica), 3) == before
    assert logo.read_bytes() == cycles.LOGO


def test_an_apply_that_is_cut_before_its_commit_leaves_no_file_under_another_choice(
    leader: Instance, replica: Instance
) -> None:
    (leader.data_dir / "upload" / "logo2.png").write_bytes(b"another logo")
    choose(replica, NO_KEYS)
    publish(leader, "newer")
    dies_at("committing", lambda: follow(replica))
    assert replica.state.load().applying.pending is not None
    choose(replica)
    resolve_before_start(replica)
    assert replica.state.load().applying.pending is None
    assert (replica.data_dir / "upload" / "logo2.png").read_bytes() == cycles.LOGO


def test_rules_that_cannot_be_read_do_not_bar_the_way_back(
    leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    before = apply_and_die(leader, replica, kuma)

    def unreadable() -> Policy:
        raise SettingsError("REPLICATOR_OVERRIDES is no file of rules")

    replica.policy = unreadable
    fails_and_goes_back(replica, kuma)
    assert name_of(db(replica), 3) == before


def test_rows_from_before_settings_could_be_chosen_lead_back_too(
    leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    """An upgrade of the replicator between the two: a manifest without a list of keys."""
    put_setting(replica, "https://mine")
    before = apply_and_die(leader, replica, kuma)
    manifest = replica.state.folder / "before" / "manifest.json"
    raw = json.loads(manifest.read_text())
    del raw["settings"]
    manifest.write_text(json.dumps(raw))
    choose(replica, settings=WIDE)
    fails_and_goes_back(replica, kuma)
    assert settings(replica)[URL] == "https://mine"
    assert name_of(db(replica), 3) == before
