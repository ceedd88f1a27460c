"""The weekly kill of deploy/kubernetes/chaos, against a stand-in for the API of Kubernetes.

No cluster runs here. `tests/containers/test_kubernetes.py` kills real pods with the same program.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.kustomize import KUBERNETES
from tests.support.loopback import Loopback, Quiet

TOKEN = "a-token-of-the-fleet"
KUMA = "127.0.0.67"
"""the address of each pod: of this machine, and nobody else listens there at 8067"""


class Replicator(Loopback):
    """Answers as the replicator in a pod does: its metrics, to who has the token."""

    def __init__(self) -> None:
        self.samples: list[str] = []
        owner = self

        class Handler(Quiet):
            def get(self) -> None:
                known = self.headers["Authorization"] == f"Bearer {TOKEN}"
                right = self.path == "/metrics" and known
                lines = [f"replicator_kuma_{sample}\n" for sample in owner.samples]
                self.say(200 if right else 401, "".join(lines).encode() if right else b"")

        super().__init__(Handler, 8067, KUMA)


CYCLED = 'cycles_total{outcome="nothing"} 1.0'
FAILED = 'cycles_total{outcome="failed"} 3.0'
SENT = 'notifications_total{result="sent",target="ntfy"} 2.0'
UNSENT = 'notifications_total{result="failed",target="ntfy"} 2.0'


@dataclass
class World:
    """A cluster with one pod, and the replicator in it."""

    cluster: Cluster
    replicator: Replicator
    folder: Path

    def run(
        self, *, settings: str = "NTFY_URL=https://ntfy.example/x\n", patience: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run the program to its end, with no pause before the kill."""
        file = self.folder / "env"
        file.write_text(f"REPLICATOR_HTTP_TOKEN={TOKEN}\n{settings}")
        return subprocess.run(
            [sys.executable, KUBERNETES / "chaos" / "chaos.py"],
            env={
                "PATH": os.environ["PATH"],
                **self.cluster.environment,
                "REPLICATOR_ENV_FILE": str(file),
                "WINDOW_MINUTES": "0",
                "PATIENCE_MINUTES": str(patience / 60),
                "EVERY_SECONDS": "0.05",
                "TOLD_WITHIN_SECONDS": str(patience),
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with closing(Cluster(tmp_path)) as cluster, closing(Replicator()) as replicator:
        cluster.add("kuma-1", KUMA)
        replicator.samples = [CYCLED, SENT]
        yield World(cluster, replicator, tmp_path)


def replaced(world: World) -> Callable[[str], None]:
    """What a Deployment does once its pod is gone."""
    return lambda _name: world.cluster.add("kuma-2", KUMA)


def test_it_kills_the_pod_and_sees_the_next_one_recover_and_tell(world: World) -> None:
    world.cluster.deleted = replaced(world)
    done = world.run()
    assert done.returncode == 0, done.stderr
    (options,) = world.cluster.deletions
    assert options["gracePeriodSeconds"] == 1, "0 would let a second one start beside it"
    assert options["preconditions"] == {"uid": "uid-of-kuma-1"}
    lines = [line.split(" after ")[0] for line in done.stdout.splitlines()[1:]]
    assert lines == [
        "killed kuma-1",
        "kuma-2 is ready",
        "a cycle went well",
        "it told that it was killed",
    ]


def test_a_pod_that_is_not_ready_is_not_killed(world: World) -> None:
    """It may migrate its database: killed then, it would never start again."""
    world.cluster.pods["kuma-1"].ready = False
    done = world.run()
    assert done.returncode == 1
    assert done.stderr == "failed: nothing was killed: 1 pods, 0 of them ready\n"
    assert world.cluster.deletions == []


def test_nothing_is_killed_while_another_one_still_ends(world: World) -> None:
    world.cluster.add("kuma-0", KUMA, ending=True)
    assert world.run().returncode == 1
    assert world.cluster.deletions == []


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        ([FAILED, SENT], "no cycle went well after the kill"),
        ([CYCLED, UNSENT], "it told nobody that it was killed"),
    ],
)
def test_it_fails_where_the_next_one_does_not_recover_or_tell(
    world: World, samples: list[str], words: str
) -> None:
    world.cluster.deleted = replaced(world)
    world.replicator.samples = samples
    done = world.run(patience=0.5)
    assert done.returncode == 1
    assert words in done.stderr


def test_it_fails_where_no_other_pod_comes(world: World) -> None:
    done = world.run(patience=0.5)
    assert done.returncode == 1
    assert "no other pod was ready within" in done.stderr


def test_who_tells_nobody_is_not_expected_to(world: World) -> None:
    world.cluster.deleted = replaced(world)
    world.replicator.samples = [CYCLED]
    done = world.run(settings="")
    assert done.returncode == 0, done.stderr
    assert "nobody is told" in done.stdout


def test_an_instance_whose_disk_went_along_cannot_tell(world: World) -> None:
    world.cluster.deleted = lambda _name: world.cluster.add("kuma-2", KUMA, ephemeral=True)
    world.replicator.samples = [CYCLED]
    done = world.run()
    assert done.returncode == 0, done.stderr
    assert "cannot know that it was killed" in done.stdout


def test_an_api_that_is_away_for_a_moment_is_asked_again(world: World) -> None:
    def deleted(_name: str) -> None:
        world.cluster.add("kuma-2", KUMA)
        world.cluster.fails = 3

    world.cluster.deleted = deleted
    done = world.run()
    assert done.returncode == 0, done.stderr
    assert world.cluster.fails == 0


def test_without_the_right_nothing_is_killed_and_that_is_said(world: World) -> None:
    world.cluster.token = "another one"
    done = world.run()
    assert (done.returncode, world.cluster.deletions) == (1, [])
    assert "403" in done.stderr
