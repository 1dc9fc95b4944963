"""A real PostgreSQL of our own: created on the first start, found again on the next, private to this user."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

from app.embedded.data_folder import DataFolder, is_alive, keep_password, open_data_folder
from app.embedded.engines import POSTGRES_MAJOR, PostgresEngine, postgres_engine, server_user
from app.embedded.errors import EmbeddedError, ServerFailedError, server_failure
from app.embedded.guarded import GuardedServer, ServerCommand, server_environment

ROLE = "parhelion"
DATABASE = "parhelion"
START_SECONDS = 60.0
INITDB_SECONDS = 180.0
# A killed postmaster's children keep its shared memory for a moment, and the new one refuses to start
# meanwhile.
STILL_DYING = (
    "pre-existing shared memory block",
    'lock file "postmaster.pid" already exists',
    "is still in use",
)
STILL_DYING_SECONDS = 15.0

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "jit": "off",
    "io_method": "sync",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}
# For tests, whose data may vanish with the machine's power; a killed process loses nothing with these either.
FAST_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}


class EmbeddedPostgres:
    """One PostgreSQL server. `start`, `stop`, `kill` and `restart` block; the URL survives restarts.

    `data_dir` defaults to `.parhelion` in the project; `ephemeral` uses a temp folder instead and removes
    it at the end. `fast` gives up durability against power failure, for tests.
    """

    def __init__(self, data_dir: Path | None = None, *, ephemeral: bool = False, fast: bool = False) -> None:
        self._wanted = data_dir
        self._ephemeral = ephemeral
        self._fast = fast
        self._folder: DataFolder | None = None
        self._sockets: Path | None = None
        self._server: GuardedServer | None = None
        self._password = ""

    @property
    def pid(self) -> int:
        """Process id of the running postmaster. Raises `EmbeddedError` when there is none."""
        if self._server is None or not self._server.is_running:
            raise EmbeddedError("The embedded PostgreSQL is not running. Call start() first.")
        return self._server.pid

    @property
    def is_running(self) -> bool:
        """Whether the server process lives."""
        return self._server is not None and self._server.is_running

    @property
    def data_dir(self) -> Path:
        """The folder in use. Raises `EmbeddedError` before the start."""
        if self._folder is None:
            raise EmbeddedError("The embedded PostgreSQL has no data folder yet. Call start() first.")
        return self._folder.path

    @property
    def url(self) -> str:
        """SQLAlchemy URL for asyncpg. Raises `EmbeddedError` before the start."""
        if self._sockets is None:
            raise EmbeddedError("The embedded PostgreSQL has no address yet. Call start() first.")
        return f"postgresql+asyncpg://{ROLE}:{self._password}@/{DATABASE}?host={self._sockets}"

    def start(self) -> str:
        """Starts the server, creating the database if there is none, and returns its URL.

        Raises `FolderInUseError`, `FolderUnusableError`, `ServerMissingError`, `ServerFailedError`.
        """
        if self.is_running:
            return self.url
        is_first = self._folder is None
        if self._folder is None:
            user = server_user()
            self._folder = open_data_folder(self._wanted, user, ephemeral=self._ephemeral)
        try:
            self._launch(self._folder)
        except BaseException:
            if is_first:  # a restart that failed keeps folder and address: its users only know these
                self.stop()
            raise
        return self.url

    def restart(self) -> str:
        """Stops the server if it runs and starts it on the same data and address."""
        if self._server is not None:
            self._server.stop()
            self._server = None
        return self.start()

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Sends the postmaster a real signal and, for an ending one, waits until it is gone.

        `restart` revives it.
        """
        if self._server is not None:
            self._server.signal(number)

    def stop(self) -> None:
        """Stops the server and gives the folder back. Safe to call twice."""
        if self._server is not None:
            self._server.stop()
            self._server = None
        if self._sockets is not None:
            shutil.rmtree(self._sockets, ignore_errors=True)
            self._sockets = None
        if self._folder is not None:
            self._folder.release()
            self._folder = None

    def _launch(self, folder: DataFolder) -> None:
        cluster = folder.path / f"pg{POSTGRES_MAJOR}"
        user = server_user(cluster)
        engine = postgres_engine(user)
        log = folder.log_file("postgres")
        _remove_unfinished(folder.path)
        self._password, is_new = keep_password(folder.path)
        if (cluster / "PG_VERSION").exists():
            _stop_orphan(cluster)
            if is_new:
                _alone(engine, cluster, f"ALTER ROLE {ROLE} PASSWORD '{self._password}'", log)
        else:
            _create_cluster(engine, cluster, self._password, log, fast=self._fast)
        if self._sockets is None:
            self._sockets = folder.new_socket_folder(user)
        command = self._command(engine, cluster, folder, log, self._sockets)
        self._server = _run_until_ready(command, cluster)

    def _command(
        self, engine: PostgresEngine, cluster: Path, folder: DataFolder, log: Path, sockets: Path
    ) -> ServerCommand:
        settings = SETTINGS | (FAST_SETTINGS if self._fast else {}) | {"unix_socket_directories": str(sockets)}
        arguments = [str(engine.postgres), "-D", str(cluster)]
        for name, value in settings.items():
            arguments += ["-c", f"{name}={value}"]
        # SIGINT closes connections and writes a checkpoint; SIGQUIT does not, and data that goes needs none.
        gentle = (signal.SIGQUIT, 5.0) if folder.ephemeral else (signal.SIGINT, 10.0)
        return ServerCommand(
            name="PostgreSQL",
            arguments=arguments,
            folder=folder.path,
            log=log,
            user=server_user(cluster),
            ladder=[gentle, (signal.SIGQUIT, 5.0)],
            remove_if_we_die=[sockets, *([folder.path] if folder.ephemeral else [])],
            keep_open=[folder.lock],
        )


def _run_until_ready(command: ServerCommand, cluster: Path) -> GuardedServer:
    """The server, accepting connections; tries again while a killed predecessor's children are dying."""
    deadline = time.monotonic() + STILL_DYING_SECONDS
    while True:
        logged = command.log.stat().st_size if command.log.exists() else 0
        server = GuardedServer(command)
        try:
            server.wait_ready(partial(_is_ready, cluster, server.pid), START_SECONDS)
        except BaseException as failure:
            server.stop()
            with command.log.open(errors="replace") as log:
                log.seek(logged)
                said = log.read()
            passing = any(phrase in said for phrase in STILL_DYING)
            if not isinstance(failure, ServerFailedError) or not passing or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return server


def _is_ready(cluster: Path, pid: int) -> bool:
    """Line 1 of postmaster.pid is the server's id, line 8 its state: what `pg_ctl --wait` reads too."""
    try:
        lines = (cluster / "postmaster.pid").read_text(errors="replace").splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"


def _remove_unfinished(folder: Path) -> None:
    """Throws away what an interrupted first start left: a finished cluster never bears this name."""
    for leftover in folder.glob("unfinished-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _create_cluster(engine: PostgresEngine, cluster: Path, password: str, log: Path, *, fast: bool) -> None:
    """initdb into a folder beside, the database into it, one rename: a cluster is whole or not there."""
    user = server_user(cluster)
    if cluster.exists():  # never finished, or emptied by hand: keep it, in case it holds something
        cluster.rename(cluster.with_name(f"{cluster.name}-set-aside-{secrets.token_hex(3)}"))
    workshop = cluster.with_name(f"unfinished-{secrets.token_hex(4)}")
    workshop.mkdir(mode=0o700)
    user.owns(workshop)
    password_file = workshop / "password"
    descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(password + "\n")
    user.owns(password_file)
    fresh = workshop / "cluster"
    arguments: list[str | Path] = [
        engine.initdb, "--pgdata", fresh, "--username", ROLE, "--pwfile", password_file,
        "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8", "--no-instructions",
    ]  # fmt: skip
    _once([*arguments, *(["--no-sync", "--no-data-checksums"] if fast else [])], workshop, log)
    _alone(engine, fresh, f"CREATE DATABASE {DATABASE}", log)
    # The workshop belongs to the servers' user; root may rename out of it, and so may we when it is ours.
    fresh.rename(cluster)
    shutil.rmtree(workshop, ignore_errors=True)


def _alone(engine: PostgresEngine, cluster: Path, statement: str, log: Path) -> None:
    """Runs one statement in PostgreSQL's single-user mode, which needs no server and no password."""
    arguments: list[str | Path] = [
        engine.postgres,
        "--single",
        "-j",
        "-D",
        cluster,
        "-c",
        "log_checkpoints=off",
        "postgres",
    ]
    _once(arguments, cluster, log, stdin=f"{statement};\n\n")


def _once(arguments: list[str | Path], folder: Path, log: Path, stdin: str = "") -> None:
    """Runs a command that belongs to setting up, as the owner of `folder`. Raises `ServerFailedError`."""
    user = server_user(folder)
    with log.open("a") as output:
        try:
            done = subprocess.run(
                [str(argument) for argument in arguments], input=stdin, text=True, stdout=output,
                stderr=output, cwd=folder, env=server_environment(), timeout=INITDB_SECONDS, check=False,
                umask=0o077, **user.subprocess_options(),
            )  # fmt: skip
        except subprocess.TimeoutExpired as late:
            raise server_failure("PostgreSQL", log, f"no end after {INITDB_SECONDS:.0f} s") from late
    if done.returncode != 0:
        raise server_failure("PostgreSQL", log, f"exit code {done.returncode}")


def _stop_orphan(cluster: Path) -> None:
    """Ends a server that outlived even its guard on this folder, and forgets the id of one that is long gone.

    We hold the folder's lock, so a postmaster that works on it belongs to nobody. An id that was given to
    another program since must not keep the server from starting: PostgreSQL only looks whether such a
    process exists.
    """
    pid_file = cluster / "postmaster.pid"
    try:
        pid = int(pid_file.read_text(errors="replace").splitlines()[0])
    except (OSError, ValueError, IndexError):
        pid_file.unlink(missing_ok=True)
        return
    if not _is_postmaster_of(pid, cluster):
        pid_file.unlink(missing_ok=True)
        return
    for number, seconds in ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while _is_postmaster_of(pid, cluster) and time.monotonic() < deadline:
            time.sleep(0.02)
        if not _is_postmaster_of(pid, cluster):
            break
    pid_file.unlink(missing_ok=True)


def _is_postmaster_of(pid: int, cluster: Path) -> bool:
    """Whether the process is a postgres started with this data folder; one that waits to be buried is not."""
    if not is_alive(pid):
        return False
    words = Path(f"/proc/{pid}/cmdline")
    if Path("/proc/self/cmdline").exists():  # Linux; small images come without `ps`
        try:
            shown = os.fsdecode(words.read_bytes())
        except OSError:
            return False
    else:
        ask = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
        shown = subprocess.run(ask, capture_output=True, text=True, check=False).stdout
    return "postgres" in shown and str(cluster) in shown
