"""What a network says between restic and a repository, in one sentence for people.

The phrases are those of Go's net package (restic, rclone) and of OpenSSH (sftp).
"""

from __future__ import annotations

import re

_SAID = (
    (re.compile(r"connection refused", re.I), "the repository{at} refuses connections"),
    (
        re.compile(
            r"no such host|server misbehaving|could not resolve|name resolution"
            r"|Name or service not known",
            re.I,
        ),
        "the name of the repository's server{named} cannot be resolved",
    ),
    (
        re.compile(r"network is unreachable|no route to host", re.I),
        "there is no route to the repository{at}",
    ),
    (
        re.compile(
            r"i/o timeout|deadline exceeded|handshake timeout|Client\.Timeout|connection timed out",
            re.I,
        ),
        "the repository{at} gives no answer",
    ),
    (
        re.compile(r"connection reset|broken pipe|forcibly closed", re.I),
        "the repository{at} cuts connections",
    ),
)
_NAME = re.compile(r"lookup (\S+?)(?: on \S+)?:|resolve (?:hostname|host) (\S+?):", re.I)
_PLACE = re.compile(
    r"https?://(?:[^/@\"\s]*@)?([^/\"\s]+)|dial tcp (\S+:\d+):|connect to host (\S+) port", re.I
)


def words(reason: str) -> str | None:
    """The sentence for a reason that restic gave; None where it tells of no network."""
    for phrase, sentence in _SAID:
        if phrase.search(reason):
            place, name = _first(_PLACE, reason), _first(_NAME, reason)
            return sentence.format(
                at=f" at {place}" if place else "", named=f", {name}," if name else ""
            )
    return None


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return next(filter(None, found.groups()), "") if found else ""
