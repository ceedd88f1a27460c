"""What a restore would change, in words: precise, short, and without a secret."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.dump.catalog import SECRETS, SETTINGS, TABLES
from replicator_kuma.dump.change_words import changes, lines
from replicator_kuma.dump.mask import MASK, shown
from replicator_kuma.dump.plan import Counts, Plan, Summary, plan
from replicator_kuma.dump.row_names import describe_row, noun
from tests.support import nasty
from tests.support.databases import VERSIONS, build, edit, query
from tests.support.dumps import dump_of


def plan_of(live: Path, wanted: Path, folder: Path) -> Plan:
    return plan(dump_of(live, folder / "live"), dump_of(wanted, folder / "wanted"), folder / "plan")


def secrets_into(path: Path, number: int) -> set[str]:
    """Put a value that is told apart into every column and setting that may hold a secret."""
    made: set[str] = set()

    def fresh() -> str:
        made.add(nasty.secret(number + len(made)))
        return nasty.secret(number + len(made) - 1)

    statements: list[tuple[str, tuple[str, ...]]] = []
    for name in TABLES:
        if name == "setting":
            continue
        for row in query(path, f'PRAGMA table_info("{name}")'):
            column, kind = row[1], row[2].upper()
            texts = "CHAR" in kind or "TEXT" in kind
            if not texts or column in ("snmp_version", "analytics_type", "username", "slug"):
                continue
            if SECRETS.search(column):
                statements.append((f'UPDATE "{name}" SET "{column}" = ?', (fresh(),)))
    for key in SETTINGS:
        if SECRETS.search(key):
            sql = "INSERT OR REPLACE INTO setting (key, value, type) VALUES (?, ?, 'general')"
            statements.append((sql, (key, fresh())))
    urls = (
        "https://{0}:{1}@host.example/p?token={2}&x={3}#{4}",
        "https://user:{0}@{1}@host.example/",
        "wss://host.example/?{0}",
        "tcp://{0}@host.example:2375",
        "HTTPS://a:{0}@h.example/?q={1};r={2}",
    )
    columns = ("monitor.url", "docker_host.docker_daemon", "monitor.grpc_url", "remote_browser.url",
               "monitor.description", "monitor.hostname")  # fmt: skip
    for column, url in zip(columns, (*urls, urls[0]), strict=True):
        table, _, name = column.partition(".")
        if query(path, "SELECT 1 FROM sqlite_master WHERE name = ?", (table,)):
            places = url.count("{")
            statements.append(
                (
                    f'UPDATE "{table}" SET "{name}" = ?',
                    (url.format(*(fresh() for _ in range(places))),),
                )
            )
    edit(path, *statements)
    return made


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("empty", [False, True])
def test_no_secret_is_ever_shown(version: str, empty: bool, tmp_path: Path) -> None:
    """Changed, added and deleted rows; columns and settings by name, credentials in URLs."""
    one = build(tmp_path / "one" / "kuma.db", version, monitors=12)
    two = build(tmp_path / "two" / "kuma.db", version, monitors=12)
    made = secrets_into(one, 0)
    if empty:
        build(two, version, users=0)
    else:
        made |= secrets_into(two, 5_000)
    assert len(made) > 30
    for live, wanted in ((one, two), (two, one)):
        found = plan_of(live, wanted, tmp_path / live.parent.name / "x")
        text = "\n".join(lines(found)) + json.dumps(list(changes(found)), ensure_ascii=False)
        text += found.summary.sentence() + json.dumps(found.summary.as_dict())
        assert len(text) > 1_000
        assert [secret for secret in sorted(made) if secret in text] == []
        assert "S3CRET" not in text


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://user:pw@host/x", f"«https://{MASK}@host/x»"),
        ("https://user:p@w@host/x", f"«https://{MASK}@host/x»"),
        ("https://user:p w@host/x", f"«https://{MASK}@host/x»"),
        ("https://host/x?a=1&b=2#c", f"«https://host/x?{MASK}»"),
        ("https://host/x?abc", f"«https://host/x?{MASK}»"),
        ("https://host/x#token", f"«https://host/x#{MASK}»"),
        ("https://host/a@b", "«https://host/a@b»"),
        ("see https://u:p@one/ and ftp://v:q@two/", f"«see https://{MASK}@one/ and ftp://{MASK}@two/»"),
        ("host.example", "«host.example»"),
    ],
)  # fmt: skip
def test_urls_lose_their_credentials(url: str, expected: str) -> None:
    assert shown("url", url) == expected


@pytest.mark.parametrize("column", [
    "password", "basic_auth_pass", "push_token", "config", "headers", "body", "tls_key",
    "oauth_client_secret", "mqtt_password", "radius_secret", "database_connection_string",
    "kafka_producer_sasl_options", "grpc_metadata", "twofa_secret", "key", "steamAPIKey",
    "globalpingApiToken", "webpushPrivateVapidKey", "rabbitmq_password", "grpc_body",
])  # fmt: skip
def test_secret_columns_are_masked(column: str) -> None:
    assert shown(column, "value") == MASK
    assert shown(column, 5) == MASK
    assert shown(column, None) == "nothing"


@pytest.mark.parametrize("column", ["name", "url", "interval", "active", "slug", "keyword", "type"])
def test_other_columns_are_not(column: str) -> None:
    assert shown(column, "value") == "«value»"


def test_odd_values_fit_on_a_line() -> None:
    for text in (*nasty.TEXTS, *(b.decode("utf-8", "surrogateescape") for b in nasty.BROKEN_UTF8)):
        words = shown("name", text)
        words.encode()
        assert words.isprintable()
        assert len(words) < 300
    assert shown("name", b"\x00\x01") == "2 bytes"
    assert shown("interval", 60) == "60"
    assert shown("timeout", 0.5) == "0.5"


def test_lines_say_what_changes(tmp_path: Path) -> None:
    one = build(tmp_path / "one" / "kuma.db", monitors=12)
    two = build(tmp_path / "two" / "kuma.db", monitors=12)
    edit(
        one,
        "UPDATE monitor SET name = 'old', interval = 30 WHERE id = 2",
        "INSERT INTO tag (id, name, color) VALUES (40, 'gone', '#fff')",
        "UPDATE setting SET value = '90' WHERE key = 'keepDataPeriodDays'",
        "DELETE FROM status_page_cname WHERE domain = 'internal.example'",
        "UPDATE monitor SET created_date = '2020-01-01 00:00:00' WHERE id = 3",
    )
    edit(
        two,
        "UPDATE monitor SET name = 'new', interval = 60 WHERE id = 2",
        "UPDATE setting SET value = '30' WHERE key = 'keepDataPeriodDays'",
        "INSERT INTO monitor_tag (monitor_id, tag_id, value) VALUES (1, 12, 'x')",
        "UPDATE setting SET value = '\"other\"' WHERE key = 'steamAPIKey'",
        "UPDATE monitor SET name = 'third' WHERE id = 3",
    )
    found = plan_of(one, two, tmp_path)
    said = list(lines(found))
    assert "monitor 2 «new» changed: interval 30 → 60, name «old» → «new»" in said
    assert "tag 40 «gone» deleted" in said
    assert "setting keepDataPeriodDays changed: value «90» → «30»" in said
    assert f"setting steamAPIKey changed: value {MASK} → {MASK}" in said
    assert any(re.fullmatch(r"monitor's tag .*\(monitor 1, tag 12\) added", s) for s in said), said
    assert any("(status_page 2) «internal.example» added" in s for s in said)
    assert any(s.startswith("monitor 3 «third» replaced: created_date") for s in said)
    assert len(said) == 7
    assert found.summary.sentence().startswith("1 monitor changed, 1 replaced; ")
    assert found.summary.as_dict()["tables"]["monitor"] == {
        "added": 0, "changed": 1, "deleted": 0, "replaced": 1,
    }  # fmt: skip


def test_files_are_told(tmp_path: Path) -> None:
    one = build(tmp_path / "one" / "kuma.db", monitors=1)
    two = build(tmp_path / "two" / "kuma.db", monitors=1)
    for path, names in ((one, ["docker-tls/docker.example/ca.pem"]), (two, ["upload/logo2.png"])):
        for name in names:
            (path.parent / name).parent.mkdir(parents=True)
            (path.parent / name).write_bytes(b"x")
    found = plan_of(one, two, tmp_path)
    assert list(lines(found)) == [
        "file upload/logo2.png changed",
        "file docker-tls/docker.example/ca.pem deleted",
    ]
    assert found.summary.sentence() == "2 files"
    assert not found.empty


def test_nothing_to_say(tmp_path: Path) -> None:
    one = build(tmp_path / "one" / "kuma.db", monitors=5)
    two = build(tmp_path / "two" / "kuma.db", monitors=5)
    edit(two, "UPDATE monitor_tag SET id = id + 100", "UPDATE status_page SET modified_date = 'x'")
    found = plan_of(one, two, tmp_path)
    assert found.empty
    assert list(lines(found)) == []
    assert found.summary.sentence() == "no change"
    assert found.summary.as_dict() == {"tables": {}, "files": 0}
    assert found.size == 15 + 2


def test_every_table_has_a_noun() -> None:
    for name in TABLES:
        assert noun(name, 1)
        assert noun(name, 2) != noun(name, 1)
    summary = Summary({"tag": Counts(added=2), "monitor": Counts(deleted=1, added=3)}, files=1)
    assert summary.sentence() == "3 monitors added, 1 deleted; 2 tags added; 1 file"
    assert Summary({"proxy": Counts(changed=2)}).sentence() == "2 proxies changed"


def test_a_row_is_described_by_what_it_is_its_key_and_its_name() -> None:
    def described(table: str, **row: Any) -> str:
        return describe_row(table, tuple(row), tuple(row.values()))

    assert described("monitor", id=7, name="my site", url="x") == "monitor 7 «my site»"
    assert described("monitor", id=7, name=None) == "monitor 7"
    assert described("setting", key="entryPage", value="x") == "setting entryPage"
    assert described("status_page", id=1, slug="s", title="") == "status page 1 «s»"
    assert (
        described("monitor_tag", monitor_id=3, tag_id=5, value="S3CRET", id=9)
        == "monitor's tag (monitor 3, tag 5)"
    )
    assert (
        described("status_page_cname", status_page_id=3, domain="a.example", id=9)
        == "domain name (status_page 3) «a.example»"
    )


def test_a_described_row_shows_no_credentials_and_no_control_characters() -> None:
    row = (7, "https://me:S3CRET@h.example/?token=S3CRET\x1b[31m" + "x" * 500)
    text = describe_row("monitor", ("id", "name"), row)
    assert "S3CRET" not in text
    assert "\x1b" not in text
    assert len(text) < 100
