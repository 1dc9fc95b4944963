"""Reading tickets and their trails in as few calls as HaloPSA allows."""

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from app.connectors.canonical import Comment, CommentWindow, ErrorClass, Ticket
from app.connectors.halopsa import mapping, wire
from app.connectors.halopsa.client import HaloClient, Params
from app.connectors.halopsa.refusals import CallFailed
from app.core import clock

# Hundred ids of seven digits are 800 characters of address: within every proxy's limit, and one page of the
# list.
IDS_PER_CALL = 100
# Up to so many trails are cheaper read on their own, and wholly: a window misses entries that were dated
# back.
_TRAILS_READ_SINGLY = 2
# GET /Actions has no pages, only a count (contract, 5.2), and about a day per call.
_ACTIONS_PER_CALL = 2_000
_WINDOW = timedelta(hours=23, minutes=59)
_MOST_WINDOWS = 40
_MOST_RESTARTS = 3


def tickets_in(client: HaloClient, rows: Iterable[wire.Row]) -> list[Ticket]:
    """The tickets among ``rows``; a row without an id is none."""
    closed = frozenset(client.config.closed_status_ids)
    return [mapping.ticket(row, closed) for row in rows if wire.identifier(row.get("id")) is not None]


async def read_tickets(client: HaloClient, ticket_ids: Sequence[str]) -> dict[str, Ticket]:
    """Tickets by id. One that was deleted is in it only while HaloPSA still shows it. Raises
    :class:`CallFailed`."""
    wanted = list(dict.fromkeys(str(number) for one in ticket_ids if (number := wire.identifier(one)) is not None))
    found: dict[str, Ticket] = {}
    for start in range(0, len(wanted), IDS_PER_CALL):
        chunk = wanted[start : start + IDS_PER_CALL]
        seen, filtered = await _read_listed(client, chunk, {})
        missing = [one for one in chunk if one not in seen]
        if missing and filtered:
            # Deleted tickets are left out of lists unless asked for; then they come marked (contract, 4.1).
            deleted, _ = await _read_listed(client, missing, {"deleted": True})
            seen |= deleted
        elif missing:
            seen |= await _read_singly(client, missing)
        found |= seen
    return found


async def _read_listed(client: HaloClient, chunk: Sequence[str], extra: Params) -> tuple[dict[str, Ticket], bool]:
    """Tickets of the list, and whether the server really filtered: unknown filters are ignored silently."""
    asked = set(chunk)
    found: dict[str, Ticket] = {}
    async for rows, _ in client.pages("/Tickets", "tickets", {"ticketids": ",".join(chunk), **extra}):
        page = tickets_in(client, rows)
        found |= {one.native_id: one for one in page if one.native_id in asked}
        if any(one.native_id not in asked for one in page):
            return found, False
    return found, True


async def _read_singly(client: HaloClient, ticket_ids: Sequence[str]) -> dict[str, Ticket]:
    """One call each: 404, a 400 and a 200 without an id all mean "not there" (contract, errors)."""
    found: dict[str, Ticket] = {}
    for ticket_id in ticket_ids:
        try:
            row = await client.get(f"/Tickets/{ticket_id}", {"includedetails": True}, template="/Tickets/{id}")
        except CallFailed as failure:
            if failure.status not in (400, 404):
                raise
            continue
        found |= {one.native_id: one for one in tickets_in(client, wire.saved(row)) if one.native_id == ticket_id}
    return found


async def changed_tickets(client: HaloClient, since: datetime) -> AsyncIterator[list[Ticket]]:
    """Pages of tickets updated at or after ``since``, by ascending id.

    HaloPSA's stamps have whole seconds and some versions leave the boundary out, so a second earlier is
    asked for and the rest is dropped here. When the total shrinks meanwhile, later rows have moved to
    earlier pages unseen: the walk starts again, and the caller sees some tickets twice."""
    floor = since.replace(microsecond=0)
    params: Params = {"lastupdatefromdate": wire.sent(floor - timedelta(seconds=1))}
    for _ in range(_MOST_RESTARTS):
        shrunk = False
        before: int | None = None
        async for rows, total in client.pages("/Tickets", "tickets", params, patient=True):
            page = [one for one in tickets_in(client, rows) if one.updated_at is None or one.updated_at >= floor]
            if page or not rows:  # an empty one says that the walk waits for budget
                yield page
            shrunk = shrunk or (before is not None and total is not None and total < before)
            before = total if total is not None else before
        if not shrunk:
            return


async def read_trail(client: HaloClient, ticket_id: str) -> tuple[list[dict[str, Any]], bool]:
    """Every action of one ticket but the system's, and whether that is all of them."""
    rows, cut = await _read_actions(client, {"ticket_id": ticket_id}, "/Actions?ticket_id")
    for row in rows:
        row.setdefault("ticket_id", ticket_id)
    return rows, not cut


async def read_comments(client: HaloClient, ticket_ids: Sequence[str], since: datetime | None) -> CommentWindow:
    """Trails of the tickets since ``since``: one window for all where that is possible, else each on its
    own."""
    wanted = [str(number) for one in ticket_ids if (number := wire.identifier(one)) is not None]
    young = since is not None and clock.now() - since < _WINDOW - timedelta(minutes=10)
    if since is not None and young and len(wanted) > _TRAILS_READ_SINGLY:
        rows, complete = await _read_window(client, since)
        asked = frozenset(wanted)
        # Most of a window is other tickets': telling them apart costs 1 us a row, making comments of them 60.
        comments = _comments(row for row in rows if str(wire.identifier(row.get("ticket_id"))) in asked)
        return CommentWindow(tuple(comments), asked if complete else frozenset())
    found: list[Comment] = []
    whole: set[str] = set()
    for ticket_id in wanted:
        rows, complete = await read_trail(client, ticket_id)
        found.extend(_comments(row for row in rows if since is None or mapping.touched_since(row, since)))
        if complete:
            whole.add(ticket_id)
    return CommentWindow(tuple(found), frozenset(whole))


async def recent_comments(client: HaloClient, since: datetime) -> CommentWindow:
    """Trails of all tickets since ``since``, a day per call; ``complete_for`` is empty when something
    was cut off."""
    comments: dict[str, Comment] = {}
    complete = True
    start, now = since, clock.now()
    for _ in range(_MOST_WINDOWS):
        rows, whole = await _read_window(client, start)
        comments |= {one.native_id: one for one in _comments(rows)}
        complete = complete and whole
        start += _WINDOW
        if start > now:
            break
    else:
        complete = False
    ordered = sorted(comments.values(), key=_order)
    return CommentWindow(tuple(ordered), frozenset(one.ticket_id for one in ordered) if complete else frozenset())


async def _read_window(client: HaloClient, since: datetime) -> tuple[list[dict[str, Any]], bool]:
    """Actions of all tickets for about a day from ``since``, newest first. A cut list is continued from
    its oldest entry; ``False`` when the same second holds more entries than one answer does."""
    start = since.replace(microsecond=0) - timedelta(seconds=1)
    end = start + _WINDOW
    found: dict[tuple[Any, Any], dict[str, Any]] = {}
    for _ in range(_MOST_WINDOWS):
        params: Params = {"startdate": wire.sent(start), "enddate": wire.sent(end)}
        rows, cut = await _read_actions(client, params, "/Actions?startdate")
        before = len(found)
        found |= {(row.get("ticket_id"), row.get("id")): row for row in rows}
        if not cut:
            return list(found.values()), True
        stamps = [stamp for row in rows if (stamp := wire.moment(row.get("datetime"))) is not None]
        if len(found) == before or not stamps or min(stamps) >= end:
            break
        end = min(stamps)
    return list(found.values()), False


async def _read_actions(client: HaloClient, which: Params, template: str) -> tuple[list[dict[str, Any]], bool]:
    """Actions without HaloPSA's own entries (by its own judgement) and with the HTML, where a hidden marker stands;
    and whether some are missing.

    A total above the rows given means a cut, unless this version counts its own entries into the total: asking
    once without the filter tells, and from then on it is asked so.
    """
    rows: list[dict[str, Any]] = []
    for unfiltered in dict.fromkeys((client.learnt.actions_counted_unfiltered, True)):
        params: Params = {**which, "excludesys": not unfiltered, "includehtmlnote": True, "count": _ACTIONS_PER_CALL}
        payload = await client.get("/Actions", params, template=template)
        rows = client.rows(payload, "/Actions", "actions")
        total = wire.record_count(payload)
        if len(rows) >= _ACTIONS_PER_CALL:
            return rows, True
        if total is None or total <= len(rows):
            client.learnt.actions_counted_unfiltered = unfiltered
            return rows, False
    return rows, True


def _comments(rows: Iterable[wire.Row]) -> list[Comment]:
    """Comments, oldest first."""
    return sorted((one for row in rows if (one := mapping.comment(row)) is not None), key=_order)


def _order(one: Comment) -> tuple[datetime, str, int]:
    ticket_id, _, action_id = one.native_id.partition(":")
    return one.created_at, ticket_id, int(action_id)


async def server_time(client: HaloClient) -> datetime:
    """HaloPSA's clock, from its last Date header. Raises :class:`CallFailed` when it states none."""
    if client.learnt.clock_ahead_seconds is None:
        await client.get("/Agent/me")
    ahead = client.learnt.clock_ahead_seconds
    if ahead is None:
        raise CallFailed(
            ErrorClass.MISCONFIGURED,
            "HaloPSA's answers carry no Date header, so its clock is not known.",
            next_step="A proxy may remove the header; let it through.",
        )
    return clock.now() + timedelta(seconds=ahead)
