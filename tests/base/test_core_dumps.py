"""No core file holds a password; Kuma may leave one where the operator allows it."""

from __future__ import annotations

import ast
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.adapters.kuma.child import ChildKuma
from replicator_kuma.adapters.kuma.process import run
from replicator_kuma.adapters.kuma.throwaway import ThrowAway, Visit
from replicator_kuma.adapters.repository.restic.process import Child, Deadline
from replicator_kuma.base import core_dumps
from tests.cli.harness import Run
from tests.support.supervised import FAKE_KUMA
from tests.support.tools import ROOT
from tests.support.waiting import wait_until

LIMIT = 4096
SAYS = "import resource; print(resource.getrlimit(resource.RLIMIT_CORE)[0], flush=True)"
SYSTEM_PYTHON = shutil.which("python3", path="/usr/bin")
STARTERS = {"Popen", "run", "call", "check_call", "check_output", "posix_spawn", "fork", "system"}


@contextmanager
def soft_limit(limit: int) -> Iterator[None]:
    """What this process starts inside may leave core files of ``limit`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if hard != resource.RLIM_INFINITY and hard < limit:
        pytest.skip("this machine allows no core files at all")
    resource.setrlimit(resource.RLIMIT_CORE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def limit_of(pid: int | str) -> str:
    """The soft limit of a process, as the kernel shows it."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line for line in lines if line.startswith("Max core file size")).split()[4]


def test_run_and_restic_leave_none_and_kuma_has_the_limit_that_run_had(tmp_path: Path) -> None:
    restic = tmp_path / "restic"
    restic.write_text('#!/bin/sh\ncat /proc/$$/limits >"$0.limits"\nexit 1\n')
    restic.chmod(0o755)
    run = Run(tmp_path / "r", "BACKUP", database=False, REPLICATOR_RESTIC=str(restic))
    run.environment.pop("REPLICATOR_KUMA_COMMAND")
    says = 'cat /proc/$$/limits >limits; exec "$@"'
    with soft_limit(LIMIT):
        run.start(
            *["run", "--", "sh", "-c", says, "sh"],
            *[sys.executable, str(FAKE_KUMA), str(run.folder), str(run.port)],
        )
    seen = tmp_path / "restic.limits"
    try:
        run.logged("set-up page")
        wait_until(lambda: seen.exists() and seen.read_text().endswith("us        \n"), "restic")
        assert run.process is not None
        assert limit_of(run.process.pid) == "0"
        assert "\nMax core file size        0 " in seen.read_text()
        assert f"\nMax core file size        {LIMIT} " in (run.folder / "limits").read_text()
    finally:
        assert run.end()[0] == 0


@pytest.fixture
def forbidden(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As after `forbid` in a process that was started with LIMIT."""
    with soft_limit(LIMIT), soft_limit(0):
        monkeypatch.setattr(core_dumps, "_before", LIMIT)
        yield


@pytest.mark.usefixtures("forbidden")
def test_whatever_starts_a_kuma_gives_the_limit_back(tmp_path: Path) -> None:
    says = f"import sys; sys.stdout = open('said', 'a'); {SAYS}"
    program = [sys.executable, "-S", "-c", says]
    (tmp_path / "data").mkdir()

    child = ChildKuma(program, tmp_path, {})
    child.start()
    wait_until(lambda: not child.running(), "the child has ended")
    visit = Visit(tmp_path / "data", "token", lambda: True)
    with pytest.raises(Exception, match="ended"):
        ThrowAway(program, tmp_path, {}, 20).monitors(visit)
    assert (tmp_path / "said").read_text().split() == [str(LIMIT)] * 2

    assert run([sys.executable, "-S", "-c", SAYS], "x", deadline=20).output.split() == [str(LIMIT)]
    assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0


@pytest.mark.usefixtures("forbidden")
def test_restic_has_none_although_a_kuma_is_being_started(tmp_path: Path) -> None:
    """Kuma's limit is this process's own for a moment, and another thread may start restic."""
    said: list[bytes] = []
    program = (sys.executable, "-S", "-c", SAYS)

    def restic() -> None:
        with Child(program, {}, Deadline(20)) as child:
            said.append(child.read())
            child.finish()

    with core_dumps.allowed():
        thread = threading.Thread(target=restic)
        thread.start()
        thread.join(0.3)
        assert thread.is_alive(), "it waits for its turn"
    thread.join(20)
    assert b"".join(said).split() == [b"0"]


def aborted(folder: Path, *before: str) -> int:
    """How a process ends that would leave a core file of any size; what wait(2) says."""
    text = "; ".join(
        [
            "import os, resource",
            "from replicator_kuma.base import core_dumps",
            *before,
            "hard = resource.getrlimit(resource.RLIMIT_CORE)[1]",
            "resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))",
            "os.abort()",
        ]
    )
    process = subprocess.Popen(
        [sys.executable, "-c", text], cwd=folder, env={"PYTHONPATH": str(ROOT)}
    )
    status = os.waitpid(process.pid, 0)[1]
    process.returncode = status  # Popen must not wait for it too
    assert os.WTERMSIG(status) == signal.SIGABRT
    return status


def test_no_kernel_hands_a_core_to_a_program_either(tmp_path: Path) -> None:
    """Where core_pattern is a pipe, a limit of 0 keeps nothing back."""
    if not os.WCOREDUMP(aborted(tmp_path)):
        pytest.skip("this machine makes no core files at all")
    left = set(tmp_path.iterdir())
    assert not os.WCOREDUMP(aborted(tmp_path, "core_dumps.forbid()"))
    assert set(tmp_path.iterdir()) == left


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody")
@pytest.mark.skipif(SYSTEM_PYTHON is None, reason="needs a Python that anybody may run")
@pytest.mark.parametrize("forbids", [False, True])
def test_a_kuma_of_the_same_user_cannot_read_our_environment(forbids: bool) -> None:
    nobody: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": [], "cwd": "/"}
    python = [str(SYSTEM_PYTHON), "-S", "-c"]
    source = Path(core_dumps.__file__).read_text() + ("\nforbid()" if forbids else "")
    waits = f"{source}\nprint('up', flush=True)\ninput()"
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([*python, waits], env={"SECRET": "x"}, **nobody, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        reads = f"print(open('/proc/{process.pid}/environ').read())"
        seen = subprocess.run([*python, reads], capture_output=True, timeout=20, **nobody)
        process.communicate(b"\n")
    assert (b"PermissionError" in seen.stderr, b"SECRET" in seen.stdout) == (forbids, not forbids)


def test_every_process_is_started_with_a_word_on_its_core_files() -> None:
    calls = 0
    for path in sorted((ROOT / "replicator_kuma").rglob("*.py")):
        tree = ast.parse(path.read_text())
        decided = {
            inner
            for node in ast.walk(tree)
            if isinstance(node, ast.With)
            and {ast.unparse(item.context_expr) for item in node.items}
            & {"core_dumps.allowed()", "core_dumps.forbidden()"}
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = ast.unparse(node.func.value)
                if owner in ("subprocess", "os", "pty") and node.func.attr in STARTERS:
                    calls += 1
                    assert node in decided, f"{path}:{node.lineno}"
    assert calls >= 3
