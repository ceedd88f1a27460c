"""Turns network errors between restic and a repository into one sentence for people.

The phrases are those of Go's net package (restic, rclone) and of OpenSSH (sftp).
"""

from __future__ import annotations

import re

_SAID = (
    (
        # whatever a name server did: "lookup nas on 10.0.0.1:53: read udp …: connection refused"
        re.compile(
            r"\blookup \S+?(?: on \S+)?: |no such host|server misbehaving|could not resolve"
            r"|name resolution|Name or service not known",
            re.I,
        ),
        "the name of {server}{named} cannot be resolved",
    ),
    (re.compile(r"connection refused", re.I), "{who}{at} refuses connections"),
    (
        re.compile(r"network is unreachable|no route to host", re.I),
        "there is no route to {who}{at}",
    ),
    (
        re.compile(
            r"i/o timeout|deadline exceeded|handshake timeout|Client\.Timeout|connection timed out",
            re.I,
        ),
        "{who}{at} gives no answer",
    ),
    (
        re.compile(r"connection reset|broken pipe|forcibly closed", re.I),
        "{who}{at} cuts connections",
    ),
)
_TO_PROXY = re.compile(r"proxyconnect \S+: |socks connect \S+ \S+->\S+: ")
"""The text after this is about the proxy; the address before it is the repository's."""
_NAME = re.compile(r"lookup (\S+?)(?: on \S+)?:|resolve (?:hostname|host) (\S+?):", re.I)
_PLACE = re.compile(
    r"https?://(?:[^/@\"\s]*@)?([^/\"\s]+)|dial tcp (\S+:\d+):|connect to host (\S+) port", re.I
)


def words(reason: str) -> str | None:
    """The sentence for a reason that restic gave; None if it is no network error."""
    who, server = "the repository", "the repository's server"
    if to_proxy := _TO_PROXY.search(reason):
        who, server, reason = "the proxy", "the proxy", reason[to_proxy.end() :]
    for phrase, sentence in _SAID:
        if phrase.search(reason):
            place, name = _first(_PLACE, reason), _first(_NAME, reason)
            at, named = f" at {place}" if place else "", f", {name}," if name else ""
            return sentence.format(who=who, server=server, at=at, named=named)
    return None


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return next(filter(None, found.groups()), "") if found else ""
