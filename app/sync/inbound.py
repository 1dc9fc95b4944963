"""Events coming in: each one only says "look at this ticket".

Runs in the transaction that finishes the events. Nothing is read from a desk here and nothing is concluded from an
event's content; the one thing believed is that an event by our own agent, no newer than what we read back, is an echo.
"""

from collections.abc import Iterable, Sequence
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from app.core import telemetry
from app.core.db.session import ring_after_commit
from app.inbox.dispatch import Delivery
from app.outbox import repository as outbox
from app.sync import repository
from app.sync.converge import IDENTITIES
from app.sync.echo import is_echo
from app.sync.models import Relationship, TicketLink
from app.sync.settings import RelationshipSettings, Side


def side_of(relationship: Relationship, connection_id: UUID) -> Side:
    """The side at which a relationship uses a connection."""
    return "source" if relationship.source_connection_id == connection_id else "target"


async def take_in(session: AsyncSession, connection_id: UUID, deliveries: Sequence[Delivery]) -> Sequence[UUID]:
    """Mark the links of the events' tickets, and take up tickets seen for the first time where they may originate.

    Returns the messages that are echoes of a write whose record is still on its way.
    """
    early: set[UUID] = set()
    with_ticket = [delivery for delivery in deliveries if delivery.event.ticket_id is not None]
    for relationship in await repository.relationships_of_connection(session, connection_id):
        side = side_of(relationship, connection_id)
        ticket_ids = sorted({delivery.event.ticket_id or "" for delivery in with_ticket})
        links = {
            _ticket_id(link, side): link
            for link in await repository.links_of_tickets(session, relationship.id, side, ticket_ids)
        }
        dirty, unknown, echoes = _sort(with_ticket, links, side, IDENTITIES.get(connection_id))
        if echoes:
            waiting = await outbox.subjects_with_open(session, list({link.id for _, link in echoes}))
            early.update(delivery.message_id for delivery, link in echoes if link.id in waiting)
            dirty.update(link.id for _, link in echoes if link.id not in waiting)
        marked = await repository.mark_dirty(session, sorted(dirty))
        settings = RelationshipSettings.model_validate(relationship.settings)
        if side == "source" or settings.reverse:
            marked += await repository.add_candidates(session, relationship, side, sorted(unknown), lane="interactive")
        telemetry.SYNC_CHANGES.labels("webhook").inc(marked)
    ring_after_commit(session, "sync")
    return sorted(early)


def _sort(
    deliveries: Iterable[Delivery], links: dict[str | None, TicketLink], side: Side, ourselves: str | None
) -> tuple[set[UUID], set[str], list[tuple[Delivery, TicketLink]]]:
    """(links to look at, tickets without a link, events by our own agent that are newer than what we read)."""
    dirty: set[UUID] = set()
    unknown: set[str] = set()
    by_us: list[tuple[Delivery, TicketLink]] = []
    for delivery in deliveries:
        event = delivery.event
        assert event.ticket_id is not None
        link = links.get(event.ticket_id)
        if link is None:
            unknown.add(event.ticket_id)
            continue
        seen = link.source_updated_at if side == "source" else link.target_updated_at
        if is_echo(event, our_actor_id=ourselves, seen_updated_at=seen):
            continue
        if ourselves is not None and event.actor_id == ourselves:
            by_us.append((delivery, link))
        else:
            dirty.add(link.id)
    return dirty, unknown, by_us


def _ticket_id(link: TicketLink, side: Side) -> str | None:
    return link.source_ticket_id if side == "source" else link.target_ticket_id
