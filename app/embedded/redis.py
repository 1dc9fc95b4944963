"""A real Redis of our own: a doorbell without memory, private to this user."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import tempfile
from functools import partial
from pathlib import Path

from app.embedded.data_folder import socket_folder
from app.embedded.engines import ServerUser, redis_engine, server_user
from app.embedded.errors import EmbeddedError
from app.embedded.guarded import GuardedServer, ServerCommand

START_SECONDS = 20.0
SOCKET_NAME = "redis.sock"


class EmbeddedRedis:
    """One Redis server without persistence.

    `start`, `stop`, `kill`, `restart` block; the URL survives restarts.
    """

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._server: GuardedServer | None = None
        self._password = secrets.token_hex(24)

    @property
    def pid(self) -> int:
        """Process id of the running server. Raises `EmbeddedError` when there is none."""
        if self._server is None or not self._server.is_running:
            raise EmbeddedError("The embedded Redis is not running. Call start() first.")
        return self._server.pid

    @property
    def is_running(self) -> bool:
        """Whether the server process lives."""
        return self._server is not None and self._server.is_running

    @property
    def url(self) -> str:
        """URL for redis-py and for arq's `RedisSettings.from_dsn`.

        Raises `EmbeddedError` before the start.
        """
        if self._folder is None:
            raise EmbeddedError("The embedded Redis has no address yet. Call start() first.")
        return f"unix://:{self._password}@{self._folder / SOCKET_NAME}?db=0"

    def start(self) -> str:
        """Starts the server and returns its URL.

        Raises `ServerMissingError`, `ServerFailedError`, `FolderUnusableError`.
        """
        if self.is_running:
            return self.url
        user = server_user()
        is_first = self._folder is None
        try:
            if self._folder is None:
                self._folder = socket_folder(user)
                _write_configuration(self._folder, self._password, user)
            # A killed server leaves its socket's name behind.
            (self._folder / SOCKET_NAME).unlink(missing_ok=True)
            self._server = GuardedServer(self._command(self._folder, user))
            self._server.wait_ready(partial(self._answers, self._folder / SOCKET_NAME), START_SECONDS)
        except BaseException:
            if is_first:  # a restart that failed keeps its address: the clients only know that one
                self.stop()
            raise
        return self.url

    def restart(self) -> str:
        """Stops the server if it runs and starts an empty one at the same address."""
        if self._server is not None:
            self._server.stop()
            self._server = None
        return self.start()

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Sends the server a real signal and, for an ending one, waits until it is gone.

        `restart` revives it.
        """
        if self._server is not None:
            self._server.signal(number)

    def stop(self) -> None:
        """Stops the server and removes its folder. Safe to call twice."""
        if self._server is not None:
            self._server.stop()
            self._server = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _command(self, folder: Path, user: ServerUser) -> ServerCommand:
        return ServerCommand(
            name="Redis",
            arguments=[str(redis_engine(user)), str(folder / "redis.conf")],
            folder=folder,
            log=folder / "redis.log",
            user=user,
            ladder=[(signal.SIGTERM, 3.0)],
            remove_if_we_die=[folder],
        )

    def _answers(self, address: Path) -> bool:
        """One AUTH and PING over the socket; False while the server is not listening yet."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(1.0)
            line.connect(str(address))
            line.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
            answer = b""
            while answer.count(b"\r\n") < 2:
                received = line.recv(256)
                if not received:
                    return False
                answer += received
            return answer == b"+OK\r\n+PONG\r\n"
        return False


def _write_configuration(folder: Path, password: str, user: ServerUser) -> None:
    """The server's configuration; a file and not arguments, which every user of a machine can read."""
    lines = [
        f"unixsocket {folder / SOCKET_NAME}", "unixsocketperm 700", "port 0", f"requirepass {password}",
        'save ""', "appendonly no", "daemonize no", f"dir {folder}", "maxmemory-policy noeviction",
        "databases 16",
    ]  # fmt: skip
    descriptor, name = tempfile.mkstemp(dir=folder)
    with os.fdopen(descriptor, "w") as handle:
        handle.write("\n".join(lines) + "\n")
    user.owns(Path(name))
    Path(name).rename(folder / "redis.conf")
