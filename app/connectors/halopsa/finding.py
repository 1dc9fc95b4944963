"""Is it there already? What is asked after an unknown outcome, before anything is created again.

Two places are asked: HaloPSA's correlation table, and the records themselves. Only when both say no is the
answer no; when neither can be asked, the failure goes up, because "could not ask" is not "not there"."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from app.connectors.canonical import ErrorClass, Ticket
from app.connectors.halopsa import mapping, markers, reading, wire
from app.connectors.halopsa.client import HaloClient, Params
from app.connectors.halopsa.refusals import CallFailed
from app.core import clock

# Our clock and HaloPSA's may differ by minutes; a few more tickets on the same page cost nothing.
CLOCK_DOUBT = timedelta(minutes=10)
# Up to so many markers are cheaper asked for one by one.
SINGLY = 2
MOST_LINK_PAGES = 30


async def find_tickets(client: HaloClient, wanted: Sequence[str], *, created_after: datetime) -> dict[str, Ticket]:
    """The tickets that carry the markers, by marker; usually one call. Raises :class:`CallFailed` when HaloPSA cannot
    be asked. A ticket that a person deleted since is an answer too: it must not come back by itself."""
    rows = await recent_tickets(client, wanted, created_after=created_after)
    found = {marker: one for marker, row in rows.items() for one in reading.tickets_in(client, [row])}
    missing = [marker for marker in wanted if marker not in found]
    linked = await _placed(client, missing, created_after=created_after, comments=False)
    places = {marker: str(found_at[0][0]) for marker, found_at in linked.items() if found_at}
    tickets = await reading.read_tickets(client, list(places.values()))
    return found | {marker: tickets[place] for marker, place in places.items() if place in tickets}


async def recent_tickets(
    client: HaloClient, wanted: Sequence[str], *, created_after: datetime
) -> dict[str, dict[str, Any]]:
    """List rows by marker, among tickets created after a time: usually one call for any number of markers."""
    floor = created_after - CLOCK_DOUBT
    params: Params = {"lastupdatefromdate": wire.sent(floor)}
    open_markers = set(wanted)
    found: dict[str, dict[str, Any]] = {}
    async for rows, _ in client.pages("/Tickets", "tickets", params, descending=True):
        for row in rows:
            for marker in open_markers.intersection(markers.of_ticket(row)):
                found[marker] = row
        open_markers.difference_update(found)
        # Newest ids first: from here on everything is older than the intent, so it cannot be its result.
        created = [wire.moment(wire.first(row, "datecreated", "dateoccurred")) for row in rows]
        if not open_markers or all(stamp is not None and stamp < floor for stamp in created):
            break
    return found


async def find_comments(
    client: HaloClient, wanted: Sequence[tuple[str, str]], *, created_after: datetime
) -> dict[str, str]:
    """Native ids of comments by marker; ``wanted`` are pairs of marker and ticket id. Raises :class:`CallFailed`.

    After a crash hundreds of writes may be in doubt at once, and asking for each by itself would spend the budget of
    five minutes on looking: many markers are looked for in one walk through the newest rows of the correlation
    table, and trails are read only where that cannot tell."""
    found: dict[str, str] = {}
    links = await _recent_links(client, [marker for marker, _ in wanted], created_after=created_after)
    trails: dict[str, dict[str, dict[str, Any]]] = {}
    for marker, ticket_id in wanted:
        places = links.get(marker, []) if links is not None else []
        if links is None:
            if ticket_id not in trails:
                trails[ticket_id] = await comments_of(client, ticket_id)
            row = trails[ticket_id].get(marker)
            if row is not None:
                found[marker] = mapping.comment_id(ticket_id, row["id"])
                continue
            places = await _places(client, marker, comments=True)
        for linked_ticket, action_id in places:
            if action_id and str(linked_ticket) == ticket_id:
                found[marker] = mapping.comment_id(ticket_id, action_id)
    return found


async def comments_of(client: HaloClient, ticket_id: str) -> dict[str, dict[str, Any]]:
    """Actions of a ticket by the markers they carry. Raises :class:`CallFailed`, also when the trail
    came cut."""
    try:
        rows, complete = await reading.read_trail(client, ticket_id)
    except CallFailed as failure:
        if failure.error is ErrorClass.NOT_FOUND:
            return {}
        raise
    if not complete:
        raise CallFailed(
            ErrorClass.TOO_LARGE,
            f"The trail of ticket {ticket_id} is too long to be read in one answer.",
            next_step="Unlink the ticket, or go on in a new one.",
        )
    found: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda one: wire.identifier(one.get("id")) or 0, reverse=True):
        action_id = wire.identifier(row.get("id"))
        if action_id is not None:
            # The oldest wins: a later one with the same marker is a quotation of it.
            found |= {marker: {**row, "id": action_id} for marker in markers.of_action(row)}
    return found


async def _placed(
    client: HaloClient, wanted: Sequence[str], *, created_after: datetime, comments: bool
) -> dict[str, list[tuple[int, int]]]:
    """Places of each marker: in one walk for many of them, one by one where that cannot tell."""
    links = await _recent_links(client, wanted, created_after=created_after)
    if links is not None:
        return {marker: [place for place in places if bool(place[1]) is comments] for marker, places in links.items()}
    return {marker: await _places(client, marker, comments=comments) for marker in wanted}


async def _recent_links(
    client: HaloClient, wanted: Sequence[str], *, created_after: datetime
) -> dict[str, list[tuple[int, int]]] | None:
    """(Ticket id, action id or 0) by marker from the correlation table, newest first down to ``created_after``.

    ``None`` when the table cannot tell: few markers, not allowed, not dated, too long, or without a single row of ours
    (this HaloPSA may accept our links and drop them)."""
    if len(wanted) <= SINGLY:
        return None
    floor = created_after - CLOCK_DOUBT
    found: dict[str, list[tuple[int, int]]] = {}
    ours = False
    pages = 0
    try:
        async for rows, _ in client.pages("/ExternalLink", "externallinks", {}, descending=True):
            pages += 1
            ours = ours or any(markers.is_ours(row) for row in rows)
            for row in rows:
                ticket_id = wire.identifier(row.get("halo_id"))
                if ticket_id is not None and (marker := wire.text(row.get("third_party_id"))) in wanted:
                    place = (ticket_id, wire.identifier(row.get("halo_second_id")) or 0)
                    found.setdefault(marker, []).append(place)
            dates = [wire.moment(row.get("date_created")) for row in rows]
            if len(found) == len(wanted) or (dates and all(date is not None and date < floor for date in dates)):
                return found
            if pages >= MOST_LINK_PAGES or None in dates:
                return None
    except CallFailed as failure:
        if failure.error in (ErrorClass.PERMISSION, ErrorClass.NOT_FOUND, ErrorClass.MISCONFIGURED):
            return None
        raise
    return found if ours else None


async def _places(client: HaloClient, marker: str, *, comments: bool) -> list[tuple[int, int]]:
    """Ticket id and action id (0: the ticket itself) of the records that the correlation table names."""
    places = [
        (wire.identifier(row.get("halo_id")) or 0, wire.identifier(row.get("halo_second_id")) or 0)
        for row in await _links(client, marker)
    ]
    return [(ticket_id, action_id) for ticket_id, action_id in places if ticket_id and bool(action_id) is comments]


async def _links(client: HaloClient, marker: str) -> list[dict[str, Any]]:
    """Rows of the correlation table for a marker; none when this application may not read it."""
    try:
        payload = await client.get("/ExternalLink", {"third_party_id": marker, "count": 50})
        rows = client.rows(payload, "/ExternalLink", "externallinks", "external_links")
    except CallFailed as failure:
        if failure.error in (ErrorClass.PERMISSION, ErrorClass.NOT_FOUND, ErrorClass.MISCONFIGURED):
            return []
        raise
    # An unknown filter is ignored silently, so every row is compared.
    return [row for row in rows if wire.text(row.get("third_party_id")) == marker]


def now_less_doubt() -> datetime:
    """Since when something that is being written now may be dated, by HaloPSA's clock."""
    return clock.now() - CLOCK_DOUBT
