"""Running a worker: start, wait for a signal, stop in order."""

import asyncio
import signal

from app.core import telemetry
from app.core.config import Settings
from app.core.http.budget import BudgetStore
from app.core.logging import get_logger
from app.core.queue import open_redis
from app.worker import bells
from app.worker.runtime import Runtime

log = get_logger(__name__)


async def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT, then finish what was begun within 25 s."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    redis = open_redis(settings.redis_url.get_secret_value())
    if settings.worker_metrics_port is not None:
        telemetry.serve(settings.worker_metrics_port)
    runtime = Runtime(settings, BudgetStore(redis))
    await runtime.start()
    ears = asyncio.create_task(bells.listen(settings, runtime.doorbell), name="doorbells")
    log.info("worker.started", worker=settings.worker_name, owner=str(runtime.owner))
    try:
        await stop.wait()
    finally:
        log.info("worker.stopping", worker=settings.worker_name)
        ears.cancel()
        await asyncio.gather(ears, return_exceptions=True)
        await runtime.stop()
        await redis.aclose()
