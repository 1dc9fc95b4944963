"""The API process: one application with its database, its doorbell and its routes."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

import app.tables  # noqa: F401  foreign keys name tables of rooms this process may not have imported
from app import __version__, api
from app.connections.service import ConnectorPool
from app.core import clock, contract, problems
from app.core.config import Settings, settings
from app.core.crypto import Vault
from app.core.db.engine import create_engine
from app.core.db.session import Database, Doorbell
from app.core.http.budget import BudgetStore
from app.core.middleware import Edge
from app.core.queue import ArqDoorbell, open_redis
from app.health.checks import LATE_AFTER_SECONDS, Backlog, BacklogProbe
from app.inbox import repository as inbox
from app.inbox.receive import GroupCommit, HookReceiver
from app.outbox import repository as outbox
from app.sync import repository as sync

HOOKS = "/hooks/"
DESCRIPTION = """\
Parhelion keeps HaloPSA and its partners in step. Authenticate with `Authorization: Bearer phk_…`; the first key is made
by `parhelion init`. Lists answer `{items, next_cursor}`. Failures are RFC 9457 problems with a stable `code` and, where
a person can do something, a `next_step`. Creating requests take an `Idempotency-Key`; changes need `If-Match`.
"""


def _probe(database: Database, queue: str, measure: Callable[..., Awaitable[tuple[int, int, float]]]) -> BacklogProbe:
    async def probe() -> Backlog:
        async with database.transaction() as session:
            late = clock.now() - timedelta(seconds=LATE_AFTER_SECONDS)
            due, late_rows, age = await measure(session, older_than=late)
        return Backlog(queue, due, late_rows, age)

    return probe


class Service(FastAPI):
    """FastAPI, except that deliveries go straight to their receiver.

    Before a route is reached FastAPI spends about 60 us of a request on layers a delivery does not need (telemetry
    look-ups, exit stacks, matching every router); that is half of what receiving and committing it costs.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "http" and scope["method"] == "POST" and _is_hook(scope["path"]):
            await self.state.hook_door(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def _is_hook(path: str) -> bool:
    return path.startswith(HOOKS) and "/" not in path[len(HOOKS) :]


def create_app(configured: Settings | None = None, *, doorbell: Doorbell | None = None) -> FastAPI:
    """The application. ``doorbell`` replaces the one through Redis (a process that also drains rings itself)."""
    chosen = configured or settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        bell = doorbell or ArqDoorbell(chosen.redis_url.get_secret_value())
        redis = open_redis(chosen.redis_url.get_secret_value())
        budgets = BudgetStore(redis)
        database = Database(create_engine(chosen, application_name="parhelion api"), bell)
        vault = Vault.from_settings(chosen)
        pool = ConnectorPool(database, vault, budgets, chosen)
        state = app.state
        state.settings, state.database, state.vault, state.budgets, state.connectors = (
            chosen,
            database,
            vault,
            budgets,
            pool,
        )
        state.redis = redis
        state.backlog_probes = [
            _probe(database, "inbox_message", inbox.backlog),
            _probe(database, "outbound_command", outbox.backlog),
            _probe(database, "ticket_link", sync.backlog),
        ]
        state.hook_receiver = HookReceiver(
            find=pool.hook_target,
            committer=GroupCommit(database, batch_max=chosen.hook_commit_batch_max),
            body_max_bytes=chosen.hook_body_max_bytes,
        )
        state.hook_door = Edge(state.hook_receiver, settings=chosen)
        try:
            yield
        finally:
            await pool.aclose()
            if isinstance(bell, ArqDoorbell):
                await bell.aclose()
            await redis.aclose()
            await database.aclose()

    app = Service(
        title="Parhelion",
        version=__version__,
        description=DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=lifespan,
        docs_url="/docs" if chosen.docs_enabled else None,
        redoc_url=None,
    )
    api.include_all(app)
    problems.install(app)
    contract.install(app)
    app.add_middleware(Edge, settings=chosen)
    return app
