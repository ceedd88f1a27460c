"""The control socket between a command and the running supervisor, in the state directory.

A client sends one line of JSON, {"command": …, "options": {…}}. It gets lines back: progress
({"progress": "…"}), empty lines as a heartbeat, and last {"result": …} or {"error": …}.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from replicator_kuma.base import errors
from replicator_kuma.base.errors import AlreadyRunning, MachineError, ReplicatorError, StateError
from replicator_kuma.base.events import as_event
from replicator_kuma.base.state_directory import below, unusable
from replicator_kuma.replication.instance import Progress

NAME = "control.sock"
CONNECT_DEADLINE = 5.0
SILENCE_DEADLINE = 60.0
SIGN_OF_LIFE = 5.0
REQUEST_DEADLINE = 10.0
"""seconds that a client has for its whole request"""
MAX_REQUEST = 65536
MAX_ANSWER = 16 * 1024 * 1024
MAX_CLIENTS = 32
"""clients at the same time, waiting ones included"""

_CLIENT = "Nothing was done. Run the command again; if that fails too, restart `replicator run`."

logger = logging.getLogger(__name__)

Handler = Callable[[str, Mapping[str, Any], Progress], dict[str, Any]]
"""Does what a client asks (command, options) and returns its result; raises ReplicatorError."""


@contextlib.contextmanager
def _address(folder: Path) -> Iterator[str]:
    """A path to the socket of at most 107 bytes, even if the folder's path is longer."""
    here = below(folder)
    if here is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
    with here:
        yield f"/proc/self/fd/{here.descriptor}/{NAME}"


def error_as_dict(error: BaseException) -> dict[str, Any]:
    """An error as `--json` prints it and the socket carries it."""
    if isinstance(error, ReplicatorError):
        code, hint, message = error.exit_code, error.hint, str(error)
    else:
        # its text may hold a password, and cron mails a client's output
        code, message = 1, f"{type(error).__name__}: this is a bug in replicator-kuma"
        hint = "The supervisor's log has more."
    return {"kind": _kind(error), "message": message, "hint": hint, "exit_code": code}


def _kind(error: BaseException) -> str:
    """The name of the documented class: some modules raise a subclass of their own."""
    documented = (c.__name__ for c in type(error).__mro__ if c.__module__ == errors.__name__)
    return next(documented, type(error).__name__)


def error_from_dict(raw: Mapping[str, Any]) -> ReplicatorError:
    """The supervisor's error, with its class and so its exit code."""
    kind = getattr(errors, str(raw.get("kind")), None)
    message, hint = str(raw.get("message", "")), str(raw.get("hint", ""))
    if isinstance(kind, type) and issubclass(kind, ReplicatorError):
        return kind(message, hint=hint)
    error = ReplicatorError(message, hint=hint)
    code = raw.get("exit_code")
    error.exit_code = code if isinstance(code, int) else 1
    return error


class ControlServer:
    """Answers clients in threads of its own. The caller is the only supervisor of its folder."""

    def __init__(self, folder: Path, handler: Handler) -> None:
        self._folder = folder
        self._handler = handler
        self._socket: socket.socket | None = None
        self._inode = 0
        self._places = threading.BoundedSemaphore(MAX_CLIENTS)

    def start(self) -> None:
        """Listen; a socket that a killed supervisor left is replaced. Raises StateError."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with contextlib.suppress(FileNotFoundError):
                (self._folder / NAME).unlink()
            with _address(self._folder) as address:
                listener.bind(address)
            (self._folder / NAME).chmod(0o600)
            self._inode = (self._folder / NAME).stat().st_ino
            listener.listen(64)
        except OSError as error:
            listener.close()
            raise unusable(f"cannot listen in {self._folder}", error) from error
        self._socket = listener
        threading.Thread(target=self._accept, args=(listener,), name="control", daemon=True).start()

    def close(self) -> None:
        """Stop answering, and remove the socket if it is still ours."""
        if self._socket is None:
            return
        # shutdown() wakes the thread in accept(); close() alone would not.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._socket = None
        path = self._folder / NAME
        with contextlib.suppress(OSError):
            if path.stat().st_ino == self._inode:
                path.unlink()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError as error:
                if error.errno in (errno.EINVAL, errno.EBADF):  # close() was here
                    return
                time.sleep(0.1)  # no descriptors or no memory: retry in a moment
                continue
            self._admit(connection)

    def _admit(self, connection: socket.socket) -> None:
        """Start a thread for this client, if the client is allowed and a thread is free."""
        with contextlib.ExitStack() as on_refusal:
            on_refusal.enter_context(connection)
            if not _is_ours(connection):
                logger.warning(
                    "refused a client of another user on the control socket",
                    extra=as_event("client_refused"),
                )
                return
            if not self._places.acquire(blocking=False):
                busy = AlreadyRunning(
                    f"the supervisor has {MAX_CLIENTS} clients already",
                    hint="See what they are (ps -ef | grep replicator), and try again later.",
                )
                _Line(connection).send_error(busy)
                return
            on_refusal.callback(self._places.release)
            thread = threading.Thread(
                target=self._serve, args=(connection,), name="control-client", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:
                full = MachineError("the supervisor gets no thread from the machine")
                _Line(connection).send_error(full)
                return
            on_refusal.pop_all()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.ExitStack() as at_end:
            at_end.callback(self._places.release)
            at_end.enter_context(connection)
            line = _Line(connection)
            try:
                command, options = _read_request(connection)
                with line.signs_of_life():
                    result = self._handler(command, options, line.send_progress)
                line.send({"result": result})
            except Exception as error:
                if not isinstance(error, ReplicatorError):
                    logger.exception("a client's request failed", extra=as_event("bug"))
                line.send_error(error)


class _Line:
    """Writes lines to a client from several threads; a client that hung up is no error.

    A client that does not read delays a cycle by CONNECT_DEADLINE once, then gets no more lines.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._lost = False
        connection.settimeout(CONNECT_DEADLINE)

    def send(self, message: Mapping[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        with self._lock:
            if self._lost:
                return
            try:
                self._connection.sendall(data)
            except OSError:
                self._lost = True

    def send_error(self, error: BaseException) -> None:
        self.send({"error": error_as_dict(error)})

    def send_progress(self, message: str) -> None:
        self.send({"progress": message})

    @contextlib.contextmanager
    def signs_of_life(self) -> Iterator[None]:
        done = threading.Event()

        def beat() -> None:
            while not done.wait(SIGN_OF_LIFE):
                self.send({})

        threading.Thread(target=beat, name="control-beat", daemon=True).start()
        try:
            yield
        finally:
            done.set()


def _is_ours(connection: socket.socket) -> bool:
    """Whether the client is root or the supervisor's own user."""
    size = struct.calcsize("3i")
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    _pid, uid, _gid = struct.unpack("3i", raw)
    return uid in (0, os.geteuid())


def _read_request(connection: socket.socket) -> tuple[str, dict[str, Any]]:
    """Read the command and its options within the deadline; raises StateError."""
    try:
        line = _read_line(connection, time.monotonic() + REQUEST_DEADLINE)
    except OSError:
        line = None
    finally:
        connection.settimeout(CONNECT_DEADLINE)
    if line is None:
        raise StateError("the control socket got no whole request", hint=_CLIENT)
    try:
        raw = json.loads(line.decode(), parse_constant=_no_number)
    except (ValueError, RecursionError):
        raw = None
    if isinstance(raw, dict) and raw.keys() == {"command", "options"}:
        command, options = raw["command"], raw["options"]
        if isinstance(command, str) and isinstance(options, dict):
            return command, options
    raise StateError("the control socket got a request that is none", hint=_CLIENT)


def _read_line(connection: socket.socket, until: float) -> bytes | None:
    """One line of at most MAX_REQUEST bytes, or None; raises OSError, at latest at ``until``."""
    data = bytearray()
    while not data.endswith(b"\n"):
        connection.settimeout(max(until - time.monotonic(), 0.001))
        part = connection.recv(4096)
        data += part
        if not part or len(data) > MAX_REQUEST:
            return None
    return bytes(data)


def _no_number(name: str) -> NoReturn:
    """Python reads NaN and Infinity, which JSON does not have."""
    raise ValueError(name)


def listening(folder: Path) -> bool:
    """Whether a supervisor listens in this state directory."""
    connection = _connect(folder)
    if connection is None:
        return False
    connection.close()
    return True


def _connect(folder: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(CONNECT_DEADLINE)
    try:
        with _address(folder) as address:
            connection.connect(address)
    except OSError as error:
        connection.close()
        if error.errno in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR):
            return None
        raise unusable(f"cannot reach the supervisor in {folder}", error) from error
    return connection


def ask(
    folder: Path, command: str, options: Mapping[str, Any], progress: Progress
) -> dict[str, Any] | None:
    """Hand a command to the running supervisor; None when none listens.

    Returns its result and raises its error as our own. Raises AlreadyRunning if it falls silent,
    StateError if its socket cannot be used.
    """
    connection = _connect(folder)
    if connection is None:
        return None
    with connection:
        connection.settimeout(SILENCE_DEADLINE)
        request = json.dumps({"command": command, "options": dict(options)}).encode() + b"\n"
        try:
            # A supervisor with too many clients says so before it hangs up.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(request)
            return _follow(connection, progress)
        except OSError as error:
            raise AlreadyRunning(
                f"the running supervisor does not answer: {error}", hint="Look at its log."
            ) from error


def _follow(connection: socket.socket, progress: Progress) -> dict[str, Any]:
    with connection.makefile("rb") as lines:
        while (line := lines.readline(MAX_ANSWER)).endswith(b"\n"):
            message = _answer(line)
            if "progress" in message:
                progress(str(message["progress"]))
            elif "error" in message:
                raise error_from_dict(message["error"])
            elif "result" in message:
                result: dict[str, Any] = message["result"]
                return result
    raise AlreadyRunning(
        "the running supervisor ended before it answered", hint="Look at its log, then try again."
    )


def _answer(line: bytes) -> dict[str, Any]:
    """Parse one line of the supervisor; raises AlreadyRunning if it is not one of its lines."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        message = None
    if isinstance(message, dict) and all(
        isinstance(message.get(name, {}), dict) for name in ("result", "error")
    ):
        return message
    raise AlreadyRunning(
        "what answers on the control socket is no supervisor of this version",
        hint="Restart it, and look at its log.",
    )
