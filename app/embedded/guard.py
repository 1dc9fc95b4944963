"""The small process between us and a server: it outlives us just long enough to stop the server.

Run as a script, never imported by the product's code. One guard per server, in its own session, so that
Ctrl-C in a terminal reaches the product and not the database. It notices the end of the process that
started it in two ways: the pipe on its stdin closes, and its parent's id changes (a forked copy of us could
hold the pipe open).

Spoken on the pipes: we print `pid <n>` when the server runs and `exited <code>` when it ended. A byte `r` on
stdin before the end means the starter cleans up by itself; an end without it means the starter died, and the
folders named in `remove` are removed here.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

# How often the parent's id is looked at; the closing pipe is noticed at once.
PARENT_CHECK_SECONDS = 1.0
LAST_WAIT_SECONDS = 5.0


def report(line: str) -> None:
    """One line to the starter, who may be gone already."""
    with contextlib.suppress(OSError):
        os.write(1, f"{line}\n".encode())


def start(spec: dict[str, Any]) -> subprocess.Popen[bytes]:
    """The server as our child, as the user the starter chose, with its output appended to the log."""
    as_user: dict[str, Any] = {}
    if spec["uid"] is not None:
        as_user = {"user": spec["uid"], "group": spec["gid"], "extra_groups": []}
    with open(spec["log"], "ab") as log:
        return subprocess.Popen(
            spec["command"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=spec["cwd"],
            env=spec["environment"],
            umask=0o077,
            **as_user,
        )


def await_the_end(server: subprocess.Popen[bytes], wake: int, parent: int) -> bool:
    """Blocks until the starter lets go; True when it said that it cleans up by itself.

    A server that ends earlier is reported, and the guard stays: the folders still have to be removed if the
    starter dies later.
    """
    cleans_up_itself = False
    reported = False
    while True:
        readable, _, _ = select.select([0, wake], [], [], PARENT_CHECK_SECONDS)
        if wake in readable:
            os.read(wake, 4096)
        if not reported and server.poll() is not None:
            report(f"exited {server.returncode}")
            reported = True
        if 0 in readable:
            heard = os.read(0, 64)
            if not heard:
                return cleans_up_itself
            cleans_up_itself = True
        if os.getppid() != parent:
            return False


def stop(server: subprocess.Popen[bytes], ladder: list[tuple[int, float]]) -> None:
    """Sends each signal of the ladder and waits its seconds; a frozen server is woken, at the end killed."""
    for number, seconds in [*ladder, (int(signal.SIGKILL), LAST_WAIT_SECONDS)]:
        if server.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            server.send_signal(number)
            server.send_signal(signal.SIGCONT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=seconds)


def remove(folders: list[str]) -> None:
    """Removes the folders; tries for a second, because a killed server's last children may still write."""
    deadline = time.monotonic() + 1.0
    for folder in folders:
        while os.path.lexists(folder):
            shutil.rmtree(folder, ignore_errors=True)
            if time.monotonic() > deadline:
                break


def main() -> int:
    """Runs the server that `argv[1]` (JSON) describes until the starter ends."""
    spec = json.loads(sys.argv[1])
    os.umask(0o077)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)

    try:
        server = start(spec)
    except OSError as error:
        report(f"failed {error.strerror}: {error.filename}")
        return 1

    def end(*_: object) -> None:
        stop(server, spec["ladder"])
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    report(f"pid {server.pid}")
    cleans_up_itself = await_the_end(server, wake_read, spec["parent"])
    stop(server, spec["ladder"])
    report(f"exited {server.returncode}")
    if not cleans_up_itself:
        remove(spec["remove"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
