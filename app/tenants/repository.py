"""Reads and writes of tenants."""

from uuid import UUID

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.tenants.models import Tenant


async def add(session: AsyncSession, tenant: Tenant) -> Tenant:
    """Insert a tenant now."""
    session.add(tenant)
    await session.flush()
    return tenant


async def find(session: AsyncSession, tenant_id: UUID) -> Tenant | None:
    """The tenant, or ``None``."""
    return await session.get(Tenant, tenant_id)


async def every(session: AsyncSession) -> list[Tenant]:
    """All tenants, oldest first: for an operator at the command line, never for a request."""
    return list((await session.exec(select(Tenant).order_by(col(Tenant.created_at), col(Tenant.id)))).all())
