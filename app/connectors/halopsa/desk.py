"""HaloPSA as a service desk: the port's methods, each a call into the file that knows how."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from app.connectors.canonical import (
    CommentDraft,
    CommentWindow,
    Lane,
    Party,
    Picklists,
    Ticket,
    TicketChange,
    TicketDraft,
    WriteResult,
)
from app.connectors.halopsa import comment_writes, finding, picklists, reading, ticket_writes, wire
from app.connectors.halopsa.client import HaloClient


class HaloDesk:
    """Implements :class:`app.connectors.ports.TicketDesk`. Reads raise ``CallFailed``, a ``DeskError``."""

    def __init__(self, client: HaloClient) -> None:
        self._client = client

    def in_lane(self, lane: Lane) -> "HaloDesk":
        """The same desk, its calls counted against the lane's share of the budget."""
        return HaloDesk(self._client.in_lane(lane))

    def pressure(self) -> float:
        """The spent share of the call budget, 0.0 to 1.0; no I/O."""
        return self._client.budget.pressure()

    async def identity(self) -> Party:
        """The agent that the API application logs in as: the author of what we write."""
        row = await self._client.get("/Agent/me")
        found = row if isinstance(row, dict) else {}
        agent_id = wire.identifier(found.get("id"))
        return Party(
            name=wire.text(found.get("name")),
            native_id=str(agent_id) if agent_id is not None else None,
            email=wire.text(found.get("email")) or None,
            is_agent=True,
        )

    async def picklists(self) -> Picklists:
        """Statuses, priorities, types, outcomes, teams and clients: six calls, and one for each
        hundred clients."""
        return await picklists.read(self._client)

    async def read_tickets(self, ticket_ids: Sequence[str]) -> dict[str, Ticket]:
        """Tickets by id, a hundred per call."""
        return await reading.read_tickets(self._client, ticket_ids)

    def changed_tickets(self, since: datetime) -> AsyncIterator[Sequence[Ticket]]:
        """Pages of tickets updated at or after ``since``, by ascending id."""
        return reading.changed_tickets(self._client, since)

    async def read_comments(self, ticket_ids: Sequence[str], since: datetime | None) -> CommentWindow:
        """Trails since ``since``: one call for all of a young window, one per ticket otherwise."""
        return await reading.read_comments(self._client, ticket_ids, since)

    async def recent_comments(self, since: datetime) -> CommentWindow:
        """Trails of all tickets since ``since``, a call per day."""
        return await reading.recent_comments(self._client, since)

    async def server_time(self) -> datetime:
        """HaloPSA's own clock."""
        return await reading.server_time(self._client)

    async def create_tickets(self, drafts: Sequence[TicketDraft]) -> Sequence[WriteResult]:
        """Create tickets, fifty per call."""
        return await ticket_writes.create_tickets(self._client, drafts)

    async def change_tickets(self, changes: Sequence[TicketChange]) -> Sequence[WriteResult]:
        """Change tickets, fifty per call, closings by a second call."""
        return await ticket_writes.change_tickets(self._client, changes)

    async def add_comments(self, drafts: Sequence[CommentDraft]) -> Sequence[WriteResult]:
        """Write comments, a hundred per call, in order within a ticket."""
        return await comment_writes.add_comments(self._client, drafts)

    async def find_tickets(self, markers: Sequence[str], *, created_after: datetime) -> dict[str, Ticket]:
        """The tickets that carry our markers, by marker."""
        return await finding.find_tickets(self._client, markers, created_after=created_after)

    async def find_comments(self, wanted: Sequence[tuple[str, str]], *, created_after: datetime) -> dict[str, str]:
        """Native ids of the comments that carry our markers, by marker."""
        return await finding.find_comments(self._client, wanted, created_after=created_after)
