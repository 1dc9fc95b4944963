"""The table of API keys."""

from datetime import datetime

from sqlalchemy import Index, String
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field

from app.core.db.base import TenantRow, Versioned


class ApiKey(TenantRow, Versioned, table=True):
    """A key that a program calls us with. The key itself is not here: only the hash it is looked up by, and
    the prefix by which people recognise it. ``last_used_at`` is true to the minute."""

    __tablename__ = "api_key"
    __table_args__ = (
        Index("uq_api_key_secret_hash", "secret_hash", unique=True),
        Index("ix_api_key_tenant_created", "tenant_id", "created_at", "id"),
        Index("ix_api_key_tenant_name", "tenant_id", "name", "id"),
    )

    name: str = Field(max_length=200)
    prefix: str = Field(max_length=8)
    secret_hash: str = Field(max_length=64)
    scopes: list[str] = Field(sa_type=ARRAY(String))
    expires_at: datetime | None = Field(default=None)
    revoked_at: datetime | None = Field(default=None)
    last_used_at: datetime | None = Field(default=None)
