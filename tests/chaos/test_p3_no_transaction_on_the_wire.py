"""Promise 3: no database transaction is open while the network is being talked to."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.db.session import Database
from app.core.http.egress import PinnedTransport
from tests.support.application import body
from tests.support.comparing import differences
from tests.support.stage import Pair, Stage
from tests.support.waiting import wait_until

_open_here: ContextVar[int] = ContextVar("open_here", default=0)


@pytest.fixture
def caught(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Every call that leaves this process, by whether its task holds a transaction at that moment."""
    found: dict[str, list[str]] = {"held": [], "free": []}
    begin, send = Database.transaction, PinnedTransport.handle_async_request

    @asynccontextmanager
    async def watched(database: Database) -> AsyncIterator[AsyncSession]:
        _open_here.set(_open_here.get() + 1)
        try:
            async with begin(database) as session:
                yield session
        finally:
            _open_here.set(_open_here.get() - 1)

    async def noted(transport: PinnedTransport, request: Any) -> Any:
        found["held" if _open_here.get() else "free"].append(f"{request.method} {request.url.path}")
        return await send(transport, request)

    monkeypatch.setattr(Database, "transaction", watched)
    monkeypatch.setattr(PinnedTransport, "handle_async_request", noted)
    return found


async def everything(stage: Stage, pair: Pair) -> None:
    """Every kind of call that the hub makes, in requests and in drains."""
    for connection in (pair.source_id, pair.target_id):
        body(await stage.api.get(f"/v1/connections/{connection}/picklists"), 200)
        body(await stage.api.get(f"/v1/connections/{connection}/webhooks"), 200)
    born, twin = await stage.twins(pair)
    pair.source.say(born, "one")
    pair.target.say(twin, "two")
    pair.source.change(born, summary="changed", priority_id=1)
    await stage.settled()
    pair.target.resolve(twin)
    await stage.settled()
    wanted = {"relationship_id": pair.relationship_id, "since": "2026-01-01T00:00:00Z"}
    body(await stage.api.post("/v1/syncs", json=wanted), 202)
    await stage.poll()


async def test_p3_no_call_leaves_a_task_that_holds_a_transaction(caught: dict[str, list[str]], stage: Stage) -> None:
    """Each call of a whole story is looked at as it leaves: its task must hold no transaction."""
    await everything(stage, await stage.pair(reverse=True))
    assert len(caught["free"]) > 30, "the watch saw nothing"
    assert caught["held"] == []


async def test_p3_the_watch_sees_a_call_inside_a_transaction(caught: dict[str, list[str]], stage: Stage) -> None:
    """The test above can fail."""
    desk = stage.desk("acme")
    async with stage.database.transaction():
        transport = PinnedTransport(allow_private=True, limits=httpx.Limits())
        async with httpx.AsyncClient(transport=transport) as client:
            await client.get(f"{desk.base_url}/api/AuthInfo")
    assert len(caught["held"]) == 1


async def test_p3_a_slow_remote_holds_no_transaction_in_postgres(stage: Stage) -> None:
    """HaloPSA takes a second for every answer; PostgreSQL itself is asked again and again whether anybody
    of ours has been in a transaction for that long."""
    pair = await stage.pair()
    for desk in pair.desks:
        desk.fail({"times": None, "effect": {"delay_ms": 1000}})
    oldest = 0.0
    pair.source.new_ticket("slow")

    async def watched_until_carried() -> bool:
        nonlocal oldest
        oldest = max(oldest, await oldest_transaction_seconds(stage))
        return bool(pair.target.titled("slow"))

    await wait_until(watched_until_carried, 30)
    for desk in pair.desks:
        desk.calm()
    await stage.settled()
    assert oldest < 0.8
    assert differences(pair.source, pair.target, ["slow"]) == []


async def oldest_transaction_seconds(stage: Stage) -> float:
    """Since when the oldest transaction of anybody but this question is open."""
    async with stage.database.transaction() as session:
        connection = await session.connection()
        found = await connection.scalar(
            text(
                "SELECT max(extract(epoch FROM clock_timestamp() - xact_start)) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'"
            )
        )
    return float(found or 0.0)
