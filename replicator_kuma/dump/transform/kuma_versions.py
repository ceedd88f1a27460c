"""How Kuma's versions changed the meaning of columns: facts of its migrations, as data and rules.

docs/kuma.md has their sources. `evolution` uses them for rows that come from another schema.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from replicator_kuma.dump.values import Value

Row = tuple[Value, ...]
Rule = Callable[[Row, list[Value]], None]
"""Reads a row in the leader's columns, may change the one in the replica's; raises Lost."""


class Lost(ValueError):
    """A row that would lose data here; the text says which, and shows no secret value."""


_UNCHOSEN: Mapping[str, Mapping[str, tuple[Value, ...]]] = {
    "monitor": {
        "cache_bust": (0,),
        "conditions": ("[]",),
        "domain_expiry_notification": (0, 1),
        "expected_tls_alert": ("none",),
        "json_path_operator": ("==",),
        "location": ("world",),
        "mqtt_check_type": ("keyword",),
        "ntp_root_dispersion_threshold": (500,),
        "ntp_stratum_threshold": (5,),
        "ntp_time_offset_threshold": (1000,),
        "ping_count": (1, 3),
        "ping_numeric": (1,),
        "ping_per_request_timeout": (2,),
        "rabbitmq_nodes": ("[]",),
        "response_max_length": (1024,),
        "retry_only_on_status_code_failure": (0,),
        "save_error_response": (1,),
        "save_response": (0,),
        "screenshot_delay": (0,),
        "snmp_version": ("2c",),
        "ws_ignore_sec_websocket_accept_header": (0,),
    },
    "status_page": {"auto_refresh_interval": (300,), "show_only_last_heartbeat": (0,)},
}
"""Values of columns that 1.23 lacks which nobody chose, besides NULL and ''.

They are the declared default, and what the page for a new monitor sets (`location` is `world` in
every monitor). In a column that is not listed, only NULL and '' count as not chosen.
"""

FILLED: Mapping[tuple[str, str], Value] = {("monitor", "json_path_operator"): "=="}
"""What Kuma's own migration wrote to existing rows, if it is not the declared default."""

_WORDS: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("monitor", "type"): {
        "snmp": "snmp_oid",
        "rabbitmq": "rabbitmq_nodes",
        "smtp": "smtp_security",
        "manual": "manual_status",
        "websocket-upgrade": "ws_subprotocol",
        "system-service": "system_service_name",
        "globalping": "location",
        "sip-options": "location",
        "oracledb": "location",
        "pm2": "bearer_token",
        "elasticsearch": "bearer_token",
        "sftp": "bearer_token",
        "ntp": "ntp_stratum_threshold",
    },
    ("monitor", "http_body_encoding"): {"form": "conditions"},
    ("status_page", "analytics_type"): {"rybbit": "analytics-type-to-string"},
}
"""Values that came with a version, each with a column or migration that older versions lack.

An older Kuma does not know such a monitor and reports it down, or its database refuses the value.
"""

_GAME_NAMES = """
    ahl alienarena alienswarm americasarmy americasarmy2 americasarmy3 aoe2 arma2 arma3 asa
    assettocorsa atlas avorion avp2 avp2010 baldursgate ballisticoverkill barotrauma blackmesa
    brainbread brainbread2 breach breed brink chaser chrome cod cod2 cod3 codenamecure
    codenameeagle codmw2 codmw3 coduo codwaw colonysurvival conanexiles contagion corekeeper
    creativerse crysis crysis2 crysiswars cscz csgo css dab daikatana dayofdragons dayz dayzmod
    descent3 deusex devastation discord dmomam dod dods doi doom3 dota2 dst eco eldewrito etqw
    f1c9902 farcry farcry2 fear ffow fof fortressforever garrysmod geneshift globaloperations
    groundbreach gunmanchronicles halo halo2 heretic2 hexen2 hll homefront homeworld2 hurtworld
    insurgency insurgencysandstorm ironstorm killingfloor killingfloor2 m2o medievalengineers
    minecraft mnc mohaa mohpa mordhau mutantfactions nab nascarthunder2004 netpanzer nexuiz nfshp2
    nitrofamily nmrih nucleardawn ohd onset openarena openttd painkiller pixark postal2 prey
    quake2 quake4 quakelive rallisportchallenge rallymasters redline redorchestra redorchestra2
    rfactor ricochet risingworld ror2 rtcw rune rust shatteredhorizon shogo shootmania sin sof
    sof2 soldat spaceengineers squad stalker starbound starmade starsiege stbc stn stvef stvef2
    suicidesurvival svencoop swat4 swrc synergy tacticalops teamfactor teamspeak2 teamspeak3
    terminus tfc theforest thefront thps3 thps4 thu2 towerunite trackmania2 trackmaniaforever
    tremulous tribesvengeance tron20 turok2 universalcombat unreal unturned urbanterror valheim
    ventrilo vietcong vietcong2 vrising warfork warsow xpandrally zombiemaster zps
"""
_GAMES = frozenset(_GAME_NAMES.split())
"""Games with the same name in GameDig 4 and 5, except `mumble`: the two query it differently."""

_TAG, _ID, _TYPE = "google_analytics_tag_id", "analytics_id", "analytics_type"
_EVERY_MINUTE = "* * * * *"


_BEYOND_COLUMNS = (
    *("patch-fix-kafka-producer-booleans", "patch-timeout", "push-token-to-32"),
    *("fix-snmp-monitor", "generalize-analytics", "fix-5721", "maintenance-add-last-start"),
    *("manual-monitor-fix", "add-ip-family-fix", "remove-line-notify", "dns-last-result-to-text"),
    *("gamedig-v4-to-v5", "disable-domain-expiry-unsupported-tlds", "add-rybbit-analytics-type"),
    *("analytics-type-to-string", "drop-analytics-type-check"),
)
"""Kuma's migrations that changed what rows mean or may hold, in columns that keep their names."""


def apart(ours: Collection[str], theirs: Collection[str]) -> bool:
    """Whether rows of two schemas with equal column names differ in their meaning.

    Another migration's name alone proves nothing: a test build or a person may leave names behind
    while the tables are equal (and most migrations only make columns, indexes or history).
    """
    return any(_has(ours, step) != _has(theirs, step) for step in _BEYOND_COLUMNS)


@dataclass(frozen=True)
class Sides:
    """One table on both sides: columns in order, and the migrations that made them."""

    table: str
    theirs: Sequence[str]
    ours: Sequence[str]
    before: Collection[str]
    """the leader's migrations"""
    after: Collection[str]

    def forward(self, step: str) -> bool:
        """Whether a migration lies between the leader's schema and this later one."""
        return _has(self.after, step) and not _has(self.before, step)

    def back(self, step: str) -> bool:
        return _has(self.before, step) and not _has(self.after, step)

    def known(self, mark: str) -> bool:
        """Whether the replica has this column or migration."""
        return mark in self.ours or _has(self.after, mark)

    def at(self, column: str) -> int | None:
        return self.theirs.index(column) if column in self.theirs else None


def _has(migrations: Collection[str], step: str) -> bool:
    return any(step in name for name in migrations)


def rules(sides: Sides) -> list[Rule]:
    """The rules that check or change each row of a table."""
    found = [_words(sides, column) for table, column in _WORDS if table == sides.table]
    make = {
        "maintenance": _intervals,
        "monitor": _games,
        "notification": _line_notify,
        "status_page": _analytics,
    }.get(sides.table)
    if make is not None:
        found.append(make(sides))
    return [rule for rule in found if rule is not None]


def unchosen(table: str, column: str) -> tuple[Value, ...]:
    """The values of a column that nobody chose."""
    return (None, "", *_UNCHOSEN.get(table, {}).get(column, ()))


def renamed(sides: Sides) -> frozenset[str]:
    """Columns that a rule maps: they are neither filled nor left out."""
    ways = (sides.theirs, sides.ours), (sides.ours, sides.theirs)
    if any(_TAG in old and _ID in new and _TAG not in new for old, new in ways):
        return frozenset({_TAG, _ID, _TYPE})
    return frozenset()


def notes(sides: Sides) -> tuple[str, ...]:
    """What rules change, in words."""
    if not renamed(sides):
        return ()
    here = _TAG if _TAG in sides.ours else f"{_ID} with {_TYPE} google"
    return (f"status_page: Google's analytics arrive as {here}",)


def _words(sides: Sides, column: str) -> Rule | None:
    place = sides.at(column)
    words = _WORDS[sides.table, column]
    unknown = frozenset(word for word, mark in words.items() if not sides.known(mark))
    if place is None or column not in sides.ours or not unknown:
        return None

    def rule(row: Row, _made: list[Value]) -> None:
        if row[place] in unknown:
            raise Lost(f"{column} {row[place]!r} is not known to the Kuma here")

    return rule


def _games(sides: Sides) -> Rule | None:
    """GameDig 5 has other names for many games; a migration of Kuma renamed them."""
    kind, game = sides.at("type"), sides.at("game")
    step = "gamedig-v4-to-v5"
    if kind is None or game is None or not (sides.forward(step) or sides.back(step)):
        return None

    def rule(row: Row, _made: list[Value]) -> None:
        if row[kind] == "gamedig" and row[game] and row[game] not in _GAMES:
            raise Lost("game may have another name in this Kuma's GameDig")

    return rule


def _line_notify(sides: Sides) -> Rule | None:
    """Kuma deleted these notifications: the service has ended."""
    place = sides.at("config")
    if place is None or not sides.forward("remove-line-notify"):
        return None

    def rule(row: Row, _made: list[Value]) -> None:
        try:
            kind = json.loads(str(row[place])).get("type")
        except (ValueError, AttributeError, RecursionError):
            return
        if str(kind).lower() in ("linenotify", "line-notify"):
            raise Lost("LINE Notify is not known to the Kuma here: delete it on the leader")

    return rule


def _intervals(sides: Sides) -> Rule | None:
    """Since 2.0 an interval starts at its hour; before, by a cron expression of every minute."""
    step = "maintenance-add-last-start"
    needed = [sides.at(c) for c in ("strategy", "cron", "start_time", "interval_day")]
    strategy, cron, start, days = needed
    if strategy is None or cron is None or start is None or days is None:
        return None
    place = sides.ours.index("cron")

    def forward(row: Row, made: list[Value]) -> None:
        if row[strategy] == "recurring-interval" and row[cron] == _EVERY_MINUTE:
            try:
                hour, minute = (int(part) for part in str(row[start]).split(":")[:2])
            except ValueError:
                raise Lost("start_time is none: its cron cannot be told") from None
            made[place] = f"{minute} {hour} * * *"

    def back(row: Row, _made: list[Value]) -> None:
        if row[strategy] == "recurring-interval" and row[days] != 1:
            raise Lost("strategy 'recurring-interval' is kept in another way by the Kuma here")

    return forward if sides.forward(step) else back if sides.back(step) else None


def _analytics(sides: Sides) -> Rule | None:
    """Before 2.1 the only id was Google's: 2.1 renamed its column and added a type column."""
    tag, source, kind = sides.at(_TAG), sides.at(_ID), sides.at(_TYPE)
    if not renamed(sides):
        return None
    if tag is not None:
        place, other = sides.ours.index(_ID), sides.ours.index(_TYPE)

        def forward(row: Row, made: list[Value]) -> None:
            made[place] = row[tag]
            made[other] = "google" if row[tag] else None

        return forward
    place = sides.ours.index(_TAG)

    def back(row: Row, made: list[Value]) -> None:
        analytics = None if kind is None else row[kind]
        value = None if source is None else row[source]
        # without a type, 2.1 counts no visitors; in the old column the id would be Google's again
        if analytics != "google" and (analytics is not None or value):
            raise Lost(f"{_TYPE} is not google, the only one that the Kuma here knows")
        made[place] = value

    return back
