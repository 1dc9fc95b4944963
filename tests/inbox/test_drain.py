"""Draining: every event is handled once, and a bad one holds up nobody."""

import asyncio
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core import clock, ids
from app.core.backoff import RetryPolicy
from app.core.db.session import Database
from app.inbox import dispatch, repository, tasks
from app.inbox.dispatch import Delivery
from app.inbox.models import InboxMessage
from app.inbox.repository import Arrival
from app.inbox.tasks import EARLY_TRIES_MAX, InboxDrain
from tests.support.rows import add_tenant

pytestmark = pytest.mark.usefixtures("testdesk")


@dataclass
class Room:
    """A room that takes events in: remembers them, fails on some, finds some too early."""

    seen: list[str] = field(default_factory=list)
    fails_on: Callable[[str], Exception | None] = lambda _: None
    early: set[str] = field(default_factory=set)
    before: Callable[[], Any] | None = None

    async def __call__(
        self, session: AsyncSession, connection_id: UUID, deliveries: Sequence[Delivery]
    ) -> Sequence[UUID]:
        if self.before is not None:
            await self.before()
        for delivery in deliveries:
            failure = self.fails_on(delivery.event.external_id)
            if failure is not None:
                raise failure
        self.seen += [delivery.event.external_id for delivery in deliveries]
        return [one.message_id for one in deliveries if one.event.external_id in self.early]


@dataclass
class Targets:
    """Every connection is a test desk, but for those that are archived."""

    archived: set[UUID] = field(default_factory=set)

    async def hook_target(self, connection_id: UUID) -> SimpleNamespace | None:
        return None if connection_id in self.archived else SimpleNamespace(kind="testdesk")


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Room:
    found = Room()
    handlers = cast(MutableMapping[str, str], dispatch.HANDLERS)
    monkeypatch.setitem(handlers, "testdesk", "tests.inbox.test_drain:unused")
    monkeypatch.setattr(tasks, "handler", lambda kind: found)
    return found


@pytest.fixture
def targets() -> Targets:
    return Targets()


def make_drain(database: Database, targets: Targets, **changes: Any) -> InboxDrain:
    values: dict[str, Any] = {
        "owner": ids.new_id(),
        "lease_seconds": 90,
        "batch_size": 100,
        "policy": RetryPolicy(5, 60, 3),
        **changes,
    }
    return InboxDrain(database, targets, **values)


@pytest.fixture
def drain(database: Database, targets: Targets, room: Room) -> InboxDrain:
    return make_drain(database, targets)


async def arrive(
    database: Database, *external_ids: str, connection_id: UUID | None = None, body: bytes | None = None
) -> UUID:
    where = connection_id or ids.new_id()
    async with database.transaction() as session:
        tenant_id = await add_tenant(session)
        await repository.store(
            session,
            [Arrival(tenant_id, where, one, body or b'{"id":"%s"}' % one.encode(), {}) for one in external_ids],
        )
    return where


async def rows(database: Database) -> dict[str, InboxMessage]:
    async with database.transaction() as session:
        found = await session.exec(select(InboxMessage).order_by(col(InboxMessage.id)))
        return {row.external_id: row for row in found.all()}


class TestDrain:
    async def test_everything_is_handled_once(self, database: Database, drain: InboxDrain, room: Room) -> None:
        await arrive(database, "a", "b")
        await arrive(database, "c")

        assert await drain.drain() is True
        assert await drain.drain() is False

        assert sorted(room.seen) == ["a", "b", "c"]
        assert {row.status for row in (await rows(database)).values()} == {"done"}

    async def test_a_duplicate_is_never_handled(self, database: Database, drain: InboxDrain, room: Room) -> None:
        connection_id = await arrive(database, "a")
        await drain.drain()
        await arrive(database, "a", connection_id=connection_id)
        await drain.drain()

        assert room.seen == ["a"]
        assert (await rows(database))["a"].duplicates == 1

    async def test_two_workers_share_the_work(self, database: Database, targets: Targets, room: Room) -> None:
        await arrive(database, *(f"e{number}" for number in range(40)))
        workers = [make_drain(database, targets, batch_size=5) for _ in range(3)]

        async def work(worker: InboxDrain) -> None:
            while await worker.drain():
                pass

        await asyncio.gather(*map(work, workers))

        assert sorted(room.seen) == sorted(f"e{number}" for number in range(40))

    async def test_the_oldest_go_first(self, database: Database, targets: Targets, room: Room) -> None:
        await arrive(database, *(f"e{number}" for number in range(6)))
        drain = make_drain(database, targets, batch_size=2)
        while await drain.drain():
            pass

        assert room.seen == [f"e{number}" for number in range(6)]


class TestFailures:
    @pytest.mark.parametrize(
        "failure",
        [ValueError("no"), KeyError("x"), TypeError("a bug"), AttributeError("a bug"), AssertionError()],
        ids=lambda error: type(error).__name__,
    )
    async def test_a_bad_event_does_not_hold_up_the_others(
        self, database: Database, drain: InboxDrain, room: Room, failure: Exception
    ) -> None:
        room.fails_on = lambda one: failure if one == "bad" else None
        await arrive(database, "a", "bad", "b")
        await arrive(database, "c")

        await drain.drain()

        found = await rows(database)
        assert sorted(room.seen) == ["a", "b", "c"]
        assert {name: row.status for name, row in found.items()} == {
            "a": "done",
            "bad": "pending",
            "b": "done",
            "c": "done",
        }
        assert type(failure).__name__ in (found["bad"].error or "")
        assert found["bad"].next_attempt_at > clock.now()
        assert found["bad"].lease_token is None

    async def test_an_error_of_the_database_fails_that_event_alone(
        self, database: Database, drain: InboxDrain, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def handle(session: AsyncSession, connection_id: UUID, deliveries: Sequence[Delivery]) -> Sequence[UUID]:
            connection = await session.connection()
            for delivery in deliveries:
                if delivery.event.external_id == "bad":
                    await connection.execute(text("SELECT 1 / 0"))
            return ()

        monkeypatch.setattr(tasks, "handler", lambda kind: handle)
        await arrive(database, "a", "bad", "b")

        await drain.drain()

        statuses = {name: row.status for name, row in (await rows(database)).items()}
        assert statuses == {"a": "done", "bad": "pending", "b": "done"}

    async def test_it_is_tried_again_and_then_given_up(self, database: Database, drain: InboxDrain, room: Room) -> None:
        room.fails_on = lambda one: ValueError("the event names no ticket")
        await arrive(database, "bad")

        for attempt in range(1, 4):
            with clock.shifted(timedelta(hours=attempt)):
                assert await drain.drain()
                assert not await drain.drain()

        row = (await rows(database))["bad"]
        assert (row.status, row.attempts) == ("dead", 3)
        assert row.error == "ValueError: the event names no ticket"

    async def test_a_dead_letter_that_is_replayed_is_handled(
        self, database: Database, drain: InboxDrain, room: Room
    ) -> None:
        room.fails_on = lambda one: ValueError("no")
        await arrive(database, "bad")
        for attempt in range(3):
            with clock.shifted(timedelta(hours=attempt)):
                await drain.drain()
        room.fails_on = lambda one: None
        dead = (await rows(database))["bad"]
        async with database.transaction() as session:
            assert await repository.replay(session, dead.tenant_id) == 1

        await drain.drain()

        row = (await rows(database))["bad"]
        assert (row.status, row.attempts, row.error) == ("done", 1, None)

    async def test_events_of_an_archived_connection_are_dead_letters(
        self, database: Database, drain: InboxDrain, targets: Targets, room: Room
    ) -> None:
        gone = await arrive(database, "late")
        await arrive(database, "a")
        targets.archived.add(gone)

        await drain.drain()

        found = await rows(database)
        assert (found["late"].status, found["late"].error) == ("dead", "Its connection is archived.")
        assert found["a"].status == "done"
        assert room.seen == ["a"]


class TestEarly:
    async def test_an_echo_that_overtook_its_record_is_shown_again(
        self, database: Database, drain: InboxDrain, room: Room
    ) -> None:
        room.early = {"echo"}
        await arrive(database, "echo", "a")

        await drain.drain()
        assert not await drain.drain(), "not at once"
        room.early = set()
        with clock.shifted(timedelta(seconds=1)):
            await drain.drain()

        found = await rows(database)
        assert {name: row.status for name, row in found.items()} == {"echo": "done", "a": "done"}
        assert room.seen.count("a") == 1

    async def test_but_not_for_ever(self, database: Database, drain: InboxDrain, room: Room) -> None:
        room.early = {"echo"}
        await arrive(database, "echo")

        for attempt in range(EARLY_TRIES_MAX + 2):
            with clock.shifted(timedelta(seconds=attempt)):
                await drain.drain()

        assert (await rows(database))["echo"].status == "done"
        assert len(room.seen) == EARLY_TRIES_MAX


class TestLease:
    async def test_a_lost_lease_records_nothing(self, database: Database, targets: Targets, room: Room) -> None:
        """The first worker pauses while it handles; the second takes over; the first must not finish the row."""
        await arrive(database, "a")
        slow, quick = make_drain(database, targets), make_drain(database, targets)
        taken: list[UUID] = []

        async def pause() -> None:
            room.before = None
            with clock.shifted(timedelta(seconds=100)):
                async with database.transaction() as session:
                    token = ids.new_id()
                    claimed = await repository.claim(
                        session, limit=9, lease=timedelta(seconds=90), token=token, owner=ids.new_id()
                    )
                    taken.extend(one.id for one in claimed)

        room.before = pause
        await slow.drain()

        row = (await rows(database))["a"]
        assert taken == [row.id]
        assert row.status == "pending"
        assert row.lease_token is not None
        assert not await quick.drain(), "the one that took over holds it"

    async def test_a_dead_workers_events_come_back_when_the_lease_ends(
        self, database: Database, drain: InboxDrain, room: Room
    ) -> None:
        await arrive(database, "a")
        async with database.transaction() as session:
            await repository.claim(
                session, limit=9, lease=timedelta(seconds=90), token=ids.new_id(), owner=ids.new_id()
            )

        assert not await drain.drain()
        with clock.shifted(timedelta(seconds=91)):
            assert await drain.drain()
        assert room.seen == ["a"]


class TestBacklog:
    async def test_counts_what_waits(self, database: Database, drain: InboxDrain) -> None:
        await arrive(database, "a", "b")
        async with database.transaction() as session:
            with clock.shifted(timedelta(minutes=10)):
                pending, late, age = await repository.backlog(session, older_than=clock.now() - timedelta(minutes=5))

        assert (pending, late) == (2, 2)
        assert 595 < age < 620
        await drain.drain()
        async with database.transaction() as session:
            assert await repository.backlog(session, older_than=clock.now()) == (0, 0, 0.0)


class TestSize:
    async def test_a_claim_takes_so_many_bytes_and_always_one_event(self, database: Database) -> None:
        large = b'{"object_id":1,"pad":"' + b"x" * (9 * 1024 * 1024) + b'"}'
        await arrive(database, "a", "b", "c", body=large)

        claims = []
        for _ in range(4):
            async with database.transaction() as session:
                found = await repository.claim(
                    session, limit=10, lease=timedelta(seconds=30), token=ids.new_id(), owner=ids.new_id()
                )
            claims.append(len(found))

        assert claims == [1, 1, 1, 0]
