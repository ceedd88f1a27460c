"""Rows are written as an apply writes them; then one word makes a running Kuma follow."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
import requests

from tests.support.kuma_server import KumaClient
from tests.support.live_kuma import PASSWORD, USER, AgentError, LiveKuma, Watched, is_1
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kuma


def test_a_kuma_that_is_whole_lacks_nothing(watched: Watched) -> None:
    said = watched.kuma.hello()
    assert said["agent"] == 1
    assert said["missing"] == []
    assert said["phase"] == "ready"
    assert said["pid"] == watched.kuma.process.pid  # type: ignore[union-attr]
    assert abs(said["begun"] / 1000 - time.time()) < 3600


def test_rows_come_change_rest_and_go(watched: Watched) -> None:
    kuma, web = watched.kuma, watched.web
    old, new = watched.path(), watched.path()
    added = kuma.insert("monitor", **watched.row(old, interval=60))
    assert kuma.settled(rows=True)["started"] == [added]
    kuma.wait_beats(added, 1)
    kuma.update(added, url=watched.url(new))
    assert kuma.settled(rows=True)["changed"] == [added], "without a hint"
    wait_until(lambda: web.times(new), "a beat at the new address, before it is due", 30)
    kuma.update(added, active=0, interval=2)
    assert kuma.settled(rows=True)["stopped"] == [added]
    beats = len(kuma.beats(added))
    time.sleep(2.5)
    assert len(kuma.beats(added)) == beats, "it rests"
    kuma.update(added, active=1, url=watched.url(old))
    assert kuma.settled(rows=True)["started"] == [added]
    kuma.wait_beats(added, beats + 1)
    kuma.execute(("DELETE FROM monitor WHERE id = ?", [added]))
    assert kuma.settled(rows=True)["stopped"] == [added]
    asked = len(web.asked)
    time.sleep(2.5)
    assert [path for _, path in web.asked[asked:] if path == old] == []


def test_a_word_too_many_does_nothing(watched: Watched) -> None:
    kuma = watched.kuma
    monitor = watched.monitor(watched.path())
    kuma.wait_beats(monitor, 1)
    before = kuma.query("SELECT * FROM monitor ORDER BY id")
    beats = len(kuma.beats(monitor))
    for hints in ({}, {"ids": [monitor]}, {"ids": [987654], "replaced": [987655]}, {"beat": "due"}):
        report = kuma.reconcile(**hints)
        assert (report["any"], report["equal"]) == (0, True), report
    assert len(kuma.beats(monitor)) <= beats + 1, "no beat of ours"
    assert kuma.query("SELECT * FROM monitor ORDER BY id") == before


def test_holds_tells_which_rows_memory_does_not_hold(watched: Watched) -> None:
    kuma = watched.kuma
    monitor = watched.monitor(watched.path())
    kuma.wait_beats(monitor, 1)
    (digest, state) = kuma.ask("holds")["monitors"][str(monitor)]
    assert state in ("quiet", "checking")
    kuma.update(monitor, description="other")
    assert kuma.differ() == {"monitors": [monitor]}
    assert kuma.ask("holds")["monitors"][str(monitor)][0] == digest, "memory is as it was"
    kuma.settled(ids=[monitor])
    assert kuma.ask("holds")["monitors"][str(monitor)][0] != digest
    fresh = kuma.insert("monitor", **watched.row(watched.path()))
    gone = watched.monitor(watched.path())  # reconciles the one before, too
    kuma.execute(("DELETE FROM monitor WHERE id IN (?, ?)", [fresh, gone]))
    assert sorted(kuma.differ()["monitors"]) == [fresh, gone]
    kuma.settled()


def test_due_waits_for_the_next_beat(watched: Watched) -> None:
    kuma, web = watched.kuma, watched.web
    old, new = watched.path(), watched.path()
    monitor = watched.monitor(old, interval=3)
    kuma.wait_beats(monitor, 2)
    (*_, last) = web.times(old)
    kuma.update(monitor, url=watched.url(new))
    kuma.settled(ids=[monitor], beat="due")
    wait_until(lambda: web.times(new), "the new address")
    assert 2.6 < web.times(new)[0] - last < 4.5


def test_an_interval_that_changes_is_the_new_step(watched: Watched) -> None:
    kuma, web = watched.kuma, watched.web
    path = watched.path()
    monitor = watched.monitor(path, interval=60)
    kuma.wait_beats(monitor, 1)
    kuma.update(monitor, interval=2)
    kuma.settled(ids=[monitor])
    wait_until(lambda: len(web.times(path)) >= 4, "beats every two seconds", 30)
    _first, second, third, fourth = web.times(path)[:4]
    assert 1.2 < (fourth - second) / 2 < 4
    assert third < fourth


def test_another_kind_of_check_takes_over(watched: Watched) -> None:
    kuma, web = watched.kuma, watched.web
    path = watched.path()
    monitor = watched.monitor(path)
    kuma.wait_beats(monitor, 1)
    kuma.update(monitor, type="push", push_token="a-token-of-a-push")
    assert kuma.settled(ids=[monitor])["changed"] == [monitor]
    asked = len(web.times(path))
    time.sleep(2.5)
    assert len(web.times(path)) == asked
    kuma.update(monitor, type="http")
    kuma.settled(ids=[monitor])
    wait_until(lambda: len(web.times(path)) > asked, "it asks again")


def test_settings_take_effect_at_once(watched: Watched) -> None:
    kuma = watched.kuma

    def robots() -> str:
        return requests.get(f"{kuma.url}/robots.txt", timeout=5).text

    setting(kuma, "searchEngineIndex", True)
    kuma.settled(rows=True)
    assert "Disallow: /" not in robots()
    setting(kuma, "searchEngineIndex", False)
    setting(kuma, "entryPage", "statusPage-nowhere")
    report = kuma.settled(rows=True)
    assert set(report["settings"]) >= {"searchEngineIndex", "entryPage"}
    assert "Disallow: /" in robots()
    home = requests.get(kuma.url, timeout=5, allow_redirects=False)
    assert home.headers["Location"] == "/status/nowhere"
    own = kuma.ask("holds")["zone"]
    setting(kuma, "serverTimezone", "Asia/Tokyo")
    assert "serverTimezone" in kuma.settled(rows=True)["settings"]
    assert kuma.ask("holds")["zone"] == "Asia/Tokyo"
    setting(kuma, "serverTimezone", "Nowhere/At_all")
    kuma.settled(rows=True)
    assert kuma.ask("holds")["zone"] == own, "as after a start, which takes no such zone"


def test_a_zone_of_the_environment_wins(tmp_path: Path, kuma_folder: Path) -> None:
    with LiveKuma(tmp_path, TZ="Europe/Vienna") as kuma:
        setting(kuma, "serverTimezone", "Asia/Tokyo")
        assert "serverTimezone" not in kuma.settled(rows=True)["settings"]
        assert kuma.ask("holds")["zone"] == "Europe/Vienna"


def test_status_pages_and_their_domain_names_show_it_at_once(watched: Watched) -> None:
    kuma = watched.kuma
    slug = "a-page"
    page = kuma.insert(
        "status_page", slug=slug, title="Before", icon="/icon.svg", theme="light", published=1
    )
    group = kuma.insert("group", name="G", status_page_id=page, public=1, active=1, weight=1)
    monitor = watched.monitor(watched.path())

    def shown() -> tuple[str, list[int]]:
        found = requests.get(f"{kuma.url}/api/status-page/{slug}", timeout=5).json()
        groups = found["publicGroupList"]
        return found["config"]["title"], [m["id"] for g in groups for m in g["monitorList"]]

    def at_domain() -> str:
        headers = {"Host": "status.example"}
        return requests.get(kuma.url, headers=headers, timeout=5, allow_redirects=False).text

    assert shown() == ("Before", [])
    assert "After" not in at_domain()
    kuma.execute(
        ("UPDATE status_page SET title = 'After' WHERE id = ?", [page]),
        ("INSERT INTO monitor_group (monitor_id, group_id) VALUES (?, ?)", [monitor, group]),
        (
            "INSERT INTO status_page_cname (status_page_id, domain) VALUES (?, ?)",
            [page, "status.example"],
        ),
    )
    assert kuma.settled(rows=True)["domains"] is True
    assert shown() == ("After", [monitor])
    assert "After" in at_domain()
    kuma.execute("DELETE FROM status_page_cname")
    assert kuma.settled(rows=True)["domains"] is True
    assert "After" not in at_domain()


def test_maintenance_follows_its_rows(watched: Watched) -> None:
    kuma = watched.kuma
    monitor = watched.monitor(watched.path())
    kuma.wait_status(monitor, 1)
    window = kuma.insert(
        "maintenance",
        title="each minute",
        description="",
        user_id=watched.user,
        active=1,
        strategy="cron",
        cron="* * * * *",
        duration=3600,
        timezone="UTC",
        start_date="2020-01-01 00:00:00",
        end_date="2099-01-01 00:00:00",
    )
    kuma.insert("monitor_maintenance", monitor_id=monitor, maintenance_id=window)
    assert kuma.settled(rows=True)["maintenance"] == [window]
    kuma.wait_status(monitor, 3)
    kuma.execute(("UPDATE maintenance SET active = 0 WHERE id = ?", [window]))
    assert kuma.settled(rows=True)["maintenance"] == [window]
    kuma.wait_status(monitor, 1)
    kuma.execute(
        (
            "UPDATE maintenance SET active = 1, cron = '0 0 29 2 *', duration = 60 WHERE id = ?",
            [window],
        )
    )
    kuma.settled(rows=True)
    time.sleep(2.5)
    assert kuma.beats(monitor)[-1]["status"] == 1, "its window is not now"
    kuma.execute(("DELETE FROM maintenance WHERE id = ?", [window]))
    assert kuma.settled(rows=True)["maintenance"] == [window]


def test_what_a_person_does_at_the_page_can_be_taken_back(watched: Watched) -> None:
    """Kuma writes into memory as well as into rows then; rows of an apply win over both."""
    kuma = watched.kuma
    proxy = kuma.insert(
        "proxy", user_id=watched.user, protocol="http", host="127.0.0.1", port=1, auth=0, active=0
    )
    monitor = watched.monitor(watched.path(), proxy_id=proxy)
    window = kuma.insert(
        "maintenance", title="p", description="", user_id=watched.user, active=1, strategy="manual"
    )
    kuma.settled(rows=True)
    kuma.wait_beats(monitor, 1)
    with KumaClient(kuma.url) as page:
        page.login(USER, PASSWORD)
        page._call("pauseMaintenance", window)
        page._call("deleteProxy", proxy)
    assert set(kuma.differ()) <= {"monitors"}, "Kuma forgets to tell its monitors of a proxy's end"
    kuma.settled()
    kuma.insert(
        "proxy", id=proxy, user_id=watched.user, protocol="http", host="h", port=1, auth=0, active=0
    )
    kuma.execute(
        ("UPDATE maintenance SET active = 1 WHERE id = ?", [window]),
        ("UPDATE monitor SET proxy_id = ? WHERE id = ?", [proxy, monitor]),
    )
    assert kuma.differ() == {"monitors": [monitor], "maintenance": [window]}
    report = kuma.settled(rows=True)
    assert (report["maintenance"], report["changed"]) == ([window], [monitor])
    kuma.execute(("DELETE FROM maintenance WHERE id = ?", [window]))
    kuma.settled(rows=True)


def test_an_edited_maintenance_of_the_server_s_zone_runs_in_the_new_zone(watched: Watched) -> None:
    kuma = watched.kuma
    window = kuma.insert(
        "maintenance",
        title="zone",
        description="",
        user_id=watched.user,
        active=1,
        strategy="cron",
        cron="0 3 1 1 *",
        duration=60,
        timezone="SAME_AS_SERVER",
    )
    kuma.settled(rows=True)
    setting(kuma, "serverTimezone", "America/Lima")
    assert window in kuma.settled(rows=True)["maintenance"]
    kuma.execute(("DELETE FROM maintenance WHERE id = ?", [window]))
    kuma.settled(rows=True)


def test_metrics_show_new_names_and_labels_with_the_old_values(watched: Watched) -> None:
    kuma = watched.kuma
    setting(kuma, "apiKeysEnabled", False)
    monitor = watched.monitor(watched.path(), name="plain", interval=60)
    kuma.wait_status(monitor, 1)

    def series(name: str) -> list[str]:
        page = requests.get(f"{kuma.url}/metrics", auth=(USER, PASSWORD), timeout=5).text
        lines = [line for line in page.splitlines() if line.startswith(f"{name}{{")]
        return [line for line in lines if "plain" in line or "renamed" in line]

    (before,) = wait_until(lambda: series("monitor_status"), "its series")
    assert before.endswith(" 1")
    assert 'monitor_name="plain"' in before
    tag = kuma.insert("tag", name=f"tag{monitor}", color="#000000")
    kuma.execute(
        ("UPDATE monitor SET name = 'renamed' WHERE id = ?", [monitor]),
        ("INSERT INTO monitor_tag (monitor_id, tag_id, value) VALUES (?, ?, 'v')", [monitor, tag]),
    )
    kuma.settled(ids=[monitor], rows=True, beat="due")
    (after,) = series("monitor_status")
    assert after.endswith(" 1")
    assert 'monitor_name="renamed"' in after
    if is_1():
        return  # there tags are no labels
    if f"tag{monitor}" in after:  # since 2.0
        assert f'tag{monitor}="v"' in after
        kuma.execute(("DELETE FROM monitor_tag WHERE tag_id = ?", [tag]))
        assert monitor in kuma.settled(rows=True)["labels"]
        assert f"tag{monitor}" not in series("monitor_status")[0]


def test_open_pages_see_the_lists_change(watched: Watched) -> None:
    kuma = watched.kuma
    with KumaClient(kuma.url) as page:
        page.login(USER, PASSWORD)
        monitor = kuma.insert("monitor", **watched.row(watched.path(), name="seen"))
        hook = kuma.insert("notification", name="new hook", user_id=watched.user, config="{}")
        page._forget("notificationList")
        assert kuma.settled(ids=[monitor], rows=True)["tabs"] == 1
        page._wait_for("notificationList", lambda a: hook in [n["id"] for n in a[0]])
        event = "monitorList" if is_1() else "updateMonitorIntoList"
        page._wait_for(event, lambda a: a[0].get(str(monitor), {}).get("name") == "seen")
        kuma.execute(
            ("DELETE FROM monitor WHERE id = ?", [monitor]),
            ("DELETE FROM notification WHERE id = ?", [hook]),
        )
        page._forget(event)
        kuma.settled(ids=[monitor], rows=True)
        if is_1():
            page._wait_for(event, lambda a: str(monitor) not in a[0])
        else:
            page._wait_for("deleteMonitorFromList", lambda a: a[0] == monitor)
    wait_until(lambda: kuma.reconcile(rows=True)["tabs"] == 0, "nobody is told where nobody is")


def test_a_changed_password_ends_sessions(watched: Watched) -> None:
    kuma = watched.kuma
    (row,) = kuma.query("SELECT password FROM user WHERE id = ?", watched.user)
    with KumaClient(kuma.url) as page:
        page.login(USER, PASSWORD)
        kuma.execute(("UPDATE user SET password = 'another' WHERE id = ?", [watched.user]))
        assert kuma.settled(rows=True)["users"] == [watched.user]
        wait_until(lambda: page._events.get("refresh"), "the page loads itself anew")
        wait_until(lambda: not page._socket.connected, "it is disconnected")
    kuma.execute(("UPDATE user SET password = ? WHERE id = ?", [row["password"], watched.user]))
    assert kuma.settled(rows=True)["users"] == [watched.user]


@pytest.mark.parametrize(
    ("count", "hosts", "seconds"),
    [(22, 1, 9), (48, 48, 2.5)],
    ids=["two a second and host", "twelve a second"],
)
def test_many_new_monitors_begin_at_a_pace(
    watched: Watched, count: int, hosts: int, seconds: float
) -> None:
    """No target and no process has a herd at once; the answer does not wait for all."""
    kuma, path = watched.kuma, watched.path()
    rows = [watched.row(f"{path}?{number}", interval=600) for number in range(count)]
    for number, row in enumerate(rows):
        # nobody listens there: a check that fails has begun, too
        row["url"] = f"http://127.0.0.{2 + number % hosts}:1{path}?{number}"
    sql = f"INSERT INTO monitor ({', '.join(rows[0])}) VALUES ({', '.join('?' * len(rows[0]))})"
    kuma.execute(*((sql, [*row.values()]) for row in rows))
    asked = time.monotonic()
    report = kuma.reconcile(rows=True)
    assert (len(report["started"]), report["equal"]) == (count, True), report
    assert kuma.hello()["phase"] == "starting"
    assert kuma.differ() == {}
    kuma.wait_phase("ready")
    assert time.monotonic() - asked > seconds
    kuma.wait_beats(report["started"][-1], 1)
    kuma.execute(("DELETE FROM monitor WHERE url LIKE ?", [f"%{path}?%"]))
    assert len(kuma.settled(rows=True)["stopped"]) == count


def test_two_reconciles_wait_for_one_another(watched: Watched) -> None:
    kuma = watched.kuma
    monitor = watched.monitor(watched.path())
    kuma.wait_beats(monitor, 1)
    reports: list[dict[str, object]] = []

    def edit(number: int) -> None:
        kuma.update(monitor, description=f"{number}")
        reports.append(kuma.reconcile(ids=[monitor]))

    threads = [threading.Thread(target=edit, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reports) == 6
    assert all(report["equal"] for report in reports)
    assert kuma.reconcile()["any"] == 0


def test_a_client_that_goes_away_leaves_the_work_done(watched: Watched) -> None:
    kuma = watched.kuma
    path = watched.path()
    watched.web.answers[path] = (200, 4.0)
    monitor = watched.monitor(path, interval=3)
    wait_until(lambda: watched.web.times(path), "a check in flight")
    kuma.update(monitor, description="after it")
    with kuma.agent() as agent:
        agent.send(json.dumps({"id": 1, "do": "reconcile"}).encode() + b"\n")
        lines = iter(agent.line, None)
        seen = (line["progress"] for line in lines if line["progress"]["of"])
        assert next(seen) == {"done": 0, "of": 1, "waiting": [monitor]}
    wait_until(lambda: kuma.differ() == {}, "it went on")


def test_a_check_in_flight_of_a_deleted_monitor_comes_to_nothing(watched: Watched) -> None:
    kuma, path = watched.kuma, watched.path()
    watched.web.answers[path] = (500, 4.0)
    monitor = watched.monitor(path)
    wait_until(lambda: watched.web.times(path), "a check in flight")
    kuma.execute(("DELETE FROM monitor WHERE id = ?", [monitor]))
    assert kuma.settled(rows=True)["stopped"] == [monitor]
    before = len(kuma.errors())
    time.sleep(5)
    assert kuma.beats(monitor) == []
    assert watched.web.alerts_of(monitor) == []
    assert len(kuma.errors()) == before, "nor does its beat break a reference"


def test_a_monitor_that_comes_back_in_a_check_of_its_old_self_beats(watched: Watched) -> None:
    kuma, path = watched.kuma, watched.path()
    watched.web.answers[path] = (200, 6.0)
    monitor = watched.monitor(path)
    wait_until(lambda: watched.web.times(path), "a check in flight")
    kuma.execute(("DELETE FROM monitor WHERE id = ?", [monitor]))
    kuma.settled(rows=True)
    kuma.insert("monitor", **watched.row(watched.path(), id=monitor))
    assert kuma.settled(rows=True)["started"] == [monitor]
    (beat, *_) = kuma.wait_beats(monitor, 1, 5)
    assert (beat["status"], beat["important"]) == (1, 1), "the new one's first, not the old one's"


def test_a_start_without_a_user_is_told(tmp_path: Path, kuma_folder: Path) -> None:
    """Kuma asks for users once; a user that comes as a row leaves its page asking for set-up."""
    with LiveKuma(tmp_path) as kuma:
        assert kuma.hello()["needs_setup"] is True
        kuma.insert("user", username="replicated", password="x", active=1)
        kuma.reconcile(rows=True)
        assert kuma.hello()["needs_setup"] is True
        kuma.execute("DELETE FROM user")
        with KumaClient(kuma.url) as page:
            assert page.needs_setup()
            page.setup(USER, PASSWORD)
            assert not page.needs_setup()
        assert kuma.hello()["needs_setup"] is False
        kuma.stop()
        assert not kuma.socket.exists()
        kuma.start()
        errors = set()

        def served() -> bool:
            try:
                kuma.reconcile()
            except OSError:
                return False
            except AgentError as error:
                errors.add(str(error).partition(":")[0])
                return False
            return True

        wait_until(served, "a reconcile", 60, 0.01)
        assert errors <= {"not ready"}
        assert kuma.hello()["needs_setup"] is False


def setting(kuma: LiveKuma, key: str, value: object) -> None:
    kuma.execute(
        ("DELETE FROM setting WHERE key = ?", [key]),
        (
            "INSERT INTO setting (key, value, type) VALUES (?, ?, 'general')",
            [key, json.dumps(value)],
        ),
    )
