"""Any rules, and another engine: they come to rest, leave no orphan, and can be taken away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from replicator_kuma.adapters.database.detect import open_store
from replicator_kuma.base.errors import SettingsError, SnapshotMisfit
from replicator_kuma.dump.transform.overrides import Overrides
from replicator_kuma.replication.instance import Instance, Outcome
from tests.support import cycles, databases
from tests.support.compare import config_differences, damage, orphans
from tests.support.cycles import count, db, follow, lead
from tests.support.folder_repository import FolderRepository
from tests.support.instances import RecordingKuma, make_instance
from tests.support.mariadb import Server
from tests.support.mariadb_build import create
from tests.support.rules import EVERY_RULE, PAUSED, rules, tagged
from tests.support.tiers import by_tier

VALUES: dict[str, dict[str, list[Any]]] = {
    "monitor": {
        "type": ["push", "http", "p*"],
        "id": [1, 2, 11],
        "active": [True, False],
        "name": ["*", "*1*", "x"],
        "proxy_id": [1, 2],
        "parent": [1, 11],
        "timeout": [48.0, 0.5],
        "interval": [20, 61],
        "tag": ["eu-only", "tag 1*"],
    },
    "proxy": {"id": [1, 2], "host": ["*", "proxy1.example"], "port": [3128]},
    "tag": {"name": ["eu-only", "t*"], "id": [5, 6]},
    "status_page": {"slug": ["public"], "icon": ["/icon.svg", "/upload/logo2.png"]},
    "group": {"weight": [1, 2], "name": ["Group 1*"], "public": [True]},
    "monitor_group": {"weight": [1, 9], "monitor_id": [1, 5]},
    "monitor_tag": {"value": ["*", "x"], "tag_id": [5]},
    "notification": {"is_default": [0, 1]},
    "setting": {"key": ["entryPage", "k*"], "value": ['"x"']},
    "maintenance": {"title": ["*"]},
}
SETTABLE = {
    "monitor": ("active", "type", "timeout", "interval", "proxy_id"),
    "proxy": ("host", "port"),
    "tag": ("name",),
    "status_page": ("icon",),
    "group": ("weight", "public"),
    "monitor_group": ("weight",),
    "monitor_tag": ("value",),
    "notification": ("is_default",),
    "setting": ("value",),
}


@st.composite
def texts(draw: st.DrawFn) -> str:
    """A file of one to four rules that fit the schema."""
    lines = []
    for table in draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=4)):
        lines += ["[[rule]]", f'table = "{table}"']
        for name in draw(st.sets(st.sampled_from(sorted(VALUES[table])), max_size=2)):
            lines.append(f"where.{name} = {json.dumps(draw(st.sampled_from(VALUES[table][name])))}")
        skip = table not in SETTABLE or (table != "setting" and draw(st.booleans()))
        if skip:
            lines.append("skip = true")
            continue
        for name in draw(st.sets(st.sampled_from(SETTABLE[table]), min_size=1)):
            lines.append(f"set.{name} = {json.dumps(draw(st.sampled_from(VALUES[table][name])))}")
    return "\n".join(lines)


def takes(replica: Instance) -> bool:
    """One cycle; whether its rules agree: one may skip the proxy that another refers to."""
    try:
        follow(replica)
    except SettingsError as error:
        if "there is no such proxy" in str(error) or "leave out every monitor (12)" in str(error):
            return False
        raise
    return True


@settings(
    max_examples=by_tier(5, 12),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(text=texts())
def test_any_rules_come_to_rest_without_an_orphan_and_can_be_taken_away(
    text: str, leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    if not count(db(leader), "tag", "name = 'eu-only'"):
        tagged(leader)
        lead(leader)
    rules(replica, "")
    follow(replica)
    file = rules(replica, text)
    if not takes(replica):
        assert config_differences(db(leader), db(replica), link_ids=False) == []
        return
    stops = kuma.log.count("stop")
    assert follow(replica, reconcile=True).outcome is Outcome.NOTHING
    assert kuma.log.count("stop") == stops
    assert orphans(db(replica)) == damage(db(replica)) == []
    file.write_text("")
    follow(replica)
    assert config_differences(db(leader), db(replica), link_ids=False) == []
    assert (replica.data_dir / "upload" / "logo2.png").read_bytes() == cycles.LOGO


def test_a_replica_on_mariadb_goes_by_the_same_rules(
    tmp_path: Path, leader: Instance, repository: FolderRepository, mariadb: Server
) -> None:
    away = tagged(leader)
    databases.edit(db(leader), "UPDATE maintenance SET start_date = '2031-05-01T10:00'")
    lead(leader)
    database = create(mariadb.database("overrides", tmp_path / "other"))
    store = open_store(database.data_dir)
    service = RecordingKuma()
    there = make_instance(database.data_dir, repository, name="other", store=store, kuma=service)
    text = EVERY_RULE + '[[rule]]\ntable = "maintenance"\nwhere = { start_date = "*T10:00" }\n'
    text += 'set = { start_date = "2031-06-01T11:00" }\n'
    file = rules(there, text)
    assert follow(there).outcome is Outcome.APPLIED
    monitors = database.query("SELECT id, active, timeout, `interval` FROM monitor ORDER BY id")
    assert {row[0] for row in monitors} == {*range(1, 13)} - away
    assert [row[1:] for row in monitors if row[0] == 8] == [(1, 7.0, 61)]
    assert [row[1] for row in monitors if row[0] == 5] == [0]
    assert database.query("SELECT start_date FROM maintenance") == [("2031-06-01 11:00:00",)]
    assert follow(there, reconcile=True).outcome is Outcome.NOTHING
    with store.read() as reader:
        found = Overrides.parse(PAUSED.replace("push", "psh") + PAUSED)
        found.check(reader.schema)
        assert found.silent(reader, there.tables) == (1,)
    file.write_text(PAUSED.replace("active = false", f'name = "{"x" * 151}"'))
    with pytest.raises(SnapshotMisfit, match="monitor 5"):
        follow(there)
    assert service.log == ["stop", "start", "ready?"]
    file.write_text("")
    assert follow(there).outcome is Outcome.APPLIED
    assert database.query("SELECT start_date FROM maintenance") == [("2031-05-01 10:00:00",)]
    assert database.query("SELECT count(*) FROM monitor") == [(12,)]
