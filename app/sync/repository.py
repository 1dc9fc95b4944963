"""All SQL of ticket sync."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import case, text, tuple_
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlmodel import col, delete, func, or_, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core import clock, ids
from app.core.db.repository import TenantRepository
from app.core.pagination import PageRequest, Slice, paginate
from app.sync.models import LedgerEntry, LinkChange, PollCursor, Relationship, SyncRun, TicketLink

# A link is due when it is dirty and none of its writes is still under way: one serial lane for each link.
_CLAIM = text(
    """
    WITH due AS (
        SELECT l.id FROM ticket_link l
        WHERE l.relationship_id = :relationship_id AND l.dirty_since IS NOT NULL AND l.next_attempt_at <= :now
          AND l.state IN ('new', 'linked', 'orphaned', 'failed')
          AND (l.lease_until IS NULL OR l.lease_until < :now)
          AND NOT EXISTS (SELECT 1 FROM outbound_command c WHERE c.subject_id = l.id AND c.status = 'pending')
        ORDER BY l.lane DESC, l.next_attempt_at LIMIT :n FOR UPDATE SKIP LOCKED
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

# Statements that touch many links lock them in the order of their ids first: two that met each other's rows in
# opposite orders have deadlocked (the poll and the inbox, on a busy day).
_LOCKED = (
    "WITH locked AS MATERIALIZED "
    "(SELECT id FROM ticket_link WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id FOR NO KEY UPDATE)"
)

_SETTLE = text(
    _LOCKED
    + """
    UPDATE ticket_link t
    SET state = r.state, reason = r.reason, next_step = r.next_step,
        shadow = r.shadow::jsonb, field_errors = r.field_errors::jsonb,
        source_updated_at = COALESCE(r.source_updated_at, t.source_updated_at),
        target_updated_at = COALESCE(r.target_updated_at, t.target_updated_at),
        source_comments_until = COALESCE(r.source_until, t.source_comments_until),
        target_comments_until = COALESCE(r.target_until, t.target_comments_until),
        source_comments_from = CASE WHEN r.stay_dirty OR r.source_until IS NULL OR t.dirty_mark <> r.dirty_mark
                                    THEN t.source_comments_from END,
        target_comments_from = CASE WHEN r.stay_dirty OR r.target_until IS NULL OR t.dirty_mark <> r.dirty_mark
                                    THEN t.target_comments_from END,
        dirty_since = CASE WHEN r.stay_dirty OR t.dirty_mark <> r.dirty_mark THEN t.dirty_since END,
        lane = CASE WHEN r.stay_dirty OR t.dirty_mark <> r.dirty_mark THEN t.lane ELSE 'interactive' END,
        attempts = CASE WHEN r.stay_dirty THEN t.attempts ELSE 0 END,
        next_attempt_at = r.next_attempt_at, last_synced_at = :now, updated_at = :now,
        lease_token = NULL, lease_owner = NULL, lease_until = NULL
    FROM unnest(CAST(:ids AS uuid[]), CAST(:states AS text[]), CAST(:reasons AS text[]), CAST(:next_steps AS text[]),
                CAST(:shadows AS text[]), CAST(:field_errors AS text[]),
                CAST(:source_updated AS timestamptz[]), CAST(:target_updated AS timestamptz[]),
                CAST(:source_until AS timestamptz[]), CAST(:target_until AS timestamptz[]),
                CAST(:marks AS bigint[]), CAST(:stay AS boolean[]), CAST(:next_attempts AS timestamptz[]))
         AS r(id, state, reason, next_step, shadow, field_errors, source_updated_at, target_updated_at,
              source_until, target_until, dirty_mark, stay_dirty, next_attempt_at)
    WHERE t.id = r.id AND t.lease_token = :token AND t.id IN (SELECT id FROM locked)
    RETURNING t.id
    """
)

_RECORD = text(
    _LOCKED
    + """
    UPDATE ticket_link t
    SET source_ticket_id = COALESCE(r.source_ticket_id, t.source_ticket_id),
        target_ticket_id = COALESCE(r.target_ticket_id, t.target_ticket_id),
        state = COALESCE(r.state, t.state), reason = r.reason, next_step = r.next_step,
        shadow = t.shadow || r.shadow::jsonb, field_errors = t.field_errors || r.field_errors::jsonb,
        source_updated_at = GREATEST(t.source_updated_at, r.source_updated_at),
        target_updated_at = GREATEST(t.target_updated_at, r.target_updated_at),
        generation = t.generation + CASE WHEN r.wrote THEN 1 ELSE 0 END, updated_at = :now, last_synced_at = :now,
        dirty_since = CASE WHEN r.look_again THEN COALESCE(t.dirty_since, :now) ELSE t.dirty_since END,
        dirty_mark = t.dirty_mark + CASE WHEN r.look_again THEN 1 ELSE 0 END
    FROM unnest(CAST(:ids AS uuid[]), CAST(:source_ids AS text[]), CAST(:target_ids AS text[]),
                CAST(:states AS text[]), CAST(:reasons AS text[]), CAST(:next_steps AS text[]),
                CAST(:shadows AS text[]), CAST(:field_errors AS text[]),
                CAST(:source_updated AS timestamptz[]), CAST(:target_updated AS timestamptz[]),
                CAST(:look_again AS boolean[]), CAST(:wrote AS boolean[]))
         AS r(id, source_ticket_id, target_ticket_id, state, reason, next_step, shadow, field_errors,
              source_updated_at, target_updated_at, look_again, wrote)
    WHERE t.id = r.id AND t.id IN (SELECT id FROM locked)
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


@dataclass(slots=True)
class Settled:
    """How a look at a link ended. ``stay_dirty`` keeps it due, at ``next_attempt_at``."""

    link: ClaimedLink
    state: str
    shadow: dict[str, Any]
    field_errors: dict[str, Any]
    reason: str | None = None
    next_step: str | None = None
    source_updated_at: datetime | None = None
    target_updated_at: datetime | None = None
    source_comments_until: datetime | None = None
    target_comments_until: datetime | None = None
    stay_dirty: bool = False
    next_attempt_at: datetime = field(default_factory=clock.now)


@dataclass(slots=True)
class Recorded:
    """What a finished write means for its link. ``look_again`` makes the link due; ``wrote`` moves its generation on
    (a refused write must not: the same write decided again has to meet its own dead letter)."""

    link_id: UUID
    shadow: dict[str, Any] = field(default_factory=dict)
    field_errors: dict[str, Any] = field(default_factory=dict)
    source_ticket_id: str | None = None
    target_ticket_id: str | None = None
    state: str | None = None
    reason: str | None = None
    next_step: str | None = None
    source_updated_at: datetime | None = None
    target_updated_at: datetime | None = None
    look_again: bool = False
    wrote: bool = False


async def due_relationships(session: AsyncSession) -> Sequence[tuple[UUID, int, datetime]]:
    """(relationship, how many links are due, since when the oldest is dirty)."""
    return [tuple(row) for row in await session.execute(_DUE, {"now": clock.now()})]


async def waiting(session: AsyncSession, relationship_id: UUID) -> tuple[int, datetime | None]:
    """(how many links of a relationship are due, since when the oldest is dirty)."""
    for found, count, oldest in await due_relationships(session):
        if found == relationship_id:
            return count, oldest
    return 0, None


async def load_relationship(session: AsyncSession, relationship_id: UUID) -> Relationship | None:
    """A relationship by id, for the workers; requests use the tenant-scoped form."""
    return (await session.exec(select(Relationship).where(Relationship.id == relationship_id))).one_or_none()


async def every_relationship(session: AsyncSession) -> Sequence[Relationship]:
    """The relationships of every tenant, locked: for the rotation of encryption keys."""
    return (await session.exec(select(Relationship).order_by(col(Relationship.id)).with_for_update())).all()


async def store_learnt(session: AsyncSession, relationship_id: UUID, learnt: dict[str, Any]) -> None:
    """Keep what the desks told; not a change of the settings, so the version stays."""
    await session.exec(
        update(Relationship).where(col(Relationship.id) == relationship_id).values(learnt=learnt)
    )


async def claim_links(
    session: AsyncSession, relationship_id: UUID, *, limit: int, lease: timedelta, token: UUID, owner: UUID
) -> list[ClaimedLink]:
    """Take up to ``limit`` due links of a relationship, interactive ones first."""
    now = clock.now()
    rows = await session.execute(
        _CLAIM,
        {
            "now": now,
            "n": limit,
            "token": token,
            "owner": owner,
            "until": now + lease,
            "relationship_id": relationship_id,
        },
    )
    return [ClaimedLink(*row) for row in rows]


async def settle(session: AsyncSession, settled: Sequence[Settled], *, token: UUID) -> set[UUID]:
    """Store how looks ended, for the links that we still hold. Returns those."""
    if not settled:
        return set()
    rows = await session.execute(
        _SETTLE,
        {
            "now": clock.now(),
            "token": token,
            "ids": [one.link.id for one in settled],
            "states": [one.state for one in settled],
            "reasons": [one.reason for one in settled],
            "next_steps": [one.next_step for one in settled],
            "shadows": [orjson.dumps(one.shadow).decode() for one in settled],
            "field_errors": [orjson.dumps(one.field_errors).decode() for one in settled],
            "source_updated": [one.source_updated_at for one in settled],
            "target_updated": [one.target_updated_at for one in settled],
            "source_until": [one.source_comments_until for one in settled],
            "target_until": [one.target_comments_until for one in settled],
            "marks": [one.link.dirty_mark for one in settled],
            "stay": [one.stay_dirty for one in settled],
            "next_attempts": [one.next_attempt_at for one in settled],
        },
    )
    return {row[0] for row in rows}


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


async def record(session: AsyncSession, recorded: Sequence[Recorded]) -> None:
    """Store what finished writes mean. At most one row for a link in one call."""
    if not recorded:
        return
    await session.execute(
        _RECORD,
        {
            "now": clock.now(),
            "ids": [one.link_id for one in recorded],
            "source_ids": [one.source_ticket_id for one in recorded],
            "target_ids": [one.target_ticket_id for one in recorded],
            "states": [one.state for one in recorded],
            "reasons": [one.reason for one in recorded],
            "next_steps": [one.next_step for one in recorded],
            "shadows": [orjson.dumps(one.shadow).decode() for one in recorded],
            "field_errors": [orjson.dumps(one.field_errors).decode() for one in recorded],
            "source_updated": [one.source_updated_at for one in recorded],
            "target_updated": [one.target_updated_at for one in recorded],
            "look_again": [one.look_again for one in recorded],
            "wrote": [one.wrote for one in recorded],
        },
    )


async def drop_candidates(
    session: AsyncSession, relationship_id: UUID, side: str, ticket_ids: Sequence[str]
) -> None:
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


async def add_ledger(session: AsyncSession, entries: Sequence[dict[str, Any]]) -> None:
    """Note items as ours; known ones are left alone. Each entry has the columns of :class:`LedgerEntry`."""
    if not entries:
        return
    now = clock.now()
    rows = [{"id": ids.new_id(), "created_at": now, **entry} for entry in entries]
    await session.exec(
        pg_insert(LedgerEntry)
        .values(rows)
        .on_conflict_do_nothing(index_elements=["relationship_id", "side", "kind", "native_id"])
    )


async def known_items(
    session: AsyncSession, relationship_id: UUID, kind: str, items: Iterable[tuple[str, str]]
) -> set[tuple[str, str]]:
    """Which (side, native id) pairs are ours or have been carried already."""
    wanted = list(items)
    known: set[tuple[str, str]] = set()
    for start in range(0, len(wanted), 5000):
        part = wanted[start : start + 5000]
        found = await session.exec(
            select(LedgerEntry.side, LedgerEntry.native_id).where(
                LedgerEntry.relationship_id == relationship_id,
                LedgerEntry.kind == kind,
                tuple_(col(LedgerEntry.side), col(LedgerEntry.native_id)).in_(part),
            )
        )
        known.update(found.all())
    return known


async def add_changes(session: AsyncSession, changes: Sequence[LinkChange]) -> None:
    """Append to the links' histories."""
    session.add_all(changes)
    await session.flush()


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
        select(TicketLink.id).where(col(TicketLink.id).in_(link_ids)).order_by(col(TicketLink.id))
        # Not the full lock: rows that reference a link (ledger, history) must still be insertable.
        .with_for_update(key_share=True)
    )


async def mark_dirty(
    session: AsyncSession, link_ids: Sequence[UUID], *, lane: str = "interactive", sync_id: UUID | None = None
) -> int:
    """These links have to be looked at. An interactive mark lifts a link out of the bulk lane."""
    if not link_ids:
        return 0
    now = clock.now()
    await lock_links(session, link_ids)
    values: dict[str, Any] = {
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
            col(TicketLink.state).in_(["new", "linked", "orphaned", "failed", "paused"]),
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
    rows = [
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


async def polled_until(session: AsyncSession, connection_id: UUID) -> datetime | None:
    """Up to when the reconciling poll has read a connection, by the remote's clock."""
    found = await session.exec(select(PollCursor.watermark).where(PollCursor.connection_id == connection_id))
    return found.one_or_none()


async def relationships_of_connection(session: AsyncSession, connection_id: UUID) -> Sequence[Relationship]:
    """The relationships that are not archived and use a connection, on either side."""
    found = await session.exec(
        select(Relationship).where(
            or_(
                Relationship.source_connection_id == connection_id,
                Relationship.target_connection_id == connection_id,
            ),
            Relationship.state != "archived",
        ).order_by(col(Relationship.id))
    )
    return found.all()


async def creations_under_way(session: AsyncSession, connection_id: UUID) -> bool:
    """Whether a creation at this connection has been begun and not recorded: a new ticket there may be ours."""
    found = await session.execute(
        text(
            "SELECT EXISTS (SELECT 1 FROM outbound_command WHERE connection_id = :connection AND status = 'pending' "
            "AND kind = 'ticket.create' AND open_tries > 0)"
        ),
        {"connection": connection_id},
    )
    return bool(found.scalar())


class RelationshipRepository(TenantRepository[Relationship]):
    """The relationships of one tenant."""

    model = Relationship
    noun = "relationship"

    async def page(self, request: PageRequest, *, state: str | None, name: str | None) -> Slice[Relationship]:
        """One page, narrowed to a state and a part of the name when given."""
        statement = self.rows()
        if state is not None:
            statement = statement.where(col(Relationship.state) == state)
        if name is not None:
            statement = statement.where(col(Relationship.name).icontains(name, autoescape=True))
        columns = {"created_at": Relationship.created_at, "name": Relationship.name}
        return await paginate(self.session, statement, request, columns=columns, id_column=Relationship.id)

    async def name_taken(self, name: str) -> bool:
        """Whether another relationship has the name."""
        return (
            await self.session.exec(self.rows().where(col(Relationship.name) == name))
        ).first() is not None

    async def counts(self, relationship_id: UUID) -> dict[str, int]:
        """Links by state, and how many are waiting to be looked at."""
        rows = await self.session.exec(
            select(
                TicketLink.state, func.count(), func.count().filter(col(TicketLink.dirty_since).is_not(None))
            )
            .where(TicketLink.tenant_id == self.tenant_id, TicketLink.relationship_id == relationship_id)
            .group_by(col(TicketLink.state))
        )
        found: dict[str, int] = {"waiting": 0}
        for state, count, dirty in rows:
            found[state] = count
            found["waiting"] += dirty
        return found


class TicketLinkRepository(TenantRepository[TicketLink]):
    """The ticket links of one tenant."""

    model = TicketLink
    noun = "ticket link"

    async def page(
        self,
        request: PageRequest,
        *,
        relationship_id: UUID | None,
        state: str | None,
        ticket_id: str | None,
        waiting: bool | None,
    ) -> Slice[TicketLink]:
        """One page, narrowed by what is given. ``ticket_id`` is a ticket of either side."""
        statement = self.rows()
        if relationship_id is not None:
            statement = statement.where(col(TicketLink.relationship_id) == relationship_id)
        if state is not None:
            statement = statement.where(col(TicketLink.state) == state)
        if ticket_id is not None:
            statement = statement.where(
                or_(
                    col(TicketLink.source_ticket_id) == ticket_id,
                    col(TicketLink.target_ticket_id) == ticket_id,
                )
            )
        if waiting is not None:
            dirty = col(TicketLink.dirty_since)
            statement = statement.where(dirty.is_not(None) if waiting else dirty.is_(None))
        columns = {"created_at": TicketLink.created_at, "updated_at": TicketLink.updated_at}
        return await paginate(self.session, statement, request, columns=columns, id_column=TicketLink.id)

    async def changes(self, link_id: UUID, *, limit: int = 100) -> Sequence[LinkChange]:
        """What happened to a link, newest first."""
        found = await self.session.exec(
            select(LinkChange)
            .where(LinkChange.tenant_id == self.tenant_id, LinkChange.link_id == link_id)
            .order_by(col(LinkChange.id).desc())
            .limit(limit)
        )
        return found.all()


class SyncRunRepository(TenantRepository[SyncRun]):
    """The asked-for syncs of one tenant."""

    model = SyncRun
    noun = "sync"

    async def page(
        self, request: PageRequest, *, relationship_id: UUID | None, state: str | None
    ) -> Slice[SyncRun]:
        """One page, narrowed by what is given."""
        statement = self.rows()
        if relationship_id is not None:
            statement = statement.where(col(SyncRun.relationship_id) == relationship_id)
        if state is not None:
            statement = statement.where(col(SyncRun.state) == state)
        columns = {"created_at": SyncRun.created_at}
        return await paginate(self.session, statement, request, columns=columns, id_column=SyncRun.id)


async def backlog(session: AsyncSession, *, older_than: datetime) -> tuple[int, int, float]:
    """(dirty links, dirty since before ``older_than``, age of the oldest in seconds)."""
    row = (
        await session.exec(
            select(
                func.count(),
                func.count().filter(col(TicketLink.dirty_since) < older_than),
                func.min(TicketLink.dirty_since),
            ).where(col(TicketLink.dirty_since).is_not(None), col(TicketLink.state).in_(["new", "linked"]))
        )
    ).one()
    age = max(0.0, (clock.now() - row[2]).total_seconds()) if row[2] else 0.0
    return row[0], row[1], age
