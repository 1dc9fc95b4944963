"""All SQL of the outbox."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import case, exists, text
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import aliased
from sqlmodel import col, delete, func, or_, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from app.connectors.canonical import Lane
from app.core import clock, ids
from app.core.db.repository import TenantRepository
from app.core.db.session import raw
from app.core.pagination import PageRequest, Slice, paginate
from app.outbox.commands import ClaimedCommand, NewCommand
from app.outbox.models import CANCELLED, DEAD, DONE, PENDING, OutboundAttempt, OutboundCommand

# A command is due when it is and when nothing before it in its order is waiting for later or held by another worker.
_CLAIM = text(
    """
    WITH due AS (
        SELECT c.id FROM outbound_command c
        WHERE c.status = 'pending' AND c.next_attempt_at <= :now AND (c.lease_until IS NULL OR c.lease_until < :now)
          AND c.connection_id = :connection_id AND c.lane = :lane
          AND NOT EXISTS (
              SELECT 1 FROM outbound_command e
              WHERE e.ordering_key = c.ordering_key AND e.status = 'pending' AND e.sequence < c.sequence
                AND (e.next_attempt_at > :now OR e.lease_until >= :now OR e.lane <> c.lane))
        ORDER BY c.sequence LIMIT :n FOR UPDATE SKIP LOCKED
    )
    UPDATE outbound_command o
    SET attempts = o.attempts + 1, open_tries = o.open_tries + 1,
        lease_token = :token, lease_owner = :owner, lease_until = :until
    FROM due WHERE o.id = due.id
    RETURNING o.id, o.tenant_id, o.connection_id, o.subject_id, o.ordering_key, o.sequence, o.kind, o.key, o.lane,
              o.body, o.snapshot, o.attempts, o.open_tries, o.tried_at, o.created_at
    """
)


_ONE_AT_A_TIME = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:connection, 0))")


async def enqueue(session: AsyncSession, commands: Sequence[NewCommand]) -> list[str]:
    """Store intents in the order given; one whose key is known already is left alone. Returns the keys to be sent.

    A dead letter whose content has changed since is taken up again: what was refused was the old content.
    The caller rings the outbox after the commit.
    """
    if not commands:
        return []
    now = clock.now()
    rows = [
        {
            "id": ids.new_id(),
            "created_at": now,
            "tenant_id": command.tenant_id,
            "connection_id": command.connection_id,
            "subject_id": command.subject_id,
            "ordering_key": command.ordering_key,
            "kind": command.kind,
            "key": command.key,
            "lane": command.lane,
            "body": command.body,
            "snapshot": command.snapshot,
            "status": PENDING,
            "attempts": 0,
            "open_tries": int(command.look_first),
            "next_attempt_at": now,
        }
        for command in commands
    ]
    fresh: list[str] = []
    for start in range(0, len(rows), 1000):  # 15 columns a row; PostgreSQL takes 32,767 parameters a statement
        insert = pg_insert(OutboundCommand).values(rows[start : start + 1000])
        result = await session.exec(
            insert.on_conflict_do_update(
                index_elements=["key"],
                set_={
                    "body": insert.excluded.body,
                    "snapshot": insert.excluded.snapshot,
                    "status": PENDING,
                    "attempts": 0,
                    "open_tries": 1,
                    "tried_at": case((col(OutboundCommand.open_tries) == 0, None), else_=col(OutboundCommand.tried_at)),
                    "next_attempt_at": now,
                    "finished_at": None,
                },
                where=(col(OutboundCommand.status) == DEAD) & (col(OutboundCommand.body) != insert.excluded.body),
            ).returning(col(OutboundCommand.key))
        )
        fresh.extend(result.scalars())
    return fresh


async def connections_due(session: AsyncSession) -> Sequence[tuple[UUID, UUID]]:
    """(tenant, connection) pairs that have something to send now, by the rule of the claim."""
    now = clock.now()
    earlier = aliased(OutboundCommand)
    held_up = exists().where(
        col(earlier.ordering_key) == col(OutboundCommand.ordering_key),
        col(earlier.status) == PENDING,
        col(earlier.sequence) < col(OutboundCommand.sequence),
        or_(col(earlier.next_attempt_at) > now, col(earlier.lease_until) >= now),
    )
    found = await session.exec(
        select(OutboundCommand.tenant_id, OutboundCommand.connection_id)
        .where(
            OutboundCommand.status == PENDING,
            OutboundCommand.next_attempt_at <= now,
            or_(col(OutboundCommand.lease_until).is_(None), col(OutboundCommand.lease_until) < now),
            ~held_up,
        )
        .distinct()
    )
    return found.all()


async def claim(
    session: AsyncSession,
    connection_id: UUID,
    *,
    limit: int,
    lease: timedelta,
    token: UUID,
    owner: UUID,
    bulk_first: bool = False,
) -> list[ClaimedCommand]:
    """Take up to ``limit`` due writes of one connection and one lane, in order; bulk ones when there are no others, or
    with ``bulk_first`` the other way round.

    Claims of one connection never overlap: a second worker that looked while the first one's claim was not yet
    committed would skip the locked head of an order and take what comes after it. It gets nothing instead; what is
    left then is found by the first one's next claim, or by the sweep.
    """
    alone = await raw(session, _ONE_AT_A_TIME, {"connection": f"outbox:{connection_id}"})
    if not alone.scalar():
        return []
    now = clock.now()
    values = {"now": now, "n": limit, "token": token, "owner": owner, "until": now + lease}
    for lane in Lane.order(bulk_first=bulk_first):
        result = await raw(session, _CLAIM, {**values, "connection_id": connection_id, "lane": lane.value})
        commands = sorted((ClaimedCommand(*row) for row in result), key=lambda command: command.sequence)
        if commands:
            return commands
    return []


async def mark_tried(session: AsyncSession, command_ids: Sequence[UUID], *, token: UUID, lease: timedelta) -> set[UUID]:
    """Note that the call is about to leave: from here on its outcome may be unknown. Renews the lease of everything
    that is held under ``token`` and returns what still is: only that may be sent."""
    now = clock.now()
    result = await session.exec(
        update(OutboundCommand)
        .where(col(OutboundCommand.lease_token) == token, col(OutboundCommand.status) == PENDING)
        .values(
            tried_at=case((col(OutboundCommand.id).in_(command_ids), now), else_=col(OutboundCommand.tried_at)),
            lease_until=now + lease,
        )
        .returning(col(OutboundCommand.id))
    )
    return set(result.scalars()) & set(command_ids)


async def held(session: AsyncSession, command_ids: Sequence[UUID], *, token: UUID) -> set[UUID]:
    """Which of these we still hold, locked until the transaction ends: only their results may be recorded."""
    found = await session.exec(
        select(OutboundCommand.id)
        .where(
            col(OutboundCommand.id).in_(command_ids),
            OutboundCommand.lease_token == token,
            OutboundCommand.status == PENDING,
        )
        .with_for_update()
    )
    return set(found.all())


_FREE: dict[str, Any] = {"lease_token": None, "lease_owner": None, "lease_until": None}


async def finish_many(session: AsyncSession, remote_ids: dict[UUID, str]) -> None:
    """Mark as done, with the remote's ids."""
    if not remote_ids:
        return
    await raw(
        session,
        text(
            """
            UPDATE outbound_command c
            SET status = 'done', remote_id = r.remote_id, finished_at = :now, open_tries = 0, error_class = NULL,
                error_detail = NULL, next_step = NULL, lease_token = NULL, lease_owner = NULL, lease_until = NULL
            FROM unnest(CAST(:ids AS uuid[]), CAST(:remote_ids AS text[])) AS r(id, remote_id)
            WHERE c.id = r.id
            """
        ),
        {"now": clock.now(), "ids": list(remote_ids), "remote_ids": list(remote_ids.values())},
    )


async def bury(
    session: AsyncSession, command_id: UUID, *, error_class: str, error_detail: str, next_step: str, in_doubt: bool
) -> None:
    """Move a write to the dead letters, with the reason and what a person can do. ``in_doubt``: its last try may
    have done it."""
    await session.exec(
        update(OutboundCommand)
        .where(col(OutboundCommand.id) == command_id)
        .values(
            status=DEAD,
            error_class=error_class,
            error_detail=error_detail[:2000],
            next_step=next_step[:1000],
            open_tries=int(in_doubt),
            finished_at=clock.now(),
            **_FREE,
        )
    )


async def retry_at(
    session: AsyncSession,
    command_id: UUID,
    *,
    when: datetime,
    error_class: str,
    error_detail: str,
    surely_not_done: bool,
    counts: bool,
    tried_at: datetime | None,
) -> None:
    """Give a write back for ``when``. ``surely_not_done`` clears the doubt; ``counts=False`` gives the attempt
    back (a pause or an empty budget is not the write's fault)."""
    values: dict[str, Any] = {
        "next_attempt_at": when,
        "error_class": error_class,
        "error_detail": error_detail[:2000],
        **_FREE,
    }
    if surely_not_done:
        # The doubt of an earlier try stays: only this claim's own is taken back.
        values["open_tries"] = OutboundCommand.open_tries - 1
        values["tried_at"] = tried_at  # nothing left this time: the last try is the one before
    if not counts:
        values["attempts"] = OutboundCommand.attempts - 1
    await session.exec(update(OutboundCommand).where(col(OutboundCommand.id) == command_id).values(**values))


async def release(session: AsyncSession, command_ids: Sequence[UUID], *, token: UUID) -> None:
    """Give back writes that were claimed and not tried."""
    if not command_ids:
        return
    await session.exec(
        update(OutboundCommand)
        .where(col(OutboundCommand.id).in_(command_ids), col(OutboundCommand.lease_token) == token)
        .values(attempts=OutboundCommand.attempts - 1, open_tries=OutboundCommand.open_tries - 1, **_FREE)
    )


async def leave_in_doubt(session: AsyncSession, command_ids: Sequence[UUID], *, token: UUID, when: datetime) -> None:
    """Give back writes whose results could not be recorded: the next try looks first."""
    await session.exec(
        update(OutboundCommand)
        .where(col(OutboundCommand.id).in_(command_ids), col(OutboundCommand.lease_token) == token)
        .values(next_attempt_at=when, **_FREE)
    )


async def record_attempts(session: AsyncSession, attempts: Sequence[OutboundAttempt]) -> None:
    """Append to the history of attempts."""
    session.add_all(attempts)
    await session.flush()


async def subjects_with_open(session: AsyncSession, subject_ids: Sequence[UUID]) -> set[UUID]:
    """Which subjects still have a write under way or waiting."""
    found = await session.exec(
        select(OutboundCommand.subject_id)
        .where(col(OutboundCommand.subject_id).in_(subject_ids), OutboundCommand.status == PENDING)
        .distinct()
    )
    return set(found.all())


async def cancel_for_subject(session: AsyncSession, subject_id: UUID) -> int:
    """Withdraw the writes of a subject that nobody has begun."""
    result = await session.exec(
        update(OutboundCommand)
        .where(
            col(OutboundCommand.subject_id) == subject_id,
            col(OutboundCommand.status) == PENDING,
            col(OutboundCommand.open_tries) == 0,
        )
        .values(status=CANCELLED, finished_at=clock.now())
    )
    return result.rowcount


class OutboxRepository(TenantRepository[OutboundCommand]):
    """The writes of one tenant."""

    model = OutboundCommand
    noun = "outbound command"

    async def page(
        self,
        request: PageRequest,
        *,
        connection_id: UUID | None,
        subject_id: UUID | None,
        status: str | None,
        kind: str | None,
    ) -> Slice[OutboundCommand]:
        """One page, narrowed by what is given."""
        statement = self.rows()
        if connection_id is not None:
            statement = statement.where(col(OutboundCommand.connection_id) == connection_id)
        if subject_id is not None:
            statement = statement.where(col(OutboundCommand.subject_id) == subject_id)
        if status is not None:
            statement = statement.where(col(OutboundCommand.status) == status)
        if kind is not None:
            statement = statement.where(col(OutboundCommand.kind) == kind)
        columns = {"created_at": OutboundCommand.created_at}
        return await paginate(self.session, statement, request, columns=columns, id_column=OutboundCommand.id)

    async def attempts(self, command_id: UUID) -> Sequence[OutboundAttempt]:
        """The attempts at a write, oldest first, at most 100."""
        found = await self.session.exec(
            select(OutboundAttempt)
            .where(OutboundAttempt.tenant_id == self.tenant_id, OutboundAttempt.command_id == command_id)
            .order_by(col(OutboundAttempt.id))
            .limit(100)
        )
        return found.all()


async def dead(
    session: AsyncSession,
    tenant_id: UUID,
    *,
    command_ids: Sequence[UUID] | None = None,
    connection_id: UUID | None = None,
    error_class: str | None = None,
    limit: int = 10_000,
) -> Sequence[OutboundCommand]:
    """Dead letters of a tenant, oldest first, locked until the transaction ends."""
    wanted = select(OutboundCommand).where(OutboundCommand.tenant_id == tenant_id, OutboundCommand.status == DEAD)
    if command_ids is not None:
        wanted = wanted.where(col(OutboundCommand.id).in_(command_ids))
    if connection_id is not None:
        wanted = wanted.where(OutboundCommand.connection_id == connection_id)
    if error_class is not None:
        wanted = wanted.where(OutboundCommand.error_class == error_class)
    found = await session.exec(wanted.order_by(col(OutboundCommand.id)).limit(limit).with_for_update())
    return found.all()


def revive(row: OutboundCommand) -> None:
    """Make a dead letter due again. It looks first in any case (the refusal may have answered a second try of
    something that was done), but waits out the visibility lag only when its last try left a doubt."""
    row.tried_at = row.tried_at if row.open_tries else None
    row.open_tries = 1
    row.status, row.attempts, row.next_attempt_at, row.finished_at = PENDING, 0, clock.now(), None


async def prune(session: AsyncSession, *, before: datetime, limit: int = 5_000) -> int:
    """Delete writes that were done before ``before``, with their attempts."""
    old = (
        await session.exec(
            select(OutboundCommand.id)
            .where(col(OutboundCommand.status).in_([DONE, CANCELLED]), col(OutboundCommand.finished_at) < before)
            .limit(limit)
        )
    ).all()
    await session.exec(delete(OutboundAttempt).where(col(OutboundAttempt.command_id).in_(old)))
    await session.exec(delete(OutboundCommand).where(col(OutboundCommand.id).in_(old)))
    return len(old)


async def backlog(session: AsyncSession, *, older_than: datetime) -> tuple[int, int, float]:
    """(pending, pending that were due before ``older_than``, age of the oldest due one in seconds)."""
    row = (
        await session.exec(
            select(
                func.count(),
                func.count().filter(col(OutboundCommand.next_attempt_at) < older_than),
                func.min(OutboundCommand.next_attempt_at),
            ).where(OutboundCommand.status == PENDING)
        )
    ).one()
    age = max(0.0, (clock.now() - row[2]).total_seconds()) if row[2] else 0.0
    return row[0], row[1], age
