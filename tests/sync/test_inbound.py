"""Events coming in: each says "look at this ticket", and our own echo says nothing."""

from datetime import datetime, timedelta
from uuid import UUID

import pytest
from sqlmodel import col, select

from app.connectors.canonical import HookEvent
from app.core import ids
from app.core.db.session import Database
from app.inbox.dispatch import Delivery
from app.outbox import repository as outbox
from app.sync.converge import IDENTITIES
from app.sync.inbound import take_in
from app.sync.models import TicketLink
from app.sync.settings import RelationshipSettings
from tests.support.rows import Pair, add_link, add_pair, command_for, read_link
from tests.sync.values import NOON

OURSELVES = "12"


def delivery(ticket_id: str | None = "1", *, actor: str | None = None, updated_at: datetime | None = None) -> Delivery:
    event = HookEvent(
        ids.new_id().hex, "updated", b"{}", ticket_id=ticket_id, actor_id=actor, ticket_updated_at=updated_at
    )
    return Delivery(ids.new_id(), event)


async def taken(database: Database, connection_id: UUID, *deliveries: Delivery) -> list[UUID]:
    async with database.transaction() as session:
        return list(await take_in(session, connection_id, deliveries))


async def links(database: Database, pair: Pair) -> list[TicketLink]:
    async with database.transaction() as session:
        found = await session.exec(
            select(TicketLink)
            .where(col(TicketLink.relationship_id) == pair.relationship_id)
            .order_by(col(TicketLink.id))
        )
        return list(found.all())


@pytest.fixture
async def pair(database: Database) -> Pair:
    return await add_pair(database)


@pytest.fixture
def known_identities(monkeypatch: pytest.MonkeyPatch, pair: Pair) -> None:
    monkeypatch.setattr(IDENTITIES, "_known", {pair.source_id: OURSELVES, pair.target_id: OURSELVES})


class TestMarks:
    @pytest.mark.parametrize("side", ["source", "target"])
    async def test_the_link_of_the_ticket(self, database: Database, pair: Pair, side: str) -> None:
        touched = await add_link(database, pair, source_ticket_id="1", target_ticket_id="1")
        other = await add_link(database, pair, source_ticket_id="2", target_ticket_id="2")
        connection_id = pair.source_id if side == "source" else pair.target_id

        assert await taken(database, connection_id, delivery("1"), delivery("1"), delivery(None)) == []

        assert (await read_link(database, touched)).dirty_since is not None
        assert (await read_link(database, other)).dirty_since is None

    async def test_a_ticket_seen_for_the_first_time(self, database: Database, pair: Pair) -> None:
        await taken(database, pair.source_id, delivery("7"), delivery("7"), delivery("8"))
        await taken(database, pair.source_id, delivery("7"))

        found = await links(database, pair)
        assert sorted((one.source_ticket_id, one.state) for one in found) == [("7", "new"), ("8", "new")]

    @pytest.mark.parametrize(("reverse", "count"), [(False, 0), (True, 1)])
    async def test_at_the_target_only_with_reverse_sync(self, database: Database, reverse: bool, count: int) -> None:
        pair = await add_pair(database, settings=RelationshipSettings(reverse=reverse))

        await taken(database, pair.target_id, delivery("7"))

        assert [one.origin for one in await links(database, pair)] == ["target"] * count

    async def test_in_every_relationship_of_the_connection_and_no_other(self, database: Database, pair: Pair) -> None:
        stranger = await add_pair(database)

        await taken(database, pair.source_id, delivery("7"))

        assert len(await links(database, pair)) == 1
        assert await links(database, stranger) == []


@pytest.mark.usefixtures("known_identities")
class TestEchoes:
    async def test_our_own_write_that_was_read_back_says_nothing(self, database: Database, pair: Pair) -> None:
        link_id = await add_link(database, pair, source_ticket_id="1", source_updated_at=NOON)

        await taken(database, pair.source_id, delivery("1", actor=OURSELVES, updated_at=NOON))

        assert (await read_link(database, link_id)).dirty_since is None

    async def test_a_rule_of_the_desk_under_our_account_counts(self, database: Database, pair: Pair) -> None:
        link_id = await add_link(database, pair, source_ticket_id="1", source_updated_at=NOON)

        later = NOON + timedelta(seconds=1)
        await taken(database, pair.source_id, delivery("1", actor=OURSELVES, updated_at=later))

        assert (await read_link(database, link_id)).dirty_since is not None

    async def test_somebody_elses_change_counts_whenever_it_was(self, database: Database, pair: Pair) -> None:
        link_id = await add_link(database, pair, source_ticket_id="1", source_updated_at=NOON)

        await taken(database, pair.source_id, delivery("1", actor="99", updated_at=NOON - timedelta(hours=1)))

        assert (await read_link(database, link_id)).dirty_since is not None

    async def test_an_echo_that_overtook_its_record_comes_again(self, database: Database, pair: Pair) -> None:
        link_id = await add_link(database, pair, source_ticket_id="1", source_updated_at=NOON)
        async with database.transaction() as session:
            await outbox.enqueue(session, [command_for(pair, link_id)])
        echo = delivery("1", actor=OURSELVES, updated_at=NOON + timedelta(seconds=1))

        assert await taken(database, pair.source_id, echo) == [echo.message_id]

        assert (await read_link(database, link_id)).dirty_since is None
