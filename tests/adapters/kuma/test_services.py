"""docker, systemd, command and none, with executables that keep a record of their calls."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path

import pytest

from replicator_kuma.adapters.kuma import KumaService
from replicator_kuma.adapters.kuma.command import CommandKuma
from replicator_kuma.adapters.kuma.docker import DockerKuma
from replicator_kuma.adapters.kuma.none import NoKuma
from replicator_kuma.adapters.kuma.process import failure, mask, run
from replicator_kuma.adapters.kuma.supervised import SupervisedKuma
from replicator_kuma.adapters.kuma.systemd import SystemdKuma
from replicator_kuma.base.errors import KumaError
from replicator_kuma.config.build import build_service, build_supervised
from replicator_kuma.config.settings import KUMA_SERVICES, Settings
from tests.adapters.kuma.programs import calls, recorder
from tests.support.clock import Clock
from tests.support.waiting import wait_until

SECRET = "hunter-0-two"

# ------------------------------------------------------------------ docker


@pytest.mark.parametrize(("answer", "there"), [("true", True), ("false", False)])
def test_docker_calls_the_command_line(tmp_path: Path, answer: str, there: bool) -> None:
    docker = recorder(tmp_path, "podman", f"echo {answer}")
    service = DockerKuma("kuma-1", docker=str(docker))
    assert service.running() is there
    service.stop()
    service.start()
    assert calls(tmp_path) == [
        "podman inspect --type container -f {{.State.Running}} -- kuma-1",
        "podman stop -t 3600 -- kuma-1",
        "podman start -- kuma-1",
    ]


def test_docker_says_what_docker_said(tmp_path: Path) -> None:
    complaint = f"echo 'Error: no such container: kuma-1, password={SECRET}' >&2; exit 125"
    service = DockerKuma("kuma-1", docker=str(recorder(tmp_path, "docker", complaint)))
    for verb, act in (("inspect", service.running), ("stop", service.stop)):
        with pytest.raises(KumaError) as caught:
            act()
        assert f"docker {verb} kuma-1 ended with exit code 125: Error: no such" in str(caught.value)
        assert "docker ps" in caught.value.hint
        assert SECRET not in str(caught.value)


def test_docker_that_answers_garbage_is_an_error(tmp_path: Path) -> None:
    service = DockerKuma("kuma-1", docker=str(recorder(tmp_path, "docker", "echo maybe")))
    with pytest.raises(KumaError, match="neither true nor false"):
        service.running()


def test_docker_that_is_not_installed(tmp_path: Path) -> None:
    with pytest.raises(KumaError, match="could not be run: No such file") as caught:
        DockerKuma("kuma-1", docker="no-such-docker").start()
    assert "Install no-such-docker" in caught.value.hint


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ("false 1", 1),
        ("false 0", 0),
        ("false 137", 137),
        ("true 137", 137),
        ("true 0", 137),
        ("", None),
        ("false what", None),
    ],
)
def test_docker_tells_how_a_container_ended(
    tmp_path: Path, answer: str, status: int | None
) -> None:
    docker = recorder(tmp_path, "docker", f"echo '{answer}'")
    assert DockerKuma("kuma-1", docker=str(docker)).ended_with() == status
    form = "{{.State.OOMKilled}} {{.State.ExitCode}}"
    assert calls(tmp_path) == [f"docker inspect --type container -f {form} -- kuma-1"]


# ------------------------------------------------------------------ systemd


@pytest.mark.parametrize(
    ("result", "code", "number", "status"),
    [
        ("exit-code", "1", "3", 3),
        ("success", "1", "0", 0),
        ("signal", "2", "9", 137),
        ("core-dump", "3", "6", 134),
        ("oom-kill", "1", "0", 137),
        ("success", "0", "0", None),
        ("", "", "", None),
    ],
)
def test_systemd_tells_how_a_unit_ended(
    tmp_path: Path, result: str, code: str, number: str, status: int | None
) -> None:
    lines = f"Result={result}\\nExecMainCode={code}\\nExecMainStatus={number}\\n"
    systemctl = recorder(tmp_path, "systemctl", f"printf '{lines}'")
    assert SystemdKuma("kuma", systemctl=str(systemctl)).ended_with() == status
    asked = "--property=Result,ExecMainCode,ExecMainStatus"
    assert calls(tmp_path) == [f"systemctl show {asked} -- kuma"]


@pytest.mark.parametrize(
    ("state", "code", "there"),
    [
        ("active", 0, True),
        ("activating", 3, True),
        ("deactivating", 3, True),
        ("reloading", 0, True),
        ("inactive", 3, False),
        ("failed", 3, False),
    ],
)
def test_systemd_knows_the_states(tmp_path: Path, state: str, code: int, there: bool) -> None:
    systemctl = recorder(tmp_path, "systemctl", f"echo {state}; exit {code}")
    assert SystemdKuma("kuma.service", systemctl=str(systemctl)).running() is there
    assert calls(tmp_path) == ["systemctl is-active -- kuma.service"]


def test_systemd_stops_and_starts(tmp_path: Path) -> None:
    service = SystemdKuma("kuma", systemctl=str(recorder(tmp_path, "systemctl")))
    service.stop()
    service.start()
    assert calls(tmp_path) == [
        "systemctl --no-ask-password stop -- kuma",
        "systemctl --no-ask-password start -- kuma",
    ]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo inactive; exit 4", "systemd knows no unit kuma"),
        ("echo unknown; exit 3", "systemd knows no unit kuma"),
        ("echo 'Failed to connect to bus' >&2; exit 1", "is-active kuma .* connect to bus"),
    ],
)
def test_systemd_that_cannot_tell_is_an_error(tmp_path: Path, script: str, words: str) -> None:
    service = SystemdKuma("kuma", systemctl=str(recorder(tmp_path, "systemctl", script)))
    with pytest.raises(KumaError, match=words):
        service.running()


def test_systemd_that_refuses(tmp_path: Path) -> None:
    script = "echo 'Access denied' >&2; exit 4"
    service = SystemdKuma("kuma", systemctl=str(recorder(tmp_path, "systemctl", script)))
    with pytest.raises(KumaError, match="systemctl start kuma ended with exit code 4: Access"):
        service.start()


# ------------------------------------------------------------------ command


def test_commands_are_for_a_shell_and_without_status_nobody_can_tell(tmp_path: Path) -> None:
    tool = shlex.quote(str(recorder(tmp_path, "tool")))
    service = CommandKuma(f"{tool} 'stop it' && {tool} twice", f"{tool} start")
    assert service.running()
    service.stop()
    assert not service.running()
    service.stop()
    service.start()
    assert service.running()
    assert calls(tmp_path) == ["tool stop it", "tool twice", "tool start"]


def test_a_stop_waits_until_the_status_command_agrees(tmp_path: Path) -> None:
    flag = tmp_path / "running"
    flag.touch()
    clock = Clock()

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if clock.sleeps == 3:
            flag.unlink()

    tool = recorder(tmp_path, "tool")
    service = CommandKuma(
        f"{tool} stop", f"{tool} start", f"test -e {flag}", clock=clock, sleep=sleep
    )
    service.start()
    assert calls(tmp_path) == []
    service.stop()
    assert clock.sleeps == 3
    assert not service.running()
    service.stop()
    assert calls(tmp_path) == ["tool stop"]
    service.start()
    assert calls(tmp_path) == ["tool stop", "tool start"]


def test_a_kuma_that_stays_is_an_error(tmp_path: Path) -> None:
    clock = Clock()
    service = CommandKuma(
        "true", "true", "true", stop_deadline=5.0, clock=clock, sleep=lambda _: clock.sleep(2)
    )
    with pytest.raises(KumaError, match="has not ended within 5 s"):
        service.stop()


def test_a_start_command_may_leave_kuma_behind(tmp_path: Path) -> None:
    """It returns though what it left still holds its output open."""
    pid = tmp_path / "pid"
    service = CommandKuma("true", f"sleep 60 & echo $! > {pid}")
    service.start()
    left = int(pid.read_text())
    assert Path(f"/proc/{left}").exists()
    run(["kill", str(left)], "kill", deadline=5)


@pytest.mark.parametrize(
    ("stop", "start", "status", "words"),
    [
        (f"echo token={SECRET} bad >&2; exit 1", "true", None, "stop command .* code 1: .*bad"),
        ("true", "exit 9", None, "start command .* code 9$"),
        ("true", "true", "no-such-tool", "status command .* code 127: .*not found"),
        ("true", "true", "kill -9 $$", "status command .* was killed by signal 9"),
    ],
)
def test_a_failing_command_is_an_error_without_its_text(
    stop: str, start: str, status: str | None, words: str
) -> None:
    service = CommandKuma(stop, start, status)

    def restart() -> None:
        service.stop()
        service.start()

    with pytest.raises(KumaError, match=words) as caught:
        restart()
    assert SECRET not in f"{caught.value} {caught.value.hint}"
    assert "exit 9" not in str(caught.value)


def test_a_start_command_that_does_not_return_is_left_alone(tmp_path: Path) -> None:
    """It may be Kuma itself, in the foreground."""
    pid = tmp_path / "pid"
    service = CommandKuma("true", f"echo $$ > {pid}; exec sleep 60", start_deadline=0.3)
    with pytest.raises(KumaError, match=r"start command .* has not ended within 0\.3 s"):
        service.start()
    left = Path("/proc", pid.read_text().strip())
    assert left.exists()
    run(["kill", left.name], "kill", deadline=5)

    def reaped() -> bool:
        run(["true"], "true", deadline=5)
        return not left.exists()

    wait_until(reaped, "the command that was left is reaped by a later one")


# ------------------------------------------------------------------ the runner


def test_a_client_that_hangs_is_ended_but_not_what_it_started(tmp_path: Path) -> None:
    script = f"sleep 60 & echo $! > {tmp_path}/grandchild; echo $$ > {tmp_path}/pid; wait"
    with pytest.raises(KumaError, match=r"docker stop x has not ended within 0\.3 s"):
        run(["sh", "-c", script], "docker stop x", deadline=0.3)
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()
    grandchild = (tmp_path / "grandchild").read_text().strip()
    assert Path("/proc", grandchild).exists()
    run(["kill", grandchild], "kill", deadline=5)


def test_a_client_that_ignores_the_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replicator_kuma.adapters.kuma.process.GRACE", 0.1)
    script = f"trap '' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 0.05; done"
    with pytest.raises(KumaError, match="has not ended"):
        run(["sh", "-c", script], "docker stop x", deadline=0.3)
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


def test_only_the_end_of_a_long_complaint_is_told() -> None:
    script = "i=0; while [ $i -lt 2000 ]; do echo line $i >&2; i=$((i+1)); done; exit 2"
    finished = run(["sh", "-c", script], "it", deadline=30)
    assert str(failure("it", finished)) == (
        "it ended with exit code 2: line 1997 / line 1998 / line 1999"
    )


@pytest.mark.parametrize(
    "text",
    [
        f"cannot reach https://user:{SECRET}@host/x",
        f"RESTIC_PASSWORD={SECRET} is wrong",
        f"Authorization: Bearer {SECRET}",
        f"api-key: {SECRET}",
    ],
)
def test_masked_text_holds_no_secret(text: str) -> None:
    assert SECRET not in mask(text)
    assert "***" in mask(text)


# ------------------------------------------------------------------ none, and the choice


def test_none_does_nothing() -> None:
    service = NoKuma()
    service.stop()
    service.start()
    assert service.running()
    assert not service.manages


@pytest.mark.parametrize("kind", KUMA_SERVICES)
def test_each_kind_can_be_made(kind: str, tmp_path: Path) -> None:
    options = {
        "REPLICATOR_KUMA_CONTAINER": "c",
        "REPLICATOR_KUMA_UNIT": "u",
        "REPLICATOR_KUMA_STOP_COMMAND": "true",
        "REPLICATOR_KUMA_START_COMMAND": "true",
    }
    settings = Settings.load({"DATA_DIR": str(tmp_path), "REPLICATOR_KUMA": kind, **options})
    for service in (build_service(settings), build_supervised(settings)):
        here = kind if isinstance(service, SupervisedKuma) or kind != "child" else "none"
        assert service.name == here
        assert service.manages is (here != "none")
        assert service.owned is (here == "child")
        assert service.pid is None


# ------------------------------------------------------------------ what they see


@pytest.mark.parametrize("kind", ["docker", "command", "systemd"])
def test_their_programs_see_what_they_are_given_and_no_more(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESTIC_PASSWORD", SECRET)
    tools = {"PATH": "/usr/bin:/bin", "SSH_AUTH_SOCK": "/run/agent", "DOCKER_HOST": "ssh://nas"}
    note = f"env >> {tmp_path}/seen; echo active; echo true"
    program = recorder(tmp_path, "program", note)
    service: KumaService
    if kind == "docker":
        service = DockerKuma("kuma", docker=str(program), environment=tools)
    elif kind == "systemd":
        service = SystemdKuma("kuma", systemctl=str(program), environment=tools)
    else:
        service = CommandKuma(str(program), str(program), environment=tools)
    with contextlib.suppress(KumaError):
        service.running()
        service.stop()
    seen = (tmp_path / "seen").read_text()
    assert "DOCKER_HOST=ssh://nas" in seen
    assert "SSH_AUTH_SOCK=/run/agent" in seen
    (tmp_path / "seen").unlink()
    service.start()
    seen += (tmp_path / "seen").read_text()
    assert SECRET not in seen


@pytest.mark.parametrize(("line", "given"), [("env", False), ("true ssh; env", True)])
def test_a_kuma_that_a_command_starts_has_no_key_of_ssh(
    tmp_path: Path, line: str, given: bool
) -> None:
    tools = {"PATH": "/usr/bin:/bin", "SSH_AUTH_SOCK": "/run/agent"}
    CommandKuma("true", f"{{ {line}; }} > {tmp_path}/seen", environment=tools).start()
    assert ("SSH_AUTH_SOCK" in (tmp_path / "seen").read_text()) is given


@pytest.mark.parametrize(("keys", "told"), [({"SSH_AUTH_SOCK": "/run/agent"}, True), ({}, False)])
def test_a_start_command_that_failed_without_its_key_is_told_why(
    keys: dict[str, str], told: bool
) -> None:
    with pytest.raises(KumaError) as caught:
        CommandKuma("true", "exit 7", environment={"PATH": "/usr/bin:/bin", **keys}).start()
    assert caught.value.hint is not None
    assert ("SSH_AUTH_SOCK" in caught.value.hint) is told
