"""The inbox: one row for each event that a remote side pushed and we answered with a 2xx."""

from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, LargeBinary, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from app.core.db.base import TenantRow
from app.core.db.claims import Leased

PENDING = "pending"
DONE = "done"
DEAD = "dead"


class InboxMessage(TenantRow, Leased, table=True):
    """One event as received.

    ``body`` is the event's raw bytes (its slice of a batch array), ``external_id`` the sender's own delivery id, or
    a hash of the bytes where it sends none: a second delivery of the same is counted in ``duplicates`` and never
    handled again. ``connection_id`` has no foreign key: the insert is the hot path, and connections are archived,
    never deleted.
    """

    __tablename__ = "inbox_message"
    __table_args__ = (
        UniqueConstraint("connection_id", "external_id"),
        CheckConstraint("status IN ('pending', 'done', 'dead')", name="status"),
        Index("ix_inbox_message_due", "next_attempt_at", postgresql_where=text("status = 'pending'")),
        Index("ix_inbox_message_tenant_status", "tenant_id", "status", "id"),
        Index("ix_inbox_message_done", "created_at", postgresql_where=text("status = 'done'")),
        Index("ix_inbox_message_leased", "lease_owner", postgresql_where=text("lease_token IS NOT NULL")),
    )

    tenant_id: UUID = Field(foreign_key="tenant.id")  # not indexed alone: ix_inbox_message_tenant_status begins with it
    connection_id: UUID
    external_id: str
    body: bytes = Field(sa_type=LargeBinary)
    headers: dict[str, Any] = Field(default_factory=dict, sa_type=JSONB)
    status: str = Field(default=PENDING)
    duplicates: int = Field(default=0)
    error: str | None = Field(default=None)
