"""Processes of the benchmark's own: they end when it does, however it ends."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STOP_SECONDS = 10.0


def end_with_parent() -> None:
    """Stop this process as SIGTERM would when its stdin ends: the parent holds the other end."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True, name="parent watch").start()


@contextlib.contextmanager
def child(module: str, arguments: Sequence[str], *, talks: bool = False) -> Iterator[subprocess.Popen[str]]:
    """``python -m module arguments`` while the body runs. ``talks`` gives its stdout as a pipe."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE if talks else subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def wait_listening(url: str, process: "subprocess.Popen[str]", *, timeout_seconds: float = 20.0) -> None:
    """Wait until ``url`` answers anything. Raises ``RuntimeError`` when the process ends or stays silent."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310  our own loopback address
                return
        except urllib.error.HTTPError:
            return
        except (urllib.error.URLError, OSError):
            pass
        if process.poll() is not None:
            raise RuntimeError(f"a process of the benchmark ended while starting (exit {process.returncode})")
        if time.monotonic() > deadline:
            raise RuntimeError(f"{url} does not answer")
        time.sleep(0.05)
