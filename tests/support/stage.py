"""The stage of the flow tests: sandbox tenants on real sockets, the API on a real socket, a worker with small clocks,
joined through the public API the way an integrator joins them."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any
from uuid import UUID

import httpx
import pytest_asyncio
from sqlalchemy import text

from app.core import clock, ids
from app.core.config import Settings
from app.core.db.session import Database
from app.core.http.budget import BudgetStore
from app.core.queue import open_redis
from app.embedded.dev import free_port
from app.main import create_app
from app.sandbox.halopsa.seed import Seed
from app.sandbox.halopsa.server import Sandbox, create_sandbox
from app.sandbox.halopsa.switches import Switches
from app.sandbox.serving import serving
from app.worker.runtime import Runtime
from tests.support.application import Api, body, create_tenant
from tests.support.database import make_settings
from tests.support.desks import Desk
from tests.support.waiting import wait_until

_numbers = count(1)

QUICK: Mapping[str, Any] = {
    "visibility_lag_seconds": 0.2,
    "recovery_after_seconds": 0.1,
    "retry_base_seconds": 0.2,
    "retry_cap_seconds": 2.0,
    "sweep_seconds": 0.2,
    "poll_interval_seconds": 3600.0,  # polls come when a test asks for one
    "poll_overlap_seconds": 60.0,
    "database_pool_size": 10,
}
# Both sides resolve through the resolution outcome; tickets from elsewhere belong to a client and a type.
SIDES: Mapping[str, Any] = {
    "source": {"resolution": "12"},
    "target": {"resolution": "12", "customer": 3, "ticket_type": 1},
    "source_label": "Acme",
    "target_label": "Globex",
}

# One statement is one snapshot: work that moves from queue to queue between two questions cannot hide from it.
_LEFT_TO_DO = text(
    """
    SELECT (SELECT count(*) FROM inbox_message WHERE status = 'pending')
         + (SELECT count(*) FROM outbound_command WHERE status = 'pending')
         + (SELECT count(*) FROM ticket_link WHERE dirty_since IS NOT NULL
                AND state IN ('new', 'linked', 'orphaned', 'failed'))
         + (SELECT count(*) FROM sync_run WHERE state IN ('queued', 'reading', 'converging'))
    """
)


class Bell:
    """Rings the worker that is there now, if there is one."""

    def __init__(self) -> None:
        self.runtime: Runtime | None = None

    def ring(self, name: str) -> None:
        """Pass it on."""
        if self.runtime is not None:
            self.runtime.doorbell.ring(name)


@dataclass
class Pair:
    """Two organisations in a relationship."""

    source: Desk
    target: Desk
    source_id: str
    target_id: str
    relationship_id: str

    @property
    def desks(self) -> tuple[Desk, Desk]:
        """Both."""
        return self.source, self.target

    @property
    def path(self) -> str:
        """The relationship's address."""
        return f"/v1/relationships/{self.relationship_id}"


@dataclass
class Stage:
    """Everything that runs, and the integrator's key."""

    settings: Settings
    sandbox: Sandbox
    sandbox_url: str
    api: Api
    database: Database
    bell: Bell
    budgets: BudgetStore
    relationships: list[str] = field(default_factory=list)

    # People and partners

    def desk(self, name: str, *, seed: Seed | None = None, **switches: Any) -> Desk:
        """A new organisation with its own HaloPSA."""
        unique = f"{name}-{next(_numbers)}"
        world = self.sandbox.add_tenant(unique, switches=Switches(rate_limit_off=True).changed(switches), seed=seed)
        return Desk(world, f"{self.sandbox_url}/{unique}")

    async def create(self, desk: Desk, *, config: Mapping[str, Any] | None = None, **credentials: str) -> Any:
        """Make a connection to an organisation, not tested yet; its JSON."""
        [application] = desk.world.tokens.applications.values()
        wanted = {
            "kind": "halopsa",
            "name": f"{desk.name} {next(_numbers)}",
            # With HaloPSA's usual 300 calls a story would soon wait for wider batches; what does that tests the pacing.
            "config": {"base_url": desk.base_url, "budget_limit": 100_000, **(config or {})},
            "credentials": {
                "client_id": application.seed.client_id,
                "client_secret": application.seed.client_secret,
                **credentials,
            },
        }
        return body(await self.api.post("/v1/connections", json=wanted), 201)

    async def test(self, connection_id: str) -> Any:
        """The connection test's JSON."""
        return body(await self.api.post(f"/v1/connections/{connection_id}/test"), 200)

    async def connect(self, desk: Desk, *, webhooks: bool = True) -> str:
        """Connect an organisation, test it, register the webhooks; the connection's id."""
        made = await self.create(desk)
        tested = await self.test(made["id"])
        assert tested["state"] == "active", tested
        if webhooks:
            hooked = body(await self.api.post(f"/v1/connections/{made['id']}/webhooks"), 200)
            assert hooked["problems"] == []
        connection_id: str = made["id"]
        return connection_id

    async def relate(self, source_id: str, target_id: str, **settings: Any) -> str:
        """Keep two connections in step; the relationship's id."""
        wanted = {
            "name": f"relationship {next(_numbers)}",
            "source_connection_id": source_id,
            "target_connection_id": target_id,
            "settings": {**SIDES, **settings},
        }
        made = body(await self.api.post("/v1/relationships", json=wanted), 201)
        self.relationships.append(made["id"])
        relationship_id: str = made["id"]
        return relationship_id

    async def pair(
        self,
        *,
        switches: Mapping[str, Any] | None = None,
        source_switches: Mapping[str, Any] | None = None,
        target_switches: Mapping[str, Any] | None = None,
        webhooks: bool = True,
        **settings: Any,
    ) -> Pair:
        """Two new organisations, connected and related. ``switches`` are set at both."""
        source = self.desk("acme", **(switches or {}), **(source_switches or {}))
        target = self.desk("globex", **(switches or {}), **(target_switches or {}))
        return await self.joined(source, target, webhooks=webhooks, **settings)

    async def joined(self, source: Desk, target: Desk, /, *, webhooks: bool = True, **settings: Any) -> Pair:
        """Two organisations that are there already, connected and related."""
        source_id = await self.connect(source, webhooks=webhooks)
        target_id = await self.connect(target, webhooks=webhooks)
        return Pair(source, target, source_id, target_id, await self.relate(source_id, target_id, **settings))

    async def patch(self, path: str, change: Mapping[str, Any]) -> Any:
        """Change a resource as it is now."""
        etag = (await self.api.get(path)).headers["etag"]
        return body(await self.api.patch(path, json=change, headers={"If-Match": etag}), 200)

    async def command(self, path: str, verb: str, wanted: Mapping[str, Any] | None = None) -> Any:
        """Tell a versioned resource to do something."""
        etag = (await self.api.get(path)).headers["etag"]
        options: dict[str, Any] = {"json": wanted} if wanted is not None else {}
        return body(await self.api.post(f"{path}/{verb}", headers={"If-Match": etag}, **options), 200)

    async def reset(self, pair: Pair, **settings: Any) -> None:
        """Change settings of a relationship; the others stay."""
        now = body(await self.api.get(pair.path), 200)["settings"]
        await self.patch(pair.path, {"settings": {**now, **settings}})

    # The worker

    @asynccontextmanager
    async def working(self, **changes: Any) -> AsyncIterator[Runtime]:
        """A worker of its own while the body runs."""
        runtime = Runtime(self.settings.model_copy(update=changes), self.budgets)
        await runtime.start()
        self.bell.runtime = runtime
        try:
            yield runtime
        finally:
            self.bell.runtime = None
            await runtime.stop()

    # Waiting and reading

    async def left_to_do(self) -> int:
        """Deliveries on their way, events, links and writes that wait."""
        on_their_way = sum(world.deliveries.outstanding for world in self.sandbox.tenants.values())
        if on_their_way:
            return on_their_way
        async with self.database.autocommit() as session:
            connection = await session.connection()
            return int(await connection.scalar(_LEFT_TO_DO) or 0)

    async def settled(self, timeout_seconds: float = 20.0) -> None:
        """Until nothing is left to do."""
        await wait_until(self._is_settled, timeout_seconds, every_seconds=0.02)

    async def _is_settled(self) -> bool:
        return await self.left_to_do() == 0

    async def request_poll(self) -> None:
        """Every connection is due to be polled."""
        async with self.database.transaction() as session:
            connection = await session.connection()
            await connection.execute(text("UPDATE poll_cursor SET next_attempt_at = :now"), {"now": clock.now()})
        self.bell.ring("reconcile")

    async def polls_due(self) -> int:
        """Connections that wait to be polled."""
        async with self.database.transaction() as session:
            connection = await session.connection()
            late = text("SELECT count(*) FROM poll_cursor WHERE next_attempt_at <= :now")
            return int(await connection.scalar(late, {"now": clock.now()}) or 0)

    async def poll_errors(self) -> list[str]:
        """Why the last polls of connections failed."""
        async with self.database.transaction() as session:
            connection = await session.connection()
            rows = await connection.execute(text("SELECT error FROM poll_cursor WHERE error IS NOT NULL"))
            return [row[0] for row in rows]

    async def poll(self) -> None:
        """The reconciling poll of every connection, now, and what follows from it."""
        asked = clock.now()
        await self.request_poll()
        await wait_until(lambda: self._polled_since(asked), 15, every_seconds=0.02)
        await self.settled()

    async def _polled_since(self, moment: datetime) -> bool:
        async with self.database.autocommit() as session:
            connection = await session.connection()
            late = text("SELECT count(*) FROM poll_cursor WHERE last_success_at IS NULL OR last_success_at < :asked")
            return int(await connection.scalar(late, {"asked": moment}) or 0) == 0

    async def links(self, pair: Pair, **filters: Any) -> list[dict[str, Any]]:
        """The relationship's ticket links."""
        params = {"relationship_id": pair.relationship_id, "limit": 200, **filters}
        found: list[dict[str, Any]] = body(await self.api.get("/v1/ticket-links", params=params), 200)["items"]
        return found

    async def link(self, pair: Pair, source_ticket: int) -> dict[str, Any]:
        """The link of a ticket of the source, with its history."""
        [found] = [one for one in await self.links(pair) if one["source_ticket_id"] == str(source_ticket)]
        detail: dict[str, Any] = body(await self.api.get(f"/v1/ticket-links/{found['id']}"), 200)
        return detail

    async def twin(self, pair: Pair, source_ticket: int) -> int:
        """The target's ticket of a source's ticket, once everything has settled."""
        await self.settled()
        return int((await self.link(pair, source_ticket))["target_ticket_id"])

    async def twins(self, pair: Pair, summary: str = "Printer is on fire", **members: Any) -> tuple[int, int]:
        """A ticket that is born at the source and has arrived at the target; both ids."""
        born = pair.source.new_ticket(summary, **members)
        return born, await self.twin(pair, born)

    async def dead_letters(self) -> list[dict[str, Any]]:
        """Writes that were given up."""
        answer = await self.api.get("/v1/outbox", params={"status": "dead", "limit": 200})
        found: list[dict[str, Any]] = body(answer, 200)["items"]
        return found

    def connection_uuid(self, connection_id: str) -> UUID:
        """The row's key of a connection."""
        return ids.parse("con", connection_id)


@asynccontextmanager
async def open_stage(database_url: str, redis_url: str, **changes: Any) -> AsyncIterator[Stage]:
    """A stage without a worker: start one with ``working()``."""
    async with AsyncExitStack() as stack:
        sandbox = create_sandbox()
        sandbox_url = await stack.enter_async_context(serving(sandbox.app))
        settings = make_settings(database_url, redis_url, **{**QUICK, **changes})
        bell = Bell()
        port = free_port()
        settings = settings.model_copy(update={"public_url": f"http://127.0.0.1:{port}"})
        app = create_app(settings, doorbell=bell)
        api_url = await stack.enter_async_context(serving(app, port=port))
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=api_url, timeout=30, trust_env=False))
        tenant_id, key = await create_tenant(app.state.database)
        redis = open_redis(redis_url)
        stack.push_async_callback(redis.aclose)
        yield Stage(
            settings,
            sandbox,
            sandbox_url,
            Api(client, tenant_id, key),
            app.state.database,
            bell,
            BudgetStore(redis),
        )


@pytest_asyncio.fixture
async def idle_stage(database_url: str, redis_url: str) -> AsyncIterator[Stage]:
    """A stage whose worker has not been started."""
    async with open_stage(database_url, redis_url) as found:
        yield found


@pytest_asyncio.fixture
async def stage(idle_stage: Stage) -> AsyncIterator[Stage]:
    """A stage with a worker."""
    async with idle_stage.working():
        yield idle_stage
