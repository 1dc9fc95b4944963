"""arq and nothing else: the jobs that ring this process's drains, and the loop that keeps arq running.

arq loses jobs by design (a job that waits too long, a flushed Redis, a killed worker), so a job carries nothing and its
loss costs one sweep. ``keep_result=0`` and no job id, because a kept result or a repeated id swallows the next ring;
``max_tries=1``, because a doorbell is not worth a second try.
"""

import asyncio
from functools import partial
from typing import Any

from arq.connections import ArqRedis
from arq.worker import Worker, func
from redis.exceptions import RedisError

from app.core import queue, telemetry
from app.core.config import Settings
from app.core.logging import get_logger
from app.core.stages import LocalDoorbell

log = get_logger(__name__)

NAMES = ("inbox", "sync", "outbox", "reconcile")
REST_SECONDS = 1.0


def _job(name: str, doorbell: LocalDoorbell) -> Any:
    async def wake(ctx: dict[Any, Any]) -> None:
        doorbell.ring(name)

    return func(wake, name=f"wake_{name}", keep_result=0, max_tries=1, timeout=5)


def make_worker(settings: Settings, doorbell: LocalDoorbell, redis: ArqRedis) -> Worker:
    """An arq worker whose only jobs are doorbells."""
    return Worker(
        functions=[_job(name, doorbell) for name in NAMES],
        redis_pool=redis,
        handle_signals=False,
        poll_delay=settings.doorbell_poll_seconds,
        max_jobs=10,
        keep_result=0,
        max_tries=1,
        job_timeout=settings.job_timeout_seconds,
        health_check_interval=15,
        retry_jobs=False,
        allow_abort_jobs=False,
        expires_extra_ms=600_000,
        job_serializer=queue.dumps,
        job_deserializer=queue.loads,
        log_results=False,
    )


async def listen(settings: Settings, doorbell: LocalDoorbell) -> None:
    """Hear doorbells for ever: when Redis is away arq's worker ends, and is started anew until Redis is back."""
    while True:
        redis = queue.open_arq(settings.redis_url.get_secret_value())
        worker = make_worker(settings, doorbell, redis)
        try:
            await worker.async_run()
        except (RedisError, OSError, TimeoutError) as error:
            telemetry.DOORBELL_FAILURES.inc()
            log.warning("doorbell.deaf", error=type(error).__name__)
        finally:
            # In a task of its own: until Python 3.11.3 a time-out inside a task that is being cancelled ends as another
            # cancellation (redis-py looks with a time-out of zero), and the connection stayed open.
            await asyncio.create_task(_close(worker, redis), name="doorbell closing")
        doorbell.ring_all()  # what was rung meanwhile was not heard
        await asyncio.sleep(REST_SECONDS)


async def _close(worker: Worker, redis: ArqRedis) -> None:
    for close in (worker.close, partial(redis.aclose, close_connection_pool=True)):
        try:
            await close()
        except (RedisError, OSError):
            log.debug("doorbell.close_failed")
