"""Reads and writes of connections and their secrets."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlmodel import col, delete, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.connections.models import Connection, ConnectionSecret
from app.core.db.repository import TenantRepository
from app.core.pagination import PageRequest, Slice, paginate

SORTS = {"created_at": Connection.created_at, "name": Connection.name, "updated_at": Connection.updated_at}


class ConnectionRepository(TenantRepository[Connection]):
    """The connections of one tenant."""

    model = Connection
    noun = "connection"

    async def page(
        self, request: PageRequest, *, kind: str | None, state: str | None, name: str | None
    ) -> Slice[Connection]:
        """One page, narrowed to a kind, a state and a part of the name (any case) when given."""
        statement = self.rows()
        if kind is not None:
            statement = statement.where(col(Connection.kind) == kind)
        if state is not None:
            statement = statement.where(col(Connection.state) == state)
        if name is not None:
            statement = statement.where(col(Connection.name).icontains(name, autoescape=True))
        return await paginate(self.session, statement, request, columns=SORTS, id_column=Connection.id)

    async def name_taken(self, name: str, *, besides: UUID | None = None) -> bool:
        """Whether a living connection other than ``besides`` has this name."""
        statement = self.rows().where(col(Connection.name) == name, col(Connection.state) != "archived")
        if besides is not None:
            statement = statement.where(col(Connection.id) != besides)
        return (await self.session.exec(statement.limit(1))).first() is not None


async def find_any(session: AsyncSession, connection_id: UUID, *, lock: bool = False) -> Connection | None:
    """The connection of whatever tenant: for work that follows from a row of ours, never for a request."""
    statement = select(Connection).where(col(Connection.id) == connection_id)
    if lock:
        statement = statement.with_for_update()
    return (await session.exec(statement)).one_or_none()


async def active_secrets(
    session: AsyncSession, connection_id: UUID, purpose: str, at: datetime
) -> Sequence[ConnectionSecret]:
    """Secrets that count at ``at``, newest first."""
    expires = col(ConnectionSecret.expires_at)
    statement = (
        select(ConnectionSecret)
        .where(
            col(ConnectionSecret.connection_id) == connection_id,
            col(ConnectionSecret.purpose) == purpose,
            col(ConnectionSecret.not_before) <= at,
            or_(expires.is_(None), expires > at),
        )
        .order_by(col(ConnectionSecret.not_before).desc(), col(ConnectionSecret.id).desc())
    )
    return (await session.exec(statement)).all()


async def forget_expired_secrets(session: AsyncSession, connection_id: UUID, at: datetime) -> None:
    """Remove secrets whose grace is over: what is not kept cannot leak."""
    await session.exec(
        delete(ConnectionSecret).where(
            col(ConnectionSecret.connection_id) == connection_id, col(ConnectionSecret.expires_at) <= at
        )
    )


async def forget_secrets(session: AsyncSession, connection_id: UUID) -> None:
    """Remove every secret of a connection."""
    await session.exec(delete(ConnectionSecret).where(col(ConnectionSecret.connection_id) == connection_id))


async def secrets_after(session: AsyncSession, last: UUID | None, *, limit: int) -> Sequence[ConnectionSecret]:
    """The next secrets of all tenants in the order of their ids, locked: for sealing them again."""
    statement = select(ConnectionSecret).order_by(col(ConnectionSecret.id)).limit(limit).with_for_update()
    if last is not None:
        statement = statement.where(col(ConnectionSecret.id) > last)
    return (await session.exec(statement)).all()
