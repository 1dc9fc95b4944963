"""What every table has in common. Imported before any model, so that constraint names follow one convention."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import MetaData
from sqlmodel import Field, SQLModel

from app.core import clock, ids

SQLModel.metadata.naming_convention = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
}


class Row(SQLModel):
    """Base of every table: a time-ordered key and the moment of creation."""

    model_config: ClassVar[Any] = {"arbitrary_types_allowed": True}

    id: UUID = Field(default_factory=ids.new_id, primary_key=True)
    created_at: datetime = Field(default_factory=clock.now)


class TenantRow(Row):
    """Base of every table that belongs to a tenant: all but ``tenant`` itself and process bookkeeping."""

    tenant_id: UUID = Field(foreign_key="tenant.id", index=True)


class Versioned(SQLModel):
    """Mixin: a counter that the ETag is made of, and the moment of the last change."""

    version: int = Field(default=1)
    updated_at: datetime = Field(default_factory=clock.now)

    def touch(self) -> None:
        """Count a change."""
        self.version += 1
        self.updated_at = clock.now()


metadata: MetaData = SQLModel.metadata
