"""Writes that waited long, judged again just before they are sent: is the original still public?"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from app.connectors.canonical import ErrorClass, Lane, Refused, Visibility
from app.connectors.ports import Connectors, TicketDesk
from app.outbox.commands import ClaimedCommand


async def always_wanted(connectors: Connectors, commands: Sequence[ClaimedCommand]) -> Sequence[Refused | None]:
    """Tickets and their fields: what became of them meanwhile is a change like any other, and is carried after."""
    return [None] * len(commands)


async def hidden_since(connectors: Connectors, commands: Sequence[ClaimedCommand]) -> Sequence[Refused | None]:
    """Comments: one that was hidden or deleted while its twin waited must not be published at the other side.
    Nothing could take it back there. Raises :class:`DeskError`, :class:`AppError` when its desk cannot be asked."""
    by_desk: dict[tuple[str, str], list[ClaimedCommand]] = {}
    for command in commands:
        by_desk.setdefault((command.snapshot["origin_connection_id"], command.lane), []).append(command)
    public: set[UUID] = set()
    for (connection_id, lane), asked in by_desk.items():
        connector = await connectors.get(UUID(connection_id), Lane(lane))
        public |= await _still_public(connector.desk, asked)
    return [None if command.id in public else _refused(command) for command in commands]


async def _still_public(desk: TicketDesk, commands: Sequence[ClaimedCommand]) -> set[UUID]:
    """Ids of the commands whose originals are there and public: one window for all, a trail for each it misses."""
    since = min(datetime.fromisoformat(command.snapshot["origin_created_at"]) for command in commands)
    tickets = sorted({command.snapshot["origin_ticket_id"] for command in commands})
    found = await _visibilities(desk, tickets, since - timedelta(seconds=1))
    missed = {c.snapshot["origin_ticket_id"] for c in commands if c.snapshot["origin_comment_id"] not in found}
    for ticket_id in sorted(missed):
        found |= await _visibilities(desk, [ticket_id], None)
    return {c.id for c in commands if found.get(c.snapshot["origin_comment_id"]) is Visibility.PUBLIC}


async def _visibilities(desk: TicketDesk, ticket_ids: Sequence[str], since: datetime | None) -> dict[str, Visibility]:
    window = await desk.read_comments(ticket_ids, since)
    return {comment.native_id: comment.visibility for comment in window.comments}


def _refused(command: ClaimedCommand) -> Refused:
    return Refused(
        command.key,
        ErrorClass.NOT_FOUND,
        "The original was hidden or deleted before it could be carried, so it was not published at the other side.",
        "Nothing, unless it is wanted there: make the original public again, then replay this.",
    )
