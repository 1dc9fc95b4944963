"""Claiming due rows under a lease.

A queue is a table with the columns of :class:`Leased` and a ``status``. Claiming takes due rows with
``FOR UPDATE SKIP LOCKED``, counts the attempt and stores the *next* attempt before anything is tried, so a process
that dies costs a delay and never a loop. Finishing needs the claim's token: a worker that lost its lease cannot
overwrite the one that took over.

A lease normally ends by its clock (90 s). A process that died is noticed at once all the same: each worker holds a
session advisory lock named by its ``owner`` id on a connection of its own, and PostgreSQL drops that lock the moment
the process is gone; :func:`release_orphans` frees what such owners held. A paused process keeps its lock and so its
leases. Behind a transaction-pooling proxy the lock cannot be held, and only the clock counts.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import Field, SQLModel
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core import clock


class Leased(SQLModel):
    """Mixin: the columns of a queue."""

    attempts: int = Field(default=0)
    next_attempt_at: datetime = Field(default_factory=clock.now)
    lease_token: UUID | None = Field(default=None)
    lease_owner: UUID | None = Field(default=None)
    lease_until: datetime | None = Field(default=None)


def lock_key(owner: UUID) -> int:
    """The advisory-lock number of a worker: the last 63 bits of its id, which are random in a UUID version 7."""
    return int.from_bytes(owner.bytes[8:], "big") & 0x7FFF_FFFF_FFFF_FFFF


async def hold_liveness(connection: AsyncConnection, owner: UUID) -> None:
    """Take the owner's lock for as long as ``connection`` stays open."""
    await connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": lock_key(owner)})
    await connection.commit()


async def release_orphans(session: AsyncSession, tables: tuple[str, ...]) -> int:
    """Free every lease in ``tables`` whose owner no longer lives. Returns how many rows were freed.

    ``tables`` are our own table names, never input.
    """
    freed = 0
    for table in tables:
        owners = await session.connection()
        rows = await owners.execute(
            text(
                f"SELECT DISTINCT lease_owner FROM {table} "  # noqa: S608  a constant of ours, never input
                "WHERE lease_token IS NOT NULL AND lease_owner IS NOT NULL"
            )
        )
        for (owner,) in rows.all():
            key = lock_key(owner)
            # A transaction-scoped try: it succeeds only when no living session holds the lock.
            gone = await owners.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": key})
            if not gone:
                continue
            result = await owners.execute(
                text(
                    # Constants of ours, never input.
                    f"UPDATE {table} SET lease_token = NULL, lease_owner = NULL, lease_until = NULL, "  # noqa: S608
                    f"next_attempt_at = now() WHERE id IN (SELECT id FROM {table} "
                    "WHERE lease_owner = :owner ORDER BY id FOR UPDATE SKIP LOCKED)"
                ),
                {"owner": owner},
            )
            freed += result.rowcount
    return freed
