"""Everything on one machine: PostgreSQL, Redis, migrations, api and worker, as one thing that starts and stops."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from app import schema
from app.core.config import generate_key, set_environment
from app.embedded.data_folder import default_data_folder, placed_for
from app.embedded.engines import server_user
from app.embedded.errors import EmbeddedError
from app.embedded.processes import ServiceProcess
from app.embedded.stack import EmbeddedServers, EmbeddedStack

RESTART_SECONDS = 1.0
ENVIRONMENT = "environment.json"


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def port_must_be_free(host: str, port: int) -> None:
    """Raises `EmbeddedError` when somebody listens there: that one would answer in our place, and "it answers" would be
    true, and of another one."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise EmbeddedError(
                f"Cannot listen at {host}:{port}: {getattr(error, 'strerror', None) or error}. "
                "Stop what listens there, or choose another with --port."
            ) from None


class DevService:
    """The whole service on this machine. ``say`` is told each step in a few words."""

    def __init__(
        self,
        *,
        data_dir: Path | None = None,
        ephemeral: bool = False,
        fast: bool = False,
        host: str = "127.0.0.1",
        port: int = 8080,
        extra_environment: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.stack = EmbeddedStack(data_dir, ephemeral=ephemeral, fast=fast)
        self.host, self.port = host, port
        self.url = f"http://{host}:{port}"
        self._extra = dict(extra_environment or {})
        self._say = say
        self.environment: dict[str, str] = {}
        self.servers: EmbeddedServers | None = None
        self.api: ServiceProcess | None = None
        self.worker: ServiceProcess | None = None

    def start(self) -> None:
        """Start everything, in order. Raises an ``EmbeddedError`` that says what to do; nothing is left running."""
        try:
            port_must_be_free(self.host, self.port)
            self._say("starting PostgreSQL and Redis")
            servers = self.servers = self.stack.start()
            self.environment = {
                "PARHELION_DATABASE_URL": servers.database_url,
                "PARHELION_REDIS_URL": servers.redis_url,
                "PARHELION_SECRET_KEYS": self._secret_key(),
                **{name: os.environ.get(name, usual) for name, usual in self._usual().items()},
                **self._extra,
            }
            self._keep_environment()
            self._say("migrating the database")
            schema.upgrade(servers.database_url)
            self._say("starting the api and the worker")
            folder = self.stack.data_dir
            self.api = ServiceProcess(
                "the api",
                ["serve", "--host", self.host, "--port", str(self.port)],
                environment=self.environment,
                log=folder / "api.log",
            )
            self.worker = ServiceProcess(
                "the worker", ["worker"], environment=self.environment, log=folder / "worker.log"
            )
            self.api.start()
            self.worker.start()
            self.api.wait_answering(f"{self.url}/health/ready")
        except BaseException:
            self.stop()
            raise

    def _usual(self) -> dict[str, str]:
        """What a service on one machine wants, unless its environment says otherwise."""
        return {
            "PARHELION_PUBLIC_URL": self.url,
            "PARHELION_ALLOW_PRIVATE_EGRESS": "true",
            "PARHELION_LOG_FORMAT": "json",
        }

    def _secret_key(self) -> str:
        """The key that encrypts stored credentials: made once, kept beside the data it protects."""
        given = self._extra.get("PARHELION_SECRET_KEYS") or os.environ.get("PARHELION_SECRET_KEYS")
        if given:
            return given
        path = self.stack.data_dir / "secret-keys"
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(generate_key("dev"))
        return path.read_text().strip()

    def _keep_environment(self) -> None:
        """So that `parhelion init` in another terminal finds this service; readable by us alone."""
        path = self.stack.data_dir / ENVIRONMENT
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({"url": self.url, "environment": self.environment}, file)

    def watch(self, stopping: Callable[[], bool]) -> None:
        """Restart whatever ended, the servers too, until ``stopping()``."""
        while not stopping():
            self._revive_servers()
            for process in (self.api, self.worker):
                if process is not None and not process.is_running and not stopping():
                    self._say(f"{process.name} ended; starting it again")
                    process.start()
            time.sleep(RESTART_SECONDS)

    def _revive_servers(self) -> None:
        for name, server in (("PostgreSQL", self.stack.postgres), ("Redis", self.stack.redis)):
            if server is None or server.is_running:
                continue
            self._say(f"{name} ended; starting it again")
            try:
                server.restart()
            except EmbeddedError as error:  # tried again in a second: everything accepted is on the disk
                self._say(str(error))

    def stop(self) -> None:
        """Stop everything in the reverse order. Safe to call twice."""
        for process in (self.api, self.worker):
            if process is not None:
                with contextlib.suppress(ProcessLookupError):
                    process.stop()
        with contextlib.suppress(EmbeddedError):
            (self.stack.data_dir / ENVIRONMENT).unlink(missing_ok=True)
        self.stack.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def use_running_service(data_dir: Path | None) -> str | None:
    """Point this process at the `parhelion dev` that runs on this machine; its address, or ``None`` when none runs."""
    path = placed_for(data_dir or default_data_folder(), server_user()) / ENVIRONMENT
    try:
        told = json.loads(path.read_text())
        address = urlsplit(told["url"])
        # One that was killed leaves the file behind.
        socket.create_connection((address.hostname or "", address.port or 0), timeout=2).close()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    set_environment(told["environment"])
    url: str = told["url"]
    return url
