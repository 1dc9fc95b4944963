"""All SQL of the inbox."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.orm import defer
from sqlmodel import col, delete, func, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core import clock, ids
from app.core.db.repository import TenantRepository
from app.core.db.session import raw
from app.core.pagination import PageRequest, Slice, paginate
from app.inbox.models import DEAD, DONE, PENDING, InboxMessage

# One statement whatever the number of rows, so PostgreSQL plans it once. Rows go in sorted by key: two processes
# that insert the same deliveries in opposite orders would deadlock.
_INSERT = text(
    """
    INSERT INTO inbox_message (id, tenant_id, connection_id, external_id, body, headers, status, duplicates,
                               attempts, next_attempt_at, created_at)
    SELECT r.id, r.tenant_id, r.connection_id, r.external_id, r.body, r.headers::jsonb, 'pending', r.duplicates,
           0, :now, :now
    FROM unnest(CAST(:ids AS uuid[]), CAST(:tenants AS uuid[]), CAST(:connections AS uuid[]),
                CAST(:externals AS text[]), CAST(:bodies AS bytea[]), CAST(:headers AS text[]),
                CAST(:duplicates AS int[]))
         AS r(id, tenant_id, connection_id, external_id, body, headers, duplicates)
    ON CONFLICT (connection_id, external_id)
    DO UPDATE SET duplicates = inbox_message.duplicates + 1 + excluded.duplicates
    RETURNING id
    """
)

_CLAIM = text(
    """
    WITH found AS (
        SELECT id, octet_length(body) AS size FROM inbox_message
        WHERE status = 'pending' AND next_attempt_at <= :now AND (lease_until IS NULL OR lease_until < :now)
        ORDER BY next_attempt_at LIMIT :n FOR UPDATE SKIP LOCKED
    ), due AS (
        SELECT id FROM (SELECT id, sum(size) OVER (ORDER BY id) AS total, row_number() OVER (ORDER BY id) AS place
                        FROM found) measured
        WHERE total <= :bytes_max OR place = 1
    )
    UPDATE inbox_message m
    SET attempts = m.attempts + 1, lease_token = :token, lease_owner = :owner, lease_until = :until
    FROM due WHERE m.id = due.id
    RETURNING m.id, m.tenant_id, m.connection_id, m.external_id, m.body, m.attempts, m.created_at
    """
)


# 200 events of 5 MiB in memory at once would be the end of a small worker.
CLAIM_BYTES_MAX = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Arrival:
    """One event about to be stored."""

    tenant_id: UUID
    connection_id: UUID
    external_id: str
    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Claimed:
    """One event taken for handling."""

    id: UUID
    tenant_id: UUID
    connection_id: UUID
    external_id: str
    body: bytes
    attempts: int
    received_at: datetime


async def store(session: AsyncSession, arrivals: Sequence[Arrival]) -> list[bool]:
    """Insert what is new, count what is not. Answers in the order given: was this event new?"""
    first: dict[tuple[UUID, str], int] = {}
    repeats: dict[tuple[UUID, str], int] = {}
    for index, arrival in enumerate(arrivals):
        key = (arrival.connection_id, arrival.external_id)
        if key in first:
            repeats[key] = repeats.get(key, 0) + 1
        else:
            first[key] = index
    order = sorted(first, key=lambda key: (key[0].bytes, key[1]))
    rows = [arrivals[first[key]] for key in order]
    new_ids = [ids.new_id() for _ in rows]
    result = await raw(
        session,
        _INSERT,
        {
            "now": clock.now(),
            "ids": new_ids,
            "tenants": [row.tenant_id for row in rows],
            "connections": [row.connection_id for row in rows],
            "externals": [row.external_id for row in rows],
            "bodies": [row.body for row in rows],
            "headers": [orjson.dumps(row.headers).decode() for row in rows],
            "duplicates": [repeats.get(key, 0) for key in order],
        },
    )
    stored = {row[0] for row in result}
    fresh = {key for key, row_id in zip(order, new_ids, strict=True) if row_id in stored}
    return [
        (arrival.connection_id, arrival.external_id) in fresh
        and first[arrival.connection_id, arrival.external_id] == index
        for index, arrival in enumerate(arrivals)
    ]


async def claim(session: AsyncSession, *, limit: int, lease: timedelta, token: UUID, owner: UUID) -> Sequence[Claimed]:
    """Take up to ``limit`` due events and :data:`CLAIM_BYTES_MAX` bytes (but always one event), oldest first."""
    now = clock.now()
    result = await raw(
        session,
        _CLAIM,
        {
            "now": now,
            "n": limit,
            "bytes_max": CLAIM_BYTES_MAX,
            "token": token,
            "owner": owner,
            "until": now + lease,
        },
    )
    return sorted((Claimed(*row) for row in result), key=lambda message: message.id)


async def finish(session: AsyncSession, message_ids: Sequence[UUID], *, token: UUID) -> int:
    """Mark as handled what we still hold. Returns how many: fewer than given means that a lease was lost."""
    result = await session.exec(
        update(InboxMessage)
        .where(col(InboxMessage.id).in_(message_ids), col(InboxMessage.lease_token) == token)
        .values(status=DONE, lease_token=None, lease_owner=None, lease_until=None, error=None)
    )
    return result.rowcount


async def retry_at(
    session: AsyncSession,
    message_id: UUID,
    *,
    token: UUID,
    when: datetime,
    error: str | None,
    counts: bool = True,
) -> None:
    """Give an event back for ``when``. With ``counts=False`` the attempt is not counted (it was only too early)."""
    values: dict[str, Any] = {
        "next_attempt_at": when,
        "lease_token": None,
        "lease_owner": None,
        "lease_until": None,
    }
    if counts:
        values["error"] = error
    else:
        values["attempts"] = InboxMessage.attempts - 1
    await session.exec(
        update(InboxMessage)
        .where(col(InboxMessage.id) == message_id, col(InboxMessage.lease_token) == token)
        .values(**values)
    )


async def bury(session: AsyncSession, message_id: UUID, *, token: UUID, error: str) -> None:
    """Move an event to the dead letters: kept, shown, replayable."""
    await session.exec(
        update(InboxMessage)
        .where(col(InboxMessage.id) == message_id, col(InboxMessage.lease_token) == token)
        .values(status=DEAD, error=error, lease_token=None, lease_owner=None, lease_until=None)
    )


class InboxRepository(TenantRepository[InboxMessage]):
    """The events of one tenant."""

    model = InboxMessage
    noun = "inbox message"

    async def page(
        self,
        request: PageRequest,
        *,
        connection_id: UUID | None,
        status: str | None,
        external_id: str | None,
    ) -> Slice[InboxMessage]:
        """One page, narrowed by what is given."""
        # Without the bodies: a page of 200 events of 5 MiB would be a gigabyte.
        statement = self.rows().options(defer(InboxMessage.body, raiseload=True))  # type: ignore[arg-type]  # column
        if connection_id is not None:
            statement = statement.where(col(InboxMessage.connection_id) == connection_id)
        if status is not None:
            statement = statement.where(col(InboxMessage.status) == status)
        if external_id is not None:
            statement = statement.where(col(InboxMessage.external_id) == external_id)
        columns = {"created_at": InboxMessage.created_at}
        return await paginate(self.session, statement, request, columns=columns, id_column=InboxMessage.id)

    async def sizes(self, message_ids: Sequence[UUID]) -> dict[UUID, int]:
        """Bytes of each event; PostgreSQL knows them without reading the bodies."""
        found = await self.session.exec(
            select(InboxMessage.id, func.octet_length(InboxMessage.body)).where(
                InboxMessage.tenant_id == self.tenant_id, col(InboxMessage.id).in_(message_ids)
            )
        )
        return dict(found.all())


async def replay(
    session: AsyncSession,
    tenant_id: UUID,
    *,
    message_ids: Sequence[UUID] | None = None,
    connection_id: UUID | None = None,
    received_from: datetime | None = None,
    received_to: datetime | None = None,
    limit: int = 10_000,
) -> int:
    """Make dead (or, by id, any handled) events due again. Returns how many."""
    wanted = select(InboxMessage.id).where(InboxMessage.tenant_id == tenant_id)
    if message_ids is not None:
        wanted = wanted.where(col(InboxMessage.id).in_(message_ids), InboxMessage.status != PENDING)
    else:
        wanted = wanted.where(InboxMessage.status == DEAD)
    if connection_id is not None:
        wanted = wanted.where(InboxMessage.connection_id == connection_id)
    if received_from is not None:
        wanted = wanted.where(InboxMessage.created_at >= received_from)
    if received_to is not None:
        wanted = wanted.where(InboxMessage.created_at < received_to)
    result = await session.exec(
        update(InboxMessage)
        .where(col(InboxMessage.id).in_(wanted.order_by(col(InboxMessage.id)).limit(limit)))
        .values(status=PENDING, attempts=0, next_attempt_at=clock.now(), error=None)
    )
    return result.rowcount


async def prune(session: AsyncSession, *, before: datetime, limit: int = 5_000) -> int:
    """Delete handled events received before ``before``. Dead letters stay until a person decides."""
    old = select(InboxMessage.id).where(InboxMessage.status == DONE, InboxMessage.created_at < before).limit(limit)
    result = await session.exec(delete(InboxMessage).where(col(InboxMessage.id).in_(old)))
    return result.rowcount


async def backlog(session: AsyncSession, *, older_than: datetime) -> tuple[int, int, float]:
    """(pending, pending that were due before ``older_than``, age of the oldest due one in seconds)."""
    row = (
        await session.exec(
            select(
                func.count(),
                func.count().filter(col(InboxMessage.next_attempt_at) < older_than),
                func.min(InboxMessage.next_attempt_at),
            ).where(InboxMessage.status == PENDING)
        )
    ).one()
    age = max(0.0, (clock.now() - row[2]).total_seconds()) if row[2] else 0.0
    return row[0], row[1], age
