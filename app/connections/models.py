"""The tables of connections and of their secrets."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from app.connections.states import State
from app.core import clock
from app.core.db.base import TenantRow, Versioned


class Connection(TenantRow, Versioned, table=True):
    """One outside system of a tenant.

    ``config`` is the JSON of the kind's configuration model and holds no secret. ``settings_version`` counts
    changes of configuration and credentials only: open connectors are kept by it, so that a test or a pause
    does not throw a live token away.
    """

    __tablename__ = "connection"
    __table_args__ = (
        CheckConstraint("state IN ('draft', 'active', 'paused', 'broken', 'archived')", name="state"),
        # An archived connection gives its name back.
        Index(
            "uq_connection_tenant_name",
            "tenant_id",
            "name",
            unique=True,
            postgresql_where=text("state <> 'archived'"),
        ),
        Index("ix_connection_tenant_created", "tenant_id", "created_at", "id"),
    )

    kind: str = Field(max_length=60)
    name: str = Field(max_length=200)
    state: str = Field(default=State.DRAFT.value)
    config: dict[str, Any] = Field(sa_type=JSONB)
    verifier: dict[str, Any] = Field(sa_type=JSONB)
    health: dict[str, Any] = Field(default_factory=dict, sa_type=JSONB)
    paused_reason: str | None = Field(default=None)
    broken_reason: str | None = Field(default=None)
    settings_version: int = Field(default=1)


class ConnectionSecret(TenantRow, table=True):
    """One secret of a connection and the time in which it counts. ``sealed`` opens only with the vault, and
    only in this row."""

    __tablename__ = "connection_secret"
    __table_args__ = (
        CheckConstraint("purpose IN ('credentials', 'webhook')", name="purpose"),
        Index("ix_connection_secret_connection_purpose", "connection_id", "purpose", "not_before"),
    )

    connection_id: UUID = Field(foreign_key="connection.id")
    purpose: str
    sealed: str
    not_before: datetime = Field(default_factory=clock.now)
    expires_at: datetime | None = Field(default=None)

    @property
    def place(self) -> str:
        """What the ciphertext is bound to."""
        return f"connection_secret/sealed/{self.id}"
