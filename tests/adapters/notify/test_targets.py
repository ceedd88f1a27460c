"""How the list of REPLICATOR_NOTIFY is read, and that no problem shows an address."""

from __future__ import annotations

from typing import Any

import pytest

from replicator_kuma.adapters.notify import targets
from replicator_kuma.adapters.notify.ntfy import Ntfy
from replicator_kuma.base.errors import SettingsError
from replicator_kuma.config.settings import Settings

HUSH = "hunter2-hush"
ALL = f"""
ntfys://tk_{HUSH}@ntfy.example/topic-{HUSH}  gotify://h.example:8080/folder/{HUSH}
  webhook+https://me:{HUSH}@hook.example/a%20b?x={HUSH}#{HUSH}
gotifys://[::1]/{HUSH}
\tkuma+https://kuma.example/sub/api/push/{HUSH}?status=up&msg=OK&ping=
ping+https://hc.example/{HUSH} ntfy://h/{HUSH}
PING+HTTP://hc.example/{HUSH}
mailtos://me:{HUSH}@mail.example
"""


def test_a_list_becomes_targets_with_names_of_their_own() -> None:
    found = targets.read(ALL, [Ntfy.at(f"https://ntfy.example/{HUSH}")])
    assert found.problems == ()
    assert [(one.name, one.host) for one in found.services] == [
        ("ntfy", "ntfy.example"),
        ("ntfy 2", "ntfy.example"),
        ("gotify", "h.example:8080"),
        ("webhook", "hook.example"),
        ("gotify 2", "[::1]"),
        ("ntfy 3", "h"),
        ("mailtos", ""),
    ]
    assert [(one.name, one.host) for one in found.pings] == [
        ("kuma", "kuma.example"),
        ("ping", "hc.example"),
        ("ping 2", "hc.example"),
    ]
    assert HUSH not in repr(found)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (HUSH, "must begin with a scheme"),
        (f"https://hc.example/{HUSH}", "say what listens there"),
        (f"ntfy://{HUSH}", "must end with a topic"),
        (f"ntfys://{HUSH}:{HUSH}@h/to.pic", "must end with a topic"),
        (f"gotify://{HUSH}", "must end with an application's token"),
        (f"gotify://h/{HUSH}%0aX:", "must end with an application's token"),
        (f"gotify://h:{HUSH}/x", "must be like https://host/path"),
        (f"webhook+https:///{HUSH}", "must be like https://host/path"),
        (f"kuma+https://h/push/{HUSH}", "kuma+https://host/api/push/TOKEN"),
        (f"kuma+https://h/api/push/{HUSH}/x", "kuma+https://host/api/push/TOKEN"),
        (f"ping+https://{HUSH}/", "ping address of a check"),
    ],
)
def test_a_problem_names_the_entry_and_its_scheme_alone(url: str, why: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load({"REPLICATOR_NOTIFY": f"gotify://h/A1 {url} ping+https://h/x"})
    text = str(caught.value)
    scheme = f" ({url.partition('://')[0]}://)" if "://" in url else ""
    assert f"REPLICATOR_NOTIFY, entry 2{scheme}: " in text
    assert why in text
    assert HUSH not in text


def test_without_apprise_its_schemes_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> Any:
        assert name == "apprise"

    monkeypatch.setattr("importlib.util.find_spec", find)
    found = targets.read(f"gotify://h/A1 tgram://{HUSH}/{HUSH}")
    assert [one.name for one in found.services] == ["gotify"]
    (problem,) = found.problems
    assert problem == (
        "REPLICATOR_NOTIFY, entry 2 (tgram://): this scheme needs Apprise, which is not installed: "
        "pip install '.[notify]' in the clone (the image has it)"
    )
