"""SQL of polls and of the syncs that people ask for."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import exists, text
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlmodel import col, func, or_, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core import clock, ids
from app.core.db.session import raw
from app.sync.models import PollCursor, Relationship, SyncRun, TicketLink
from app.sync.repository.queue import lock_links

RowT = TypeVar("RowT", PollCursor, SyncRun)

_FREE: dict[str, Any] = {"lease_token": None, "lease_owner": None, "lease_until": None}


async def due_cursors(session: AsyncSession) -> Sequence[UUID]:
    """Polls whose time has come, of connections that an active relationship uses."""
    now = clock.now()
    used = exists().where(
        or_(
            col(Relationship.source_connection_id) == PollCursor.connection_id,
            col(Relationship.target_connection_id) == PollCursor.connection_id,
        ),
        col(Relationship.state) == "active",
    )
    found = await session.exec(
        select(PollCursor.id).where(
            PollCursor.next_attempt_at <= now,
            or_(col(PollCursor.lease_until).is_(None), col(PollCursor.lease_until) < now),
            used,
        )
    )
    return found.all()


async def due_runs(session: AsyncSession) -> Sequence[UUID]:
    """Asked-for syncs that have not been read to the end."""
    now = clock.now()
    found = await session.exec(
        select(SyncRun.id).where(
            col(SyncRun.state).in_(["queued", "reading"]),
            SyncRun.next_attempt_at <= now,
            or_(col(SyncRun.lease_until).is_(None), col(SyncRun.lease_until) < now),
        )
    )
    return found.all()


async def claim(
    session: AsyncSession, table: type[RowT], row_id: UUID, lease: timedelta, token: UUID, owner: UUID
) -> RowT | None:
    """Take one row under a lease, or ``None`` when another worker was faster."""
    now = clock.now()
    row = (
        await session.exec(
            select(table)
            .where(
                table.id == row_id,
                table.next_attempt_at <= now,
                or_(col(table.lease_until).is_(None), col(table.lease_until) < now),
            )
            .with_for_update(skip_locked=True)
        )
    ).one_or_none()
    if row is None:
        return None
    row.attempts += 1
    row.lease_token, row.lease_owner, row.lease_until = token, owner, now + lease
    session.add(row)
    await session.flush()
    return row


async def ensure_cursor(session: AsyncSession, tenant_id: UUID, connection_id: UUID, *, watermark: datetime) -> None:
    """A connection that a relationship uses is polled; its first poll comes at once."""
    now = clock.now()
    await session.exec(
        pg_insert(PollCursor)
        .values(
            id=ids.new_id(),
            created_at=now,
            tenant_id=tenant_id,
            connection_id=connection_id,
            watermark=watermark,
            attempts=0,
            next_attempt_at=now,
        )
        .on_conflict_do_nothing(index_elements=["connection_id"])
    )


async def renew(session: AsyncSession, cursor_id: UUID, token: UUID, lease: timedelta) -> None:
    """A poll that goes on keeps its lease: taken over, it would begin at its first page again."""
    await session.exec(
        update(PollCursor)
        .where(col(PollCursor.id) == cursor_id, col(PollCursor.lease_token) == token)
        .values(lease_until=clock.now() + lease)
    )


async def advance(
    session: AsyncSession,
    cursor_id: UUID,
    token: UUID,
    *,
    watermark: datetime | None,
    next_attempt_at: datetime,
    error: str | None = None,
) -> None:
    """End a poll. Without a ``watermark`` it failed and the next one reads from where the last good one began."""
    values: dict[str, Any] = {"next_attempt_at": next_attempt_at, "error": error, **_FREE}
    if watermark is not None:
        values |= {
            "watermark": func.greatest(PollCursor.watermark, watermark),
            "last_success_at": clock.now(),
            "attempts": 0,
        }
    await session.exec(
        update(PollCursor).where(col(PollCursor.id) == cursor_id, col(PollCursor.lease_token) == token).values(**values)
    )


async def poll_soon(session: AsyncSession, connection_id: UUID) -> None:
    """Poll a connection at the next opportunity."""
    await session.exec(
        update(PollCursor).where(col(PollCursor.connection_id) == connection_id).values(next_attempt_at=clock.now())
    )


async def mark_missed(session: AsyncSession, side: str, missed: Mapping[UUID, datetime]) -> int:
    """Links with a comment that was never carried: look again, and read that side's comments from there.

    Also links whose earlier writes are still waiting: the poll's windows move on, and this mark is all that will
    remember the comment when the writes are through.
    """
    if not missed:
        return 0
    await lock_links(session, list(missed))
    column = "source_comments_from" if side == "source" else "target_comments_from"
    result = await raw(
        session,
        text(
            f"""
            UPDATE ticket_link t
            SET dirty_since = COALESCE(t.dirty_since, :now), dirty_mark = t.dirty_mark + 1, next_attempt_at = :now,
                {column} = LEAST(t.{column}, r.at)
            FROM unnest(CAST(:ids AS uuid[]), CAST(:ats AS timestamptz[])) AS r(id, at)
            WHERE t.id = r.id AND t.state IN ('linked', 'orphaned', 'paused')
            """  # noqa: S608  the column is one of two names of ours
        ),
        {"now": clock.now(), "ids": list(missed), "ats": list(missed.values())},
    )
    count: int = getattr(result, "rowcount", 0)
    return count


async def start_run(session: AsyncSession, run_id: UUID) -> None:
    """A run begins, or begins again after an interruption."""
    await session.exec(
        update(SyncRun)
        .where(col(SyncRun.id) == run_id)
        .values(state="reading", read=0, started_at=func.coalesce(SyncRun.started_at, clock.now()))
    )


async def note_read(session: AsyncSession, run_id: UUID, count: int, lease: timedelta) -> None:
    """Progress of a run; its lease is renewed with every page."""
    await session.exec(
        update(SyncRun)
        .where(col(SyncRun.id) == run_id)
        .values(read=SyncRun.read + count, lease_until=clock.now() + lease)
    )


async def finish_reading(session: AsyncSession, run_id: UUID) -> None:
    """Everything is marked; what is left is bringing it in step."""
    total = select(func.count()).where(TicketLink.sync_id == run_id).scalar_subquery()
    await session.exec(
        update(SyncRun).where(col(SyncRun.id) == run_id).values(state="converging", total=total, **_FREE)
    )


async def finish_converged(session: AsyncSession) -> None:
    """Runs none of whose links is waiting any more are done."""
    await raw(
        session,
        text(
            """
            UPDATE sync_run r SET state = 'done', finished_at = :now
            WHERE r.state = 'converging'
              AND NOT EXISTS (SELECT 1 FROM ticket_link l WHERE l.sync_id = r.id AND l.dirty_since IS NOT NULL
                              AND l.state IN ('new', 'linked', 'orphaned', 'failed'))
              AND NOT EXISTS (SELECT 1 FROM ticket_link l JOIN outbound_command c
                              ON c.subject_id = l.id AND c.status = 'pending' WHERE l.sync_id = r.id)
            """
        ),
        {"now": clock.now()},
    )


async def run_failed(
    session: AsyncSession,
    run_id: UUID,
    *,
    lasting: bool,
    error: str,
    next_step: str,
    next_attempt_at: datetime,
) -> None:
    """Note why a run could not be read."""
    values: dict[str, Any] = {
        "error": error,
        "next_step": next_step,
        "next_attempt_at": next_attempt_at,
        **_FREE,
    }
    if lasting:
        values |= {"state": "failed", "finished_at": clock.now()}
    await session.exec(update(SyncRun).where(col(SyncRun.id) == run_id).values(**values))


async def progress(session: AsyncSession, run: SyncRun) -> tuple[int, int]:
    """(links of the run that are in step or refused, links of the run)."""
    row = (
        await session.exec(
            select(
                func.count().filter(col(TicketLink.dirty_since).is_(None)),
                func.count(),
            ).where(TicketLink.sync_id == run.id)
        )
    ).one()
    return row[0], row[1]
