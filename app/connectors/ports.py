"""What a room may ask of an outside system. Rooms know these Protocols and nothing of a vendor.

Every method talks to the network: none may be called with a database transaction open (design §2, promise 3).
Reads raise :class:`~app.connectors.canonical.DeskError`. Writes never raise for what a desk answers: each element
gets its own result, in the order given, so one bad element cannot hide the fate of the others.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from app.connectors.canonical import (
    Check,
    CommentDraft,
    CommentWindow,
    HookEvent,
    HookState,
    Lane,
    Party,
    Picklists,
    Ticket,
    TicketChange,
    TicketDraft,
    WriteResult,
)


class TicketDesk(Protocol):
    """A service desk: tickets and their trails."""

    def in_lane(self, lane: Lane) -> "TicketDesk":
        """The same desk, its calls counted against the lane's share of the budget."""
        ...

    def pressure(self) -> float:
        """How much of the call budget of the present window is spent: 0.0 idle, 1.0 nothing left. No I/O."""
        ...

    async def identity(self) -> Party:
        """Who we are at this desk: the author of everything we write."""
        ...

    async def picklists(self) -> Picklists:
        """Statuses, priorities, types, outcomes, teams and clients as the desk has them now."""
        ...

    async def read_tickets(self, ticket_ids: Sequence[str]) -> dict[str, Ticket]:
        """Tickets by id in as few calls as the desk allows. An id that is absent from the answer does not exist."""
        ...

    def changed_tickets(self, since: datetime) -> AsyncIterator[Sequence[Ticket]]:
        """Pages of tickets whose last update is at or after ``since``, oldest id first. An empty page is a sign of life
        while the call budget is waited for."""
        ...

    async def read_comments(self, ticket_ids: Sequence[str], since: datetime | None) -> CommentWindow:
        """Trails of the tickets since ``since`` (``None``: from the beginning), in as few calls as possible."""
        ...

    async def recent_comments(self, since: datetime) -> CommentWindow:
        """Trails of all tickets since ``since``: what a poll reads; ``complete_for`` is empty when cut."""
        ...

    async def server_time(self) -> datetime:
        """The desk's own clock, from its last answer's Date header (asks once when there was none)."""
        ...

    async def create_tickets(self, drafts: Sequence[TicketDraft]) -> Sequence[WriteResult]: ...

    async def change_tickets(self, changes: Sequence[TicketChange]) -> Sequence[WriteResult]: ...

    async def add_comments(self, drafts: Sequence[CommentDraft]) -> Sequence[WriteResult]: ...

    async def find_tickets(self, markers: Sequence[str], *, created_after: datetime) -> dict[str, Ticket]:
        """The tickets that carry our markers, by marker, in few calls: asked after unknown outcomes, before creating
        again. A marker that is absent from the answer is surely not there."""
        ...

    async def find_comments(self, wanted: Sequence[tuple[str, str]], *, created_after: datetime) -> dict[str, str]:
        """Native ids of the comments that carry our markers, by marker; ``wanted`` are (marker, ticket id) pairs."""
        ...


class WebhookSource(Protocol):
    """A system that pushes events to us and whose subscription we look after."""

    def events(self, body: bytes) -> Sequence[HookEvent]:
        """The events of a body (object or batch array). Raises ``ValueError`` when it is not JSON of that shape."""
        ...

    async def ensure_webhook(self, *, url: str, secret: str, label: str) -> HookState:
        """Register the webhook and its events, or repair what differs; the same call twice changes nothing.
        ``label`` is the name prefix by which we recognise our own."""
        ...

    async def inspect_webhook(self, *, url: str, label: str) -> HookState:
        """What is registered there now, with a sentence for each thing that is wrong."""
        ...

    async def remove_webhook(self, *, label: str) -> int:
        """Remove every webhook of ours that carries ``label``; returns how many were removed."""
        ...


class Connector(Protocol):
    """One open connection to an outside system."""

    @property
    def desk(self) -> TicketDesk: ...

    @property
    def webhooks(self) -> WebhookSource: ...

    async def check(self) -> Sequence[Check]:
        """The connection test: each check named, with advice. Never raises for what the remote does."""
        ...

    async def aclose(self) -> None:
        """Close sockets."""
        ...


class Connectors(Protocol):
    """Where open connectors come from."""

    async def get(self, connection_id: UUID, lane: Lane = Lane.INTERACTIVE) -> Connector:
        """The connector of a connection. Raises :class:`~app.core.errors.AppError` when it is paused or broken."""
        ...
