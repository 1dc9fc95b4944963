"""The whole service as real processes, for tests that kill them: PostgreSQL, Redis, the API and a worker."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest
from redis import Redis

from app.core.db.engine import create_engine
from app.core.db.session import Database
from app.core.http.budget import BudgetStore
from app.core.queue import open_redis
from app.embedded.dev import DevService, free_port
from app.embedded.processes import ServiceProcess
from app.sandbox.halopsa.server import create_sandbox
from app.sandbox.serving import serving
from tests.support.application import Api, create_tenant
from tests.support.database import make_settings
from tests.support.stage import Bell, Stage

QUICK = {
    "PARHELION_VISIBILITY_LAG_SECONDS": "0.5",
    "PARHELION_RECOVERY_AFTER_SECONDS": "0.2",
    "PARHELION_RETRY_BASE_SECONDS": "0.3",
    "PARHELION_RETRY_CAP_SECONDS": "2",
    "PARHELION_MAX_ATTEMPTS": "30",
    "PARHELION_SWEEP_SECONDS": "0.3",
    "PARHELION_POLL_OVERLAP_SECONDS": "60",
    "PARHELION_DATABASE_LOCK_TIMEOUT_SECONDS": "1",
}


class Machine:
    """The processes, and what can happen to them. Each call returns when it has happened."""

    def __init__(self) -> None:
        self.service = DevService(ephemeral=True, fast=True, port=free_port(), extra_environment=QUICK)
        self.service.start()

    @property
    def database_url(self) -> str:
        """Where the rows are."""
        return self.service.environment["PARHELION_DATABASE_URL"]

    @property
    def redis_url(self) -> str:
        """Where the bell hangs."""
        return self.service.environment["PARHELION_REDIS_URL"]

    async def kill_worker(self) -> None:
        """SIGKILL, and a new one, as an orchestrator does."""
        await asyncio.to_thread(self._again, self.service.worker)

    async def kill_api(self) -> None:
        """SIGKILL, and a new one that is waited for."""
        await asyncio.to_thread(self._again, self.service.api)
        assert self.service.api is not None
        await asyncio.to_thread(self.service.api.wait_answering, f"{self.service.url}/health/live")

    def keep_alive(self) -> None:
        """What an orchestrator does: a process that ended is started again."""
        for process in (self.service.api, self.service.worker):
            assert process is not None
            if not process.is_running:
                process.start()

    def last_words(self) -> str:
        """The end of the worker's log, for a test that fails."""
        return (self.service.stack.data_dir / "worker.log").read_text(errors="replace")[-3000:]

    def _again(self, process: ServiceProcess | None) -> None:
        assert process is not None
        process.kill()
        process.start()

    async def kill_postgres(self) -> None:
        """SIGKILL of the server; it stays away."""
        await asyncio.to_thread(self.service.stack.postgres.kill)

    async def restart_postgres(self) -> None:
        """Starts it (again) on its data."""
        await asyncio.to_thread(self.service.stack.postgres.restart)

    async def kill_redis(self) -> None:
        """SIGKILL of Redis; it stays away."""
        assert self.service.stack.redis is not None
        await asyncio.to_thread(self.service.stack.redis.kill)

    async def restart_redis(self) -> None:
        """An empty Redis at the same address."""
        assert self.service.stack.redis is not None
        await asyncio.to_thread(self.service.stack.redis.restart)

    async def flush_redis(self) -> None:
        """Everything Redis knew is gone."""
        with Redis.from_url(self.redis_url) as client:
            await asyncio.to_thread(client.flushall)

    def stop(self) -> None:
        """Everything ends."""
        for process in (self.service.worker, self.service.api):
            if process is not None:
                process.kill()  # a gentle end is tested elsewhere
        self.service.stop()


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """The processes, shared by the tests of a file: starting them takes seconds."""
    found = Machine()
    try:
        yield found
    finally:
        found.stop()


@asynccontextmanager
async def stage_on(machine: Machine) -> AsyncIterator[Stage]:
    """The stage whose hub is the machine: its worker and its API are other processes."""
    async with AsyncExitStack() as stack:
        sandbox = create_sandbox()
        sandbox_url = await stack.enter_async_context(serving(sandbox.app))
        settings = make_settings(machine.database_url, machine.redis_url)
        database = Database(create_engine(settings, application_name="looking on"))
        stack.push_async_callback(database.aclose)
        redis = open_redis(machine.redis_url)
        stack.push_async_callback(redis.aclose)
        client = httpx.AsyncClient(base_url=machine.service.url, timeout=30, trust_env=False)
        await stack.enter_async_context(client)
        tenant_id, key = await create_tenant(database)
        api = Api(client, tenant_id, key)
        yield Stage(settings, sandbox, sandbox_url, api, database, Bell(), BudgetStore(redis))
