"""The state directory where DATA_DIR belongs to another user, who swaps names and plants links."""

from __future__ import annotations

import json
import logging
import os
import stat
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path

import pytest

from replicator_kuma.base import state_directory
from replicator_kuma.base.errors import StateError
from replicator_kuma.base.folders import Folder
from replicator_kuma.base.state_directory import anchored, real_path
from replicator_kuma.base.text import plain, plain_json
from replicator_kuma.config.settings import Settings
from replicator_kuma.daemon import control, heartbeat
from replicator_kuma.daemon.log import configure
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.state import State
from replicator_kuma.reports.doctor.doctor import examine
from replicator_kuma.reports.doctor.findings import Finding, Level
from replicator_kuma.reports.health import health
from tests.support.states import edit_state, failing, state_with

HOSTILE = 12345
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="root is at work in these tests")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory of Kuma's user."""
    folder = tmp_path / "data"
    folder.mkdir()
    if os.geteuid() == 0:
        os.chown(folder, HOSTILE, HOSTILE)
    return folder


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    """A folder of root's that is none of ours."""
    folder = tmp_path / "roots"
    folder.mkdir(mode=0o755)
    (folder / "file").write_text("root's")
    return folder


def untouched(roots: Path) -> None:
    assert stat.S_IMODE(roots.stat().st_mode) == 0o755
    assert [path.name for path in roots.iterdir()] == ["file"]
    assert (roots / "file").read_text() == "root's"


def settings(data: Path) -> Settings:
    return Settings.load({"DATA_DIR": str(data), "REPLICATOR_MODE": "RESTORE"})


def doctor(data: Path) -> Finding:
    found = examine(settings(data), lambda: False)
    return next(one for one in found if one.check == "state directory")


def beat() -> heartbeat.Beat:
    return heartbeat.Beat(pid=1, monotonic=2.0)


USES: dict[str, Callable[[StateFile], object]] = {
    "prepare": lambda state: state.prepare(),
    "load": lambda state: state.load(),
    "save": lambda state: state.save(State(writer="one")),
    "lock": lambda state: state.lock().__enter__(),
    "heartbeat": lambda state: heartbeat.write(state.folder, beat()),
    "door": lambda state: control.ControlServer(state.folder, lambda *_: {}).start(),
}


@pytest.mark.parametrize("use", USES)
def test_a_link_in_its_place_is_not_followed(data: Path, roots: Path, use: str) -> None:
    (data / "replicator").symlink_to(roots)
    with pytest.raises(StateError, match="link"):
        USES[use](StateFile(data / "replicator"))
    untouched(roots)


def test_who_only_looks_follows_no_link_either(data: Path, roots: Path) -> None:
    (roots / "file").rename(roots / "state.json")
    (data / "replicator").symlink_to(roots)
    assert heartbeat.read(data / "replicator") is None
    assert heartbeat.seen_at(data / "replicator") == 0
    assert "link" in str(health(settings(data)))
    found = doctor(data)
    assert found.level is Level.FAIL
    assert "is a link" in found.message
    (roots / "state.json").rename(roots / "file")
    untouched(roots)


@ROOT
@pytest.mark.parametrize("use", [name for name in USES if name != "load"])
def test_another_user_s_folder_is_not_used(data: Path, use: str) -> None:
    state = data / "replicator"
    state.mkdir(mode=0o755)
    os.chown(state, HOSTILE, HOSTILE)
    with pytest.raises(
        StateError, match=f"belongs to user {HOSTILE}, and this is user 0"
    ) as caught:
        USES[use](StateFile(state))
    assert f"chown -Rh 0:0 {state}\n" in caught.value.hint
    assert "REPLICATOR_STATE_DIR" in caught.value.hint
    assert list(state.iterdir()) == []
    assert stat.S_IMODE(state.stat().st_mode) == 0o755


@ROOT
def test_a_state_of_0_3_0_that_kuma_s_user_has_is_used_once_it_is_given_over(data: Path) -> None:
    state = StateFile(data / "replicator")
    state.save(state_with(writer="before", problems=failing("RepositoryUnreachable")))
    heartbeat.write(state.folder, beat())
    all_of_it = (state.name, *state.name.rglob("*"))
    for path in all_of_it:
        os.chown(path, HOSTILE, HOSTILE)
    assert state.load().writer == "before", "to look is no harm"
    assert heartbeat.read(state.name) == beat()
    with pytest.raises(StateError, match="belongs to user") as caught:
        edit_state(state, writer="after")
    words = next(line for line in caught.value.hint.splitlines() if "chown" in line)
    assert os.system(words[words.index("chown") :]) == 0  # what the message says
    assert edit_state(state, role="leader") == state_with(
        "before", problems=state.load().problems, role="leader"
    )


@ROOT
def test_a_swap_while_it_runs_writes_nowhere_else(data: Path, roots: Path) -> None:
    state = StateFile(data / "replicator")
    state.save(State(writer="one"))
    held = state.folder
    moved = data / "moved"
    state.name.rename(moved)
    state.name.symlink_to(roots)
    with pytest.raises(StateError, match="the state directory is a link"):
        edit_state(state, writer="two")
    (held / "more").write_text("what was begun goes on where it was")
    assert (moved / "more").exists()
    state.name.unlink()
    state.name.mkdir()
    os.chown(state.name, HOSTILE, HOSTILE)
    with pytest.raises(StateError, match="belongs to user"):
        edit_state(state, writer="two")
    state.name.rmdir()
    moved.rename(state.name)
    assert edit_state(state, role="replica").writer == "one"
    assert state.folder == held
    untouched(roots)


def test_a_folder_that_its_owner_deleted_is_made_anew(data: Path) -> None:
    state = StateFile(data / "replicator")
    state.save(State(writer="one"))
    held = state.folder
    state.path.unlink()
    state.name.rmdir()
    state.save(State(writer="two"))
    assert state.folder != held
    assert json.loads(state.path.read_text())["state"]["writer"] == "two"


PLANTED = (
    *("state.json", "lock", "supervisor.json", ".supervisor.json.tmp", "supervisor.lock"),
    *("control.sock", "kept", "work", "before", "drill", "cache"),
)


@pytest.mark.parametrize("name", PLANTED)
def test_a_link_in_it_is_named(data: Path, roots: Path, name: str) -> None:
    state = StateFile(data / "replicator")
    state.prepare()
    (state.name / name).symlink_to(roots if "." not in name else roots / "file")
    with pytest.raises(StateError, match=f"{name} is a link") as caught:
        state.save(State(writer="one"))
    assert caught.value.hint.endswith(f"rm {state.name / name}")
    untouched(roots)


def test_names_of_new_files_cannot_be_foreseen(data: Path) -> None:
    """Somebody who could write there once has made what he expects."""
    state = StateFile(data / "replicator")
    state.save(State(writer="one"))
    (state.name / ".supervisor.json.tmp").write_text("kept")
    (state.name / f".state.{os.getpid()}.tmp").write_text("kept")
    heartbeat.write(state.folder, beat())
    edit_state(state, role="leader")
    assert (state.name / ".supervisor.json.tmp").read_text() == "kept"
    assert (state.name / f".state.{os.getpid()}.tmp").read_text() == "kept"
    assert heartbeat.read(state.folder) == beat()
    assert stat.S_IMODE((state.name / "supervisor.json").stat().st_mode) == 0o600


def test_its_folder_is_this_user_s_alone(data: Path) -> None:
    (data / "replicator").mkdir(mode=0o755)
    if os.geteuid() == 0:
        os.chown(data / "replicator", 0, 0)
    StateFile(data / "replicator").prepare()
    assert stat.S_IMODE((data / "replicator").stat().st_mode) == 0o700


def test_a_folder_is_not_made_where_nothing_is(tmp_path: Path) -> None:
    away = tmp_path / "mistyped" / "replicator"
    assert anchored(away) == away
    with pytest.raises(StateError, match="No such file"):
        anchored(away, make=True)
    assert list(tmp_path.iterdir()) == []


def test_people_read_its_name(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = anchored(data / 'a "b"', make=True)
    assert str(held).startswith("/proc/self/fd/")
    name = str(data / 'a "b"')
    error = StateError(f"cannot write {held}/state.json", hint=f"Look at {held}")
    assert (str(error), error.hint) == (f"cannot write {name}/state.json", f"Look at {name}")
    assert plain(f"{held}/x and {held}") == f"{name}/x and {name}"
    assert json.loads(plain_json({"path": f"{held}/x"})) == {"path": f"{name}/x"}
    configure("info", "text").warning("%s", held)
    logging.getLogger("replicator_kuma").handlers.clear()
    assert name in capsys.readouterr().err
    assert real_path(held / "x") == Path(name) / "x"
    assert plain(f"{held}0") == f"{held}0", "another descriptor"


def test_a_file_that_comes_between_two_looks_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first state of an instance, for who waits for it."""
    real = Folder.open_file

    def comes_after(folder: Folder, name: str, *, follow: bool = False) -> BufferedReader | None:
        seen = real(folder, name, follow=follow)
        (tmp_path / name).write_bytes(b"new")
        return seen

    monkeypatch.setattr(Folder, "open_file", comes_after)
    assert state_directory.read(tmp_path, "state.json") == b"new"
