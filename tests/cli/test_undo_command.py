"""`replicator undo`, and the options of `restore` that hold a replica: what they say and refuse."""

from __future__ import annotations

import pytest

from tests.cli.conftest import World
from tests.cli.harness import Run
from tests.cli.test_recovery_page import begin, name_on, step


def test_the_list_as_json(world: World) -> None:
    world.on_leader("init")
    assert world.on_replica("undo", "--list").out.startswith("nothing is kept")
    step(world, "one")
    step(world, "two")
    newest, oldest = world.on_replica("undo", "--list", "--json").json
    assert (newest["number"], newest["from"], newest["to"]) == (2, "1.1", "1.2")
    assert (newest["sentence"], newest["undoes"]) == ("1 monitor changed", None)
    assert (newest["next"], oldest["next"], oldest["from"]) == (True, False, None)
    assert newest["bytes"] > 1000
    assert world.on_replica("undo").code == 0
    undo = world.on_replica("undo", "--list", "--json").json[0]
    assert (undo["undoes"], undo["next"]) == (2, False)
    assert "undo of 2: 1 monitor changed" in world.on_replica("undo", "--list").out


def test_a_damaged_set_is_in_the_list_and_its_refusal_not_in_status(world: World) -> None:
    begin(world, "one", "two")
    note = world.replica / "replicator" / "kept" / "2" / "note.json"
    note.write_text("{")
    newest, oldest = world.on_replica("undo", "--list", "--json").json
    assert (newest["number"], newest["damaged"]) == (2, "note.json cannot be understood")
    assert (newest["next"], newest["to"], oldest["next"], oldest["damaged"]) == (
        *(False, None, False),
        None,
    )
    assert "cannot be read: note.json" in world.on_replica("undo", "--list").out
    done = world.on_replica("undo")
    assert done.code == 27
    assert "the rows kept as 2 cannot be put back" in done.err
    assert "replicator undo 1" in done.err
    seen = world.on_replica("status", "--json").json
    assert (seen["last_cycle"]["ok"], seen["failing_since"]) == (True, None)


def test_the_preview_as_json_masks_secrets(world: World) -> None:
    begin(world, "one")
    seen = world.on_replica("undo", "--dry-run", "--json")
    assert seen.json["kept"]["to"] == "1.1"
    assert seen.json["changes_by_table"]["tables"]["monitor"]["deleted"] == 9
    columns = [c["columns"] for c in seen.json["changes"] if c["table"] == "user"]
    assert all("password" not in str(c) or "•••" in str(c["password"]) for c in columns)


def test_nothing_to_undo_has_its_own_code(world: World) -> None:
    done = world.on_replica("undo")
    assert done.code == 27
    assert "there is no apply to undo" in done.err
    assert "replicator undo --list" in done.err


def test_it_needs_no_repository(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(world, "one", "two")
    monkeypatch.delenv("RESTIC_REPOSITORY")
    monkeypatch.delenv("RESTIC_PASSWORD")
    assert world.on_replica("undo").code == 0
    assert name_on(world.replica) == "one"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--at", "2h ago"), "--at needs --now"),
        (("--snapshot", "1.1"), "--snapshot needs --now"),
        (("--now", "--at", "soon"), "expected a time like"),
        (("--now", "--at", "2h ago", "--snapshot", "1.1"), "either --snapshot or --at"),
        (("--now", "--snapshot", "1.1", "--resume"), "--resume ends that"),
    ],
)
def test_options_that_contradict_one_another(
    world: World, options: tuple[str, ...], said: str
) -> None:
    done = world.on_replica("restore", *options)
    assert done.code == 2
    assert said in done.err


def test_held_in_status_as_json(world: World) -> None:
    begin(world, "one", "two")
    assert world.on_replica("status", "--json").json["holding"] is None
    done = world.on_replica("restore", "--now", "--snapshot", "1.1", "--json")
    assert done.json["position"] == "1.1"
    report = world.on_replica("status", "--json").json
    assert report["holding"]["position"] == "1.1"
    assert report["holding"]["snapshot"] == report["applied"]["snapshot"]
    assert (report["newest"], report["behind"]) == ("1.2", 1)
    assert world.on_leader("status", "--json").json["holding"] is None


def test_a_running_supervisor_does_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Run(tmp_path_factory.mktemp("run"), "RESTORE") as run:
        run.until("confirm")
        done = run.command("undo", "7")
        assert done.returncode == 0, done.stderr
        assert "scripted undo went well" in done.stdout
        for options in (("--now", "--snapshot", "1.1"), ("--resume",), ("--now", "--at", "2h ago")):
            assert run.command("restore", *options).returncode == 0
        assert [c for c in run.calls if c.startswith(("undo", "restore"))][-4:] == [
            "undo 7",
            "restore True 1.1",
            "restore resume",
            "restore True None at",
        ]


def test_a_promoted_leader_is_told_of_no_next_one(world: World) -> None:
    begin(world, "one", "two")
    assert world.on_replica("promote").code == 0
    assert [one["next"] for one in world.on_replica("undo", "--list", "--json").json] == [False] * 2
    for options in ((), ("--dry-run",)):
        done = world.on_replica("undo", *options)
        assert (done.code, "since this instance became the leader" in done.err) == (27, True)
    assert world.on_replica("undo", "2", "--dry-run").code == 0


def test_what_is_looked_at_on_a_held_replica_says_that_it_holds(world: World) -> None:
    begin(world, "one", "two")
    assert world.on_replica("diff", "--json").json["holding"] is None
    assert "holds" not in world.on_replica("diff").out
    assert world.on_replica("restore", "--now", "--snapshot", "1.1").code == 0
    for command in (("diff",), ("restore", "--now", "--dry-run"), ("restore", "--dry-run")):
        first, second = world.on_replica(*command).out.splitlines()[:2]
        assert first.startswith("this replica holds 1.1 since")
        assert first.endswith("replicator restore --resume; below is the way to the newest, 1.2")
        assert second == "to 1.2 of alpha: 1 monitor changed"
    seen = world.on_replica("diff", "--json").json
    assert (seen["holding"]["position"], seen["snapshot"]["position"]) == ("1.1", "1.2")
    first = world.on_replica("diff", "--snapshot", "1.2").out.splitlines()[0]
    assert first.endswith(", until replicator restore --resume")
