"""SQL of the links as a queue: claiming, marking, candidates."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import case, text
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlmodel import col, delete, func, or_, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from app.connectors.canonical import Lane
from app.core import clock, ids
from app.core.db.session import raw
from app.sync.models import Relationship, TicketLink

# A link is due when it is dirty and none of its writes is still under way: one serial lane for each link.
_CLAIM = text(
    """
    WITH due AS (
        SELECT l.id FROM ticket_link l
        WHERE l.relationship_id = :relationship_id AND l.dirty_since IS NOT NULL AND l.next_attempt_at <= :now
          AND l.state IN ('new', 'linked', 'orphaned', 'failed') AND l.lane = :lane
          AND (l.lease_until IS NULL OR l.lease_until < :now)
          AND NOT EXISTS (SELECT 1 FROM outbound_command c WHERE c.subject_id = l.id AND c.status = 'pending')
        ORDER BY l.next_attempt_at LIMIT :n FOR UPDATE SKIP LOCKED
    )
    UPDATE ticket_link t
    SET attempts = t.attempts + 1, lease_token = :token, lease_owner = :owner, lease_until = :until
    FROM due WHERE t.id = due.id
    RETURNING t.id, t.source_ticket_id, t.target_ticket_id, t.origin, t.state, t.shadow, t.field_errors, t.generation,
              t.source_comments_until, t.target_comments_until, t.source_comments_from, t.target_comments_from,
              t.dirty_mark, t.lane, t.attempts
    """
)


_DUE = text(
    """
    SELECT l.relationship_id, count(*), min(l.dirty_since) FROM ticket_link l
    JOIN relationship r ON r.id = l.relationship_id AND r.state = 'active'
    WHERE l.dirty_since IS NOT NULL AND l.next_attempt_at <= :now
      AND l.state IN ('new', 'linked', 'orphaned', 'failed')
      AND (l.lease_until IS NULL OR l.lease_until < :now)
      AND NOT EXISTS (SELECT 1 FROM outbound_command c WHERE c.subject_id = l.id AND c.status = 'pending')
    GROUP BY l.relationship_id
    """
)


@dataclass(frozen=True, slots=True)
class ClaimedLink:
    """A link taken for a look."""

    id: UUID
    source_ticket_id: str | None
    target_ticket_id: str | None
    origin: str
    state: str
    shadow: dict[str, dict[str, str | None]]
    field_errors: dict[str, Any]
    generation: int
    source_comments_until: datetime | None
    target_comments_until: datetime | None
    source_comments_from: datetime | None
    target_comments_from: datetime | None
    dirty_mark: int
    lane: str
    attempts: int

    def ticket_id(self, side: str) -> str | None:
        """The ticket at a side."""
        return self.source_ticket_id if side == "source" else self.target_ticket_id

    def comments_since(self, side: str, polled_until: datetime | None) -> datetime | None:
        """From when on comments of a side may be unread; ``None``: none were read yet.

        Up to ``polled_until`` the poll has seen every comment of the connection and set ``…_comments_from`` on links
        where one was missing, so a ticket untouched for weeks needs no window of weeks.
        """
        until, missed = (
            (self.source_comments_until, self.source_comments_from)
            if side == "source"
            else (self.target_comments_until, self.target_comments_from)
        )
        if until is None:
            return None
        since = max(until, polled_until) if polled_until is not None else until
        return min(since, missed) if missed is not None else since


async def due_relationships(session: AsyncSession) -> Sequence[tuple[UUID, int, datetime]]:
    """(relationship, how many links are due, since when the oldest is dirty)."""
    return [tuple(row) for row in await raw(session, _DUE, {"now": clock.now()})]


async def waiting(session: AsyncSession, relationship_id: UUID) -> tuple[int, datetime | None]:
    """(how many links of a relationship are due, since when the oldest is dirty)."""
    for found, count, oldest in await due_relationships(session):
        if found == relationship_id:
            return count, oldest
    return 0, None


async def claim_links(
    session: AsyncSession,
    relationship_id: UUID,
    *,
    limit: int,
    lease: timedelta,
    token: UUID,
    owner: UUID,
    bulk_first: bool = False,
) -> list[ClaimedLink]:
    """Take up to ``limit`` due links of a relationship and one lane; bulk ones when there are no others, or with
    ``bulk_first`` the other way round."""
    now = clock.now()
    values = {"now": now, "n": limit, "token": token, "owner": owner, "until": now + lease}
    for lane in Lane.order(bulk_first=bulk_first):
        rows = await raw(session, _CLAIM, {**values, "relationship_id": relationship_id, "lane": lane.value})
        links = [ClaimedLink(*row) for row in rows]
        if links:
            return links
    return []


async def put_off(
    session: AsyncSession, link_ids: Sequence[UUID], *, token: UUID, when: datetime, reason: str, counts: bool
) -> None:
    """Give links back unread: they stay dirty and are due at ``when``."""
    await lock_links(session, link_ids)
    values: dict[str, Any] = {
        "next_attempt_at": when,
        "reason": reason[:1000],
        "lease_token": None,
        "lease_owner": None,
        "lease_until": None,
    }
    if not counts:
        values["attempts"] = TicketLink.attempts - 1
    await session.exec(
        update(TicketLink)
        .where(col(TicketLink.id).in_(link_ids), col(TicketLink.lease_token) == token)
        .values(**values)
    )


async def drop_candidates(session: AsyncSession, relationship_id: UUID, side: str, ticket_ids: Sequence[str]) -> None:
    """Forget one-sided links to tickets that turned out to be our own creations: their event overtook our record."""
    own, opposite = (
        (TicketLink.source_ticket_id, TicketLink.target_ticket_id)
        if side == "source"
        else (TicketLink.target_ticket_id, TicketLink.source_ticket_id)
    )
    await session.exec(
        delete(TicketLink).where(
            col(TicketLink.relationship_id) == relationship_id,
            col(own).in_(ticket_ids),
            col(opposite).is_(None),
        )
    )


async def links_of_tickets(
    session: AsyncSession, relationship_id: UUID, side: str, ticket_ids: Sequence[str]
) -> Sequence[TicketLink]:
    """The links that hold these tickets at ``side``."""
    column = TicketLink.source_ticket_id if side == "source" else TicketLink.target_ticket_id
    found = await session.exec(
        select(TicketLink).where(TicketLink.relationship_id == relationship_id, col(column).in_(ticket_ids))
    )
    return found.all()


async def lock_links(session: AsyncSession, link_ids: Sequence[UUID]) -> None:
    """Hold links until the transaction ends, taken in the order that every other statement takes them in."""
    await session.exec(
        select(TicketLink.id)
        .where(col(TicketLink.id).in_(link_ids))
        .order_by(col(TicketLink.id))
        # Not the full lock: rows that reference a link (ledger, history) must still be insertable.
        .with_for_update(key_share=True)
    )


async def mark_troubled(session: AsyncSession, relationship_id: UUID) -> int:
    """Links with something that could not be carried have to be looked at: the settings may let it through now."""
    troubled = await session.exec(
        select(TicketLink.id).where(
            TicketLink.relationship_id == relationship_id,
            or_(col(TicketLink.field_errors) != {}, TicketLink.state == "failed"),
        )
    )
    return await mark_dirty(session, troubled.all(), lane="bulk")


async def mark_dirty(
    session: AsyncSession, link_ids: Sequence[UUID], *, lane: str = "interactive", sync_id: UUID | None = None
) -> int:
    """These links have to be looked at. An interactive mark lifts a link out of the bulk lane."""
    if not link_ids:
        return 0
    now = clock.now()
    await lock_links(session, link_ids)
    values: dict[str, Any] = {
        # What was refused is judged afresh whenever something happens to it: it may have become ours meanwhile.
        "state": case((col(TicketLink.state) == "ignored", "new"), else_=col(TicketLink.state)),
        "dirty_since": func.coalesce(TicketLink.dirty_since, now),
        "dirty_mark": TicketLink.dirty_mark + 1,
        "next_attempt_at": now,
    }
    if lane == "interactive":
        values["lane"] = lane
    else:
        values["lane"] = case((col(TicketLink.dirty_since).is_(None), lane), else_=col(TicketLink.lane))
    if sync_id is not None:
        values["sync_id"] = sync_id
    result = await session.exec(
        update(TicketLink)
        .where(
            col(TicketLink.id).in_(link_ids),
            col(TicketLink.state).in_(["new", "linked", "orphaned", "failed", "paused", "ignored"]),
        )
        .values(**values)
    )
    return result.rowcount


async def add_candidates(
    session: AsyncSession,
    relationship: Relationship,
    side: str,
    ticket_ids: Sequence[str],
    *,
    lane: str,
    sync_id: UUID | None = None,
) -> int:
    """Tickets seen for the first time at the side they were born: one link each, due now. Returns how many are new."""
    if not ticket_ids:
        return 0
    now = clock.now()
    rows: list[dict[str, Any]] = [
        {
            "id": ids.new_id(),
            "created_at": now,
            "updated_at": now,
            "tenant_id": relationship.tenant_id,
            "relationship_id": relationship.id,
            f"{side}_ticket_id": ticket_id,
            "origin": side,
            "state": "new",
            "shadow": {},
            "field_errors": {},
            "generation": 0,
            "attempts": 0,
            "next_attempt_at": now,
            "dirty_since": now,
            "dirty_mark": 1,
            "lane": lane,
            "sync_id": sync_id,
        }
        for ticket_id in sorted(ticket_ids)  # two inserts in opposite orders would deadlock on the unique index
    ]
    result = await session.exec(pg_insert(TicketLink).values(rows).on_conflict_do_nothing())
    return result.rowcount


async def creations_under_way(session: AsyncSession, connection_id: UUID) -> bool:
    """Whether a creation at this connection has been begun and not recorded: a new ticket there may be ours."""
    found = await raw(
        session,
        text(
            "SELECT EXISTS (SELECT 1 FROM outbound_command WHERE connection_id = :connection AND status = 'pending' "
            "AND kind = 'ticket.create' AND open_tries > 0)"
        ),
        {"connection": connection_id},
    )
    return bool(found.scalar())


async def backlog(session: AsyncSession, *, older_than: datetime) -> tuple[int, int, float]:
    """(links to look at, those due before ``older_than``, age of the oldest due one in seconds), of active
    relationships: what is paused is not late."""
    now = clock.now()
    row = (
        await session.exec(
            select(
                func.count(),
                func.count().filter(col(TicketLink.next_attempt_at) < older_than),
                func.min(TicketLink.next_attempt_at),
            )
            .join(Relationship, col(Relationship.id) == col(TicketLink.relationship_id))
            .where(
                col(TicketLink.dirty_since).is_not(None),
                TicketLink.next_attempt_at <= now,
                col(TicketLink.state).in_(["new", "linked", "orphaned", "failed"]),
                Relationship.state == "active",
            )
        )
    ).one()
    age = max(0.0, (now - row[2]).total_seconds()) if row[2] else 0.0
    return row[0], row[1], age
