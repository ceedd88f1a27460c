"""Who is answered: tokens, names of hosts, other sites, methods; over real sockets."""

from __future__ import annotations

import base64

import pytest

from replicator_kuma.base.errors import SettingsError
from replicator_kuma.config.settings import Settings
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.records import Last
from replicator_kuma.reports.http.access import Access
from replicator_kuma.reports.http.web import Web
from tests.reports.http.conftest import BEARER, TOKEN, Client, Serve
from tests.reports.http.stand_in import StandIn
from tests.support.states import edit_state

STATUS = "/api/v1/status"
EXCHANGE = "/api/v1/exchange"


def basic(user: str, password: str) -> dict[str, str]:
    text = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {text}"}


@pytest.mark.parametrize(
    "headers",
    [BEARER, {"Authorization": f"bearer  {TOKEN} "}, basic("anyone", TOKEN), basic("", TOKEN)],
)
def test_the_token_opens_it_as_bearer_and_as_a_password(
    guarded: Client, headers: dict[str, str]
) -> None:
    assert guarded.get(STATUS, headers).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Token {TOKEN}"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Bearer \xe9\xe9"},
        basic(TOKEN, ""),
        basic("x", "wrong"),
    ],
)
def test_anything_else_is_asked_for_the_token(guarded: Client, headers: dict[str, str]) -> None:
    answer = guarded.get(STATUS, headers)
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Basic realm=")
    assert "Bearer" in answer.headers["www-authenticate"]
    assert answer.json["error"] == "token_needed"
    assert TOKEN.encode() not in answer.body


def test_every_resource_but_probes_and_the_badge_needs_the_token(guarded: Client) -> None:
    assert guarded.get("/healthz").status == 200
    assert guarded.get("/badge/state.svg").status == 200
    for path in ("/livez", "/readyz"):
        assert guarded.get(path).status == 503, "no supervisor runs here"
    for path in (
        *(
            "/",
            "/readyz/",
            "/livez/x",
            "/metrics",
            "/schema/status.json",
            "/nowhere",
            "/static/x.css",
        ),
        *("/api/v1/status", "/api/v1/snapshots", "/api/v1/log", "/api/v1/monitors"),
        *("/api/v1/fleet", "/api/v1/summary", "/api/v1/beats/1"),
        *("/.//healthz", "/healthz/", "/healthz/..", "/x/../healthz", "/badge/state.svg/../x"),
        *("/%68ealthz/../api/v1/status", "/healthz%2f..%2fapi/v1/status"),
    ):
        assert guarded.get(path).status == 401, path


def test_a_stranger_sees_that_it_is_unhealthy_and_not_why(
    guarded: Client, environ: dict[str, str]
) -> None:
    file = StateFile(Settings.load(environ).state_dir)
    edit_state(file, last=Last(1_900_000_001.0, False, "no room on /srv", error="StateError"))
    answer = guarded.get("/healthz")
    assert (answer.status, answer.body) == (503, b"unhealthy\n")
    assert guarded.get("/healthz", BEARER).body == b"the last cycle failed: no room on /srv\n"
    for path, word in (("/livez", b"stuck\n"), ("/readyz", b"not ready\n")):
        assert guarded.get(path).body == word
        assert guarded.get(path, BEARER).body not in (word, b"")


def test_a_page_that_leads_its_own_name_here_sees_no_reason_either(
    open_here: Client, environ: dict[str, str]
) -> None:
    file = StateFile(Settings.load(environ).state_dir)
    edit_state(file, last=Last(1_900_000_001.0, False, "no room on /srv", error="StateError"))
    assert open_here.get("/healthz").body == b"the last cycle failed: no room on /srv\n"
    answer = open_here.get("/healthz", {"Host": "evil.example"})
    assert (answer.status, answer.body) == (503, b"unhealthy\n")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:8067", 200),
        ("127.0.0.1", 200),
        ("127.5.6.7:8067", 200),
        ("[::1]:8067", 200),
        ("kuma.localhost", 200),
        ("evil.example", 403),
        ("evil.example:8067", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("192.0.2.1", 403),
        ("127.0.0.1@evil.example", 403),
        ("2130706433", 403),
        ("", 403),
    ],
)
def test_without_a_token_only_names_of_this_machine_are_answered(
    open_here: Client, host: str, status: int
) -> None:
    assert open_here.get(STATUS, {"Host": host}).status == status


def test_a_server_that_is_open_knowingly_is_asked_by_its_addresses(serve: Serve) -> None:
    client = serve(REPLICATOR_HTTP="0.0.0.0:0", REPLICATOR_HTTP_TOKEN="none")
    assert client.get(STATUS, {"Host": "192.0.2.1:8067"}).status == 200
    assert client.get(STATUS, {"Host": "replica:8067"}).status == 200
    assert client.get(STATUS, {"Host": "evil.example"}).status == 403


def test_peers_exchange_without_a_token_only_where_it_is_open_knowingly(serve: Serve) -> None:
    client = serve(REPLICATOR_HTTP="0.0.0.0:0", REPLICATOR_HTTP_TOKEN="none")
    peer = {"Host": "leader:8067"}
    assert client.ask("POST", EXCHANGE, peer, b"{}").status not in (401, 403)
    assert client.ask("POST", EXCHANGE, {"Host": "evil.example"}, b"{}").status == 403
    assert client.ask("POST", EXCHANGE, {**peer, "Sec-Fetch-Site": "cross-site"}).status == 403


def test_with_a_token_any_name_is_answered(guarded: Client) -> None:
    assert guarded.get(STATUS, {**BEARER, "Host": "status.example.com"}).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        # a link that a person follows; a frame is none
        (
            {
                "Sec-Fetch-Site": "cross-site",
                "Sec-Fetch-Mode": "navigate",
                "Sec-Fetch-Dest": "document",
            },
            200,
        ),
        (
            {
                "Sec-Fetch-Site": "cross-site",
                "Sec-Fetch-Mode": "navigate",
                "Sec-Fetch-Dest": "iframe",
            },
            403,
        ),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:8067", "Host": "localhost:8067"}, 200),
        ({"Sec_Fetch_Site": "none", "Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_pages_of_other_sites_may_not_ask(
    open_here: Client, guarded: Client, headers: dict[str, str], status: int
) -> None:
    assert open_here.get(STATUS, headers).status == status
    answer = guarded.get(STATUS, {**BEARER, **headers})
    assert answer.status == status
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_resources_are_only_read(open_here: Client, method: str) -> None:
    for path in (STATUS, "/healthz", "/badge/state.svg", "/metrics", "/nowhere"):
        answer = open_here.ask(method, path)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


def test_only_peers_with_the_token_exchange(
    guarded: Client, open_here: Client, fleet: StandIn
) -> None:
    assert guarded.ask("POST", EXCHANGE, {}, b"{}").status == 401
    assert guarded.ask("POST", EXCHANGE, {**BEARER, "Origin": "https://x.example"}).status == 403
    assert open_here.ask("POST", EXCHANGE, {}, b"{}").status == 403
    assert fleet.received == []
    assert guarded.get(EXCHANGE, BEARER).status == 405
    answer = guarded.ask("POST", EXCHANGE, {**BEARER, "Content-Encoding": "gzip"}, b"some")
    assert (answer.status, answer.json) == (200, {"bytes": 4})
    assert fleet.received == [(b"some", "gzip")]


def test_beyond_loopback_nothing_is_served_without_a_token(environ: dict[str, str]) -> None:
    settings = Settings.load({**environ, "REPLICATOR_HTTP": "0.0.0.0:8067"})
    with pytest.raises(SettingsError, match="there is no token") as caught:
        Web(settings, None)
    assert "openssl rand" in caught.value.hint


def test_a_token_is_in_no_text_of_the_rules() -> None:
    assert TOKEN not in repr(Access(TOKEN))


def test_wrong_tokens_fill_no_log(guarded: Client, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(20):
        guarded.get(STATUS, {"Authorization": f"Bearer wrong-{number}"})
        guarded.get(STATUS)
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told == ["a request with a wrong token was refused, from 127.0.0.1"]
    assert "wrong-" not in caplog.text
