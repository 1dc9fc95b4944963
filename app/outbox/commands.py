"""Writes as values: one that was decided, one that was taken for sending."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class NewCommand:
    """A write that was decided. ``subject_id`` is the row it is for; see :class:`OutboundCommand`.

    ``look_first``: it may have been done in a past that this database does not remember.
    """

    tenant_id: UUID
    connection_id: UUID
    subject_id: UUID
    ordering_key: str
    kind: str
    key: str
    lane: str
    body: dict[str, Any]
    snapshot: dict[str, Any] = field(default_factory=dict)
    look_first: bool = False


@dataclass(frozen=True, slots=True)
class ClaimedCommand:
    """A write taken for sending. ``in_doubt``: an earlier try may have done it."""

    id: UUID
    tenant_id: UUID
    connection_id: UUID
    subject_id: UUID
    ordering_key: str
    sequence: int
    kind: str
    key: str
    lane: str
    body: dict[str, Any]
    snapshot: dict[str, Any]
    attempts: int
    open_tries: int
    tried_at: datetime | None
    created_at: datetime

    @property
    def in_doubt(self) -> bool:
        """Whether to look at the remote before doing it (again)."""
        return self.open_tries > 1


class DeadLetter(Protocol):
    """A write that was given up, as far as its room may change it before it is tried again."""

    kind: str
    body: dict[str, Any]
    snapshot: dict[str, Any]
