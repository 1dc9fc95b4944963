"""Reads and writes of API keys."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlmodel import col, or_, select, update
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from app.auth.models import ApiKey
from app.core.db.repository import TenantRepository
from app.core.pagination import PageRequest, Slice, paginate

SORTS = {"created_at": ApiKey.created_at, "name": ApiKey.name}
_USED_RESOLUTION = timedelta(minutes=1)


class ApiKeyRepository(TenantRepository[ApiKey]):
    """The API keys of one tenant."""

    model = ApiKey
    noun = "API key"

    async def page(self, request: PageRequest, *, state: str | None, at: datetime) -> Slice[ApiKey]:
        """One page, narrowed to a state when given."""
        statement = self.rows()
        if state is not None:
            statement = _in_state(statement, state, at)
        return await paginate(self.session, statement, request, columns=SORTS, id_column=ApiKey.id)

    async def lock_admin_keys(self, at: datetime) -> list[ApiKey]:
        """Keys that carry the admin scope and work at ``at``, locked in a fixed order until commit."""
        statement = _in_state(self.rows(), "active", at).where(col(ApiKey.scopes).contains(["admin"]))
        return list((await self.session.exec(statement.order_by(col(ApiKey.id)).with_for_update())).all())


def _in_state(statement: SelectOfScalar[ApiKey], state: str, at: datetime) -> SelectOfScalar[ApiKey]:
    revoked, expires = col(ApiKey.revoked_at), col(ApiKey.expires_at)
    match state:
        case "revoked":
            return statement.where(revoked.is_not(None))
        case "expired":
            return statement.where(revoked.is_(None), expires <= at)
        case _:
            return statement.where(revoked.is_(None), or_(expires.is_(None), expires > at))


async def by_hash(session: AsyncSession, secret_hash: str) -> ApiKey | None:
    """The key with this hash, of whatever tenant: this is how the tenant of a request becomes known."""
    return (await session.exec(select(ApiKey).where(col(ApiKey.secret_hash) == secret_hash))).one_or_none()


async def mark_used(session: AsyncSession, key_id: UUID, at: datetime) -> None:
    """Remember the use, at most once a minute: a write for every read would make the key's row the hottest
    one."""
    used = col(ApiKey.last_used_at)
    await session.exec(
        update(ApiKey)
        .where(col(ApiKey.id) == key_id, or_(used.is_(None), used < at - _USED_RESOLUTION))
        .values(last_used_at=at)
    )
