"""What ntfy is sent, and how its URL is read."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from replicator_kuma.adapters.notify import Kind, Message
from replicator_kuma.adapters.notify.ntfy import Ntfy
from replicator_kuma.base.errors import SettingsError
from tests.adapters.notify.server import TOPIC, Server, delivery


def test_a_message_arrives_whole(server: Server) -> None:
    told = delivery(server.address)
    told.send(Kind.FAILURES, "Größe — 監視", "2 monitors added\n1 changed ✓")
    told.send(Kind.FAILURES, "Backups fail", "no network", urgent=True)
    told.close(10)
    assert [post.path for post in server.posts] == ["/", "/"]
    assert "Authorization" not in server.posts[0].headers
    assert server.posts[0].body == {
        "topic": TOPIC,
        "title": "berlin: Größe — 監視",
        "message": "2 monitors added\n1 changed ✓",
        "priority": 3,
    }
    assert server.posts[1].body["priority"] == 4
    assert server.posts[1].body["tags"] == ["warning"]


def test_a_login_travels_in_a_header_also_where_netrc_knows_better(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password wrong\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    told = delivery(server.address, token="tk_0")
    told.send(Kind.FAILURES, "a", "b")
    told.close(10)
    assert server.posts[0].headers["Authorization"] == "Bearer tk_0"


@pytest.mark.parametrize(
    ("status", "words"),
    [(403, "does not accept the credentials"), (301, "redirects"), (400, "HTTP 400")],
)
def test_a_refusal_is_final_and_says_why(
    server: Server, caplog: pytest.LogCaptureFixture, status: int, words: str
) -> None:
    server.statuses = [status]
    told = delivery(server.address)
    told.send(Kind.FAILURES, "a", "b")
    told.close(10)
    assert len(server.posts) == 1
    assert words in caplog.text


@pytest.mark.parametrize(
    ("text", "limit"), [("x" * 9000, 4000), ("ж" * 9000, 4000), ("a\x00b\x1b[31m", 4000)]
)
def test_long_and_odd_text_is_made_fit(text: str, limit: int) -> None:
    content = json.loads(Ntfy("https://h/", "h", "t").request(Message(text, text + "\ud800")).body)
    assert len(content["message"].encode()) <= limit
    assert len(content["title"].encode()) <= 250
    assert not any(ord(character) < 32 for character in content["message"])
    assert len(Ntfy("https://h/", "h", "t").request(Message(text, text)).body) < 8192


def basic(login: str) -> str:
    return "Basic " + base64.b64encode(login.encode()).decode()


@pytest.mark.parametrize(
    ("url", "token", "root", "authorization"),
    [
        ("https://ntfy.example/topic", None, "https://ntfy.example/", None),
        ("https://ntfy.example/topic/", None, "https://ntfy.example/", None),
        ("http://h:8080/sub/topic", None, "http://h:8080/sub/", None),
        ("http://[::1]:80/topic", None, "http://[::1]:80/", None),
        ("https://u:p%40ss@h/topic", None, "https://h/", basic("u:p@ss")),
        ("https://:tk_1@h/topic", None, "https://h/", basic(":tk_1")),
        ("https://tk_1@h/topic", None, "https://h/", "Bearer tk_1"),
        ("https://u:p@h/topic", "tk_2", "https://h/", "Bearer tk_2"),
        ("https://h/topic?auth=QmVhcmVyIHRrXzM", None, "https://h/", "Bearer tk_3"),
        ("https://h/topic?auth=QmVhcmVyIHRrXzM=&x=1", None, "https://h/?x=1", "Bearer tk_3"),
    ],
)
def test_the_url_is_taken_apart(
    url: str, token: str | None, root: str, authorization: str | None
) -> None:
    found = Ntfy.at(url, token)
    assert (found.root, found.topic, found.authorization) == (root, "topic", authorization)
    assert "topic" not in repr(found)


@pytest.mark.parametrize(
    "url",
    [
        "ntfy.sh/topic",
        "ftp://ntfy.sh/topic",
        "https://ntfy.sh",
        "https://ntfy.sh/",
        "https://ntfy.sh/two%20words",
        "https:///topic",
        "https://ntfy.sh:port/topic",
        "https://ntfy.sh/topic?auth=!",
        "https://ntfy.sh/topic?auth=w6Q",
        "https://ntfy.sh/topic?auth=bm90aGluZw",
        f"https://{TOPIC}:{TOPIC}@ntfy.sh/to.pic",
    ],
)
def test_a_url_that_is_none_is_refused_unseen(url: str) -> None:
    with pytest.raises(SettingsError, match="NTFY_URL") as caught:
        Ntfy.at(url)
    assert TOPIC not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "once", "asked"),
    [
        ("https://h/topic", False, "https://h/topic/json?since=a1"),
        (
            "https://h/sub/topic?x=1&auth=QmVhcmVyIHRrXzM",
            False,
            "https://h/sub/topic/json?x=1&since=a1",
        ),
        ("http://u:p@h:8080/topic", True, "http://h:8080/topic/json?since=a1&poll=1"),
    ],
)
def test_a_subscription_has_its_secret_in_a_header(url: str, once: bool, asked: str) -> None:
    topic = Ntfy.at(url)
    request = topic.subscription("a1", once=once)
    assert (request.url, request.body) == (asked, b"")
    assert request.headers.get("Authorization") == topic.authorization
    assert Ntfy.at(url).subscription("a b&c", once=once).url.count("since=a+b%26c") == 1


def test_a_message_for_programs_rings_no_phone() -> None:
    topic = Ntfy.at("https://h/topic", variable="REPLICATOR_SIGNAL_URL", for_programs=True)
    content = json.loads(topic.request(Message("title", "text")).body)
    assert (content["priority"], "tags" in content) == (1, False)
    with pytest.raises(SettingsError, match=r"^REPLICATOR_SIGNAL_URL must"):
        Ntfy.at("https://h/", variable="REPLICATOR_SIGNAL_URL")


@pytest.mark.parametrize("token", ["tk_\nX: y", "tk_ä"])
def test_a_token_that_is_none_is_refused_unseen(token: str) -> None:
    with pytest.raises(SettingsError, match="NTFY_TOKEN") as caught:
        Ntfy.at("https://ntfy.sh/x", token)
    assert token not in str(caught.value)
