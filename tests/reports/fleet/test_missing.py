"""Which monitors a place lacks though it should have them, and when nobody cries wolf."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.times import Moment
from replicator_kuma.config.settings import Settings
from replicator_kuma.reports.fleet import own
from replicator_kuma.reports.fleet.documents import Fleet, Heard, Monitors
from replicator_kuma.reports.fleet.missing import AFTER
from replicator_kuma.reports.fleet.verdict import judge
from tests.support.places import NOW, heard, monitor, place

LEADER = place("a", ["up", "up"], role="leader")
WHOLE = place("b", ["up", "up"])
LACKS = place("c", ["up"])
"""the second monitor"""
OLD = Position(1, 6)


def seen_twice(own: Monitors, others: Sequence[Monitors | Heard], after: float = AFTER) -> Fleet:
    """The fleet once all has stood so for a while."""
    known = [one if isinstance(one, Heard) else heard(one) for one in others]
    first = judge(own, known, NOW, None)
    return judge(own, known, Moment(NOW + after), first)


def missing(fleet: Fleet) -> dict[int, tuple[str, ...]]:
    return {one.id: one.missing_in for one in fleet.monitors if one.missing_in}


def test_what_a_replica_lacks_needs_a_look_and_is_said() -> None:
    fleet = seen_twice(LEADER, [WHOLE, LACKS])
    first, second = fleet.monitors
    assert (first.id, first.verdict, first.missing_in) == (2, "up", ("c",))
    assert first.missing_since == NOW
    assert (second.missing_in, second.missing_since) == ((), None)
    assert fleet.sentence == "«m2» is missing in c."


def test_a_change_that_is_on_its_way_is_no_fault() -> None:
    """A new monitor takes seconds to be published and applied."""
    fleet = seen_twice(LEADER, [WHOLE, LACKS], after=AFTER - 1)
    assert missing(fleet) == {}
    assert fleet.sentence.startswith("Everything is equal")
    there = judge(LEADER, [heard(WHOLE), heard(place("c", ["up", "up"]))], NOW, fleet)
    assert [one.missing_since for one in there.monitors] == [None, None]


@pytest.mark.parametrize(
    "lacking",
    [
        dataclasses.replace(LACKS, position=OLD),
        dataclasses.replace(LACKS, position=OLD, state="behind", behind=1),
        dataclasses.replace(LACKS, position=None, state="behind"),
        dataclasses.replace(LACKS, state="misfit"),
        dataclasses.replace(LACKS, state="fenced"),
        dataclasses.replace(LACKS, beats_at=None, monitors=()),
        dataclasses.replace(LACKS, chooses_monitors=True),
        heard(LACKS, age=60.0),
        heard(LACKS, missed=3),
        heard(LACKS, trouble="two processes call themselves by this name"),
    ],
)
def test_who_lacks_it_for_a_known_reason_is_no_news(lacking: Monitors | Heard) -> None:
    assert missing(seen_twice(LEADER, [WHOLE, lacking])) == {}


def test_a_replica_whose_rows_differ_lacks_it_all_the_same() -> None:
    """That rows differ does not say that a monitor is not watched there."""
    drifted = dataclasses.replace(LACKS, state="drift", sentence="c: rows differ")
    fleet = seen_twice(LEADER, [WHOLE, drifted])
    assert missing(fleet) == {2: ("c",)}
    assert fleet.sentence == "«m2» is missing in c. c: rows differ."
    behind = heard(place("d", ["up"], state="behind", behind=1, sentence="d: behind"))
    assert seen_twice(LEADER, [WHOLE, drifted, behind]).sentence == "c: rows differ. d: behind."


@pytest.mark.parametrize(
    ("others", "found"),
    [
        # a replica's own monitor: it drifts, or will say so at its next cycle
        ([place("b", ["up", "up"]), place("c", ["up"])], {}),
        ([place("b", ["up", "up"], state="drift"), place("c", ["up", "up"], state="drift")], {}),
        # deleted on the leader, and not published; or added on the only replica: nobody can tell
        ([place("b", ["up", "up"])], {}),
        # what two replicas took of one snapshot is in it
        ([place("b", ["up", "up"]), place("c", ["up", "up"])], {2: ("a",)}),
    ],
)
def test_what_the_leader_lacks_counts_where_most_others_have_it(
    others: list[Monitors], found: dict[int, tuple[str, ...]]
) -> None:
    assert missing(seen_twice(place("a", ["up"], role="leader"), others)) == found


def test_without_a_leader_most_of_the_places_decide() -> None:
    assert missing(seen_twice(WHOLE, [LACKS])) == {}
    fleet = seen_twice(WHOLE, [LACKS, place("d", ["up", "up"])])
    assert missing(fleet) == {2: ("c",)}


def test_it_stands_after_what_is_down_and_before_what_is_fine() -> None:
    cells = ["up", "pending", "down", "up", "paused", "up", "down"]
    whole = [place("a", cells, role="leader"), place("b", cells)]
    partly = place("c", [monitor(k, "up") for k in (1, 2, 4, 7)])
    fleet = seen_twice(whole[0], [whole[1], partly])
    assert [one.id for one in fleet.monitors] == [3, 7, 5, 6, 2, 1, 4]
    assert missing(fleet) == {3: ("c",), 5: ("c",), 6: ("c",)}
    assert fleet.sentence.startswith("«m3» is down everywhere (2 of 2).")
    assert "missing" not in fleet.sentence


def test_many_are_counted_in_the_sentence() -> None:
    many = place("a", ["up"] * 9, role="leader")
    fleet = seen_twice(many, [place("b", ["up"]), place("c", ["up"] * 9)])
    assert fleet.sentence == "8 monitors are missing in b."
    fleet = seen_twice(many, [place("b", ["up"] * 4), place("c", ["up"] * 8)])
    assert fleet.sentence == (
        "«m5» is missing in b. «m6» is missing in b. «m7» is missing in b. "
        "2 more monitors are missing in some places."
    )


def settings(folder: Path, **given: str) -> Settings:
    return Settings.load({"DATA_DIR": str(folder), "REPLICATOR_MODE": "RESTORE", **given})


SKIPS = '[[rule]]\ntable = "monitor"\nwhere = { tag = "lab" }\nskip = true\n'
SETS = '[[rule]]\ntable = "monitor"\nset = { active = false }\n'
OTHER = '[[rule]]\ntable = "proxy"\nskip = true\n'


@pytest.mark.parametrize(
    ("rules", "given", "chooses"),
    [
        (None, {}, False),
        (None, {"RESTORE_MERGE_STRATEGY": "DEFAULT"}, False),
        (None, {"REPLICATOR_MODE": "RESTORE_LOCAL_ENTITY_REPLICATION"}, False),
        (None, {"REPLICATOR_TABLES": "user,setting"}, True),
        (None, {"REPLICATOR_MODE": "BACKUP", "REPLICATOR_TABLES": "user,setting"}, True),
        (SETS + OTHER, {}, False),
        (OTHER + SKIPS, {}, True),
        (SKIPS, {"REPLICATOR_MODE": "BACKUP"}, False),  # a leader goes by no rules
        ("no rules", {}, True),  # it cannot be told
    ],
)
def test_an_instance_says_that_its_settings_choose_its_monitors(
    tmp_path: Path, rules: str | None, given: dict[str, Any], chooses: bool
) -> None:
    if rules is not None:
        file = tmp_path / "overrides.toml"
        file.write_text(rules)
        given = {"REPLICATOR_OVERRIDES": str(file), **given}
    told = own.document(settings(tmp_path, **given), (), (), NOW)
    assert told.chooses_monitors is chooses
