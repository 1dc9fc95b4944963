"""POST /Tickets, GET and DELETE /Tickets/{id}: creating, changing, closing, reopening, deleting."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from app.sandbox.halopsa import events, seed_rows, ticket_fields, ticket_shapes
from app.sandbox.halopsa.action_writes import add_opening_action, add_system_action
from app.sandbox.halopsa.attachments import attach_inline, check_inline
from app.sandbox.halopsa.batches import Commit, save_all
from app.sandbox.halopsa.calls import Call, Reply, Route, Row, whole
from app.sandbox.halopsa.custom_fields import read_custom_fields
from app.sandbox.halopsa.external_links import TICKET_TABLE, keep_inline, match_of
from app.sandbox.halopsa.refusals import Missing, Refused
from app.sandbox.halopsa.ticket_lists import list_tickets
from app.sandbox.halopsa.ticket_store import Ticket

if TYPE_CHECKING:
    from app.sandbox.halopsa.world import TenantWorld

READ = ("read:tickets", "edit:tickets")
EDIT = ("edit:tickets",)
# Members whose changes are written to the ticket's audit.
_AUDITED = (
    "summary",
    "status_id",
    "priority_id",
    "sla_id",
    "client_id",
    "site_id",
    "user_id",
    "team",
    "agent_id",
    "tickettype_id",
    "impact",
    "urgency",
    "category_1",
    "category_2",
)


def post_tickets(world: "TenantWorld", call: Call) -> Reply:
    """Create or change each element's ticket."""
    return save_all(world, call, _plan)


def _plan(world: "TenantWorld", call: Call, element: Row) -> Commit:
    ticket = _addressed(world, element)
    found = ticket_fields.read_members(world, element)
    if ticket is not None and world.switches.strict_updates and not {"tickettype_id", "client_id"} <= found.keys():
        raise Refused(400, "Record not found")
    ticket_fields.check_references(world, found, ticket, element)
    custom = read_custom_fields(world, element.get("customfields"))
    check_inline(element.get("attachments"))
    if ticket is None:
        values = _new_values(world, call, element, found)
        return lambda: _create(world, call, element, values, custom)
    _refuse_direct_close(world, found, ticket)
    return lambda: _update(world, call, element, ticket, found, custom)


def _addressed(world: "TenantWorld", element: Row) -> Ticket | None:
    """The ticket that the element changes, None when it creates one. Raises :class:`Refused` for an unknown
    id.
    """
    raw = element.get("id")
    ident = 0 if raw in (None, "") else whole(raw, "id")
    if ident == 0:
        matched = match_of(world, element, TICKET_TABLE)
        return world.tickets.live(matched[0]) if matched else None
    ticket = world.tickets.live(ident)
    if ticket is None:
        raise Refused(400, "Record not found")
    return ticket


def _refuse_direct_close(world: "TenantWorld", found: Row, ticket: Ticket) -> None:
    closing = world.is_closed(found.get("status_id", 0)) and not world.is_closed(ticket.values["status_id"])
    if closing and world.switches.close_requires_outcome:
        raise Refused(400, "This ticket cannot be closed directly. Use an action with a closing outcome.")


def _new_values(world: "TenantWorld", call: Call, element: Row, found: Row) -> Row:
    kind = world.configuration.ticket_types[found.get("tickettype_id") or 1]
    if world.switches.apply_templates and not element.get("donotapplytemplateintheapi"):
        found = found | {"summary": kind["default_summary"], "details": kind["default_details"]}
        found["details_html"] = ticket_fields.markup(found["details"])
    if not element.get("_novalidate"):
        if kind["_needs_approval"]:
            raise Refused(400, "CODE:APP03/2 Please select the CAB members to approve")
        missing = ticket_fields.required_missing(kind, found)
        if missing:
            raise Refused(400, missing)
        if not found.get("summary"):
            raise Refused(400, "Summary was required")
    team = kind["default_team"]
    values = {
        "tickettype_id": kind["id"],
        "status_id": kind["initial_status"],
        "sla_id": kind["default_sla"],
        "priority_id": kind["default_priority"],
        "team": team.upper() if world.switches.uppercase_team else team,
        "agent_id": kind["default_agent"],
        "impact": 3,
        "urgency": 3,
        "source": 0,
        "timetaken": 0.0,
        "dateoccurred": ticket_fields.date_member(element.get("dateoccurred"), "dateoccurred"),
    }
    values |= {name: value for name, value in found.items() if value != 0 or name in ("source", "impact", "urgency")}
    values |= _where(world, call, values)
    return values


def _where(world: "TenantWorld", call: Call, values: Row) -> Row:
    """Client, site and user of a new ticket: a user decides, then a site, then a client, then "Unknown"."""
    user_id = values.get("user_id", 0) or call.actor.user_id
    if user_id > 0:
        user = world.users[user_id]
        return {"user_id": user_id, "site_id": user["site_id"], "client_id": user["client_id"]}
    site_id = values.get("site_id", 0)
    if site_id <= 0:
        client = world.clients[values.get("client_id", 0) or seed_rows.UNKNOWN_CLIENT_ID]
        site_id = client["main_site_id"]
    return {
        "user_id": world.general_user_id(site_id),
        "site_id": site_id,
        "client_id": world.sites[site_id]["client_id"],
    }


def _create(world: "TenantWorld", call: Call, element: Row, values: Row, custom: dict[int, Any]) -> ticket_shapes.Shape:
    now = world.now()
    ticket_id = world.tickets.last_id + 1
    values |= {
        "guid": world.guid("ticket", ticket_id),
        "dateoccurred": values.get("dateoccurred") or now,
        "datecreated": now,
        "lastactiondate": now,
        "created_by": call.actor.name,
        **_targets(world, values, now),
    }
    ticket = Ticket(ticket_id, values, now, custom=dict(custom))
    world.tickets.add(ticket)
    _count_child(world, 0, values.get("parent_id", 0))
    opening = add_opening_action(world, ticket, call.actor)
    attach_inline(world, call, element.get("attachments"), ticket_id, 0)
    keep_inline(world, element, TICKET_TABLE, ticket_id, 0)
    numbers = [events.NEW_TICKET]
    if world.is_closed(values["status_id"]):
        _note_closing(world, ticket, call, now)
        numbers.append(events.TICKET_CLOSED)
    events.ticket_changed(world, ticket, numbers, call.actor, opening, quiet=events.is_quiet(element))
    return ticket_shapes.shape_of(world, ticket)


def _targets(world: "TenantWorld", values: Row, now: datetime) -> Row:
    priority = world.configuration.priorities[values["sla_id"], values["priority_id"]]
    return {
        "respondbydate": now + timedelta(hours=priority["responsetime"]),
        "fixbydate": now + timedelta(hours=priority["fixtime"]),
    }


def _update(
    world: "TenantWorld", call: Call, element: Row, ticket: Ticket, found: Row, custom: dict[int, Any]
) -> ticket_shapes.Shape:
    now = world.now()
    found = {name: value for name, value in found.items() if not (name.endswith("_id") and value == 0)}
    if "client_id" in found and found["client_id"] != ticket.values["client_id"] and "site_id" not in found:
        found |= _where(world, call, {"client_id": found["client_id"], "user_id": found.get("user_id", 0)})
    before = dict(ticket.values)
    status = found.pop("status_id", before["status_id"])
    ticket.values |= found
    ticket.custom |= custom
    _count_child(world, before.get("parent_id", 0), ticket.values.get("parent_id", 0))
    _note_reassignment(world, ticket, call, before)
    action = None
    if status != before["status_id"]:
        ticket.values["status_id"] = status
        action = add_system_action(
            world,
            ticket,
            call.actor,
            seed_rows.OUTCOMES[1],
            old_status=before["status_id"],
            new_status=status,
        )
    if {"priority_id", "sla_id"} & found.keys():
        ticket.values |= _targets(world, ticket.values, ticket.values["datecreated"])
    numbers = status_events(world, ticket, before["status_id"], call)
    audit(world, ticket, call, before)
    attach_inline(world, call, element.get("attachments"), ticket.id, 0)
    keep_inline(world, element, TICKET_TABLE, ticket.id, 0)
    world.tickets.touch(ticket, now)
    events.ticket_changed(world, ticket, numbers + _updated(call), call.actor, action, quiet=events.is_quiet(element))
    return ticket_shapes.shape_of(world, ticket)


def _count_child(world: "TenantWorld", old_parent: int, new_parent: int) -> None:
    for ident, step in ((old_parent, -1), (new_parent, 1)) if old_parent != new_parent else ():
        parent = world.tickets.by_id.get(ident)
        if parent is not None:
            parent.values["child_count"] = parent.values.get("child_count", 0) + step


def _updated(call: Call) -> list[int]:
    return [events.UPDATED_BY_USER, events.TICKET_UPDATED] if call.actor.is_user else [events.TICKET_UPDATED]


def _note_reassignment(world: "TenantWorld", ticket: Ticket, call: Call, before: Row) -> None:
    after = ticket.values
    if after["agent_id"] == before["agent_id"] and after["team"] == before["team"]:
        return
    add_system_action(
        world, ticket, call.actor, seed_rows.OUTCOMES[2], new_agent=after["agent_id"], new_team=after["team"]
    )
    after["dateassigned"] = world.now()


def status_events(world: "TenantWorld", ticket: Ticket, old_status: int, call: Call) -> list[int]:
    """Keep the closing dates in step with a status that may have changed; the events that raises."""
    status = ticket.values["status_id"]
    if status == old_status:
        return []
    was_closed, closed = world.is_closed(old_status), world.is_closed(status)
    if closed and not was_closed:
        _note_closing(world, ticket, call, world.now())
        return [events.STATUS_CHANGED, events.TICKET_CLOSED]
    if was_closed and not closed:
        ticket.values |= {"dateclosed": None, "hasbeenclosed": False, "closure_agent_id": 0}
    return [events.STATUS_CHANGED]


def _note_closing(world: "TenantWorld", ticket: Ticket, call: Call, now: datetime) -> None:
    ticket.values |= {"dateclosed": now, "hasbeenclosed": True, "closure_agent_id": call.actor.agent_id}


def audit(world: "TenantWorld", ticket: Ticket, call: Call, before: Row) -> None:
    """Write a row for each audited member that differs from ``before``."""
    for member in _AUDITED:
        old, new = before.get(member), ticket.values.get(member)
        if old != new:
            ticket.audit.append(
                {
                    "id": len(ticket.audit) + 1,
                    "ticket_id": ticket.id,
                    "agent_id": call.actor.agent_id,
                    "user_id": call.actor.user_id,
                    "username": call.actor.name,
                    "date": world.now(),
                    "value": member,
                    "from": "" if old is None else str(old),
                    "to": "" if new is None else str(new),
                }
            )


def get_ticket(world: "TenantWorld", call: Call) -> Reply:
    """The full ticket."""
    ticket = world.tickets.live(call.id())
    if ticket is None:
        raise Missing
    return Reply(body=ticket_shapes.full(world, ticket, audit=call.flag("include_auditing")))


def delete_ticket(world: "TenantWorld", call: Call) -> Reply:
    """Soft delete: out of every list without ``deleted=true``, and missing by id."""
    ticket = world.tickets.live(call.id())
    if ticket is None:
        raise Missing
    ticket.deleted = True
    world.tickets.touch(ticket, world.now())
    events.ticket_changed(world, ticket, [events.TICKET_DELETED], call.actor, None)
    return Reply(body=ticket_shapes.full(world, ticket))


ROUTES = (
    Route("GET", "/Tickets", READ, list_tickets),
    Route("POST", "/Tickets", EDIT, post_tickets),
    Route("GET", "/Tickets/{id}", READ, get_ticket),
    Route("DELETE", "/Tickets/{id}", EDIT, delete_ticket),
)
