"""The check of `doctor` whether Kuma takes changes while it runs; else, what Kuma needs for it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from replicator_kuma.adapters.kuma.agent.client import Hello
from replicator_kuma.adapters.kuma.agent.launch import FILE, SOCKET, digest
from replicator_kuma.base.errors import DatabaseError
from replicator_kuma.config import build
from replicator_kuma.config.settings import Settings
from replicator_kuma.daemon import heartbeat
from replicator_kuma.replication.apply.choose import Choice, look, restart_due
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.reports.doctor.findings import Context, Found, Level

PLACE = Path("/usr/local/lib/replicator-kuma")
"""A folder for the agent's file that only root can write in."""
_INSTALL = f"replicator agent --install {PLACE}"


def changes(context: Context) -> Found:
    """Whether Kuma takes new rows while it runs, or why not. Raises KumaError, StateError."""
    said = context.settings
    if said.apply == "restart":
        yield Level.OK, "Kuma is restarted for them, as REPLICATOR_APPLY=restart says", ""
        return
    choice, service = look(build.build(said)), _service(said)
    if choice.hello is not None:
        yield Level.OK, _in_place(choice.hello), ""
        if due := restart_due(choice.hello, digest()):
            yield Level.WARN, f"restart Kuma once: {due}", _again(service)
    elif not choice.why_not:
        yield Level.OK, "Kuma does not run: it reads its rows when it starts", ""
    else:
        restarts = said.apply == "auto" and service != "none"
        how = "Kuma is restarted for them" if restarts else "they are not made while Kuma runs"
        # a leader writes rows by a person's command only
        level = Level.OK if context.leads else Level.WARN
        yield level, f"{how}: {choice.why_not}", _what_to_do(said, service, choice)
        if choice.absent and service != "child" and not context.leads:
            yield from _place(context)


def _in_place(hello: Hello) -> str:
    """The agent that answers, in words."""
    return (
        f"Kuma {hello.version} takes them while it runs (agent {hello.sha[:12]}, protocol "
        f"{hello.agent}, all capabilities)"
    )


def _service(said: Settings) -> str:
    """How Kuma is run here: a command of its own does not have the child of `replicator run`."""
    if said.kuma:
        return said.kuma
    return "child" if heartbeat.alive(heartbeat.read(said.state_dir)) else "none"


def _again(service: str) -> str:
    return (
        "" if service == "child" else f"First put the new file in place, if it is not: {_INSTALL}"
    )


def _what_to_do(said: Settings, service: str, choice: Choice) -> str:
    """How this Kuma gets the agent, if it has none; else the hint of the reason.

    Raises StateError.
    """
    if not choice.absent:
        return choice.hint
    if service == "child":
        if StateFile(said.state_dir).load().running.agent_hung == digest():
            return (
                "It hung in Kuma before: it is loaded again once replicator-kuma is upgraded, or "
                "by: replicator agent --again, then restart replicator run."
            )
        return (
            f"Restart replicator run: it loads the agent. Is {SOCKET} the same for it and for this "
            "command? Kuma's log says why the agent cannot serve."
        )
    socket, file = said.agent_socket, PLACE / FILE.name
    settings = {"NODE_OPTIONS": f"--require {file}", SOCKET: str(socket)}
    steps = {"docker": _docker, "systemd": _systemd}.get(service, _environment)
    return "\n".join(("Start Kuma once with the agent:", f"  {_INSTALL}", *steps(said, settings)))


def _systemd(said: Settings, settings: Mapping[str, str]) -> list[str]:
    """A drop-in of the unit."""
    unit = said.kuma_unit
    lines = [f'    Environment="{name}={value}"' for name, value in settings.items()]
    return [f"  systemctl edit {unit}", "    [Service]", *lines, f"  systemctl restart {unit}"]


def _docker(said: Settings, settings: Mapping[str, str]) -> list[str]:
    """Options of `docker run`: both folders have the same path inside and outside."""
    folder = said.agent_socket.parent
    return [
        "  docker run … (or the same in its compose file)",
        f"    -v {PLACE}:{PLACE}:ro -v {folder}:{folder}",
        *(f'    -e "{name}={value}"' for name, value in settings.items()),
    ]


def _environment(said: Settings, settings: Mapping[str, str]) -> list[str]:
    """Variables of Kuma's environment."""
    lines = [f'    {name}="{value}"' for name, value in settings.items()]
    return ["  in Kuma's environment:", *lines, "  a Kuma in a container: docs/sidecar.md"]


def _place(context: Context) -> Found:
    """Whether Kuma and the replicator can both use the socket's folder."""
    socket, us = context.settings.agent_socket, os.geteuid()
    try:
        owner = socket.parent.stat().st_uid
        kuma = _kumas_user(context)
    except OSError as error:
        why = error.strerror
        yield Level.WARN, f"no agent can listen in {socket.parent}: {why}", "Make this folder."
        return
    for who, user in (("Kuma", kuma), ("the replicator", us)):
        if user not in (0, owner):
            yield (
                Level.WARN,
                f"{who} is user {user}, and {socket.parent} belongs to user {owner}",
                f"Run both as one user. Or set {SOCKET} for both to a path in a folder of Kuma's "
                "user, and run the replicator as root.",
            )


def _kumas_user(context: Context) -> int:
    """The user id of a Kuma that can be seen; else that of its data directory's owner."""
    try:
        store = context.store()
        found = store.holders() if store.shows_processes else ()
    except DatabaseError:
        found = ()
    for holder in found:
        if holder.maybe_kuma:
            return Path(f"/proc/{holder.pid}").stat().st_uid
    return context.settings.data_dir.stat().st_uid
