"""What finished writes, events and polls leave in the tables of sync."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlmodel import col, func, select

from app.core import clock, ids
from app.core.db.session import Database
from app.outbox import repository as outbox
from app.sync import repository
from app.sync.models import LedgerEntry, PollCursor, SyncRun, TicketLink
from app.sync.plan import plan
from app.sync.repository import Recorded, SyncRunRepository, polls
from tests.support.rows import LEASE, Pair, add_link, add_pair, command_for, dirty_link, read_link
from tests.sync.looks import opened, views
from tests.sync.values import NOON, ticket


@pytest.fixture
async def pair(database: Database) -> Pair:
    return await add_pair(database)


async def record(database: Database, *recorded: Recorded) -> None:
    async with database.transaction() as session:
        await repository.record(session, recorded)


async def links(database: Database, pair: Pair) -> list[TicketLink]:
    async with database.transaction() as session:
        found = await session.exec(
            select(TicketLink)
            .where(col(TicketLink.relationship_id) == pair.relationship_id)
            .order_by(col(TicketLink.id))
        )
        return list(found.all())


class TestRecord:
    async def test_a_created_twin_completes_the_link_and_asks_for_a_look(self, database: Database, pair: Pair) -> None:
        link_id = await add_link(database, pair, state="new", target_ticket_id=None, dirty_mark=3)

        await record(
            database,
            Recorded(
                link_id,
                state="linked",
                target_ticket_id="977",
                shadow={"summary": {"source": "a", "target": "a"}},
                target_updated_at=NOON,
                look_again=True,
                wrote=True,
            ),
        )

        row = await read_link(database, link_id)
        assert (row.state, row.target_ticket_id, row.generation, row.dirty_mark) == ("linked", "977", 1, 4)
        assert row.dirty_since is not None
        assert row.target_updated_at == NOON

    async def test_fields_are_merged_and_what_was_not_written_stays(self, database: Database, pair: Pair) -> None:
        link_id = await add_link(
            database,
            pair,
            shadow={"summary": {"source": "a", "target": "a"}, "status": {"source": "1", "target": "2"}},
            source_updated_at=NOON,
        )

        await record(
            database,
            Recorded(
                link_id,
                shadow={"status": {"source": "3", "target": "4"}},
                field_errors={"priority": {"class": "validation"}},
                source_updated_at=NOON - timedelta(hours=1),
                wrote=True,
            ),
        )

        row = await read_link(database, link_id)
        assert row.shadow == {
            "summary": {"source": "a", "target": "a"},
            "status": {"source": "3", "target": "4"},
        }
        assert row.field_errors == {"priority": {"class": "validation"}}
        assert row.source_updated_at == NOON, "what was seen later is not forgotten"
        assert row.dirty_since is None

    async def test_a_refused_write_does_not_move_the_generation_on(self, database: Database, pair: Pair) -> None:
        link_id = await add_link(database, pair, generation=4)

        await record(database, Recorded(link_id, field_errors={"status": {"class": "validation"}}))

        assert (await read_link(database, link_id)).generation == 4

    async def test_nothing_to_record_is_fine(self, database: Database) -> None:
        await record(database)


class TestReasons:
    @pytest.mark.parametrize("state", ["orphaned", "failed"])
    async def test_an_explanation_stays_as_long_as_the_state_it_explains(
        self, database: Database, pair: Pair, state: str
    ) -> None:
        """A further event about the ticket changes nothing, so the operator must still read why."""
        link_id = await dirty_link(
            database,
            pair,
            state=state,
            source_ticket_id="1",
            target_ticket_id="2" if state == "orphaned" else None,
            reason="The desk said no.",
            next_step="Correct it.",
        )
        token = ids.new_id()
        async with database.transaction() as session:
            [link] = await repository.claim_links(
                session, pair.relationship_id, limit=9, lease=LEASE, token=token, owner=ids.new_id()
            )
            result = plan(opened(), link, views(ticket("1", status="s1"), None), set(), may_be_ours=False)
            await repository.settle(session, [result.settled], token=token)

        row = await read_link(database, link_id)
        assert row.state == state
        assert row.reason
        assert row.next_step

    async def test_and_goes_with_it(self, database: Database, pair: Pair) -> None:
        link_id = await dirty_link(
            database, pair, source_ticket_id="1", target_ticket_id="2", reason="The source side was away."
        )
        token = ids.new_id()
        async with database.transaction() as session:
            [link] = await repository.claim_links(
                session, pair.relationship_id, limit=9, lease=LEASE, token=token, owner=ids.new_id()
            )
            result = plan(opened(), link, views(ticket("1"), ticket("2")), set(), may_be_ours=False)
            await repository.settle(session, [result.settled], token=token)

        assert (await read_link(database, link_id)).reason is None


class TestCandidates:
    async def test_a_ticket_seen_again_makes_no_second_link(self, database: Database, pair: Pair) -> None:
        async with database.transaction() as session:
            relationship = await repository.load_relationship(session, pair.relationship_id)
            assert relationship is not None
            first = await repository.add_candidates(session, relationship, "source", ["1", "2"], lane="interactive")
            again = await repository.add_candidates(session, relationship, "source", ["2", "3"], lane="bulk")
            none = await repository.add_candidates(session, relationship, "source", [], lane="bulk")

        assert (first, again, none) == (2, 1, 0)
        found = await links(database, pair)
        assert [(row.source_ticket_id, row.state, row.origin, row.lane) for row in found] == [
            ("1", "new", "source", "interactive"),
            ("2", "new", "source", "interactive"),
            ("3", "new", "source", "bulk"),
        ]
        assert all(row.dirty_since is not None for row in found)

    async def test_our_own_creation_that_an_event_announced_first_is_forgotten(
        self, database: Database, pair: Pair
    ) -> None:
        ours = await add_link(
            database, pair, origin="target", state="new", source_ticket_id=None, target_ticket_id="977"
        )
        foreign = await add_link(
            database, pair, origin="target", state="new", source_ticket_id=None, target_ticket_id="978"
        )
        linked = await add_link(database, pair, source_ticket_id="5", target_ticket_id="979")
        elsewhere = await add_pair(database)
        other = await add_link(
            database, elsewhere, origin="target", state="new", source_ticket_id=None, target_ticket_id="977"
        )

        async with database.transaction() as session:
            await repository.drop_candidates(session, pair.relationship_id, "target", ["977", "979"])

        assert {row.id for row in await links(database, pair)} == {foreign, linked}
        assert [row.id for row in await links(database, elsewhere)] == [other]
        assert ours not in {foreign, linked}


class TestLedger:
    async def entries(self, database: Database, pair: Pair, *native_ids: str) -> list[dict[str, Any]]:
        link_id = await add_link(database, pair)
        return [
            {
                "tenant_id": pair.tenant_id,
                "relationship_id": pair.relationship_id,
                "link_id": link_id,
                "side": "source",
                "kind": "comment",
                "native_id": native_id,
                "peer_native_id": "",
            }
            for native_id in native_ids
        ]

    async def test_an_item_is_noted_once(self, database: Database, pair: Pair) -> None:
        entries = await self.entries(database, pair, "1:1", "1:2")
        async with database.transaction() as session:
            await repository.add_ledger(session, entries)
            await repository.add_ledger(session, entries[:1])
            await repository.add_ledger(session, [])
            count = (await session.exec(select(func.count(col(LedgerEntry.id))))).one()

        assert count == 2

    async def test_known_items_are_found_among_more_than_one_statement_takes(
        self, database: Database, pair: Pair
    ) -> None:
        entries = await self.entries(database, pair, *(f"1:{number}" for number in range(0, 12_000, 100)))
        asked = {(side, f"1:{number}") for number in range(12_000) for side in ("source", "target")}
        async with database.transaction() as session:
            await repository.add_ledger(session, entries)
            known = await repository.known_items(session, pair.relationship_id, "comment", asked)
            tickets = await repository.known_items(session, pair.relationship_id, "ticket", asked)
            other = await repository.known_items(session, ids.new_id(), "comment", asked)

        assert known == {("source", f"1:{number}") for number in range(0, 12_000, 100)}
        assert tickets == other == set()


class TestCreationsUnderWay:
    async def test_only_one_that_was_begun_counts(self, database: Database, pair: Pair) -> None:
        link_id = await add_link(database, pair)
        async with database.transaction() as session:
            await outbox.enqueue(session, [command_for(pair, link_id, kind="ticket.create")])
            waiting = await repository.creations_under_way(session, pair.target_id)
            await outbox.claim(session, pair.target_id, limit=9, lease=LEASE, token=ids.new_id(), owner=ids.new_id())
            begun = await repository.creations_under_way(session, pair.target_id)
            elsewhere = await repository.creations_under_way(session, pair.source_id)

        assert (waiting, begun, elsewhere) == (False, True, False)


async def cursor(database: Database, pair: Pair) -> PollCursor:
    async with database.transaction() as session:
        return (await session.exec(select(PollCursor).where(col(PollCursor.connection_id) == pair.source_id))).one()


class TestPolls:
    @pytest.fixture
    async def cursor_id(self, database: Database, pair: Pair) -> UUID:
        async with database.transaction() as session:
            for _ in range(2):  # the second finds it there
                await polls.ensure_cursor(session, pair.tenant_id, pair.source_id, watermark=NOON)
        return (await cursor(database, pair)).id

    async def claim(self, database: Database, cursor_id: UUID, token: UUID) -> PollCursor | None:
        async with database.transaction() as session:
            return await polls.claim(session, PollCursor, cursor_id, LEASE, token, ids.new_id())

    async def test_one_worker_polls(self, database: Database, cursor_id: UUID) -> None:
        assert await self.claim(database, cursor_id, ids.new_id()) is not None
        assert await self.claim(database, cursor_id, ids.new_id()) is None
        with clock.shifted(LEASE + timedelta(seconds=1)):
            assert await self.claim(database, cursor_id, ids.new_id()) is not None

    async def test_the_watermark_never_goes_back(self, database: Database, pair: Pair, cursor_id: UUID) -> None:
        for watermark in (NOON + timedelta(hours=2), NOON + timedelta(hours=1)):
            token = ids.new_id()
            await self.claim(database, cursor_id, token)
            async with database.transaction() as session:
                await polls.advance(session, cursor_id, token, watermark=watermark, next_attempt_at=clock.now())

        assert (await cursor(database, pair)).watermark == NOON + timedelta(hours=2)

    async def test_a_failed_poll_keeps_its_watermark_and_says_why(
        self, database: Database, pair: Pair, cursor_id: UUID
    ) -> None:
        token = ids.new_id()
        await self.claim(database, cursor_id, token)
        async with database.transaction() as session:
            await polls.advance(session, cursor_id, token, watermark=None, next_attempt_at=clock.now(), error="away")

        row = await cursor(database, pair)
        assert (row.watermark, row.error, row.lease_token, row.attempts) == (NOON, "away", None, 1)

    async def test_a_lost_lease_advances_nothing(self, database: Database, pair: Pair, cursor_id: UUID) -> None:
        await self.claim(database, cursor_id, ids.new_id())
        async with database.transaction() as session:
            await polls.advance(session, cursor_id, ids.new_id(), watermark=clock.now(), next_attempt_at=clock.now())

        row = await cursor(database, pair)
        assert row.watermark == NOON
        assert row.lease_token is not None

    async def test_connections_without_an_active_relationship_are_not_polled(
        self, database: Database, pair: Pair, cursor_id: UUID
    ) -> None:
        async with database.transaction() as session:
            assert await polls.due_cursors(session) == [cursor_id]
            relationship = await repository.load_relationship(session, pair.relationship_id)
            assert relationship is not None
            relationship.state = "paused"
            session.add(relationship)
            await session.flush()
            assert await polls.due_cursors(session) == []

    async def test_a_missed_comment_is_read_from_where_it_stands(self, database: Database, pair: Pair) -> None:
        resting = await add_link(database, pair, source_comments_until=NOON)
        earlier = await add_link(database, pair, source_comments_from=NOON - timedelta(days=9))
        busy = await add_link(database, pair)
        gone = await add_link(database, pair, state="merged")
        async with database.transaction() as session:
            await outbox.enqueue(session, [command_for(pair, busy)])
            wanted = dict.fromkeys((resting, earlier, busy, gone), NOON - timedelta(days=1))
            assert await polls.mark_missed(session, "source", wanted) == 3
            assert await polls.mark_missed(session, "source", {}) == 0

        row = await read_link(database, resting)
        assert row.source_comments_from == NOON - timedelta(days=1)
        assert row.dirty_since is not None
        assert (await read_link(database, earlier)).source_comments_from == NOON - timedelta(days=9)
        waiting = await read_link(database, busy)
        assert waiting.source_comments_from == NOON - timedelta(days=1), "the poll will not come back to it"


class TestRuns:
    async def test_a_run_is_done_when_none_of_its_links_waits(self, database: Database, pair: Pair) -> None:
        async with database.transaction() as session:
            run = SyncRun(tenant_id=pair.tenant_id, relationship_id=pair.relationship_id, since=NOON)
            session.add(run)
        waiting = await dirty_link(database, pair, sync_id=run.id)
        await add_link(database, pair, sync_id=run.id)
        await dirty_link(database, pair, sync_id=run.id, state="paused")

        async def state() -> str:
            async with database.transaction() as session:
                await polls.finish_converged(session)
            async with database.transaction() as session:
                return (await SyncRunRepository(session, pair.tenant_id).get(run.id)).state

        async with database.transaction() as session:
            assert await polls.due_runs(session) == [run.id]
            await polls.start_run(session, run.id)
            await polls.note_read(session, run.id, 3, LEASE)
            await polls.finish_reading(session, run.id)
        assert await state() == "converging"
        async with database.transaction() as session:
            assert await polls.progress(session, run) == (1, 3)
            token = ids.new_id()
            [link] = await repository.claim_links(
                session, pair.relationship_id, limit=9, lease=LEASE, token=token, owner=ids.new_id()
            )
            await repository.settle(session, [repository.Settled(link, "linked", {}, {})], token=token)
            await outbox.enqueue(session, [command_for(pair, waiting)])
        assert await state() == "converging", "a write of it is still on its way"
        async with database.transaction() as session:
            await outbox.cancel_for_subject(session, waiting)
        assert await state() == "done"

    @pytest.mark.parametrize(("lasting", "state"), [(True, "failed"), (False, "reading")])
    async def test_a_run_that_cannot_be_read(self, database: Database, pair: Pair, lasting: bool, state: str) -> None:
        async with database.transaction() as session:
            run = SyncRun(tenant_id=pair.tenant_id, relationship_id=pair.relationship_id, since=NOON)
            session.add(run)
            await session.flush()
            await polls.claim(session, SyncRun, run.id, LEASE, ids.new_id(), ids.new_id())
            await polls.start_run(session, run.id)
            await polls.run_failed(
                session,
                run.id,
                lasting=lasting,
                error="refused",
                next_step="Test the connection.",
                next_attempt_at=clock.now() + timedelta(seconds=30),
            )
        async with database.transaction() as session:
            row = await SyncRunRepository(session, pair.tenant_id).get(run.id)
            due = await polls.due_runs(session)
        assert (row.state, row.error, row.next_step, row.lease_token) == (
            state,
            "refused",
            "Test the connection.",
            None,
        )
        assert (row.finished_at is not None) == lasting
        assert due == []
