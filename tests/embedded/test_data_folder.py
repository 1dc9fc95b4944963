"""The data folder: odd paths, what an earlier life left behind, and two starts at once."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.embedded import EmbeddedPostgres, FolderInUseError, engines
from app.embedded.data_folder import LONGEST_SOCKET_PATH_BYTES, placed_for, socket_folder
from app.embedded.engines import POSTGRES_MAJOR, ServerUser, server_user
from tests.embedded.conftest import ask, eventually, lives

CLUSTER = f"pg{POSTGRES_MAJOR}"


def starts(folder: Path) -> object:
    """Starts a server on the folder, counts this start in a table of its own, stops it; the count so far."""
    server = EmbeddedPostgres(folder, fast=True)
    try:
        return ask(
            server.start(),
            "CREATE TABLE IF NOT EXISTS starts (n int)",
            "INSERT INTO starts VALUES (1)",
            "SELECT count(*) FROM starts",
        )
    finally:
        server.stop()


@pytest.mark.parametrize(
    "name",
    ["with a space", "ümläut-日本", "quo'te\"s", "/".join(["long" * 20] * 5)],
    ids=["space", "non-ascii", "quotes", "400-characters"],
)
def test_any_path_will_do_and_data_stays(folder: Path, name: str) -> None:
    assert starts(folder / name) == 1
    assert starts(folder / name) == 2


def test_a_restart_keeps_data_and_address(folder: Path) -> None:
    server = EmbeddedPostgres(folder, fast=True)
    try:
        url = server.start()
        ask(url, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7)")
        assert server.restart() == url
        assert ask(url, "SELECT n FROM kept") == 7
    finally:
        server.stop()


def test_a_killed_server_comes_back_with_every_commit(folder: Path) -> None:
    server = EmbeddedPostgres(folder, fast=True)
    try:
        url = server.start()
        first = server.pid
        ask(url, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7)")
        server.kill(signal.SIGKILL)
        assert not lives(first)
        assert not server.is_running
        assert server.restart() == url
        assert server.pid != first
        assert ask(url, "SELECT n FROM kept") == 7
    finally:
        server.stop()


def test_a_frozen_server_can_be_stopped(folder: Path) -> None:
    server = EmbeddedPostgres(folder, fast=True)
    server.start()
    pid = server.pid
    server.kill(signal.SIGSTOP)
    server.stop()
    assert not lives(pid)


def test_the_id_of_a_process_long_gone_does_not_keep_it_from_starting(folder: Path) -> None:
    assert starts(folder) == 1
    leftover = folder / CLUSTER / "postmaster.pid"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    leftover.write_text(f"{gone.pid}\n{folder / CLUSTER}\n1700000000\n5432\n/tmp\n\n 1 1\nready\n")
    assert starts(folder) == 2


def test_the_id_of_another_living_program_does_not_keep_it_from_starting(folder: Path) -> None:
    """PostgreSQL looks only whether such a process of the same user exists, and would refuse."""
    assert starts(folder) == 1
    user = server_user(folder / CLUSTER)
    with subprocess.Popen(["sleep", "60"], **user.subprocess_options()) as innocent:
        (folder / CLUSTER / "postmaster.pid").write_text(f"{innocent.pid}\n{folder / CLUSTER}\n1\n5432\n\n\n\nready\n")
        try:
            assert starts(folder) == 2
            assert innocent.poll() is None
        finally:
            innocent.kill()


def test_a_server_that_outlived_its_guard_is_replaced(folder: Path) -> None:
    """Both the product and the guard were killed: the orphan must neither block the folder nor be doubled."""
    import psutil

    assert starts(folder) == 1
    script = (
        "import sys, pathlib\n"
        "from app.embedded import EmbeddedPostgres\n"
        "server = EmbeddedPostgres(pathlib.Path(sys.argv[1]), fast=True)\n"
        "server.start(); print(server.pid, flush=True); sys.stdin.read()\n"
    )
    arguments = [sys.executable, "-c", script, str(folder)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        orphan = int(starter.stdout.readline())
        guard = psutil.Process(orphan).parent()
        assert guard is not None
        guard.kill()  # first: it would stop the server when the starter goes
        starter.kill()
    eventually(lambda: not lives(guard.pid), "the guard is gone")
    assert lives(orphan)
    sockets = Path((folder / "sockets").read_text())
    assert sockets.exists()
    assert starts(folder) == 2
    assert not lives(orphan)
    assert not sockets.exists()


def test_a_half_finished_first_start_is_thrown_away(folder: Path) -> None:
    half = folder / "unfinished-0badcafe" / "cluster"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text(f"{POSTGRES_MAJOR}\n")
    assert starts(folder) == 1
    assert not (folder / "unfinished-0badcafe").exists()


def test_a_folder_that_is_no_cluster_is_set_aside_and_not_deleted(folder: Path) -> None:
    (folder / CLUSTER).mkdir()
    (folder / CLUSTER / "keepsake").write_text("mine")
    assert starts(folder) == 1
    assert [found.read_text() for found in folder.glob(f"{CLUSTER}-set-aside-*/keepsake")] == ["mine"]


def test_another_major_versions_data_is_left_alone(folder: Path) -> None:
    (folder / "pg17").mkdir()
    (folder / "pg17" / "PG_VERSION").write_text("17\n")
    assert starts(folder) == 1
    assert (folder / "pg17" / "PG_VERSION").read_text() == "17\n"


def test_a_lost_password_is_replaced_and_the_data_stays(folder: Path) -> None:
    assert starts(folder) == 1
    (folder / "password").unlink()
    assert starts(folder) == 2


def test_the_second_start_says_who_holds_the_folder(folder: Path) -> None:
    server = EmbeddedPostgres(folder, fast=True)
    server.start()
    try:
        with pytest.raises(FolderInUseError, match=f"process {os.getpid()} .*Stop that one first") as refusal:
            EmbeddedPostgres(folder, fast=True).start()
        assert str(folder) in str(refusal.value)
        assert server.is_running
    finally:
        server.stop()
    assert starts(folder) == 1


def test_a_long_temp_folder_is_not_used_for_sockets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = folder / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    made = socket_folder(server_user())
    try:
        assert not made.is_relative_to(long)
        assert len(os.fsencode(made / ".s.PGSQL.5432")) <= LONGEST_SOCKET_PATH_BYTES
    finally:
        made.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers run as another user")
def test_roots_closed_folder_is_answered_with_one_the_servers_can_enter(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "ROOT_FOLDERS", (folder / "roots",))
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    elsewhere = placed_for(closed / "data", server_user())
    assert elsewhere.parent == folder / "roots"
    assert elsewhere == placed_for(closed / "data", server_user())
    assert elsewhere != placed_for(closed / "other", server_user())
    assert placed_for(folder / "open", server_user()) == folder / "open"


def test_an_ordinary_user_gets_the_folder_named(folder: Path) -> None:
    assert placed_for(folder / "data", ServerUser()) == folder / "data"
