"""Reading both sides of many links in few calls. The network only: no table, no decision."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.connectors.canonical import Comment, CommentWindow, DeskError, Lane, Ticket
from app.connectors.ports import TicketDesk
from app.sync.context import OpenRelationship
from app.sync.pacing import FREE_SHARE
from app.sync.repository import ClaimedLink
from app.sync.settings import SIDES, Side

# A desk stamps a comment and lists it a moment later; clocks are read from its own answers.
WINDOW_OVERLAP = timedelta(seconds=20)
# Beyond this a window holds more strangers' comments than ours: read such a ticket on its own.
WINDOW_MAX = timedelta(hours=20)
# With the budget nearly whole, exact reads of so many tickets beat a window over everybody's.
EXACT_READS_MAX = 2
PARALLEL_READS = 8


class SideUnreadable(Exception):
    """A side could not be asked; nothing may be concluded about its tickets."""

    def __init__(self, side: Side, error: DeskError) -> None:
        super().__init__(f"{side}: {error.detail}")
        self.side = side
        self.error = error


@dataclass(slots=True)
class SideView:
    """What a side showed: tickets by id, comments by ticket id, and the desk's time before the read."""

    read_at: datetime
    tickets: dict[str, Ticket] = field(default_factory=dict)
    comments: dict[str, list[Comment]] = field(default_factory=dict)


async def look(opened: OpenRelationship, links: Sequence[ClaimedLink]) -> dict[Side, SideView]:
    """Read both sides. Raises :class:`SideUnreadable` when one could not be asked."""
    lane = Lane.BULK if all(link.lane == "bulk" for link in links) else Lane.INTERACTIVE
    found = await asyncio.gather(*(_side(opened, side, links, lane) for side in SIDES), return_exceptions=True)
    views: dict[Side, SideView] = {}
    for side, view in zip(SIDES, found, strict=True):
        if isinstance(view, DeskError):
            raise SideUnreadable(side, view) from view
        if isinstance(view, BaseException):
            raise view
        views[side] = view
    return views


async def _side(opened: OpenRelationship, side: Side, links: Sequence[ClaimedLink], lane: Lane) -> SideView:
    desk = opened.desk(side, lane)
    view = SideView(read_at=await desk.server_time())
    ids = [ticket_id for link in links if (ticket_id := link.ticket_id(side)) is not None]
    if not ids:
        return view
    view.tickets = await desk.read_tickets(ids)
    if not opened.settings.public_comments:
        return view
    exact: list[tuple[str, datetime | None]] = []
    window: list[tuple[str, datetime]] = []
    for link in links:
        ticket_id = link.ticket_id(side)
        if ticket_id is None or link.state == "new" or ticket_id not in view.tickets:
            continue
        since = link.comments_since(side, opened.polled_until[side])
        if since is None:
            since = view.tickets[ticket_id].created_at
        if since is None or since < view.read_at - WINDOW_MAX:
            exact.append((ticket_id, since))
        else:
            window.append((ticket_id, since))
    if len(window) == 1 or (len(window) <= EXACT_READS_MAX and desk.pressure() <= FREE_SHARE):
        exact.extend(window)
        window = []
    for comment in await _comments(desk, exact, window):
        view.comments.setdefault(comment.ticket_id, []).append(comment)
    return view


async def _comments(
    desk: TicketDesk, exact: list[tuple[str, datetime | None]], window: list[tuple[str, datetime]]
) -> Iterable[Comment]:
    found: dict[str, Comment] = {}
    if window:
        oldest = min(since for _, since in window) - WINDOW_OVERLAP
        read = await desk.read_comments([ticket_id for ticket_id, _ in window], oldest)
        found.update((comment.native_id, comment) for comment in read.comments)
        exact.extend((ticket_id, since) for ticket_id, since in window if ticket_id not in read.complete_for)
    slots = asyncio.Semaphore(PARALLEL_READS)

    async def one(ticket_id: str, since: datetime | None) -> CommentWindow:
        async with slots:
            return await desk.read_comments([ticket_id], since - WINDOW_OVERLAP if since is not None else None)

    for read in await asyncio.gather(*(one(ticket_id, since) for ticket_id, since in exact)):
        found.update((comment.native_id, comment) for comment in read.comments)
    return found.values()
