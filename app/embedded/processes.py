"""The api and the worker as child processes of `parhelion dev` and of the demo: started, watched, stopped, killed.

A child ends when we do: its stdin is a pipe from us, and an end of that pipe (we were killed) stops it.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.embedded.errors import ServerFailedError, server_failure

STOP_SECONDS = 35.0  # a worker finishes what it began within 25 s


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310  our own loopback address
            return bool(answer.status < 300)
    except (urllib.error.URLError, OSError):
        return False


class ServiceProcess:
    """One `parhelion` verb running as a child. Its output goes to ``log``."""

    def __init__(self, name: str, verb: Sequence[str], *, environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self._verb = list(verb)
        self._environment = dict(environment)
        self._log = log
        self._log_began = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id. Raises ``ServerFailedError`` when it does not run."""
        if self._process is None:
            raise ServerFailedError(self.name, "it was not started", "Start it first.")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the child lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the child; returns at once."""
        with self._log.open("ab") as log:
            self._log_began = log.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "app.cli", *self._verb, "--with-parent"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._environment},
                cwd=Path(__file__).resolve().parent.parent.parent,
                start_new_session=True,
            )

    def wait_answering(self, url: str, *, timeout_seconds: float = 30.0) -> None:
        """Wait until ``url`` answers with a 2xx. Raises ``ServerFailedError`` with the child's last words."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            if not self.is_running:
                raise server_failure(self.name, self._log, "it ended while starting", since=self._log_began)
            if _answers(url):
                return
            if time.monotonic() > deadline:
                late = f"not answering after {timeout_seconds:.0f} s"
                raise server_failure(self.name, self._log, late, since=self._log_began)
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL: as if the machine had taken it away."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        self._close()

    def stop(self) -> None:
        """SIGTERM, then patience, then SIGKILL. Safe to call twice."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._close()

    def _close(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
