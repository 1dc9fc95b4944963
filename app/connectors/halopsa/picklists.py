"""What a HaloPSA lets one choose from. Facts: HaloPSA wire contract, field shapes and traps 15 and 16."""

import asyncio
from collections.abc import Iterable

from app.connectors.canonical import Choice, Picklists
from app.connectors.halopsa import wire
from app.connectors.halopsa.client import HaloClient, Params

_TICKET_STATUS = 0


async def read(client: HaloClient) -> Picklists:
    """All lists. Raises :class:`~app.connectors.halopsa.refusals.CallFailed` when one cannot be read."""
    statuses, priorities, types, outcomes, teams, clients = await asyncio.gather(
        _bare(client, "/Status", {}, "statuses"),
        _bare(client, "/Priority", {}, "priorities"),
        _bare(client, "/TicketType", {"showall": True}, "tickettypes"),
        _bare(client, "/Outcome", {}, "outcomes"),
        _bare(client, "/Team", {"includeenabled": True}, "teams"),
        _clients(client),
    )
    return Picklists(
        statuses=_statuses(client, statuses),
        priorities=_priorities(priorities),
        ticket_types=_choices(types),
        outcomes=_choices((row for row in outcomes if not wire.flag(row.get("hidden"))), "buttonname", "outcome"),
        teams=_choices(row for row in teams if not wire.flag(row.get("inactive"))),
        clients=_choices(row for row in clients if not wire.flag(row.get("inactive"))),
    )


async def _bare(client: HaloClient, path: str, params: Params, key: str) -> list[dict[str, object]]:
    return client.rows(await client.get(path, params), path, key)


async def _clients(client: HaloClient) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    async for rows, _ in client.pages("/Client", "clients", {"includeactive": True}):
        found.extend(rows)
    return found


def _statuses(client: HaloClient, rows: Iterable[wire.Row]) -> tuple[Choice, ...]:
    """Statuses of tickets: the list also holds those of assets and orders, and HaloPSA does not filter
    them."""
    closed = frozenset(client.config.closed_status_ids)
    return tuple(
        Choice(str(ident), wire.text(row.get("name")), closes=ident in closed)
        for row in rows
        if (ident := wire.identifier(row.get("id"))) is not None
        and (wire.whole(row.get("type")) or 0) == _TICKET_STATUS
    )


def _priorities(rows: Iterable[wire.Row]) -> tuple[Choice, ...]:
    """One row per SLA and number; a ticket holds the number, so each is named once."""
    found: dict[int, str] = {}
    for row in rows:
        number = wire.identifier(row.get("priorityid"))
        if number is not None and not wire.flag(row.get("ishidden")):
            found.setdefault(number, wire.text(row.get("name")))
    return tuple(Choice(str(number), name) for number, name in sorted(found.items()))


def _choices(rows: Iterable[wire.Row], *names: str) -> tuple[Choice, ...]:
    members = names or ("name",)
    found = []
    for row in rows:
        ident = wire.identifier(row.get("id"))
        if ident is not None:
            name = next((wire.text(row.get(member)) for member in members if row.get(member)), "")
            found.append(Choice(str(ident), name))
    return tuple(found)
