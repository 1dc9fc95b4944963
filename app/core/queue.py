"""The doorbell across processes: an arq job without arguments. The only module that enqueues.

Rings are hints. They are coalesced (at most one job for each name every 20 ms), sent after the commit in the
background, and a Redis that is away is counted and forgotten: the sweep finds the rows.
"""

import asyncio
from typing import Any

import orjson
from arq.connections import ArqRedis
from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import RedisError

from app.core import telemetry
from app.core.logging import get_logger

log = get_logger(__name__)

COALESCE_SECONDS = 0.02
SEND_TIMEOUT_SECONDS = 1.0
# After a failure rings are not sent for this long: a dead Redis must not cost every request a connection attempt.
REST_SECONDS = 1.0
EXPIRES_MS = 60_000


def dumps(value: dict[str, Any]) -> bytes:
    """Jobs as JSON: arq's default is pickle, which lets whoever writes to Redis run code here."""
    return orjson.dumps(value, default=str)


def loads(blob: bytes) -> dict[str, Any]:
    """The other way."""
    value: dict[str, Any] = orjson.loads(blob)
    return value


def open_arq(url: str) -> ArqRedis:
    """arq's client for our address. Nothing is sent yet, so nothing can leak when the caller is cancelled; every wait
    is short, because callers have a sweep to fall back on. Close it with ``aclose(close_connection_pool=True)``."""
    pool = ConnectionPool.from_url(url, socket_connect_timeout=1.0, socket_timeout=5.0)
    return ArqRedis(pool, job_serializer=dumps, job_deserializer=loads, expires_extra_ms=EXPIRES_MS)


def open_redis(url: str) -> Redis:
    """A client for hints (budgets, health). Nothing is sent yet; every wait is short."""
    client: Redis = Redis.from_url(url, socket_timeout=1.0, socket_connect_timeout=1.0)
    return client


class ArqDoorbell:
    """Rings the workers through Redis. Never raises, never blocks."""

    def __init__(self, url: str) -> None:
        self._redis = open_arq(url)
        self._rung: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def ring(self, name: str) -> None:
        """Wake the drain called ``name`` in some worker."""
        self._rung.add(name)
        if self._task is None:
            self._task = asyncio.create_task(self._send(), name="doorbell")

    async def _send(self) -> None:
        try:
            while self._rung:
                names, self._rung = self._rung, set()
                try:
                    async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                        for name in names:
                            await self._redis.enqueue_job(f"wake_{name}", _expires=EXPIRES_MS / 1000)
                except (RedisError, OSError, TimeoutError) as error:
                    telemetry.DOORBELL_FAILURES.inc()
                    log.debug("doorbell.failed", error=type(error).__name__)
                    await asyncio.sleep(REST_SECONDS)
                await asyncio.sleep(COALESCE_SECONDS)
        finally:
            self._task = None

    async def aclose(self) -> None:
        """Stop ringing and close the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self._redis.aclose(close_connection_pool=True)
        except (RedisError, OSError):
            return
