"""Which tests run when: `make test` (quick), a fixed part of the rest (sample), all of them.

REPLICATOR_TEST_TIER says which; without it all that pytest was given runs. The quick tier holds
at least one test of every promise; docs/architecture.md, «What always holds», names them.
"""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Container, Sequence

import pytest

TIER = os.environ.get("REPLICATOR_TEST_TIER", "all")

QUICK_ONE_IN: dict[str, int] = {
    # many points of one matrix
    "tests/faults/test_matrix.py": 9,
    "tests/faults/test_live_matrix.py": 20,
    "tests/adapters/repository/test_restic_hang.py": 5,
    "tests/adapters/repository/test_restic_real.py": 3,
    "tests/adapters/repository/test_damage.py": 5,
    "tests/adapters/repository/test_environment.py": 3,
    "tests/adapters/repository/test_upkeep.py": 3,
    "tests/adapters/repository/test_conformance.py": 5,
    "tests/adapters/database/test_beats.py": 2,
    "tests/adapters/database/test_beats_scale.py": 0,
    "tests/adapters/database/test_damage.py": 4,
    "tests/adapters/database/test_odd_objects.py": 4,
    "tests/fixtures/test_real_databases.py": 9,
    "tests/adapters/database/test_remembered.py": 3,
    "tests/replication/test_last_dump.py": 3,
    "tests/fixtures/test_cross_engine.py": 9,
    "tests/fixtures/test_upgrades.py": 9,
    "tests/dump/test_bombs.py": 5,
    "tests/cli/test_read_only.py": 5,
    "tests/cli/test_terminals.py": 3,
    "tests/cli/test_undo_command.py": 2,
    "tests/daemon/test_supervisor.py": 2,
    "tests/daemon/test_orphan.py": 3,
    "tests/reports/http/test_server.py": 3,
    "tests/reports/http/test_slow_instance.py": 4,
    "tests/replication/apply/test_embedded.py": 5,
    "tests/replication/apply/test_lock_time.py": 3,
    "tests/replication/apply/test_kill.py": 3,
    "tests/replication/leader/test_rollback.py": 3,
    "tests/replication/replica/test_hold.py": 3,
    "tests/replication/replica/test_hold_words.py": 3,
    "tests/replication/replica/test_local_entities.py": 3,
    "tests/replication/replica/test_pace.py": 3,
    "tests/replication/replica/test_patched.py": 2,
    "tests/replication/replica/test_settings_keys.py": 3,
    "tests/replication/replica/test_shrink.py": 2,
    "tests/replication/replica/test_shrink_replaced.py": 2,
    "tests/replication/apply/test_killed.py": 3,
    "tests/replication/apply/test_no_outage.py": 3,
    "tests/replication/apply/test_mariadb_kill.py": 5,
    "tests/replication/apply/test_mariadb_faults.py": 3,
    "tests/replication/apply/test_mariadb_undecided.py": 3,
    "tests/reports/http/test_browser.py": 3,
    "tests/reports/http/test_axe.py": 9,
    "tests/live/test_agent.py": 5,
    "tests/live/test_alerts.py": 12,
    "tests/live/test_doctored.py": 9,
    # minutes of a real Kuma or of memory; test_two_kumas.py stays
    "tests/daemon/test_push_fleet.py": 0,
    "tests/live/test_beats.py": 0,
    "tests/live/test_fleet_of_three.py": 0,
    "tests/live/test_kills.py": 0,
    "tests/live/test_matrix.py": 0,
    "tests/live/test_push_monitor.py": 0,
    "tests/live/test_ways.py": 0,
    "tests/live/test_races.py": 0,
    "tests/live/test_startup.py": 0,
    "tests/e2e/test_beside_a_reader.py": 0,
    "tests/e2e/test_drill_kuma.py": 0,
    "tests/e2e/test_migration.py": 0,
    "tests/e2e/test_moving.py": 0,
    "tests/e2e/test_three_places.py": 0,
    "tests/e2e/test_two_engines.py": 0,
    "tests/e2e/test_two_kumas_restarted.py": 0,
    "tests/e2e/test_watched_leader.py": 0,
    "tests/live/test_sidecar.py": 0,
    "tests/monitoring/test_table.py": 0,
    "tests/reports/http/test_prometheus.py": 0,
    "tests/litestream/test_lost_disks.py": 0,
    "tests/litestream/test_kills.py": 0,
    "tests/litestream/test_damaged_store.py": 0,
    "tests/litestream/test_full_disk.py": 0,
    "tests/litestream/test_live_apply.py": 0,
    "tests/litestream/test_moved_store.py": 0,
    "tests/litestream/test_run.py": 4,
    "tests/litestream/test_s3.py": 0,
    "tests/adapters/litestream/test_restore.py": 3,
    "tests/replication/apply/test_embedded_run.py": 0,
    "tests/replication/test_way_back_run.py": 0,
    "tests/adapters/repository/test_pair_real.py": 0,
    "tests/adapters/database/test_cross_properties.py": 0,
    "tests/test_performance.py": 5,
    "tests/deploy/test_chaos.py": 3,
    "tests/deploy/test_compose.py": 3,
    "tests/deploy/test_override_snippets.py": 5,
    # of each kind of instance the half that the kind before it has not
    "tests/deploy/test_kubernetes.py": 2,
    "tests/adapters/peers/test_http.py": 3,
    "tests/adapters/notify/test_slow_answers.py": 5,
    "tests/cli/test_fleet.py": 3,
    "tests/cli/test_doctor_peers.py": 4,
    "tests/deploy/test_clever_cloud.py": 5,
    "tests/deploy/test_clever_cloud_build.py": 0,
    "tests/cli/test_earlier_versions.py": 5,
    "tests/adapters/repository/test_earlier.py": 5,
    "tests/reports/fleet/test_exchange.py": 4,
    "tests/test_once_more.py": 4,
}
"""Of these files' tests only one in so many runs in the quick tier; 0: none."""
IN_ALL_ONLY = frozenset(
    {
        # thirty kills, a minute each on a busy machine
        "tests/litestream/test_kills.py",
        # minutes of a store that is damaged, full or away, and of a real Kuma beside Litestream
        "tests/litestream/test_damaged_store.py",
        "tests/litestream/test_full_disk.py",
        "tests/litestream/test_live_apply.py",
        "tests/litestream/test_moved_store.py",
        "tests/litestream/test_s3.py",
        # minutes of real Kumas whose beats are counted: they want a machine of their own
        "tests/e2e/test_moving.py",
        # pip installs the package with all that it needs
        "tests/deploy/test_clever_cloud_build.py",
        "tests/live/test_fleet_of_three.py",
        "tests/live/test_kills.py",
        "tests/live/test_matrix.py",
        "tests/live/test_races.py",
        "tests/live/test_ways.py",
    }
)
"""Of these not even the sample takes any."""
SAMPLE_ONE_IN = 3
"""of the tests that the quick tier leaves out, for .ci/run; files that it leaves out are whole:
there a test may go on where the one before it ended"""

PUREST = ("tests/base/", "tests/dump/", "tests/config/", "tests/test_layout.py")
"""They run first: without a process of their own, most failures show in seconds."""


def by_tier(quick: int, full: int) -> int:
    """How many of something a test tries."""
    return quick if TIER == "quick" else full


def in_quick(path: str, number: int) -> bool:
    """Whether the test of this number in its file belongs to the quick tier."""
    one_in = QUICK_ONE_IN.get(path, 1)
    return bool(one_in) and number % one_in == 0


def select(items: Sequence[pytest.Item]) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """The tests of this tier, the purest first, then the slowest; and those that are left out."""
    if TIER not in ("quick", "sample", "all"):
        raise pytest.UsageError(f"REPLICATOR_TEST_TIER={TIER}: quick, sample or all")
    numbers, rest = Counter[str](), Counter[str]()
    kept: list[pytest.Item] = []
    left: list[pytest.Item] = []
    for item in items:
        path = item.nodeid.split("::")[0]
        quick = in_quick(path, numbers[path])
        numbers[path] += 1
        rest[path] += not quick
        whole = QUICK_ONE_IN.get(path) == 0
        # where a file begins does not depend on the other files
        turn = (rest[path] + zlib.crc32(path.encode())) % SAMPLE_ONE_IN
        sampled = not quick and (whole or turn == 0)
        sampled = sampled and path not in IN_ALL_ONLY
        wanted = {"quick": quick, "sample": sampled, "all": True}[TIER]
        (kept if wanted else left).append(item)
    slow = {item.path for item in kept if item.get_closest_marker("slow")}
    kept.sort(key=lambda item: (_not_pure(item, slow), item.path not in slow))
    return kept, left


def _not_pure(item: pytest.Item, slow: Container[object]) -> bool:
    return item.path in slow or not item.nodeid.startswith(PUREST)
