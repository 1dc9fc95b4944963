"""The worker as a whole: it starts, works, notices the dead, and leaves nothing behind when it stops."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import text
from sqlmodel import col, select

from app.core import clock, ids
from app.core.config import Settings
from app.core.db.session import Database
from app.core.http.budget import BudgetStore
from app.core.queue import open_redis
from app.inbox import repository
from app.inbox.models import InboxMessage
from app.inbox.repository import Arrival
from app.operations import worker_is_alive
from app.worker import heartbeat
from app.worker.runtime import Runtime
from tests.support.database import make_settings
from tests.support.rows import add_tenant
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("testdesk")


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[Runtime]:
    redis: Redis = open_redis(settings.redis_url.get_secret_value())
    runtime = Runtime(settings, BudgetStore(redis))
    await runtime.start()
    try:
        yield runtime
    finally:
        await runtime.stop()
        await redis.aclose()


async def arrive(database: Database, *external_ids: str) -> None:
    """Events of a connection that does not exist: a worker files them as dead letters, and needs nothing else."""
    async with database.transaction() as session:
        tenant_id = await add_tenant(session)
        where = ids.new_id()
        await repository.store(session, [Arrival(tenant_id, where, one, b"{}", {}) for one in external_ids])


async def statuses(database: Database) -> dict[str, str]:
    async with database.transaction() as session:
        found = await session.exec(select(InboxMessage.external_id, InboxMessage.status))
        return dict(found.all())


async def sessions_of(database: Database, name: str) -> int:
    async with database.transaction() as session:
        connection = await session.connection()
        count = await connection.scalar(
            text("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE :name"), {"name": f"{name}%"}
        )
        return int(count or 0)


class TestLife:
    async def test_it_takes_up_what_waits_and_what_it_is_rung_for(self, database: Database, database_url: str) -> None:
        await arrive(database, "before")
        settings = make_settings(database_url, sweep_seconds=60.0)
        async with working(settings) as runtime:
            await wait_until(lambda: _is(database, {"before": "dead"}))
            await arrive(database, "rung")
            runtime.doorbell.ring("inbox")
            await wait_until(lambda: _is(database, {"before": "dead", "rung": "dead"}))

    async def test_without_any_bell_the_sweep_finds_it(self, database: Database, database_url: str) -> None:
        settings = make_settings(database_url, sweep_seconds=0.2)
        async with working(settings):
            await arrive(database, "silent")
            await wait_until(lambda: _is(database, {"silent": "dead"}))

    async def test_it_says_that_it_lives(self, database: Database, database_url: str) -> None:
        settings = make_settings(database_url)
        assert not await worker_is_alive(settings)
        async with working(settings):
            await wait_until(lambda: worker_is_alive(settings))
            async with database.transaction() as session:
                seen = await heartbeat.newest(session, settings.worker_name)
            assert not await worker_is_alive(make_settings(database_url, worker_name="another")), "each for itself"
        assert seen is not None
        with clock.shifted(timedelta(seconds=31)):
            assert not await worker_is_alive(settings)

    async def test_a_database_that_cannot_be_asked_is_no_sign_of_death(self) -> None:
        assert await worker_is_alive(make_settings("postgresql://nobody@127.0.0.1:1/none"))

    async def test_it_frees_what_the_dead_held(self, database: Database, database_url: str) -> None:
        await arrive(database, "held")
        async with database.transaction() as session:
            await repository.claim(
                session, limit=9, lease=timedelta(seconds=90), token=ids.new_id(), owner=ids.new_id()
            )
        async with working(make_settings(database_url)):
            await wait_until(lambda: _is(database, {"held": "dead"}))

    async def test_its_own_work_is_not_freed_when_its_lock_is_lost(self, database: Database, database_url: str) -> None:
        """PostgreSQL restarts or a proxy cuts: the worker takes its lock again by itself."""
        settings = make_settings(database_url, worker_name="cut off")
        async with working(settings) as runtime:
            await wait_until(lambda: _lock_held(database, runtime))
            async with database.transaction() as session:
                connection = await session.connection()
                await connection.execute(
                    text(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE application_name = 'cut off liveness'"
                    )
                )
            await wait_until(lambda: _not(_lock_held(database, runtime)))
            await wait_until(lambda: _lock_held(database, runtime), timeout_seconds=15)


class TestEnd:
    async def test_nothing_is_left_behind(self, database: Database, database_url: str) -> None:
        before = set(asyncio.all_tasks())
        settings = make_settings(database_url, worker_name="leaving")
        async with working(settings):
            await wait_until(lambda: _positive(sessions_of(database, "leaving")))
        gc.collect()  # an unclosed connection warns when it is collected, and warnings are errors

        assert {task.get_name() for task in asyncio.all_tasks() - before} == set()
        await wait_until(lambda: _not(_positive(sessions_of(database, "leaving"))))

    async def test_stopping_is_quick_when_nothing_is_under_way(self, database: Database, database_url: str) -> None:
        async with working(make_settings(database_url, sweep_seconds=60.0)) as runtime:
            await wait_until(lambda: _lock_held(database, runtime))
            await asyncio.wait_for(runtime.stop(), 5)

    async def test_without_postgres_it_does_not_start(self) -> None:
        settings = make_settings("postgresql://nobody@127.0.0.1:1/none")
        redis: Redis = open_redis(settings.redis_url.get_secret_value())
        runtime = Runtime(settings, BudgetStore(redis))
        try:
            with pytest.raises(OSError, match=r"."):
                await runtime.start()
        finally:
            await runtime.stop()
            await redis.aclose()

    async def test_only_one_after_the_other_holds_the_lock_of_an_owner(
        self, database: Database, database_url: str
    ) -> None:
        async with working(make_settings(database_url)) as one, working(make_settings(database_url)) as two:
            assert one.owner != two.owner
            await wait_until(lambda: _lock_held(database, one))
            await wait_until(lambda: _lock_held(database, two))
        await wait_until(lambda: _not(_lock_held(database, one)))


async def _is(database: Database, expected: dict[str, str]) -> bool:
    return await statuses(database) == expected


async def _lock_held(database: Database, runtime: Runtime) -> bool:
    from app.core.db.claims import lock_key

    async with database.transaction() as session:
        connection = await session.connection()
        free = await connection.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": lock_key(runtime.owner)})
        return not free


async def _not(answer: Any) -> bool:
    return not await answer


async def _positive(answer: Any) -> bool:
    return bool(await answer)


def test_every_queue_is_looked_after() -> None:
    """A table with leases that is not in the list would keep a dead worker's rows for the whole lease."""
    from app.core.db.claims import Leased
    from app.tables import metadata
    from app.worker.runtime import QUEUES

    leased = {name for name, table in metadata.tables.items() if "lease_owner" in table.columns}
    assert set(QUEUES) == leased
    assert col(InboxMessage.lease_owner) is not None
    assert "lease_owner" in Leased.model_fields


class TestUpkeep:
    async def test_prunes_until_nothing_old_is_left(
        self, database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One batch of 5,000 every ten minutes was a twelfth of what a busy hub takes in."""
        monkeypatch.setattr(repository.prune, "__kwdefaults__", {"limit": 2})
        async with database.transaction() as session:
            tenant_id = await add_tenant(session)
            where, old = ids.new_id(), clock.now() - timedelta(days=400)
            for number in range(5):
                row = InboxMessage(
                    tenant_id=tenant_id, connection_id=where, external_id=f"{number}", body=b"{}", headers={}
                )
                row.status, row.created_at = "done", old
                session.add(row)
        redis: Redis = open_redis(settings.redis_url.get_secret_value())
        runtime = Runtime(settings, BudgetStore(redis))

        await runtime._prune()

        await runtime.stop()
        await redis.aclose()
        assert await statuses(database) == {}
