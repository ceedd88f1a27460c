"""Decides whether a running Kuma takes new rows over live, or is restarted for them."""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass

from replicator_kuma.adapters.kuma.agent.client import PROTOCOL, AgentError, Hello, NoAgent
from replicator_kuma.adapters.kuma.agent.versions import proved
from replicator_kuma.base.errors import DatabaseError, KumaError
from replicator_kuma.base.events import as_event
from replicator_kuma.replication import restart_cooldown
from replicator_kuma.replication.instance import Instance, Way
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.records import LiveOff

log = logging.getLogger(__name__)

_TRY_LIVE = "To use it all the same: REPLICATOR_APPLY=live."
_TRY_AGAIN = (
    "Live changes are tried again with another Kuma or agent, or by: replicator agent --again"
)
_START_ANEW = "Restart Kuma once by its replicator: its process then loads this agent."


@dataclass(frozen=True)
class Choice:
    """How this Kuma would get new rows now."""

    hello: Hello | None = None
    """the agent's greeting, if the apply can be live; None: it cannot"""
    why_not: str = ""
    """why not, where somebody wants it; "": Kuma does not run, or REPLICATOR_APPLY=restart"""
    hint: str = ""
    absent: bool = False
    """nobody listens at the agent's socket"""


class NotLive(KumaError):
    """REPLICATOR_APPLY=live, and this change needs a restart of Kuma: it waits for one."""


def not_live(choice: Choice, what: str = "nothing was changed") -> NotLive:
    """The error where a restart is due and REPLICATOR_APPLY forbids it."""
    return NotLive(
        f"this change needs a restart of Kuma, and REPLICATOR_APPLY=live allows none; {what}: "
        f"{choice.why_not}",
        hint=f"{choice.hint} To restart Kuma for it once: replicator restore --now --restart",
    )


def decide(
    way: Way,
    hello: Hello,
    off: LiveOff | None,
    database: str,
    *,
    session: bool,
    manages: bool = True,
) -> Choice:
    """Whether the Kuma of this agent takes rows live. A pure function.

    ``database``: the `identity` of the database that is replicated; ``session``: the agent's
    process belongs to the Kuma that we started, or we started none; ``manages``: we can restart it.
    """
    if hello.agent != PROTOCOL:
        why = f"the agent in Kuma's process speaks protocol {hello.agent}, and not {PROTOCOL}"
        return Choice(why_not=why, hint=_START_ANEW)
    if hello.missing:
        lacks = ", ".join(hello.missing)
        return Choice(why_not=f"Kuma {hello.version} does not work as a live change needs: {lacks}")
    if not session:
        why = f"the agent belongs to process {hello.pid}, which is not the Kuma that runs here"
        return Choice(why_not=why, hint="Does another Kuma use REPLICATOR_AGENT_SOCKET?")
    if hello.database and hello.database != database:
        why = "the agent belongs to a Kuma with another database"
        return Choice(why_not=why, hint="Does another Kuma use REPLICATOR_AGENT_SOCKET?")
    # a Kuma that nobody here restarts would never get its first user otherwise
    if hello.needs_setup and manages and way is Way.AUTO:
        return Choice(why_not="this Kuma was started without a user, and shows its set-up page")
    if off is not None and (off.version, off.agent) == (hello.version, hello.sha):
        why = f"Kuma ended by itself after a live change ({off.why})"
        return Choice(why_not=why, hint=_TRY_AGAIN)
    if way is Way.AUTO and not proved(hello.version):
        why = f"live changes were not proved on Kuma {hello.version}"
        return Choice(why_not=why, hint=_TRY_LIVE)
    if not hello.reads:
        return Choice(why_not=f"Kuma has not read its rows yet ({hello.phase})")
    return Choice(hello)


def look(instance: Instance) -> Choice:
    """How this instance's Kuma would get new rows now; asks its agent. Raises KumaError."""
    if instance.agent is None or instance.way is Way.RESTART:
        return Choice()
    if instance.kuma.manages and not instance.kuma.running():
        return Choice()
    if instance.run.restart:
        return Choice(why_not="a person asked for a restart")
    try:
        hello = instance.agent.hello()
    except AgentError as error:
        absent = isinstance(error, NoAgent)
        return Choice(why_not=str(error), hint=error.hint, absent=absent)
    off = instance.state.load().running.live_off
    own = instance.kuma.pid
    return decide(
        instance.way,
        hello,
        off,
        identity(instance),
        session=own is None or _of(own, hello.pid),
        manages=instance.kuma.manages,
    )


def choose(instance: Instance) -> Choice:
    """The same for an apply that is due: waits for a Kuma that starts, and logs why not, once.

    Raises KumaError, StateError.
    """
    choice = look(instance)
    if choice.hello is None and choice.why_not and _starts(instance):
        instance.answers()
        choice = look(instance)
    why = "" if instance.run.restart else choice.why_not
    if why and why != instance.state.load().running.live_why_not:
        restarts = instance.kuma.manages and instance.way is Way.AUTO
        then = "Kuma is restarted for changes" if restarts else "changes wait for Kuma"
        log.info(
            "%s: %s",
            then,
            " ".join(filter(None, (why, choice.hint))),
            extra=as_event("restart_needed"),
        )
    instance.state.change(transitions.not_live, why)
    return choice


def restart_due(hello: Hello, installed: str) -> str:
    """Why a person should restart this Kuma once, in words; "" if nothing asks for it.

    ``installed``: SHA-256 of the agent's file that this replicator has.
    """
    if hello.needs_setup:
        return "it was started without a user, and its pages show set-up until it is restarted"
    if hello.sha not in ("", installed):
        return "it runs the agent of another version of replicator-kuma until it is restarted"
    return ""


def _starts(instance: Instance) -> bool:
    """Whether the agent answers and its Kuma has not read its rows yet."""
    try:
        return instance.agent is not None and not instance.agent.hello().reads
    except AgentError:
        return False


def _of(leader: int, pid: int) -> bool:
    """Whether a process belongs to the session that our child leads."""
    try:
        return pid == leader or os.getsid(pid) == leader
    except OSError:
        return False


def identity(instance: Instance) -> str:
    """A name for this instance's database, which no other has; "" if it has none yet.

    It is a digest of the key of Kuma's sessions, which is never replicated. The agent makes the
    same one: its Kuma could be another one.
    """
    sql = "SELECT value FROM setting WHERE `key` = 'jwtSecret'"
    try:
        with instance.store.read() as reader:
            rows = reader.query(sql)
    except DatabaseError:
        return ""
    if not rows or not isinstance(rows[0][0], str):
        return ""
    text = f"replicator-kuma {rows[0][0]}"
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]


def restart_wait(instance: Instance) -> restart_cooldown.Wait | None:
    """How long an apply has to wait because Kuma was just restarted; None: it may begin now.

    A live apply restarts nothing, and a person's command never waits. Raises KumaError.
    """
    unasked = instance.run.by_itself or instance.run.at_start
    if not unasked or look(instance).hello is not None:
        return None
    return restart_cooldown.look(instance)
