"""The queue of links: who may look at one, and what a look may still change when it ends."""

from datetime import timedelta
from uuid import UUID

import pytest

from app.core import clock, ids
from app.core.db.session import Database
from app.outbox import repository as outbox
from app.sync import repository
from app.sync.repository import ClaimedLink, Settled
from tests.support.rows import LEASE, Pair, add_link, add_pair, command_for, dirty_link, read_link


async def claim(database: Database, pair: Pair, *, token: UUID | None = None, limit: int = 100) -> list[ClaimedLink]:
    async with database.transaction() as session:
        return await repository.claim_links(
            session,
            pair.relationship_id,
            limit=limit,
            lease=LEASE,
            token=token or ids.new_id(),
            owner=ids.new_id(),
        )


async def settle(database: Database, token: UUID, *settled: Settled) -> set[UUID]:
    async with database.transaction() as session:
        return await repository.settle(session, settled, token=token)


def seen(link: ClaimedLink, **changes: object) -> Settled:
    ended = Settled(link, "linked", {"summary": {"source": "a", "target": "a"}}, {})
    for name, value in changes.items():
        setattr(ended, name, value)
    return ended


async def mark(database: Database, *link_ids: UUID, lane: str = "interactive") -> int:
    async with database.transaction() as session:
        return await repository.mark_dirty(session, link_ids, lane=lane)


@pytest.fixture
async def pair(database: Database) -> Pair:
    return await add_pair(database)


class TestClaim:
    async def test_only_dirty_links_that_are_due_are_taken(self, database: Database, pair: Pair) -> None:
        due = await dirty_link(database, pair)
        await add_link(database, pair)
        await dirty_link(database, pair, next_attempt_at=clock.now() + timedelta(minutes=1))
        for state in ("ignored", "paused", "merged", "unlinked"):
            await dirty_link(database, pair, state=state)

        assert [link.id for link in await claim(database, pair)] == [due]

    async def test_a_leased_link_is_not_taken_again_until_its_lease_ends(self, database: Database, pair: Pair) -> None:
        link_id = await dirty_link(database, pair)
        [first] = await claim(database, pair)

        assert await claim(database, pair) == []
        with clock.shifted(LEASE + timedelta(seconds=1)):
            [second] = await claim(database, pair)

        assert first.id == second.id == link_id
        assert (first.attempts, second.attempts) == (1, 2)

    async def test_a_link_with_a_write_under_way_is_left_alone(self, database: Database, pair: Pair) -> None:
        link_id = await dirty_link(database, pair)
        command = command_for(pair, link_id)
        async with database.transaction() as session:
            await outbox.enqueue(session, [command])

        assert await claim(database, pair) == []
        async with database.transaction() as session:
            await outbox.cancel_for_subject(session, link_id)
        assert [link.id for link in await claim(database, pair)] == [link_id]

    async def test_two_workers_never_get_the_same_link(self, database: Database, pair: Pair) -> None:
        wanted = {await dirty_link(database, pair) for _ in range(6)}
        async with database.transaction() as one, database.transaction() as two:
            first = await repository.claim_links(
                one, pair.relationship_id, limit=4, lease=LEASE, token=ids.new_id(), owner=ids.new_id()
            )
            second = await repository.claim_links(
                two, pair.relationship_id, limit=100, lease=LEASE, token=ids.new_id(), owner=ids.new_id()
            )

        assert len(first) == 4
        assert {link.id for link in first} | {link.id for link in second} == wanted
        assert not {link.id for link in first} & {link.id for link in second}

    async def test_interactive_links_go_first(self, database: Database, pair: Pair) -> None:
        await dirty_link(database, pair, lane="bulk", next_attempt_at=clock.now() - timedelta(hours=1))
        interactive = await dirty_link(database, pair, lane="interactive")

        assert [link.id for link in await claim(database, pair, limit=1)] == [interactive]

    async def test_bulk_has_its_turn(self, database: Database, pair: Pair) -> None:
        """A backfill stood still as long as something interactive came every second."""
        bulk = await dirty_link(database, pair, lane="bulk")
        await dirty_link(database, pair, lane="interactive")

        async with database.transaction() as session:
            found = await repository.claim_links(
                session,
                pair.relationship_id,
                limit=10,
                lease=LEASE,
                token=ids.new_id(),
                owner=ids.new_id(),
                bulk_first=True,
            )

        assert [link.id for link in found] == [bulk]

    async def test_links_of_another_relationship_are_not_touched(self, database: Database, pair: Pair) -> None:
        await dirty_link(database, await add_pair(database))

        assert await claim(database, pair) == []


class TestDue:
    async def test_counts_what_waits_and_skips_paused_relationships(self, database: Database, pair: Pair) -> None:
        oldest = clock.now() - timedelta(minutes=3)
        await dirty_link(database, pair, dirty_since=oldest)
        await dirty_link(database, pair)
        blocked = await dirty_link(database, pair)
        async with database.transaction() as session:
            await outbox.enqueue(session, [command_for(pair, blocked)])
            found = await repository.due_relationships(session)
            waiting = await repository.waiting(session, pair.relationship_id)

        assert [(one, count) for one, count, _ in found] == [(pair.relationship_id, 2)]
        assert waiting == (2, oldest)

        async with database.transaction() as session:
            row = await repository.load_relationship(session, pair.relationship_id)
            assert row is not None
            row.state = "paused"
            session.add(row)
        async with database.transaction() as session:
            assert await repository.due_relationships(session) == []
            assert await repository.waiting(session, pair.relationship_id) == (0, None)


class TestSettle:
    async def test_a_look_that_ended_puts_the_link_to_rest(self, database: Database, pair: Pair) -> None:
        link_id = await dirty_link(database, pair)
        token = ids.new_id()
        [link] = await claim(database, pair, token=token)
        read_at = clock.now()

        held = await settle(database, token, seen(link, source_comments_until=read_at))

        row = await read_link(database, link_id)
        assert held == {link_id}
        assert row.dirty_since is None
        assert (row.lease_token, row.lease_owner, row.lease_until, row.attempts) == (None, None, None, 0)
        assert row.shadow == {"summary": {"source": "a", "target": "a"}}
        assert row.source_comments_until == read_at
        assert row.target_comments_until is None
        assert row.last_synced_at is not None

    async def test_a_lost_lease_changes_nothing(self, database: Database, pair: Pair) -> None:
        link_id = await dirty_link(database, pair)
        lost, taken = ids.new_id(), ids.new_id()
        [link] = await claim(database, pair, token=lost)
        with clock.shifted(LEASE + timedelta(seconds=1)):
            await claim(database, pair, token=taken)
        before = (await read_link(database, link_id)).model_dump()

        held = await settle(database, lost, seen(link, state="ignored"))

        assert held == set()
        assert (await read_link(database, link_id)).model_dump() == before

    async def test_a_link_settled_once_is_not_settled_again(self, database: Database, pair: Pair) -> None:
        link_id = await dirty_link(database, pair)
        token = ids.new_id()
        [link] = await claim(database, pair, token=token)

        assert await settle(database, token, seen(link)) == {link_id}
        assert await settle(database, token, seen(link, state="ignored")) == set()
        assert (await read_link(database, link_id)).state == "linked"

    async def test_a_change_that_comes_while_looking_is_kept(self, database: Database, pair: Pair) -> None:
        missed = clock.now() - timedelta(days=2)
        link_id = await dirty_link(database, pair, source_comments_from=missed)
        token = ids.new_id()
        [link] = await claim(database, pair, token=token)

        assert await mark(database, link_id) == 1
        await settle(database, token, seen(link, source_comments_until=clock.now()))

        row = await read_link(database, link_id)
        assert row.dirty_since is not None
        assert row.source_comments_from == missed
        assert [again.id for again in await claim(database, pair)] == [link_id]

    async def test_a_comment_that_was_missed_is_read_once(self, database: Database, pair: Pair) -> None:
        missed = clock.now() - timedelta(days=2)
        link_id = await dirty_link(database, pair, source_comments_from=missed, target_comments_from=missed)
        token = ids.new_id()
        [link] = await claim(database, pair, token=token)

        await settle(database, token, seen(link, source_comments_until=clock.now()))

        row = await read_link(database, link_id)
        assert row.source_comments_from is None
        assert row.target_comments_from == missed, "that side's comments were not read"

    async def test_a_link_may_stay_dirty_for_later(self, database: Database, pair: Pair) -> None:
        link_id = await dirty_link(database, pair, lane="bulk")
        token = ids.new_id()
        [link] = await claim(database, pair, token=token)
        later = clock.now() + timedelta(seconds=30)

        await settle(database, token, seen(link, stay_dirty=True, next_attempt_at=later))

        row = await read_link(database, link_id)
        assert row.dirty_since is not None
        assert (row.next_attempt_at, row.attempts, row.lane) == (later, 1, "bulk")
        assert await claim(database, pair) == []

    async def test_nothing_to_settle_is_fine(self, database: Database) -> None:
        assert await settle(database, ids.new_id()) == set()


class TestPutOff:
    @pytest.mark.parametrize(("counts", "attempts"), [(True, 1), (False, 0)])
    async def test_gives_links_back_unread(self, database: Database, pair: Pair, counts: bool, attempts: int) -> None:
        link_id = await dirty_link(database, pair)
        token = ids.new_id()
        await claim(database, pair, token=token)
        when = clock.now() + timedelta(minutes=2)

        async with database.transaction() as session:
            await repository.put_off(session, [link_id], token=token, when=when, reason="away", counts=counts)

        row = await read_link(database, link_id)
        assert row.dirty_since is not None
        assert (row.lease_token, row.next_attempt_at, row.reason) == (None, when, "away")
        assert row.attempts == attempts

    async def test_not_without_the_lease(self, database: Database, pair: Pair) -> None:
        link_id = await dirty_link(database, pair)
        await claim(database, pair)
        before = (await read_link(database, link_id)).model_dump()

        async with database.transaction() as session:
            await repository.put_off(
                session, [link_id], token=ids.new_id(), when=clock.now(), reason="away", counts=False
            )

        assert (await read_link(database, link_id)).model_dump() == before


class TestMarkDirty:
    async def test_the_first_moment_is_kept_and_every_mark_counted(self, database: Database, pair: Pair) -> None:
        link_id = await add_link(database, pair, next_attempt_at=clock.now() + timedelta(hours=1))
        await mark(database, link_id)
        first = await read_link(database, link_id)
        await mark(database, link_id)
        second = await read_link(database, link_id)

        assert first.dirty_since is not None
        assert second.dirty_since == first.dirty_since
        assert second.dirty_mark == first.dirty_mark + 1
        assert [link.id for link in await claim(database, pair)] == [link_id]

    async def test_an_interactive_mark_lifts_a_link_out_of_the_bulk_lane(self, database: Database, pair: Pair) -> None:
        bulk = await add_link(database, pair)
        live = await dirty_link(database, pair, lane="interactive")
        await mark(database, bulk, live, lane="bulk")

        assert (await read_link(database, bulk)).lane == "bulk"
        assert (await read_link(database, live)).lane == "interactive"
        await mark(database, bulk)
        assert (await read_link(database, bulk)).lane == "interactive"

    async def test_links_that_ended_stay_at_rest(self, database: Database, pair: Pair) -> None:
        ended = [await add_link(database, pair, state=state) for state in ("merged", "unlinked")]

        assert await mark(database, *ended) == 0

    async def test_what_was_refused_is_judged_afresh(self, database: Database, pair: Pair) -> None:
        """A ticket that was too old, or another's, may have become ours: its change was once passed over for ever."""
        ignored = await add_link(database, pair, state="ignored", reason="older than the start date")

        assert await mark(database, ignored) == 1

        row = await read_link(database, ignored)
        assert row.state == "new"
        assert [one.id for one in await claim(database, pair)] == [ignored]

    async def test_new_settings_bring_back_what_could_not_be_carried(self, database: Database, pair: Pair) -> None:
        refused = await add_link(database, pair, field_errors={"status": {"value": "s9"}})
        failed = await add_link(database, pair, state="failed")
        await add_link(database, pair)
        async with database.transaction() as session:
            assert await repository.mark_troubled(session, pair.relationship_id) == 2

        assert {one.id for one in await claim(database, pair)} == {refused, failed}
