"""Kumas whose insides are other than the agent knows them: it says so, and does no harm.

Each is a copy of the real one with a few words of its source changed.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support import tools
from tests.support.live_kuma import AgentError, LiveKuma, Watched, Web
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kuma, pytest.mark.slow]

OTHER_TIMERS = """
const otherTimeout = (call, ms) => ({ handle: [global.setTimeout(call, ms)] });
const clearOther = (timer) => timer && global.clearTimeout(timer.handle[0]);
class Monitor extends"""

ALL = "**/*.js"
DOCTORED = {
    "timers": [
        ("model/monitor.js", "setTimeout(", "otherTimeout("),
        ("model/monitor.js", "clearTimeout(", "clearOther("),
        ("model/monitor.js", "class Monitor extends", OTHER_TIMERS),
    ],
    "server": [(ALL, "monitorList", "monitorsOfThis")],
    "monitor": [(ALL, "start(io)", "commence(io)")],
    "settings": [("settings.js", "cacheList", "cached")],
    "maintenance": [("model/maintenance.js", "beanMeta.job", "beanMeta.work")],
    "pages": [(ALL, "domainMappingList", "domains")],
    "metrics": [("prometheus.js", "monitorLabelValues", "labels")],
    "tabs": [(ALL, "sendProxyList", "sendProxies")],
    "startup": [("server.js", '" active = 1 "', '" active = true "')],
}
"""capability → (files, old words, new words)"""


@pytest.fixture
def kuma_with(tmp_path: Path, kuma_folder: Path) -> Iterator[Path]:
    """A folder to doctor: the real Kuma's, with the agent's tests on it."""
    copy = tmp_path / "kuma"
    copy.mkdir()
    for entry in kuma_folder.iterdir():
        if entry.name == "server":
            shutil.copytree(entry, copy / "server")
        elif entry.name != "node_modules":
            (copy / entry.name).symlink_to(entry)
    modules = next(
        p / "node_modules"
        for p in (kuma_folder, *kuma_folder.parents)
        if (p / "node_modules" / "redbean-node").exists()
    )
    (copy / "node_modules").symlink_to(modules)
    tools.use_kuma(copy)
    yield copy
    tools.use_kuma(kuma_folder)


@pytest.mark.parametrize("capability", DOCTORED)
def test_what_is_other_is_missing_and_kuma_runs_on(
    kuma_with: Path, tmp_path: Path, capability: str
) -> None:
    for pattern, old, new in DOCTORED[capability]:
        texts = {path: path.read_text() for path in (kuma_with / "server").glob(pattern)}
        assert any(old in text for text in texts.values())
        for path, text in texts.items():
            path.write_text(text.replace(old, new))
    with closing(Web()) as web:
        kuma = LiveKuma(tmp_path)
        try:
            kuma.start()
            wait_until(lambda: socket_serves(kuma), "the agent's socket", 60)
            serves = wait_until(lambda: page_serves(kuma), "Kuma's page", 60)
            assert serves
            if capability == "timers":  # it shows once a monitor has beaten
                kuma.wait_phase("ready")
                watched = Watched(kuma, web)
                kuma.insert("monitor", **watched.row("/1"))
                assert kuma.reconcile()["errors"] == []
                wait_until(lambda: len(web.times("/1")) > 2, "its loop goes on")
            wait_until(lambda: capability in kuma.hello()["missing"], capability, 40)
            assert_refuses(kuma)
            assert [e for e in kuma.errors() if "replicator" in e or "agent.cjs" in e] == []
            kuma.stop()
        finally:
            kuma.__exit__()
    assert "agent.cjs" not in kuma.log.read_text()


def assert_refuses(kuma: LiveKuma) -> None:
    began = time.monotonic()
    with pytest.raises(AgentError, match=r"^(cannot|not ready): "):
        kuma.reconcile()
    assert time.monotonic() - began < 60  # ten minutes if it were tried


def socket_serves(kuma: LiveKuma) -> bool:
    assert kuma.process is not None
    assert kuma.process.poll() is None, kuma.log.read_text()[-3000:]
    return bool(kuma.socket.exists())


def page_serves(kuma: LiveKuma) -> bool:
    from tests.support.kuma_server import is_ready

    return is_ready(kuma.url)
