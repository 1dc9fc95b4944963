"""GET /Tickets: the filters (HaloPSA wire contract, list filters) over the store's indexes."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from app.sandbox.halopsa import ticket_shapes
from app.sandbox.halopsa.calls import Call, Reply, Row
from app.sandbox.halopsa.custom_fields import custom_rows
from app.sandbox.halopsa.paging import enveloped, ordered
from app.sandbox.halopsa.ticket_store import Ticket

if TYPE_CHECKING:
    from app.sandbox.halopsa.world import TenantWorld

Test = Callable[[Ticket], bool]

# A list parameter and the stored id it compares: one id, or a comma separated list of ids.
_ONE_ID = {
    "client_id": "client_id",
    "site_id": "site_id",
    "user_id": "user_id",
    "status_id": "status_id",
    "requesttype_id": "tickettype_id",
    "agent_id": "agent_id",
    "parent_id": "parent_id",
}
_MANY_IDS = {
    "client_ids": "client_id",
    "status": "status_id",
    "requesttype": "tickettype_id",
    "agent": "agent_id",
    "priority": "priority_id",
    "sla": "sla_id",
}
_SEARCHES = {
    "search_summary": "summary",
    "search_details": "details",
    "search_reportedby": "reportedby",
    "search_supplier_reference": "supplier_reference",
}
# `datesearch` names the date that startdate and enddate are about; the spelling `dateoccured` is HaloPSA's
# own.
_DATES = {
    "dateoccured": "dateoccurred",
    "dateoccurred": "dateoccurred",
    "datecleared": "dateclosed",
    "dateclosed": "dateclosed",
    "lastactiondate": "lastactiondate",
    "datecreated": "datecreated",
}


def list_tickets(world: "TenantWorld", call: Call) -> Reply:
    """The tickets that pass every known filter; unknown ones are ignored. Newest id first unless ordered."""
    tests = _tests(world, call)
    found = [ticket for ticket in _candidates(world, call) if all(test(ticket) for test in tests)]
    found = _in_order(call, found)
    wanted = call.numbers("include_custom_fields")

    def shape(ticket: Ticket) -> Row:
        row = ticket_shapes.list_row(world, ticket)
        if wanted:
            row["customfields"] = [field for field in custom_rows(world, ticket.custom) if field["id"] in wanted]
        return row

    return enveloped(world, call, "tickets", found, shape)


def _candidates(world: "TenantWorld", call: Call) -> Iterable[Ticket]:
    """The smallest index that holds every answer."""
    store = world.tickets
    ids = call.numbers("ticketids")
    if ids is not None:
        return [store.by_id[ident] for ident in sorted(ids, reverse=True) if ident in store.by_id]
    single = call.number("search_id")
    if single is not None:
        return [store.by_id[single]] if single in store.by_id else []
    since = call.moment("lastupdatefromdate")
    if since is not None:
        return store.updated_since(since)
    return reversed(store.by_id.values())


def _tests(world: "TenantWorld", call: Call) -> list[Test]:
    tests: list[Test] = []
    if not call.flag("deleted"):
        tests.append(lambda ticket: not ticket.deleted)
    _add_state(world, call, tests)
    _add_update_window(world, call, tests)
    _add_ids(world, call, tests)
    _add_date_search(call, tests)
    _add_searches(world, call, tests)
    return tests


def _add_state(world: "TenantWorld", call: Call, tests: list[Test]) -> None:
    if call.flag("open_only"):
        tests.append(lambda ticket: not world.is_closed(ticket.values["status_id"]))
    if call.flag("closed_only"):
        tests.append(lambda ticket: world.is_closed(ticket.values["status_id"]))


def _add_update_window(world: "TenantWorld", call: Call, tests: list[Test]) -> None:
    since, until = call.moment("lastupdatefromdate"), call.moment("lastupdatetodate")
    if world.switches.update_window == "exclusive":
        if since is not None:
            tests.append(lambda ticket: ticket.updated > since)
        if until is not None:
            tests.append(lambda ticket: ticket.updated < until)
        return
    if since is not None:
        tests.append(lambda ticket: ticket.updated >= since)
    if until is not None:
        tests.append(lambda ticket: ticket.updated <= until)


def _add_ids(world: "TenantWorld", call: Call, tests: list[Test]) -> None:
    for parameter, member in _ONE_ID.items():
        one = call.number(parameter)
        if one is not None:
            tests.append(_equals(member, frozenset({one})))
    for parameter, member in _MANY_IDS.items():
        many = call.numbers(parameter)
        if many is not None:
            tests.append(_equals(member, many))
    teams = call.numbers("team")
    if teams is not None:
        names = {row["name"].casefold() for ident, row in world.configuration.teams.items() if ident in teams}
        tests.append(lambda ticket: ticket.values["team"].casefold() in names)
    excluded = call.numbers("excludethese")
    if excluded is not None:
        tests.append(lambda ticket: ticket.id not in excluded)
    if call.flag("mine"):
        tests.append(_equals("agent_id", frozenset({call.actor.agent_id})))


def _equals(member: str, wanted: frozenset[int]) -> Test:
    return lambda ticket: ticket.values.get(member, 0) in wanted


def _add_date_search(call: Call, tests: list[Test]) -> None:
    member = _DATES.get(call.params.get("datesearch", "").strip().lower())
    start, end = call.moment("startdate"), call.moment("enddate")
    if member is None or (start is None and end is None):
        return

    def within(ticket: Ticket) -> bool:
        moment: datetime | None = ticket.values.get(member)
        return moment is not None and (start is None or moment >= start) and (end is None or moment <= end)

    tests.append(within)


def _add_searches(world: "TenantWorld", call: Call, tests: list[Test]) -> None:
    for parameter, member in _SEARCHES.items():
        text = call.params.get(parameter, "").strip().casefold()
        if text:
            tests.append(_contains(member, text))
    name = call.params.get("search_user_name", "").strip().casefold()
    if name:
        tests.append(lambda ticket: name in world.user_name(ticket.values["user_id"]).casefold())
    anything = call.params.get("search", "").strip().casefold()
    if anything:
        tests.append(
            lambda ticket: (
                anything == str(ticket.id)
                or anything in ticket.values["summary"].casefold()
                or anything in ticket.values.get("details", "").casefold()
                or anything in world.user_name(ticket.values["user_id"]).casefold()
            )
        )


def _contains(member: str, text: str) -> Test:
    return lambda ticket: text in ticket.values.get(member, "").casefold()


def _in_order(call: Call, found: list[Ticket]) -> list[Ticket]:
    if call.params.get("order", "").strip():
        return ordered(call, found, _value)
    found.sort(key=lambda ticket: ticket.id, reverse=True)
    return found


def _value(ticket: Ticket, member: str) -> Any:
    if member == "id":
        return ticket.id
    if member in ("last_update", "lastupdate"):
        return ticket.updated.timestamp()
    value = ticket.values.get(member)
    return value.timestamp() if isinstance(value, datetime) else value
