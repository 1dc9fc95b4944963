"""The guard: however the product dies, no server outlives it and no temporary folder stays."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.embedded import ServerFailedError
from app.embedded.engines import ServerUser
from app.embedded.guarded import GuardedServer, ServerCommand
from tests.embedded.conftest import eventually, lives

STARTER = """
import json, sys
from app.embedded import EmbeddedStack
stack = EmbeddedStack(ephemeral=True, fast=True)
servers = stack.start()
print(json.dumps({"pids": [stack.postgres.pid, stack.redis.pid], "data": str(stack.data_dir),
                  "database": servers.database_url, "redis": servers.redis_url}), flush=True)
sys.stdin.read()
"""


@dataclass
class Started:
    """A process of its own that runs a stack."""

    process: subprocess.Popen[str]
    pids: list[int]
    places: list[Path]


@pytest.fixture
def started() -> Started:
    """A stack started by another process, which waits for the end of its stdin."""
    process = subprocess.Popen(
        [sys.executable, "-c", STARTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    told = json.loads(process.stdout.readline())
    sockets = [
        told["database"].partition("host=")[2],
        told["redis"].partition("@")[2].partition("/redis.sock")[0],
    ]
    return Started(process, told["pids"], [Path(told["data"]), *map(Path, sockets)])


def finish(started: Started) -> None:
    """Waits for the process and closes its pipes: an open one is a warning, and warnings are errors."""
    started.process.communicate(timeout=20)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_servers_and_folders_go_with_the_process_that_started_them(started: Started, number: signal.Signals) -> None:
    assert all(lives(pid) for pid in started.pids)
    started.process.send_signal(number)
    finish(started)
    eventually(lambda: not any(lives(pid) for pid in started.pids), "every server is gone")
    eventually(lambda: not any(place.exists() for place in started.places), "every folder is gone")


def test_an_ordinary_end_without_stop_is_cleaned_up_too(started: Started) -> None:
    finish(started)
    eventually(lambda: not any(lives(pid) for pid in started.pids), "every server is gone")
    eventually(lambda: not any(place.exists() for place in started.places), "every folder is gone")


def test_ctrl_c_in_the_terminal_does_not_reach_the_servers(started: Started) -> None:
    groups = {os.getpgid(pid) for pid in started.pids}
    assert os.getpgid(started.process.pid) not in groups
    finish(started)


def test_servers_killed_before_the_starter_leave_no_folder_either(started: Started) -> None:
    for pid in started.pids:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not any(lives(pid) for pid in started.pids), "every server is gone")
    started.process.kill()
    finish(started)
    eventually(lambda: not any(place.exists() for place in started.places), "every folder is gone")


def command(folder: Path, *arguments: str) -> ServerCommand:
    """A stand-in for a server, to see how the guard treats it."""
    ladder = [(signal.SIGTERM, 0.2)]
    return ServerCommand("Stand-in", arguments, folder, folder / "log", ServerUser(), ladder)


def test_a_server_that_ignores_the_gentle_signal_is_killed(folder: Path) -> None:
    server = GuardedServer(command(folder, "/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done"))
    pid = server.pid
    server.stop()
    assert not lives(pid)


def test_a_missing_program_is_told_by_name(folder: Path) -> None:
    with pytest.raises(ServerFailedError, match=r"No such file or directory.*no-such-program"):
        GuardedServer(command(folder, "/no-such-program"))


def test_a_full_disk_is_told_with_what_to_do(folder: Path) -> None:
    talk = "echo 'FATAL:  could not write: No space left on device' >&2; exit 1"
    server = GuardedServer(command(folder, "/bin/sh", "-c", talk))
    with pytest.raises(ServerFailedError, match=r"No space left on device\. The disk is full: free at least 300 MB"):
        server.wait_ready(lambda: False, timeout_seconds=20)
    server.stop()
