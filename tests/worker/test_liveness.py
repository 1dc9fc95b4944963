"""Leases of processes that died are free within seconds; those of a paused process stay. Real signals."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlmodel import col, select

from app.core import clock, ids
from app.core.config import environment
from app.core.db import claims
from app.core.db.session import Database
from app.inbox import repository
from app.inbox.models import InboxMessage
from app.inbox.repository import Arrival
from app.schema import ROOT
from app.worker.runtime import QUEUES
from tests.support.rows import add_tenant
from tests.support.waiting import wait_until


@dataclass
class Child:
    """A worker process and the id it works under."""

    process: asyncio.subprocess.Process
    owner: UUID

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


StartChild = Callable[[int], Awaitable[Child]]


@pytest_asyncio.fixture
async def start_child(database_url: str) -> AsyncIterator[StartChild]:
    """Starts worker processes that claim some events; none survives the test."""
    children: list[asyncio.subprocess.Process] = []

    async def start(limit: int) -> Child:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.worker.living_child",
            database_url,
            str(limit),
            cwd=ROOT,
            env={**environment(), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
            stdout=asyncio.subprocess.PIPE,
        )
        children.append(process)
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 30)).decode().split()
        assert line[1:] == [str(limit)], line
        return Child(process, UUID(hex=line[0]))

    try:
        yield start
    finally:
        for process in children:
            if process.returncode is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            await process.wait()


async def arrive(database: Database, count: int) -> None:
    async with database.transaction() as session:
        tenant_id = await add_tenant(session)
        where = ids.new_id()
        await repository.store(session, [Arrival(tenant_id, where, f"e{number}", b"{}", {}) for number in range(count)])


async def owners(database: Database) -> list[UUID]:
    async with database.transaction() as session:
        found = await session.exec(select(InboxMessage.lease_owner).where(col(InboxMessage.lease_owner).is_not(None)))
        return [one for one in found.all() if one is not None]


async def release(database: Database) -> int:
    async with database.transaction() as session:
        return await claims.release_orphans(session, QUEUES)


class TestKilled:
    async def test_its_leases_are_free_within_seconds(self, database: Database, start_child: StartChild) -> None:
        await arrive(database, 5)
        child = await start_child(3)
        assert await owners(database) == [child.owner] * 3
        assert await release(database) == 0, "it lives"

        child.send(signal.SIGKILL)
        await child.process.wait()
        freed = await wait_until(lambda: release(database), timeout_seconds=10)

        assert freed == 3
        assert await owners(database) == []
        async with database.transaction() as session:
            again = await repository.claim(
                session, limit=9, lease=timedelta(seconds=90), token=ids.new_id(), owner=ids.new_id()
            )
        assert len(again) == 5, "all are due at once"

    async def test_a_living_workers_leases_stay(self, database: Database, start_child: StartChild) -> None:
        await arrive(database, 2)
        dead, alive = await start_child(1), await start_child(1)

        dead.send(signal.SIGKILL)
        await dead.process.wait()
        await wait_until(lambda: release(database), timeout_seconds=10)

        assert await owners(database) == [alive.owner]
        assert await release(database) == 0


class TestPaused:
    async def test_its_leases_stay_until_the_clock_ends_them(self, database: Database, start_child: StartChild) -> None:
        """A process that is only slow must not be taken for dead: it is in the middle of a call."""
        await arrive(database, 1)
        child = await start_child(1)

        child.send(signal.SIGSTOP)
        for _ in range(5):
            assert await release(database) == 0
        assert await owners(database) == [child.owner]
        async with database.transaction() as session:
            with clock.shifted(timedelta(seconds=91)):
                taken = await repository.claim(
                    session, limit=9, lease=timedelta(seconds=90), token=ids.new_id(), owner=ids.new_id()
                )
        assert len(taken) == 1


class TestOrphans:
    async def test_a_lease_without_an_owner_is_left_to_the_clock(self, database: Database) -> None:
        await arrive(database, 1)
        async with database.transaction() as session:
            connection = await session.connection()
            await connection.execute(
                text("UPDATE inbox_message SET lease_token = :token, lease_until = now() + interval '1 hour'"),
                {"token": ids.new_id()},
            )

        assert await release(database) == 0

    async def test_two_workers_may_look_at_the_same_time(self, database: Database) -> None:
        await arrive(database, 4)
        async with database.transaction() as session:
            await repository.claim(
                session, limit=4, lease=timedelta(seconds=90), token=ids.new_id(), owner=ids.new_id()
            )

        freed = await asyncio.gather(*(release(database) for _ in range(3)))

        assert sum(freed) >= 4
        assert await owners(database) == []

    @pytest.mark.parametrize("_number", range(3))
    def test_the_lock_of_an_owner_is_its_own(self, _number: int) -> None:
        keys = {claims.lock_key(ids.new_id()) for _ in range(2000)}

        assert len(keys) == 2000
        assert all(0 <= key < 2**63 for key in keys)
