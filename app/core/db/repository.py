"""The base of every room's repository: reads and writes of one table, always inside one tenant.

A repository is made with a session and a tenant, so that a query without a tenant cannot be written by
forgetting it.
"""

from typing import ClassVar, Generic, TypeVar
from uuid import UUID

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from app.core.db.base import TenantRow
from app.core.errors import NotFound

RowT = TypeVar("RowT", bound=TenantRow)


class TenantRepository(Generic[RowT]):
    """One table of one tenant. Subclasses set ``model`` and ``noun`` (what a person calls a row)."""

    model: ClassVar[type[TenantRow]]
    noun: ClassVar[str]

    def __init__(self, session: AsyncSession, tenant_id: UUID) -> None:
        self.session = session
        self.tenant_id = tenant_id

    def rows(self) -> SelectOfScalar[RowT]:
        """Every row of the tenant, to be narrowed."""
        model: type[RowT] = self.model  # type: ignore[assignment]  # a ClassVar cannot carry the type variable
        return select(model).where(col(model.tenant_id) == self.tenant_id)

    async def find(self, row_id: UUID, *, lock: bool = False) -> RowT | None:
        """The row, or ``None`` when it does not exist or is another tenant's. ``lock`` holds it until
        commit."""
        statement = self.rows().where(col(self.model.id) == row_id)
        if lock:
            statement = statement.with_for_update()
        return (await self.session.exec(statement)).one_or_none()

    async def get(self, row_id: UUID, *, lock: bool = False) -> RowT:
        """The row. Raises :class:`~app.core.errors.NotFound`, in the same words whether it is absent or
        another tenant's."""
        row = await self.find(row_id, lock=lock)
        if row is None:
            raise NotFound(f"There is no such {self.noun}.", next_step=f"List them to find the {self.noun}'s id.")
        return row

    async def add(self, row: RowT) -> RowT:
        """Insert ``row`` now, so that a broken constraint is raised here and not at commit."""
        self.session.add(row)
        await self.session.flush()
        return row
