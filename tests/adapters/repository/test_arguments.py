"""What restic is called with, without calling it."""

from __future__ import annotations

from pathlib import Path

import pytest

from replicator_kuma.adapters.repository.restic import arguments
from replicator_kuma.adapters.repository.restic.failures import (
    Where,
    classify,
    hopeless,
    partial_listing,
)
from replicator_kuma.adapters.repository.restic.process import Ended, Stop
from replicator_kuma.base.errors import RepositoryDamaged
from replicator_kuma.base.secret_variables import Mask
from tests.adapters.repository.places import environment, label

CACHE = Path("state/cache")


def test_a_poll_asks_for_mark_and_fleet_together_and_takes_no_lock() -> None:
    assert arguments.listing("edge", CACHE) == [
        *("snapshots", "--json", "--no-lock", "--cache-dir", "state/cache"),
        *("--tag", "replicator-kuma,fleet=edge"),
    ]


def test_a_comma_in_a_fleets_name_is_no_second_tag() -> None:
    assert arguments.listing("a,b c", CACHE)[-1] == "replicator-kuma,fleet=a%2Cb%20c"


def test_a_publish_reads_everything_anew_and_names_each_tag() -> None:
    made = arguments.backup(label(2), "here", CACHE, (0, 14, 0))
    assert made[:8] == [
        *("backup", "--json", "--quiet", "--force", "--cache-dir", "state/cache"),
        *("--host", "here"),
    ]
    assert made[8::2][:-1] == ["--tag"] * 11
    assert made[9::2] == label(2).tags()
    assert made[-1] == "."


def test_only_versions_that_know_it_skip_the_scan() -> None:
    assert "--no-scan" not in arguments.backup(label(2), "here", CACHE, (0, 14, 0))
    assert "--no-scan" in arguments.backup(label(2), "here", CACHE, (0, 15, 0))


def test_a_fetch_streams_the_whole_snapshot() -> None:
    assert arguments.dump("ab" * 32, CACHE) == [
        *("dump", "--no-lock", "--cache-dir", "state/cache", "--archive", "tar"),
        *("ab" * 32, "/"),
    ]


def test_one_file_is_read_as_it_is() -> None:
    assert arguments.read("ab" * 32, "manifest.json", CACHE) == [
        *("dump", "--no-lock", "--cache-dir", "state/cache", "ab" * 32, "/manifest.json"),
    ]


def test_what_changes_no_snapshot_takes_no_lock() -> None:
    assert "--no-lock" in arguments.config(CACHE)
    assert "--remove-all" not in arguments.unlock(CACHE)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("restic 0.14.0 compiled with go1.19.8 on linux/amd64\n", (0, 14, 0)),
        ("restic 0.18.1 compiled with go1.25.1 on linux/arm64\n", (0, 18, 1)),
        ("restic 0.19.0-dev (compiled manually) compiled with go1.25\n", (0, 19, 0)),
        ("warning: something\nrestic 1.2 compiled\n", (1, 2, 0)),
        ("GNU bash, version 5.2\n", None),
        ("", None),
    ],
)
def test_versions(text: str, version: arguments.Version | None) -> None:
    assert arguments.parse_version(text) == version


def test_every_form_of_a_secret_is_masked() -> None:
    secret = 'p<a&"ss/w rd'
    mask = Mask({"RESTIC_PASSWORD": secret})
    shown = (
        f'{secret} p<a&\\"ss/w rd p\\u003ca\\u0026\\"ss/w rd '
        "p%3Ca%26%22ss%2Fw%20rd p%3Ca%26%22ss/w%20rd"
    )
    assert mask(shown) == "*** *** *** *** ***"


def test_passwords_in_addresses_are_masked_wherever_they_show_up() -> None:
    mask = Mask(environment("rest:https://me:h%40rd@host:8000/x/"))
    assert (
        mask("Head https://me:h%40rd@host:8000/x/config") == "Head https://***@host:8000/x/config"
    )
    assert mask("user me, password h@rd or h%40rd") == "user me, password *** or ***"
    assert mask("http://token@host/") == "http://***@host/"


def test_places_of_secrets_are_no_secrets() -> None:
    mask = Mask({"RESTIC_PASSWORD_FILE": "run/secret", "SSH_AUTH_SOCK": "run/agent"})
    assert mask("open run/secret: run/agent") == "open run/secret: run/agent"


def test_an_environment_without_secrets_masks_nothing() -> None:
    assert Mask({})("as it is") == "as it is"


def ended(code: int, stderr: str) -> Ended:
    return Ended(code, stderr)


NO_MASK = Mask({})
# restic 0.18.0 whose walk meets a tree that could not be loaded
PANIC = (
    "panic: runtime error: invalid memory address or nil pointer dereference\n"
    "[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x893e95]\n"
    "goroutine 1 [running]:\ngithub.com/restic/restic/internal/walker.walk({0x1143910, 0xc0})"
)
AWAY_LINE = "Load(<data/c0>, 402, 793) returned error, retrying after 1s: connection refused"


@pytest.mark.parametrize(
    ("code", "stderr", "kind"),
    [
        (3, "", "PublishIncomplete"),
        (10, "", "RepositoryMissing"),
        (11, "", "RepositoryLocked"),
        (12, "", "WrongPassword"),
        (1, "", "RepositoryUnreachable"),
        (0, "", "RepositoryUnreachable"),
        (99, "Fatal: new words", "RepositoryUnreachable"),
        (-9, "", "RepositoryUnreachable"),
        (1, "Fatal: wrong password or no key found", "WrongPassword"),
        (
            12,
            "List(key) failed: EOF\nFatal: wrong password or no key found",
            "RepositoryUnreachable",
        ),
        (1, "Resolving password failed: Fatal: x does not exist", "WrongPassword"),
        (1, "unable to create lock in backend: repository is already locked", "RepositoryLocked"),
        (1, "unable to create lock in backend: no space left", "RepositoryUnreachable"),
        (1, "Fatal: x\nIs there a repository at the following location?", "RepositoryUnreachable"),
        (
            1,
            "Fatal: unable to open config file: stat /r/config: no such file or directory\nIs",
            "RepositoryMissing",
        ),
        (1, "Fatal: unable to open config file: <config/> does not exist\nIs", "RepositoryMissing"),
        (
            1,
            "Fatal: unable to open config file: Stat: The specified key does not exist.\nIs",
            "RepositoryMissing",
        ),
        (
            1,
            "Fatal: unable to open config file: Stat: The specified bucket does not exist\nIs",
            "RepositoryUnreachable",
        ),
        (
            1,
            "Fatal: unable to open config file: unexpected HTTP response (401): 401 Unauthorized",
            "RepositoryUnreachable",
        ),
        (1, "load <index/431a06e7f4>: invalid data returned", "RepositoryDamaged"),
        (2, f"id {'8' * 64} not found in repository", "RepositoryDamaged"),
        (1, "Fatal: packs from index missing in repo", "RepositoryDamaged"),
        (1, "ReadFull(<data/f1>): unexpected HTTP response (416): partial", "RepositoryDamaged"),
        (1, "ReadFull(<data/f1>): <data/f1> does not exist", "RepositoryDamaged"),
        (1, "ReadFull(<data/f1>): The specified key does not exist.", "RepositoryDamaged"),
        (1, "ReadFull(<data/f1>): cached file <data/f1> is too short", "RepositoryDamaged"),
        (2, PANIC, "RepositoryDamaged"),
        (2, f"{AWAY_LINE}\n{PANIC}", "RepositoryUnreachable"),
        (1, "Fatal: Unmarshal: illegal base64 data at input byte 198", "RepositoryDamaged"),
        (
            1,
            "List(key) failed: x\nFatal: Unmarshal: invalid character '<'",
            "RepositoryUnreachable",
        ),
        (1, 'invalid id "aa": no matching ID found for prefix "aa"', "SnapshotNotFound"),
        (
            1,
            '{"message_type":"exit_error","code":1,"message":"LoadRaw(\\u003cindex/ed7\\u003e): '
            'invalid data returned"}',
            "RepositoryDamaged",
        ),
    ],
)
def test_each_end_of_restic_has_one_meaning(code: int, stderr: str, kind: str) -> None:
    failure = classify("call", ended(code, stderr), 60, NO_MASK)
    assert type(failure.error).__name__ == kind
    assert str(failure.error).startswith(("call: ", "the repository "))


def test_only_what_may_go_by_is_tried_again() -> None:
    for text in ("connection refused", "no such host", "unexpected EOF", ""):
        assert classify("call", ended(1, text), 60, NO_MASK).transient
    for text in (
        "401 Unauthorized",
        "parsing repository location failed",
        "no space left on device",
    ):
        assert not classify("call", ended(1, text), 60, NO_MASK).transient
    assert not classify("call", ended(12, ""), 60, NO_MASK).transient


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            'Head "http://:***@10.0.0.2:8000/x/config": dial tcp 10.0.0.2:8000: connect: '
            "connection refused",
            "the repository at 10.0.0.2:8000 refuses connections",
        ),
        (
            'Head "https://nas/x/config": dial tcp: lookup nas on 10.0.0.1:53: no such host',
            "the name of the repository's server, nas, cannot be resolved",
        ),
        (
            'Fatal: client.GetObject: Get "http://[fd00::2]:9000/bucket/": dial tcp '
            "[fd00::2]:9000: connect: no route to host",
            "there is no route to the repository at [fd00::2]:9000",
        ),
        (
            "subprocess ssh: ssh: connect to host nas port 22: Connection refused",
            "the repository at nas refuses connections",
        ),
        (
            "subprocess ssh: ssh: Could not resolve hostname nas: Name or service not known",
            "the name of the repository's server, nas, cannot be resolved",
        ),
        ("read tcp 10.0.0.1:4->10.0.0.2:8000: i/o timeout", "the repository gives no answer"),
        (
            'Get "https://s3.example/b/": dial tcp: lookup s3.example on [::1]:53: read udp '
            "[::1]:50000->[::1]:53: read: connection refused",
            "the name of the repository's server, s3.example, cannot be resolved",
        ),
        (
            'Get "https://s3.example/b/": dial tcp: lookup s3.example: i/o timeout',
            "the name of the repository's server, s3.example, cannot be resolved",
        ),
        (
            'client.Head: Head "http://10.1.2.3:8000/x/config": proxyconnect tcp: dial tcp '
            "10.0.0.9:3128: connect: connection refused",
            "the proxy at 10.0.0.9:3128 refuses connections",
        ),
        (
            'Get "https://s3.example/b/": proxyconnect tcp: dial tcp: lookup cache.lan on '
            "10.0.0.2:53: no such host",
            "the name of the proxy, cache.lan, cannot be resolved",
        ),
        (
            'Head "https://s3.example/x": socks connect tcp 10.0.0.9:1080->s3.example:443: dial '
            "tcp 10.0.0.9:1080: i/o timeout",
            "the proxy at 10.0.0.9:1080 gives no answer",
        ),
    ],
)
def test_a_network_speaks_plainly(said: str, sentence: str) -> None:
    assert str(classify("call", ended(1, said), 60, NO_MASK).error) == sentence
    late = Ended(-15, f"Stat(<config/>) returned error, retrying after 1s: {said}", Stop.DEADLINE)
    assert str(classify("call", late, 60, NO_MASK).error) == f"{sentence} (tried for 1 min)"


def test_what_a_network_says_of_damage_stays_damage() -> None:
    text = f"Load(<data/c0>, 0, 0) failed: id {'0' * 64} not found in repository: connection reset"
    assert type(classify("call", ended(1, text), 60, NO_MASK).error) is RepositoryDamaged


def test_a_reason_is_one_short_line_for_people() -> None:
    noise = "Stat(<config/>) returned error, retrying after 1s: dial tcp: no\n"
    json_end = '{"message_type":"exit_error","code":1,"message":"Fatal: it broke\\nIs there"}\n'
    long_line = "Fatal: " + "x" * 5000
    assert str(classify("call", ended(1, noise + json_end), 60, NO_MASK).error) == "call: it broke"
    assert str(classify("call", ended(1, noise), 60, NO_MASK).error) == "call: dial tcp: no"
    assert len(str(classify("call", ended(1, long_line), 60, NO_MASK).error)) < 450
    assert str(classify("call", ended(7, ""), 60, NO_MASK).error) == (
        "call: restic ended with code 7 and said nothing"
    )


def test_a_secret_at_the_cut_of_a_long_reason_is_masked_whole() -> None:
    mask = Mask({"RESTIC_PASSWORD": "tops3cret"})
    stderr = "Fatal: " + "x" * 396 + "tops3cret"
    assert "tops" not in str(classify("call", ended(1, stderr), 60, mask).error)


def test_retries_of_what_cannot_go_by_are_hopeless_after_three() -> None:
    line = (
        "Save(<lock/3d>) returned error, retrying after 552.33ms: open x: read-only file system\n"
    )
    other = "Stat(<config/>) returned error, retrying after 1.1s: connection refused\n"
    denied = "Save(<lock/3d>) returned error, retrying after 1s: client.PutObject: Access Denied.\n"
    assert not hopeless(line * 2)
    assert hopeless(line * 3)
    assert hopeless(denied * 3)  # a leader with a key that may only read
    assert not hopeless(other * 10)


def test_a_pack_that_ends_early_is_damage_in_a_folder_and_a_cut_connection_elsewhere() -> None:
    line = "Load(<data/f1>, 30, 5) returned error, retrying after 552.33ms: unexpected EOF\n"
    assert hopeless(line * 3, local=True)
    assert not hopeless(line * 3)
    for place, kind in ((Path("/r"), "RepositoryDamaged"), (None, "RepositoryUnreachable")):
        found = classify("call", Ended(130, line * 3, Stop.DEADLINE), 60, NO_MASK, Where(place))
        assert type(found.error).__name__ == kind
    once = classify("call", ended(1, line), 60, NO_MASK, Where(Path("/r")))
    assert type(once.error).__name__ == "RepositoryUnreachable"


def test_writes_that_a_server_refuses_in_its_own_words_are_hopeless() -> None:
    lock = "Save(<lock/3d>) returned error, retrying after 1s: client.PutObject: Internal Error\n"
    assert hopeless(lock * 3)
    assert not hopeless(lock.replace("lock", "data") * 9), "a part is stored: it may go by"
    rclone = "rclone: 2031/01/01 10:00:00 ERROR : locks/3d: Post request put error: {}\n"
    assert hopeless(rclone.format("open /r/locks/3d: read-only file system") * 3)
    assert not hopeless(rclone.format("dial tcp: i/o timeout") * 9)


def test_a_pack_that_a_server_does_not_have_is_not_waited_for() -> None:
    tried = "Load(<data/f1>, 30, 5) returned error, retrying after 1s: "
    for said in ("<data/f1> does not exist\n", "The specified key does not exist.\n"):
        assert hopeless(3 * (tried + said))


def test_a_listing_that_left_something_out_is_a_failure() -> None:
    damaged = (
        "could not load snapshot 19163801: load <snapshot/1916380192>: invalid data returned\n"
    )
    flaky = 'Ignoring "1a": failed to load snapshot 1a: unexpected EOF\n'
    assert partial_listing("unable to open cache: mkdir x: y\n", NO_MASK) is None
    for text, kind, transient in (
        (damaged, "RepositoryDamaged", False),
        (flaky, "RepositoryUnreachable", True),
    ):
        failure = partial_listing(text, NO_MASK)
        assert failure is not None
        assert (type(failure.error).__name__, failure.transient) == (kind, transient)
