"""Probes and metrics."""

import asyncio

import httpx
import pytest
from fastapi import FastAPI
from redis.asyncio import Redis

from app.core.db.session import Database
from app.embedded.redis import EmbeddedRedis
from app.health import checks
from app.health.checks import Backlog
from tests.support.application import Api, body, problem, running
from tests.support.database import make_settings


def probe(queue: str, *, late: int) -> object:
    async def ask() -> Backlog:
        return Backlog(queue, due_rows=late + 3, late_rows=late, oldest_seconds=301.0 if late else 0.5)

    return ask


async def test_live_needs_nothing() -> None:
    async with running(make_settings("postgresql://nobody@127.0.0.1:1/none")) as application:
        transport = httpx.ASGITransport(app=application)
        async with httpx.AsyncClient(transport=transport, base_url="http://parhelion.test") as client:
            assert body(await client.get("/health/live"), 200) == {"status": "ok"}
            ready = body(await client.get("/health/ready"), 503)

    assert ready["status"] == "unavailable"
    assert ready["checks"][0]["name"] == "postgres"
    assert ready["checks"][0]["ok"] is False


async def test_ready_without_redis_is_degraded(client: httpx.AsyncClient) -> None:
    found = body(await client.get("/health/ready"), 200)

    assert found["status"] == "degraded"
    assert {check["name"]: check["ok"] for check in found["checks"]} == {"postgres": True, "redis": False}


async def test_ready_with_redis_and_after_it_died(
    application: FastAPI, client: httpx.AsyncClient, redis_server: EmbeddedRedis
) -> None:
    redis = Redis.from_url(redis_server.url)
    application.state.redis = redis
    assert body(await client.get("/health/ready"), 200)["status"] == "ok"
    await redis.aclose()

    application.state.redis = gone = Redis.from_url("redis://127.0.0.1:1/0")
    found = body(await client.get("/health/ready"), 200)
    await gone.aclose()

    assert found["status"] == "degraded"


async def test_a_database_that_hangs_is_not_waited_for(application: FastAPI, client: httpx.AsyncClient) -> None:
    database: Database = application.state.database
    holders = [database.transaction() for _ in range(5)]
    sessions = [await holder.__aenter__() for holder in holders]
    for session in sessions:
        await session.connection()  # every connection of the pool is taken

    async with asyncio.timeout(5):
        found = body(await client.get("/health/ready"), 503)

    for holder in holders:
        await holder.__aexit__(None, None, None)
    assert "within 1 s" in found["checks"][0]["detail"]


@pytest.mark.parametrize(("late", "status", "word"), [(0, 200, "ok"), (10, 200, "ok"), (11, 503, "behind")])
async def test_backlog(application: FastAPI, client: httpx.AsyncClient, late: int, status: int, word: str) -> None:
    application.state.backlog_probes = [probe("inbox_message", late=0), probe("outbound_command", late=late)]

    found = body(await client.get("/health/backlog"), status)
    metrics = (await client.get("/metrics")).text

    assert found["status"] == word
    assert [queue["late_rows"] for queue in found["queues"]] == [0, late]
    assert f'parhelion_queue_backlog_rows{{queue="outbound_command"}} {late + 3}.0' in metrics


async def test_queues_that_cannot_be_counted_in_time(
    application: FastAPI, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never() -> Backlog:
        await asyncio.Event().wait()
        raise AssertionError("not reached")

    monkeypatch.setattr(checks, "BACKLOG_TIMEOUT_SECONDS", 0.05)
    application.state.backlog_probes = [never]

    problem(await client.get("/health/backlog"), 503, "unavailable")


async def test_the_real_queues_are_counted(client: httpx.AsyncClient) -> None:
    found = body(await client.get("/health/backlog"), 200)

    assert {queue["queue"]: queue["due_rows"] for queue in found["queues"]} == {
        "inbox_message": 0,
        "outbound_command": 0,
        "ticket_link": 0,
    }


async def test_metrics_hold_nothing_of_a_tenant(api: Api, client: httpx.AsyncClient) -> None:
    body(await api.get("/v1/api-keys"), 200)

    answer = await client.get("/metrics")

    assert answer.headers["content-type"].startswith("text/plain")
    assert 'parhelion_http_requests_total{method="GET",route="/v1/api-keys",status_class="2xx"}' in answer.text
    assert api.tenant_id.hex not in answer.text
    assert 'parhelion_hook_deliveries_total{outcome="bad_signature"}' in answer.text
