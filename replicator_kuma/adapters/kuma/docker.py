"""Uptime Kuma in a container beside this one, over the docker command line (podman's too)."""

from __future__ import annotations

import signal
from collections.abc import Mapping

from replicator_kuma.adapters.kuma.process import (
    ASK_DEADLINE,
    STOP_DEADLINE,
    Tools,
    exit_status,
    failure,
)
from replicator_kuma.base.errors import KumaError

START_DEADLINE = 120.0


class DockerKuma(Tools):
    """A container by its name.

    Docker kills a container that has not ended ``stop_timeout`` seconds after the request. The
    limit cannot be left out, so it is an hour. (-1, "no limit", means 0 to podman below 5.)
    """

    name = "docker"
    hint = "Check the container's name and the right to use docker. Try: docker ps --all"

    def __init__(
        self,
        container: str,
        *,
        docker: str = "docker",
        stop_timeout: int = int(STOP_DEADLINE),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(environment)
        self._container = container
        self._docker = docker
        self._stop_timeout = stop_timeout

    def running(self) -> bool:
        """Whether the container runs, paused or restarting included; raises KumaError."""
        what = f"docker inspect {self._container}"
        argv = [self._docker, "inspect", "--type", "container", "-f", "{{.State.Running}}"]
        finished = self._run([*argv, "--", self._container], what, ASK_DEADLINE)
        answer = finished.output.strip().lower()
        if finished.code != 0:
            raise failure(what, finished, hint=self.hint)
        if answer not in {"true", "false"}:
            raise KumaError(f"{what} answered neither true nor false", hint=self.hint)
        return answer == "true"

    def ended_with(self) -> int | None:
        """The exit status of a container that has ended; None if docker shows none."""
        form = "{{.State.OOMKilled}} {{.State.ExitCode}}"
        argv = [self._docker, "inspect", "--type", "container", "-f", form]
        what = f"docker inspect {self._container}"
        words = self._run([*argv, "--", self._container], what, ASK_DEADLINE).output.split()
        if len(words) != 2 or not words[1].isdecimal():
            return None
        # the kernel may have killed another process of the container than its first one
        return exit_status(-signal.SIGKILL) if words[0] == "true" else int(words[1])

    def stop(self) -> None:
        self._call(["stop", "-t", str(self._stop_timeout)], self._stop_timeout + 60)

    def start(self) -> None:
        self._call(["start"], START_DEADLINE)

    def _call(self, verb: list[str], deadline: float) -> None:
        argv = [self._docker, *verb, "--", self._container]
        self._do(argv, f"docker {verb[0]} {self._container}", deadline)
