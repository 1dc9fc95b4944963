"""The table of tenants."""

from sqlmodel import Field

from app.core.db.base import Row, Versioned


class Tenant(Row, Versioned, table=True):
    """One organisation. Every other row carries its id, and no query crosses it."""

    __tablename__ = "tenant"

    name: str = Field(max_length=200)
