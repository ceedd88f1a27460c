"""A command that is handed to the supervisor goes by its settings, or is refused."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.cli import options
from replicator_kuma.config import same_settings
from replicator_kuma.config.settings import Settings
from replicator_kuma.daemon import control
from replicator_kuma.daemon.control import ControlServer
from replicator_kuma.replication.state.file import StateFile
from tests.cli.conftest import World
from tests.cli.harness import Run
from tests.support.old_control import CONVERSATIONS, Conversation, OldSupervisor
from tests.support.states import edit_state

URL = "rest:https://user:s3cret-word@example.org/there"
OTHER = "rest:https://user:0ther-word@example.org/here"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A supervised leader with a setting of each kind; its cycles are scripted."""
    made = Run(
        tmp_path_factory.mktemp("same") / "r",
        "BACKUP",
        RESTIC_REPOSITORY=URL,
        REPLICATOR_EXCLUDE_TABLES="incident",
    )
    with made:
        made.until("backup False True")
        yield made


OPTIONS = [
    ("backup", "--repo", OTHER, "RESTIC_REPOSITORY"),
    ("backup", "--fleet", "other", "REPLICATOR_FLEET"),
    ("backup", "--mode", "RESTORE", ""),
    ("backup", "--instance", "other", "REPLICATOR_INSTANCE"),
    ("backup", "--restic", "/opt/other/restic", "REPLICATOR_RESTIC"),
    ("backup", "--tables", "user,setting", "REPLICATOR_TABLES"),
    ("backup", "--exclude-tables", "api_key", "REPLICATOR_EXCLUDE_TABLES"),
    ("undo", "--kuma-url", "http://127.0.0.1:9", "REPLICATOR_KUMA_URL"),
    ("undo", "--kuma", "none", "REPLICATOR_KUMA"),
    ("promote", "--kuma-container", "kuma", "REPLICATOR_KUMA_CONTAINER"),
    ("promote", "--kuma-unit", "kuma", "REPLICATOR_KUMA_UNIT"),
    ("drill --kill", "--kuma-command", "node other.js", "REPLICATOR_KUMA_COMMAND"),
    ("drill --kill", "--kuma-dir", "/opt", "REPLICATOR_KUMA_DIR"),
]


@pytest.mark.parametrize(("command", "option", "value", "name"), OPTIONS)
def test_an_option_that_the_supervisor_has_otherwise_is_refused(
    run: Run, command: str, option: str, value: str, name: str
) -> None:
    before = len(run.calls)
    done = run.command(*command.split(), option, value)
    assert done.returncode == 3, done
    assert len(run.calls) == before
    assert not {"s3cret-word", "0ther-word"} & set(done.stderr.replace("@", ":").split(":"))
    if name:
        assert f"{option} ({name}): " in done.stderr
        assert " there, " in done.stderr
        assert "restart `replicator run`" in done.stderr


def test_each_option_of_a_variable_is_compared_or_finds_the_supervisor() -> None:
    groups = (*options.IDENTITY, *options.REPOSITORY, *options.TABLES, *options.KUMA)
    tried = {name for *_rest, name in OPTIONS} | {"REPLICATOR_MODE", "DATA_DIR"}
    assert set(groups) - tried == {"REPLICATOR_STATE_DIR"}


def test_the_same_option_goes_on(run: Run) -> None:
    before = run.calls.count("backup True True")
    same = ("--repo", URL, "--fleet", "default", "--exclude-tables", "incident", "--mode", "BACKUP")
    done = run.command("backup", "--allow-shrink", *same, "--data-dir", str(run.data_dir))
    assert (done.returncode, done.stderr) == (0, "")
    assert run.calls.count("backup True True") == before + 1


def test_the_word_of_both_is_in_the_message_without_secrets(run: Run) -> None:
    done = run.command("backup", "--repo", OTHER)
    assert "rest:https://***@example.org/there there" in done.stderr
    assert "rest:https://***@example.org/here here" in done.stderr
    only = run.command("backup", "--repo", URL.replace("s3cret", "n3w"))
    assert "another one there than here" in only.stderr


def test_an_environment_that_differs_is_told_and_the_work_is_done(run: Run) -> None:
    before = run.calls.count("backup False True")
    done = run.command("backup", RESTIC_REPOSITORY=OTHER, RESTIC_PASSWORD="an0ther-one")
    assert done.returncode == 0
    assert run.calls.count("backup False True") == before + 1
    assert "Warning: the supervisor that runs here does this by its own settings" in done.stderr
    assert "--repo (RESTIC_REPOSITORY): rest:https://***@example.org/there there" in done.stderr
    assert "RESTIC_PASSWORD: another one there than here" in done.stderr
    for secret in ("s3cret", "0ther-word", "an0ther-one", "only-a-test"):
        assert secret not in done.stderr


def test_passwords_do_not_cross_the_socket(world: World) -> None:
    sent: list[str] = []

    def answer(command: str, options: object, _progress: object) -> dict[str, object]:
        sent.append(json.dumps([command, options]))
        return {"same": [], "has": {}, "sentence": "done", "warnings": []}

    folder = world.leader / "replicator"
    folder.mkdir(mode=0o700)
    world.monkeypatch.setenv("RESTIC_REPOSITORY", OTHER)
    server = ControlServer(folder, answer)
    server.start()
    try:
        world.on_leader("backup")
    finally:
        server.close()
    assert "RESTIC_PASSWORD" in sent[0]
    assert not any("only-a-test" in line or "0ther-word" in line for line in sent)


def test_a_password_is_one_wherever_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("one\n")
    common = {"REPLICATOR_MODE": "BACKUP", "DATA_DIR": str(tmp_path)}
    inline = Settings.load({**common, "RESTIC_PASSWORD": "one", "RESTIC_REPOSITORY": "/r/"})
    by_file = Settings.load(
        {**common, "RESTIC_PASSWORD_FILE": str(file), "RESTIC_REPOSITORY": "local:/r"}
    )
    asked = {"salt": "s", "digests": same_settings.digests(same_settings.given(by_file), "s")}
    found = same_settings.answer(inline, asked)
    assert {"RESTIC_PASSWORD", "RESTIC_REPOSITORY"} <= set(found["same"])
    assert found["has"] == {}


def asked_of(supervisor: Settings, command: Settings) -> dict[str, Any]:
    """What a supervisor answers to a command of these settings."""
    digests = same_settings.digests(same_settings.given(command), "s")
    return same_settings.answer(supervisor, {"salt": "s", "digests": digests})


def test_a_password_that_only_restic_asks_for_is_no_other_one(tmp_path: Path) -> None:
    common = {"DATA_DIR": str(tmp_path), "RESTIC_REPOSITORY": "/r"}
    command = {**common, "RESTIC_PASSWORD": "one"}
    by_command = Settings.load({**common, "RESTIC_PASSWORD_COMMAND": "pass show r"})
    assert asked_of(by_command, Settings.load(command))["has"] == {}
    none = Settings.load({**common, "RESTIC_INSECURE_NO_PASSWORD": "true"})
    assert asked_of(none, Settings.load(command))["has"] == {"RESTIC_PASSWORD": "unset"}


def test_a_folder_that_is_mounted_elsewhere_is_the_one_where_the_supervisor_was_found(
    tmp_path: Path,
) -> None:
    command = Settings.load({"DATA_DIR": str(tmp_path)})
    inside = Settings.load({"DATA_DIR": "/app/data"})
    assert asked_of(inside, command)["has"] == {}
    apart = {"REPLICATOR_STATE_DIR": str(tmp_path / "replicator")}
    command = Settings.load({"DATA_DIR": str(tmp_path), **apart})
    assert asked_of(inside, command)["has"] == {"DATA_DIR": "/app/data"}


def test_a_command_of_kuma_is_shown_without_what_looks_like_a_secret(tmp_path: Path) -> None:
    common = {"DATA_DIR": str(tmp_path)}
    own = Settings.load({**common, "REPLICATOR_KUMA_COMMAND": "env X_TOKEN=abc node s.js"})
    other = Settings.load({**common, "REPLICATOR_KUMA_COMMAND": "node s.js"})
    has = asked_of(own, other)["has"]
    assert has == {"REPLICATOR_KUMA_COMMAND": "env X_TOKEN=*** node s.js"}


def test_a_path_of_crons_without_restic_is_no_other_restic(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "own-restic").write_text("#!/bin/sh\n")
    (folder / "own-restic").chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    with Run(tmp_path / "r", "BACKUP", REPLICATOR_RESTIC="own-restic", PATH=path) as run:
        run.until("backup False True")
        done = run.command("backup", PATH=os.environ["PATH"])
        assert (done.returncode, done.stderr) == (0, "")
        done = run.command("backup", "--restic", "other", PATH=os.environ["PATH"])
        assert done.returncode == 3


# --- versions that meet -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A supervised replica; its cycles are scripted."""
    with Run(tmp_path_factory.mktemp("same") / "replica", "RESTORE") as made:
        made.until("confirm")
        yield made


def each(conversations: list[Conversation]) -> pytest.MarkDecorator:
    names = [f"{n} {said.line}" for n, said in enumerate(conversations)]
    return pytest.mark.parametrize("said", conversations, ids=names)


@each(CONVERSATIONS)
def test_a_supervisor_of_0_3_0_is_asked_as_0_3_0_asks_it(world: World, said: Conversation) -> None:
    """Byte by byte; and its answer leads to the same output and exit code."""
    data = world.leader
    (data / "replicator").mkdir(mode=0o700)
    world.monkeypatch.setenv("REPLICATOR_MODE", said.mode)
    world.monkeypatch.setenv("DATA_DIR", str(data))
    with OldSupervisor(data / "replicator", said) as old:
        done = world.call(*said.line.split())
    assert old.asked == [said.request]
    assert (done.code, done.json) == (said.exit_code, said.printed)


def test_a_supervisor_of_0_3_0_is_not_asked_for_what_it_would_ignore(world: World) -> None:
    (world.leader / "replicator").mkdir(mode=0o700)
    with OldSupervisor(world.leader / "replicator", CONVERSATIONS[0]) as old:
        done = world.on_leader("backup", "--repo", "/elsewhere")
    assert (done.code, old.asked) == (3, [])
    assert "--repo (RESTIC_REPOSITORY): a supervisor of another version cannot" in done.err


# The drill that kills Kuma is not scripted here: the stand-in beats no heart, which takes its time.
@each([said for said in CONVERSATIONS if "drill" not in said.line])
def test_a_command_of_0_3_0_is_served(run: Run, replica: Run, said: Conversation) -> None:
    """It finds each member of the answer that it knows."""
    there = run if said.mode == "BACKUP" else replica
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(there.data_dir / "replicator" / control.NAME))
        client.sendall(said.request.encode())
        with client.makefile() as answers:
            last = [json.loads(line) for line in answers][-1]
    if "--fleet other" in said.line:
        assert last["error"].keys() >= said.last["error"].keys()
        assert last["error"]["exit_code"] == said.exit_code
        return
    assert last["result"]["sentence"].startswith("scripted")
    result = next(each.last["result"] for each in CONVERSATIONS if "result" in each.last)
    assert last["result"].keys() >= result.keys()


def test_promoted_and_the_supervisor_not_restarted(tmp_path: Path) -> None:
    """REPLICATOR_MODE=BACKUP stands in the shell; `run` was started before."""
    from tests.support.cycles import MARK

    with Run(tmp_path / "r", "RESTORE") as run:
        run.until("confirm")
        state = StateFile(run.data_dir / "replicator")
        with state.lock(wait=20):
            edit_state(state, published=MARK, applied=MARK, promoted_at=1.0)
        for done in (
            run.command("backup", REPLICATOR_MODE="BACKUP"),
            run.command("backup", "--mode", "BACKUP"),
        ):
            assert done.returncode == 3
            assert "then restart `replicator run`" in done.stderr
        assert "promoted at 1970-01-01T00:00:01Z to epoch 1" in run.command("backup").stderr
