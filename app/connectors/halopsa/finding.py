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


async def find_ticket(client: HaloClient, marker: str, *, created_after: datetime) -> Ticket | None:
    """The ticket that carries the marker. Raises :class:`CallFailed` when HaloPSA cannot be asked."""
    for row in await _links(client, marker):
        ticket_id = wire.identifier(row.get("halo_id"))
        if ticket_id is None or wire.identifier(row.get("halo_second_id")) is not None:
            continue
        found = (await reading.read_tickets(client, [str(ticket_id)])).get(str(ticket_id))
        if found is not None and not found.deleted:
            return found
    rows = await recent_tickets(client, [marker], created_after=created_after)
    return next(iter(reading.tickets_in(client, rows.values())), None)


async def find_tickets(client: HaloClient, wanted: Sequence[str], *, created_after: datetime) -> dict[str, Ticket]:
    """The tickets that carry the markers, by marker: a few calls for any number of them.

    After a crash hundreds of creations may be in doubt at once, and asking for each by itself would spend the
    budget of five minutes on looking. Raises :class:`CallFailed` when HaloPSA cannot be asked."""
    rows = await recent_tickets(client, wanted, created_after=created_after)
    found = {marker: one for marker, row in rows.items() for one in reading.tickets_in(client, [row])}
    missing = [marker for marker in wanted if marker not in found]
    links = await _recent_links(client, missing, created_after=created_after) if len(missing) > SINGLY else None
    if links is None:
        for marker in missing:
            ticket = await find_ticket(client, marker, created_after=created_after)
            if ticket is not None:
                found[marker] = ticket
        return found
    ids = {
        marker: str(ticket_id)
        for marker, row in links.items()
        if wire.identifier(row.get("halo_second_id")) is None
        and (ticket_id := wire.identifier(row.get("halo_id"))) is not None
    }
    tickets = await reading.read_tickets(client, list(ids.values())) if ids else {}
    return found | {marker: tickets[native] for marker, native in ids.items() if native in tickets}


async def find_comments(
    client: HaloClient, wanted: Sequence[tuple[str, str]], *, created_after: datetime
) -> dict[str, str]:
    """Native ids of the comments that carry the markers, by marker; ``wanted`` are (marker, ticket id) pairs.

    A few calls for any number of them. Raises :class:`CallFailed` when HaloPSA cannot be asked."""
    links = (
        await _recent_links(client, [marker for marker, _ in wanted], created_after=created_after)
        if len(wanted) > SINGLY
        else None
    )
    found: dict[str, str] = {}
    for marker, ticket_id in wanted:
        row = links.get(marker) if links is not None else None
        action_id = wire.identifier(row.get("halo_second_id")) if row is not None else None
        if row is not None and action_id is not None and wire.text(wire.identifier(row.get("halo_id"))) == ticket_id:
            found[marker] = mapping.comment_id(ticket_id, action_id)
        elif links is None:
            native = await find_comment(client, marker, ticket_id=ticket_id)
            if native is not None:
                found[marker] = native
    return found


async def _recent_links(
    client: HaloClient, wanted: Sequence[str], *, created_after: datetime
) -> dict[str, dict[str, Any]] | None:
    """Rows of the correlation table by marker, newest first down to ``created_after``; ``None`` when the table
    cannot tell (not allowed, not dated, too long), so that each has to be asked for by itself."""
    floor = created_after - CLOCK_DOUBT
    open_markers = set(wanted)
    found: dict[str, dict[str, Any]] = {}
    pages = 0
    try:
        async for rows, _ in client.pages("/ExternalLink", "externallinks", {}, descending=True):
            pages += 1
            for row in rows:
                if (marker := wire.text(row.get("third_party_id"))) in open_markers:
                    found[marker] = row
            open_markers.difference_update(found)
            dates = [wire.moment(row.get("date_created")) for row in rows]
            if not open_markers or (dates and all(date is not None and date < floor for date in dates)):
                return found
            if pages >= MOST_LINK_PAGES or None in dates:
                return None
    except CallFailed as failure:
        if failure.error in (ErrorClass.PERMISSION, ErrorClass.NOT_FOUND, ErrorClass.MISCONFIGURED):
            return None
        raise
    # The whole table was read. An empty one proves nothing: this tenant may not keep our links at all.
    return found if pages else None


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


async def find_comment(client: HaloClient, marker: str, *, ticket_id: str) -> str | None:
    """The native id of the comment on the ticket that carries the marker. Raises :class:`CallFailed`."""
    for row in await _links(client, marker):
        action_id = wire.identifier(row.get("halo_second_id"))
        if action_id is not None and wire.text(wire.identifier(row.get("halo_id"))) == ticket_id:
            return mapping.comment_id(ticket_id, action_id)
    found = (await comments_of(client, ticket_id)).get(marker)
    return mapping.comment_id(ticket_id, found["id"]) if found else None


async def comments_of(client: HaloClient, ticket_id: str) -> dict[str, dict[str, Any]]:
    """Actions of a ticket by the markers they carry. Raises :class:`CallFailed`, also when the trail
    came cut."""
    rows, complete = await reading.read_trail(client, ticket_id)
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
