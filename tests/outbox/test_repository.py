"""The queue of writes: order, leases, dead letters that come back, and what is thrown away."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlmodel import col, func, select

from app.core import clock, ids
from app.core.db.session import Database
from app.outbox import repository, service
from app.outbox.commands import ClaimedCommand, NewCommand
from app.outbox.models import OutboundAttempt, OutboundCommand
from tests.support.rows import LEASE, Pair, add_link, add_pair, command_for, read_command
from tests.support.waiting import wait_until


@pytest.fixture
async def pair(database: Database) -> Pair:
    return await add_pair(database)


@pytest.fixture
async def link(database: Database, pair: Pair) -> UUID:
    return await add_link(database, pair)


async def enqueue(database: Database, *commands: NewCommand) -> list[str]:
    async with database.transaction() as session:
        return await repository.enqueue(session, commands)


async def claim(database: Database, pair: Pair, *, limit: int = 100, token: UUID | None = None) -> list[ClaimedCommand]:
    async with database.transaction() as session:
        return await repository.claim(
            session,
            pair.target_id,
            limit=limit,
            lease=LEASE,
            token=token or ids.new_id(),
            owner=ids.new_id(),
        )


async def _waits_or_is_done(claiming: asyncio.Task[list[ClaimedCommand]], database: Database) -> bool:
    """Whether the other worker has looked already, or waits until this one has committed."""
    async with database.transaction() as session:
        connection = await session.connection()
        waiting = await connection.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))
    return claiming.done() or bool(waiting)


async def bury(database: Database, key: str, *, error_class: str = "validation") -> None:
    row = await read_command(database, key)
    async with database.transaction() as session:
        await repository.bury(
            session, row.id, error_class=error_class, error_detail="no", next_step="Correct it.", in_doubt=False
        )


class TestEnqueue:
    async def test_deciding_the_same_write_twice_makes_one_row(
        self, database: Database, pair: Pair, link: UUID
    ) -> None:
        command = command_for(pair, link)

        assert await enqueue(database, command) == [command.key]
        assert await enqueue(database, command) == []
        assert await enqueue(database, replace(command, body={**command.body, "text": "other"})) == []

        row = await read_command(database, command.key)
        assert row.body == command.body, "a write that is under way is never changed"

    async def test_nothing_is_stored_for_nothing(self, database: Database) -> None:
        assert await enqueue(database) == []

    async def test_more_than_one_statement_takes(self, database: Database, pair: Pair, link: UUID) -> None:
        commands = [command_for(pair, link) for _ in range(2500)]

        assert len(await enqueue(database, *commands)) == 2500
        claimed = await claim(database, pair, limit=5000)
        assert [one.key for one in claimed] == [one.key for one in commands]

    async def test_a_dead_letter_comes_back_only_with_another_content(
        self, database: Database, pair: Pair, link: UUID
    ) -> None:
        command = command_for(pair, link)
        await enqueue(database, command)
        await bury(database, command.key)

        assert await enqueue(database, command) == []
        assert (await read_command(database, command.key)).status == "dead"

        changed = replace(command, body={**command.body, "text": "corrected"})
        assert await enqueue(database, changed) == [command.key]
        row = await read_command(database, command.key)
        assert (row.status, row.attempts, row.finished_at) == ("pending", 0, None)
        assert row.body["text"] == "corrected"
        [again] = await claim(database, pair)
        assert again.in_doubt, "the refused try may have been done after all: look first"

    @pytest.mark.parametrize("status", ["done", "cancelled"])
    async def test_a_finished_write_is_not_done_again(
        self, database: Database, pair: Pair, link: UUID, status: str
    ) -> None:
        command = command_for(pair, link)
        await enqueue(database, command)
        row = await read_command(database, command.key)
        async with database.transaction() as session:
            if status == "done":
                await repository.finish_many(session, {row.id: "77"})
            else:
                await repository.cancel_for_subject(session, link)

        assert await enqueue(database, replace(command, body={**command.body, "text": "other"})) == []
        assert (await read_command(database, command.key)).status == status


class TestOrder:
    async def test_commands_come_in_the_order_they_were_decided(
        self, database: Database, pair: Pair, link: UUID
    ) -> None:
        commands = [command_for(pair, link) for _ in range(5)]
        await enqueue(database, *commands)

        assert [one.key for one in await claim(database, pair)] == [one.key for one in commands]

    async def test_nothing_overtakes_a_write_that_waits(self, database: Database, pair: Pair, link: UUID) -> None:
        first, second = command_for(pair, link), command_for(pair, link)
        free = command_for(pair, link, ordering_key="another order")
        await enqueue(database, first, second, free)
        row = await read_command(database, first.key)
        async with database.transaction() as session:
            await repository.retry_at(
                session,
                row.id,
                when=clock.now() + timedelta(seconds=30),
                error_class="unavailable",
                error_detail="",
                surely_not_done=False,
                counts=True,
                tried_at=None,
            )

        assert [one.key for one in await claim(database, pair)] == [free.key]

    async def test_nothing_overtakes_a_write_that_another_worker_holds(
        self, database: Database, pair: Pair, link: UUID
    ) -> None:
        first, second = command_for(pair, link), command_for(pair, link)
        await enqueue(database, first, second)
        assert [one.key for one in await claim(database, pair, limit=1)] == [first.key]

        assert await claim(database, pair) == []

    async def test_nothing_overtakes_a_write_that_another_worker_is_just_taking(
        self, database: Database, pair: Pair, link: UUID
    ) -> None:
        """Two workers claim at the same moment: the second must not see the first one's head as free."""
        first, second = command_for(pair, link), command_for(pair, link)
        await enqueue(database, first, second)
        async with database.transaction() as session:
            head = await repository.claim(
                session, pair.target_id, limit=1, lease=LEASE, token=ids.new_id(), owner=ids.new_id()
            )
            other = asyncio.create_task(claim(database, pair))
            await wait_until(lambda: _waits_or_is_done(other, database))
        behind = await other

        assert [command.key for command in head] == [first.key]
        assert behind == []

    async def test_interactive_goes_before_bulk(self, database: Database, pair: Pair, link: UUID) -> None:
        bulk = command_for(pair, link, lane="bulk", ordering_key="slow")
        live = command_for(pair, link, ordering_key="quick")
        await enqueue(database, bulk, live)

        assert [one.key for one in await claim(database, pair, limit=1)] == [live.key]

    async def test_a_dead_letter_does_not_block_its_order(self, database: Database, pair: Pair, link: UUID) -> None:
        first, second = command_for(pair, link), command_for(pair, link)
        await enqueue(database, first, second)
        await bury(database, first.key)

        assert [one.key for one in await claim(database, pair)] == [second.key]


class TestLease:
    async def test_a_held_write_is_free_again_when_its_lease_ends(
        self, database: Database, pair: Pair, link: UUID
    ) -> None:
        await enqueue(database, command_for(pair, link))
        [first] = await claim(database, pair)
        with clock.shifted(LEASE + timedelta(seconds=1)):
            [second] = await claim(database, pair)

        assert not first.in_doubt
        assert second.in_doubt, "its holder may have written before it vanished"

    async def test_only_the_holder_holds(self, database: Database, pair: Pair, link: UUID) -> None:
        await enqueue(database, command_for(pair, link))
        token = ids.new_id()
        [mine] = await claim(database, pair, token=token)
        async with database.transaction() as session:
            assert await repository.held(session, [mine.id], token=token) == {mine.id}
            assert await repository.held(session, [mine.id], token=ids.new_id()) == set()

    async def test_what_was_not_tried_is_given_back_untouched(self, database: Database, pair: Pair, link: UUID) -> None:
        command = command_for(pair, link)
        await enqueue(database, command)
        token = ids.new_id()
        [mine] = await claim(database, pair, token=token)
        async with database.transaction() as session:
            await repository.release(session, [mine.id], token=ids.new_id())
        assert (await read_command(database, command.key)).lease_token == token
        async with database.transaction() as session:
            await repository.release(session, [mine.id], token=token)

        row = await read_command(database, command.key)
        assert (row.attempts, row.open_tries, row.lease_token) == (0, 0, None)
        [again] = await claim(database, pair)
        assert not again.in_doubt


class TestReplay:
    async def test_dead_letters_are_due_again_and_looked_for_first(
        self, database: Database, pair: Pair, link: UUID
    ) -> None:
        dead, alive = command_for(pair, link), command_for(pair, link, ordering_key="other")
        await enqueue(database, dead, alive)
        await bury(database, dead.key)
        async with database.transaction() as session:
            assert [row.subject_id for row in await service.replay(session, pair.tenant_id)] == [link]

        row = await read_command(database, dead.key)
        assert (row.status, row.attempts, row.open_tries) == ("pending", 0, 1)
        assert {one.key: one.in_doubt for one in await claim(database, pair)} == {
            dead.key: True,
            alive.key: False,
        }

    async def test_only_what_fits(self, database: Database, pair: Pair, link: UUID) -> None:
        commands = [command_for(pair, link) for _ in range(5)]
        await enqueue(database, *commands)
        for number, command in enumerate(commands):
            await bury(database, command.key, error_class="rate" if number == 4 else "validation")
        other = await add_pair(database)
        async with database.transaction() as session:
            assert await service.replay(session, other.tenant_id) == []
            assert await service.replay(session, pair.tenant_id, connection_id=pair.source_id) == []
            assert len(await service.replay(session, pair.tenant_id, error_class="rate")) == 1
            assert len(await service.replay(session, pair.tenant_id)) == 4
            assert await service.replay(session, pair.tenant_id) == []


class TestCancelAndPrune:
    async def test_only_writes_that_nobody_has_begun_are_withdrawn(
        self, database: Database, pair: Pair, link: UUID
    ) -> None:
        begun, waiting = command_for(pair, link), command_for(pair, link)
        await enqueue(database, begun, waiting)
        await claim(database, pair, limit=1)
        async with database.transaction() as session:
            assert await repository.cancel_for_subject(session, link) == 1

        assert (await read_command(database, begun.key)).status == "pending"
        assert (await read_command(database, waiting.key)).status == "cancelled"

    async def test_old_finished_writes_go_and_dead_letters_stay(
        self, database: Database, pair: Pair, link: UUID
    ) -> None:
        done, dead, waiting = (command_for(pair, link) for _ in range(3))
        await enqueue(database, done, dead, waiting)
        row = await read_command(database, done.key)
        async with database.transaction() as session:
            await repository.finish_many(session, {row.id: "77"})
            await repository.record_attempts(
                session,
                [OutboundAttempt(tenant_id=pair.tenant_id, command_id=row.id, outcome="written")],
            )
        await bury(database, dead.key)

        async with database.transaction() as session:
            assert await repository.prune(session, before=clock.now() - timedelta(days=1)) == 0
            assert await repository.prune(session, before=clock.now() + timedelta(seconds=1)) == 1
        async with database.transaction() as session:
            left = (await session.exec(select(OutboundCommand.key))).all()
            attempts = (await session.exec(select(func.count(col(OutboundAttempt.id))))).one()
        assert set(left) == {dead.key, waiting.key}
        assert attempts == 0


class TestBacklog:
    async def test_counts_what_waits_and_what_is_late(self, database: Database, pair: Pair, link: UUID) -> None:
        await enqueue(database, *(command_for(pair, link) for _ in range(3)))
        async with database.transaction() as session:
            assert (await repository.backlog(session, older_than=clock.now() - timedelta(minutes=5)))[:2] == (
                3,
                0,
            )
            with clock.shifted(timedelta(minutes=10)):
                pending, late, age = await repository.backlog(session, older_than=clock.now() - timedelta(minutes=5))
        assert (pending, late) == (3, 3)
        assert 595 < age < 620
