"""Our side of the guard: start a server that cannot outlive us, watch it, stop it, kill it."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.embedded.engines import ServerUser
from app.embedded.errors import ServerFailedError, server_failure

GUARD_SCRIPT = Path(__file__).with_name("guard.py")
POLL_SECONDS = 0.01
ENDING_SIGNALS = frozenset({signal.SIGKILL, signal.SIGQUIT, signal.SIGTERM, signal.SIGINT, signal.SIGABRT})


@dataclass(frozen=True)
class ServerCommand:
    """What to run and how to end it. `ladder` holds (signal, seconds to wait for it), gentlest first."""

    name: str
    arguments: Sequence[str]
    folder: Path
    log: Path
    user: ServerUser
    ladder: Sequence[tuple[signal.Signals, float]]
    remove_if_we_die: Sequence[Path] = ()
    keep_open: Sequence[int] = ()


class GuardedServer:
    """One run of one server. A second run is a second object."""

    def __init__(self, command: ServerCommand) -> None:
        """Starts guard and server; returns when the server process exists.

        Raises `ServerFailedError` when it could not even be executed.
        """
        self._command = command
        self._heard = b""
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", str(GUARD_SCRIPT), json.dumps(self._spec())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            pass_fds=tuple(command.keep_open),
            cwd="/",
            bufsize=0,
        )
        if not self._wait(lambda: b"\n" in self._heard, seconds=20):
            self.stop()
            raise ServerFailedError(command.name, "its guard process did not answer", f"Log: {command.log}")
        word, _, rest = self._lines()[0].partition(" ")
        if word != "pid":
            self.stop()
            raise ServerFailedError(command.name, rest, "Check that the file exists and may be executed.")
        self.pid = int(rest)

    def _spec(self) -> dict[str, object]:
        command = self._command
        return {
            "command": [str(argument) for argument in command.arguments],
            "cwd": str(command.folder),
            "log": str(command.log),
            "uid": command.user.uid,
            "gid": command.user.gid,
            "environment": server_environment(),
            "ladder": [(int(number), seconds) for number, seconds in command.ladder],
            "remove": [str(path) for path in command.remove_if_we_die],
            "parent": os.getpid(),
        }

    def _lines(self) -> list[str]:
        return self._heard.decode(errors="replace").splitlines()

    def _listen(self, seconds: float) -> None:
        """Collects what the guard printed, waiting at most `seconds` for it."""
        if self._guard.stdout is None or self._guard.stdout.closed:
            return
        readable, _, _ = select.select([self._guard.stdout], [], [], seconds)
        if readable:
            heard = os.read(self._guard.stdout.fileno(), 4096)
            self._heard += heard
            if not heard:
                self._guard.stdout.close()

    def _wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline or self._guard.stdout is None or self._guard.stdout.closed:
                return condition()
            self._listen(POLL_SECONDS)
        return True

    @property
    def is_running(self) -> bool:
        """False once the server ended or its guard is gone."""
        self._listen(0)
        ended = any(line.startswith("exited") for line in self._lines())
        return not ended and self._guard.poll() is None

    def wait_ready(self, is_ready: Callable[[], bool], timeout_seconds: float) -> None:
        """Blocks until `is_ready()`; raises `ServerFailedError` when the server ends or the time is up."""
        deadline = time.monotonic() + timeout_seconds
        while not is_ready():
            if not self.is_running:
                raise server_failure(self._command.name, self._command.log, "it ended without a word")
            if time.monotonic() > deadline:
                raise server_failure(self._command.name, self._command.log, f"not ready after {timeout_seconds:.0f} s")
            self._listen(POLL_SECONDS)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the server itself; an ending one returns after its end (30 s at most)."""
        if self.is_running:
            os.kill(self.pid, number)
        if number in ENDING_SIGNALS:
            self._wait(lambda: not self.is_running, seconds=30)

    def stop(self) -> None:
        """Ends the server down its ladder and the guard with it. Safe to call twice."""
        if self._guard.stdin is not None and not self._guard.stdin.closed:
            with contextlib.suppress(OSError):
                self._guard.stdin.write(b"r")
            self._guard.stdin.close()
        patience = sum(seconds for _, seconds in self._command.ladder) + 10
        try:
            self._guard.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        if self._guard.stdout is not None:
            self._guard.stdout.close()


def server_environment() -> dict[str, str]:
    """The whole environment a server gets: PGDATA, PGPORT or LD_PRELOAD of the caller must not steer it."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
