"""How Kuma's node loads the agent: an argument of node, and variables of Kuma's environment."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from replicator_kuma.adapters.kuma.agent.versions import LIKE_THEM, PROVED
from replicator_kuma.base.errors import KumaError
from replicator_kuma.base.folders import Folder

FILE = Path(__file__).with_name("agent.cjs")
"""The agent. Node ends at once if a file that it is to load is missing."""
SOCKET = "REPLICATOR_AGENT_SOCKET"
FAST_START = "REPLICATOR_FAST_START"
_OPTIONS = "NODE_OPTIONS"


def with_agent(
    command: Sequence[str], environment: Mapping[str, str], socket: Path, *, fast_start: str
) -> tuple[list[str], dict[str, str]]:
    """Kuma's command and environment, so that its process has the agent in it.

    Where the command is no node (`npm start`, a script), node is told by NODE_OPTIONS, which its
    children inherit: the agent does nothing in a process that is not Kuma's server.

    ``fast_start``: on, off, or auto (on the versions on which it was proved).
    """
    versions = " ".join(sorted(PROVED | LIKE_THEM))
    made = {**environment, SOCKET: str(socket)}
    made[FAST_START] = versions if fast_start == "auto" else fast_start
    if Path(command[0]).name in ("node", "nodejs"):
        return [command[0], "--require", str(FILE), *command[1:]], made
    made[_OPTIONS] = node_options(environment.get(_OPTIONS, ""), FILE)
    return [*command], made


def node_options(before: str, file: Path) -> str:
    """NODE_OPTIONS with the agent added; node takes a quoted value with escapes."""
    quoted = str(file).replace("\\", "\\\\").replace('"', '\\"')
    return f'{before} --require "{quoted}"'.strip()


def digest() -> str:
    """SHA-256 of the agent's file in this package; raises KumaError."""
    return hashlib.sha256(_read()).hexdigest()


def install(folder: Path) -> Path:
    """Put the agent's file into a folder, which may be missing; its path there. Raises KumaError.

    It takes its place by a rename: node may be reading the file that is there.
    """
    content = _read()
    try:
        with Folder.open(Path("/")) as root, root.make(str(folder).lstrip("/"), 0o755) as made:
            made.write(FILE.name, lambda file: file.write(content), 0o644)
    except OSError as error:
        raise KumaError(
            f"cannot put the agent's file into {folder}: {error.strerror}",
            hint="Is the folder writable for this user, and is there room?",
        ) from error
    return folder / FILE.name


def _read() -> bytes:
    try:
        return FILE.read_bytes()
    except OSError as error:
        raise KumaError(
            f"the agent's file {FILE} cannot be read: {error.strerror}",
            hint="Install replicator-kuma again.",
        ) from error
