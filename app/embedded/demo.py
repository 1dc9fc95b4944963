"""The demo's machine: the whole service and a sandbox server on this computer, in a folder that is thrown away."""

import asyncio
import shutil
from pathlib import Path

import redis
from rich.console import Console

from app.core.config import set_environment, settings
from app.embedded.dev import DevService, free_port
from app.embedded.processes import ServiceProcess
from app.operations import make_tenant
from app.sandbox.demo import story
from app.sandbox.demo.verdict import Verdict

# Clocks shrunk for a story of half a minute; everything else as in production.
QUICK = {
    "PARHELION_VISIBILITY_LAG_SECONDS": "1",
    "PARHELION_RECOVERY_AFTER_SECONDS": "0.5",
    "PARHELION_RETRY_BASE_SECONDS": "1",
    "PARHELION_SWEEP_SECONDS": "1",
    "PARHELION_POLL_OVERLAP_SECONDS": "60",
}


class DemoMachine:
    """The running parts, for the story."""

    def __init__(self, service: DevService, sandbox: ServiceProcess, sandbox_url: str, api_key: str) -> None:
        self._service = service
        self._sandbox = sandbox
        self.hub_url = service.url
        self.sandbox_url = sandbox_url
        self.api_key = api_key

    def kill_worker(self) -> None:
        """SIGKILL."""
        if self._service.worker is not None:
            self._service.worker.kill()

    def start_worker(self) -> None:
        """What an orchestrator does."""
        if self._service.worker is not None:
            self._service.worker.start()

    def flush_redis(self) -> None:
        """Everything Redis knew is gone."""
        if self._service.servers is not None:
            with redis.Redis.from_url(self._service.servers.redis_url) as client:
                client.flushall()


def play(*, tickets: int, people: Console, keep: bool) -> Verdict:
    """Start everything, play, compare, stop everything. With ``keep`` the data and logs stay for a look."""
    data = Path(".parhelion-demo").absolute() if keep else None
    if data is not None:
        shutil.rmtree(data, ignore_errors=True)  # of an earlier run
    service = DevService(
        data_dir=data,
        ephemeral=not keep,
        port=free_port(),
        extra_environment=QUICK,
        say=lambda text: people.print(f"[dim]{text}[/]"),
    )
    sandbox: ServiceProcess | None = None
    try:
        service.start()
        port = free_port()
        sandbox = ServiceProcess(
            "the sandbox",
            ["sandbox", "halopsa", "--port", str(port), "--tenant", "acme", "--tenant", "globex"],
            environment={},
            log=service.stack.data_dir / "sandbox.log",
        )
        sandbox.start()
        url = f"http://127.0.0.1:{port}"
        sandbox.wait_answering(f"{url}/_sandbox/tenants")
        set_environment(service.environment)
        _, key = asyncio.run(make_tenant(settings(), "Demo"))
        return asyncio.run(story.play(DemoMachine(service, sandbox, url, key), people, tickets))
    finally:
        if sandbox is not None:
            sandbox.stop()
        if keep:
            people.print(f"Data and logs are in {service.stack.data_dir}")
        service.stop()
