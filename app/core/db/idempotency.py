"""The table of answers kept for ``Idempotency-Key``, and its SQL."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, col, delete, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core import clock
from app.core.db.base import TenantRow

RETENTION_HOURS = 24


class IdempotencyRecord(TenantRow, table=True):
    """One answer that is given again to the same request under the same key. It is written in the transaction
    of the effect: there is no effect without its record and no record without its effect."""

    __tablename__ = "idempotency_record"
    __table_args__ = (
        UniqueConstraint("tenant_id", "caller", "route", "key"),
        Index("ix_idempotency_record_expires_at", "expires_at"),
    )

    caller: str = Field(max_length=64)
    route: str = Field(max_length=300)
    key: str = Field(max_length=255)
    request_hash: str = Field(max_length=64)
    response_status: int
    response_headers: dict[str, Any] = Field(sa_type=JSONB)
    sealed_body: str  # an answer may show a secret once, so every body is sealed
    expires_at: datetime


async def try_lock(session: AsyncSession, name: str) -> bool:
    """Take the lock called ``name`` until the transaction ends; ``False`` when another transaction has it.
    A process that dies releases it with its connection."""
    statement = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:name, 0))").bindparams(name=name)
    connection = await session.connection()
    return bool((await connection.execute(statement)).scalar_one())


async def find(
    session: AsyncSession, tenant_id: UUID, *, caller: str, route: str, key: str
) -> IdempotencyRecord | None:
    """The record that is still kept for this request, if any; one that has expired is removed."""
    record = (
        await session.exec(
            select(IdempotencyRecord).where(
                col(IdempotencyRecord.tenant_id) == tenant_id,
                col(IdempotencyRecord.caller) == caller,
                col(IdempotencyRecord.route) == route,
                col(IdempotencyRecord.key) == key,
            )
        )
    ).one_or_none()
    if record is not None and record.expires_at <= clock.now():
        await session.delete(record)
        await session.flush()
        return None
    return record


async def prune_expired(session: AsyncSession) -> int:
    """Remove every record whose time is over; returns how many."""
    result = await session.exec(delete(IdempotencyRecord).where(col(IdempotencyRecord.expires_at) <= clock.now()))
    return int(result.rowcount)
