"""Each check of readiness and of the backlog: a name, a time limit, a verdict."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.exc import SQLAlchemyError

from app.core import telemetry
from app.core.db.session import Database
from app.core.errors import Unavailable
from app.health import repository

# A probe that waits longer than this is answered as a failure: Kubernetes asks again in a few seconds anyway.
CHECK_TIMEOUT_SECONDS = 1.0
# Counting reads partial indexes and takes milliseconds; when it takes this long the database is the trouble.
BACKLOG_TIMEOUT_SECONDS = 5.0
# More rows than this, each older than this, mean that the workers do not keep up (or are gone).
LATE_AFTER_SECONDS = 300.0
LATE_ROWS_ALLOWED = 10


@dataclass(frozen=True, slots=True)
class Backlog:
    """How far one queue is behind. ``late_rows`` counts rows due for more than :data:`LATE_AFTER_SECONDS`."""

    queue: str
    due_rows: int
    late_rows: int
    oldest_seconds: float


BacklogProbe = Callable[[], Awaitable[Backlog]]
"""What a room with a queue puts into ``app.state.backlog_probes``."""


class Pingable(Protocol):
    """A Redis client, as far as health needs it."""

    async def ping(self) -> object: ...


@dataclass(frozen=True, slots=True)
class Result:
    """One check's answer, in a sentence."""

    name: str
    ok: bool
    needed: bool
    detail: str


async def check_database(database: Database) -> Result:
    """Whether Postgres answers a statement in time."""
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            await repository.ping(database)
    except TimeoutError:
        return Result("postgres", False, True, f"PostgreSQL did not answer within {CHECK_TIMEOUT_SECONDS:g} s.")
    except (SQLAlchemyError, OSError) as error:
        return Result("postgres", False, True, f"PostgreSQL cannot be reached ({type(error).__name__}).")
    return Result("postgres", True, True, "PostgreSQL answers.")


async def check_redis(redis: Pingable | None) -> Result:
    """Whether Redis answers. It is a doorbell: without it work goes on, found by the sweep instead."""
    if redis is None:
        return Result("redis", False, False, "No Redis client is open here; work is found by the sweep.")
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            await redis.ping()
    except Exception as error:  # noqa: BLE001  # whatever Redis does, it must not take readiness down
        return Result("redis", False, False, f"Redis does not answer ({type(error).__name__}); work is slower.")
    return Result("redis", True, False, "Redis answers.")


async def measure(probes: Sequence[BacklogProbe]) -> list[Backlog]:
    """Ask every queue how far it is behind, and keep the answers as metrics. Raises ``Unavailable``."""
    try:
        async with asyncio.timeout(BACKLOG_TIMEOUT_SECONDS):
            found = [await probe() for probe in probes]
    except TimeoutError:
        raise Unavailable(
            f"The queues could not be counted within {BACKLOG_TIMEOUT_SECONDS:g} seconds.",
            next_step="Look at the load of PostgreSQL.",
            headers={"Retry-After": "30"},
        ) from None
    for one in found:
        telemetry.QUEUE_BACKLOG.labels(one.queue).set(one.due_rows)
        telemetry.QUEUE_OLDEST.labels(one.queue).set(one.oldest_seconds)
    return found


def keeping_up(found: Sequence[Backlog]) -> bool:
    """Whether every queue is within what is allowed."""
    return all(one.late_rows <= LATE_ROWS_ALLOWED for one in found)
