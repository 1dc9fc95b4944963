"""The outbox: an intent for each remote write, and a record of each attempt at it."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Column, Identity, Index, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from app.core.db.base import TenantRow
from app.core.db.claims import Leased

PENDING = "pending"
DONE = "done"
DEAD = "dead"
CANCELLED = "cancelled"


class OutboundCommand(TenantRow, Leased, table=True):
    """One write to a remote system.

    ``key`` is stable over every retry and crash, and unique: deciding the same write twice makes one row.
    Commands of one ``ordering_key`` are done in ``sequence`` order. ``open_tries`` counts claims whose outcome is
    not known: above one, the sender looks at the remote before it does the write again. ``body`` is the write,
    ``snapshot`` what the decision saw, so that a result can be recorded against the past and not the present.
    """

    __tablename__ = "outbound_command"
    __table_args__ = (
        UniqueConstraint("key"),
        CheckConstraint("status IN ('pending', 'done', 'dead', 'cancelled')", name="status"),
        CheckConstraint("lane IN ('interactive', 'bulk')", name="lane"),
        Index("ix_outbound_command_due", "next_attempt_at", postgresql_where=text("status = 'pending'")),
        Index(
            "ix_outbound_command_order",
            "ordering_key",
            "sequence",
            postgresql_where=text("status = 'pending'"),
        ),
        Index("ix_outbound_command_subject", "subject_id", postgresql_where=text("status = 'pending'")),
        Index("ix_outbound_command_tenant_status", "tenant_id", "status", "id"),
        Index("ix_outbound_command_leased", "lease_owner", postgresql_where=text("lease_token IS NOT NULL")),
    )

    sequence: int = Field(sa_column=Column(BigInteger, Identity(), nullable=False))
    connection_id: UUID = Field(foreign_key="connection.id", index=True)
    subject_id: UUID = Field(description="The row this write is for: a ticket link.")
    ordering_key: str
    kind: str
    key: str
    lane: str = Field(default="interactive")
    body: dict[str, Any] = Field(sa_type=JSONB)
    snapshot: dict[str, Any] = Field(default_factory=dict, sa_type=JSONB)
    status: str = Field(default=PENDING)
    open_tries: int = Field(default=0)
    tried_at: datetime | None = Field(default=None)
    remote_id: str | None = Field(default=None)
    error_class: str | None = Field(default=None)
    error_detail: str | None = Field(default=None)
    next_step: str | None = Field(default=None)
    finished_at: datetime | None = Field(default=None)


class OutboundAttempt(TenantRow, table=True):
    """One attempt at a command, never changed: what came of it and how long it took."""

    __tablename__ = "outbound_attempt"

    command_id: UUID = Field(foreign_key="outbound_command.id", index=True)
    outcome: str = Field(description="written, adopted, refused, deferred, unknown, not_sent")
    error_class: str | None = Field(default=None)
    error_detail: str | None = Field(default=None)
    duration_ms: int = Field(default=0)
