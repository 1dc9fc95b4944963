"""The sign of life of a worker: a row that says when it last went round."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import Field, SQLModel, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core import clock


class WorkerHeartbeat(SQLModel, table=True):
    """One row for each worker process that ran in the last day."""

    __tablename__ = "worker_heartbeat"

    id: UUID = Field(primary_key=True)
    name: str
    started_at: datetime = Field(default_factory=clock.now)
    seen_at: datetime = Field(default_factory=clock.now)


async def beat(connection: AsyncConnection, owner: UUID, name: str) -> None:
    """Say that we live, and forget processes that were last seen a day ago."""
    now = clock.now()
    await connection.execute(
        text(
            "INSERT INTO worker_heartbeat (id, name, started_at, seen_at) VALUES (:id, :name, :now, :now) "
            "ON CONFLICT (id) DO UPDATE SET seen_at = :now"
        ),
        {"id": owner, "name": name, "now": now},
    )
    await connection.execute(
        text("DELETE FROM worker_heartbeat WHERE seen_at < :old"), {"old": now - timedelta(days=1)}
    )
    await connection.commit()


async def newest(session: AsyncSession, name: str) -> datetime | None:
    """When a worker of this name was last seen."""
    seen = col(WorkerHeartbeat.seen_at)
    found = await session.exec(
        select(WorkerHeartbeat.seen_at).where(WorkerHeartbeat.name == name).order_by(seen.desc()).limit(1)
    )
    return found.one_or_none()
