"""The tables of two-way ticket sync."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from app.core import clock
from app.core.db.base import Row, TenantRow, Versioned
from app.core.db.claims import Leased

SOURCE = "source"
TARGET = "target"


class Relationship(TenantRow, Versioned, table=True):
    """Two connections whose tickets are kept in step.

    The source side is where tickets originate, the target side receives them; with reverse sync on, tickets born
    at the target go to the source as well. ``settings`` is a
    :class:`~app.sync.settings.RelationshipSettings` as JSON, ``learnt`` a :class:`~app.sync.settings.Learnt`.
    """

    __tablename__ = "relationship"
    __table_args__ = (
        UniqueConstraint("tenant_id", "name"),
        CheckConstraint("state IN ('active', 'paused', 'archived')", name="state"),
        CheckConstraint("source_connection_id <> target_connection_id", name="two_connections"),
    )

    name: str
    source_connection_id: UUID = Field(foreign_key="connection.id", index=True)
    target_connection_id: UUID = Field(foreign_key="connection.id", index=True)
    state: str = Field(default="active")
    paused_reason: str | None = Field(default=None)
    settings: dict[str, Any] = Field(sa_type=JSONB)
    learnt: dict[str, Any] | None = Field(default=None, sa_type=JSONB)
    marker_secret: str = Field(description="Sealed; signs the markers on what we create.")


class TicketLink(TenantRow, Leased, table=True):
    """One ticket at both sides, and the queue of what has to be looked at.

    ``shadow`` is, per field and side, the raw value last seen or written there: the base of every decision.
    ``dirty_since`` set means "look at both sides"; ``dirty_mark`` tells a look that ended from a change that came
    while it ran. ``generation`` counts recorded writes, so that the same change can be written again later.
    ``…_comments_until`` is up to when a side's comments were read; ``…_comments_from`` is set by the poll when it found
    an older one that had been missed.
    """

    __tablename__ = "ticket_link"
    __table_args__ = (
        UniqueConstraint("relationship_id", "source_ticket_id"),
        UniqueConstraint("relationship_id", "target_ticket_id"),
        CheckConstraint(
            "state IN ('new', 'linked', 'ignored', 'paused', 'orphaned', 'merged', 'unlinked', 'failed')",
            name="state",
        ),
        CheckConstraint("lane IN ('interactive', 'bulk')", name="lane"),
        CheckConstraint("origin IN ('source', 'target')", name="origin"),
        Index(
            "ix_ticket_link_due",
            "relationship_id",
            "next_attempt_at",
            postgresql_where=text("dirty_since IS NOT NULL"),
        ),
        Index("ix_ticket_link_tenant", "tenant_id", "relationship_id", "id"),
        Index("ix_ticket_link_leased", "lease_owner", postgresql_where=text("lease_token IS NOT NULL")),
        Index("ix_ticket_link_sync", "sync_id", postgresql_where=text("sync_id IS NOT NULL")),
    )

    relationship_id: UUID = Field(foreign_key="relationship.id")
    source_ticket_id: str | None = Field(default=None)
    target_ticket_id: str | None = Field(default=None)
    origin: str = Field(default=SOURCE)
    state: str = Field(default="new")
    reason: str | None = Field(default=None, description="Why it is ignored, failed, paused.")
    next_step: str | None = Field(default=None)
    shadow: dict[str, Any] = Field(default_factory=dict, sa_type=JSONB)
    field_errors: dict[str, Any] = Field(default_factory=dict, sa_type=JSONB)
    generation: int = Field(default=0)
    source_updated_at: datetime | None = Field(default=None)
    target_updated_at: datetime | None = Field(default=None)
    source_comments_until: datetime | None = Field(default=None)
    target_comments_until: datetime | None = Field(default=None)
    source_comments_from: datetime | None = Field(default=None)
    target_comments_from: datetime | None = Field(default=None)
    dirty_since: datetime | None = Field(default=None)
    dirty_mark: int = Field(default=0, sa_type=BigInteger)
    lane: str = Field(default="interactive")
    sync_id: UUID | None = Field(default=None)
    last_synced_at: datetime | None = Field(default=None)
    updated_at: datetime = Field(default_factory=clock.now)


class LedgerEntry(Row, table=True):
    """What we created or took over at a side: an item that is in here is ours and never travels back."""

    __tablename__ = "ledger_entry"
    __table_args__ = (
        UniqueConstraint("relationship_id", "side", "kind", "native_id"),
        CheckConstraint("side IN ('source', 'target')", name="side"),
        CheckConstraint("kind IN ('ticket', 'comment')", name="kind"),
        Index("ix_ledger_entry_link", "link_id"),
    )

    tenant_id: UUID = Field(foreign_key="tenant.id")
    relationship_id: UUID = Field(foreign_key="relationship.id")
    link_id: UUID = Field(foreign_key="ticket_link.id")
    side: str
    kind: str
    native_id: str
    peer_native_id: str = Field(description="The original at the other side.")


class LinkChange(TenantRow, table=True):
    """What happened to a link, for people: a write, a conflict with its loser, a refusal. Never changed."""

    __tablename__ = "link_change"
    __table_args__ = (Index("ix_link_change_link", "link_id", "id"),)

    link_id: UUID = Field(foreign_key="ticket_link.id")
    side: str
    operation: str = Field(description="created, updated, closed, reopened, commented, conflict, refused, note")
    detail: dict[str, Any] = Field(default_factory=dict, sa_type=JSONB)


class PollCursor(TenantRow, Leased, table=True):
    """How far the reconciling poll of a connection has read, by the remote side's own clock."""

    __tablename__ = "poll_cursor"
    __table_args__ = (
        UniqueConstraint("connection_id"),
        Index("ix_poll_cursor_due", "next_attempt_at"),
    )

    connection_id: UUID = Field(foreign_key="connection.id")
    watermark: datetime
    last_success_at: datetime | None = Field(default=None)
    error: str | None = Field(default=None)


class SyncRun(TenantRow, Leased, table=True):
    """A sync that someone asked for: reads everything changed since a date and brings it in step."""

    __tablename__ = "sync_run"
    __table_args__ = (
        CheckConstraint("state IN ('queued', 'reading', 'converging', 'done', 'failed')", name="state"),
        Index("ix_sync_run_due", "next_attempt_at", postgresql_where=text("state IN ('queued', 'reading')")),
        Index("ix_sync_run_tenant", "tenant_id", "id"),
    )

    relationship_id: UUID = Field(foreign_key="relationship.id")
    since: datetime
    state: str = Field(default="queued")
    total: int = Field(default=0)
    read: int = Field(default=0)
    error: str | None = Field(default=None)
    next_step: str | None = Field(default=None)
    started_at: datetime | None = Field(default=None)
    finished_at: datetime | None = Field(default=None)
