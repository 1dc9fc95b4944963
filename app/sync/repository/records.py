"""SQL of what looks and writes leave behind: shadows, ledger, history."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import text, tuple_
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core import clock, ids
from app.core.db.session import raw
from app.sync.models import LedgerEntry, LinkChange
from app.sync.repository.queue import ClaimedLink

# Statements that touch many links lock them in the order of their ids first: two that met each other's rows in
# opposite orders have deadlocked (the poll and the inbox, on a busy day).
_LOCKED = (
    "WITH locked AS MATERIALIZED "
    "(SELECT id FROM ticket_link WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id FOR NO KEY UPDATE)"
)


_SETTLE = text(
    _LOCKED  # noqa: S608  constants of ours
    + """
    UPDATE ticket_link t
    -- An event that came while a look ended in a refusal has to be judged as well.
    SET state = CASE WHEN r.state = 'ignored' AND t.dirty_mark <> r.dirty_mark THEN 'new' ELSE r.state END,
        -- A look that found nothing new must not wipe out the explanation of an earlier one.
        reason = CASE WHEN r.reason IS NULL AND r.state = t.state AND r.state <> 'linked' THEN t.reason
                      ELSE r.reason END,
        next_step = CASE WHEN r.reason IS NULL AND r.state = t.state AND r.state <> 'linked' THEN t.next_step
                         ELSE r.next_step END,
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
    _LOCKED  # noqa: S608  constants of ours
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


async def settle(session: AsyncSession, settled: Sequence[Settled], *, token: UUID) -> set[UUID]:
    """Store how looks ended, for the links that we still hold. Returns those."""
    if not settled:
        return set()
    rows = await raw(
        session,
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


async def record(session: AsyncSession, recorded: Sequence[Recorded]) -> None:
    """Store what finished writes mean. At most one row for a link in one call."""
    if not recorded:
        return
    await raw(
        session,
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
