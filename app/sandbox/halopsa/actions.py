"""POST and DELETE on /Actions: notes, e-mails, time entries and outcomes that move a ticket's status."""

from datetime import datetime
from typing import TYPE_CHECKING

from app.sandbox.halopsa import action_shapes, events, render, seed_rows, ticket_fields, ticket_shapes
from app.sandbox.halopsa.action_lists import get_action, list_actions
from app.sandbox.halopsa.action_writes import base_values
from app.sandbox.halopsa.attachments import attach_inline, check_inline
from app.sandbox.halopsa.batches import Commit, Shape, save_all
from app.sandbox.halopsa.calls import Call, Reply, Route, Row, whole
from app.sandbox.halopsa.external_links import ACTION_TABLE, keep_inline, match_of
from app.sandbox.halopsa.refusals import Missing, Refused
from app.sandbox.halopsa.ticket_store import Action, Ticket
from app.sandbox.halopsa.tickets import EDIT, READ, audit, status_events

if TYPE_CHECKING:
    from app.sandbox.halopsa.world import TenantWorld

NO_OUTCOME = "An Outcome must be entered for this Action"
NOT_NOW = "You do not have access to this Action at the moment"
_PLAIN_MEMBERS = (
    "emailto",
    "emailcc",
    "emailsubject",
    "emailbody",
    "emailbody_html",
    "private_note",
    "third_party_who",
    "on_behalf_of",
    "on_behalf_of_name",
    "chargerate",
    "nonbilltime",
    "traveltime",
    "actisbillable",
    "important",
)


def post_actions(world: "TenantWorld", call: Call) -> Reply:
    """Write each element's action, or edit it when the element carries an id."""
    return save_all(world, call, _plan)


def _plan(world: "TenantWorld", call: Call, element: Row) -> Commit:
    if element.get("ticket_id") in (None, "", 0):
        raise Refused(400, "A ticket_id must be given for this Action")
    ticket = world.tickets.live(whole(element["ticket_id"], "ticket_id"))
    if ticket is None:
        raise Refused(400, "Record not found")
    check_inline(element.get("attachments"))
    ident = 0 if element.get("id") in (None, "") else whole(element["id"], "id")
    if ident == 0:
        matched = match_of(world, element, ACTION_TABLE)
        ident = matched[1] if matched and matched[0] == ticket.id else 0
    if ident:
        action = ticket.actions.get(ident)
        if action is None:
            raise Refused(400, "Record not found")
        changes = _texts(world, element)
        return lambda: _edit(world, call, element, ticket, action, changes)
    outcome = _outcome_of(world, element)
    _refuse_blocked(world, ticket, outcome)
    values = _values(world, element, outcome)
    _check_new_status(world, ticket, values)
    return lambda: _add(world, call, element, ticket, values)


def _outcome_of(world: "TenantWorld", element: Row) -> Row:
    """The outcome's id, text and effects. Free text that names no outcome is stored as it is, with id 0."""
    raw, text = element.get("outcome_id"), element.get("outcome")
    if raw not in (None, "", 0):
        row = world.configuration.outcomes.get(whole(raw, "outcome_id"))
        if row is None:
            raise Refused(400, f"Outcome {raw} was not found")
        return row
    if not isinstance(text, str) or not text.strip():
        raise Refused(400, NO_OUTCOME)
    return world.configuration.outcome_named(text) or {
        "id": 0,
        "outcome": text,
        "newstatus": -1,
        "hidefromuser": False,
    }


def _refuse_blocked(world: "TenantWorld", ticket: Ticket, outcome: Row) -> None:
    """403 for an outcome which the ticket type or the workflow's present step does not offer."""
    kind = world.configuration.ticket_types[ticket.values["tickettype_id"]]
    if not kind["allowall_actions"] and outcome["id"] not in {item["key1"] for item in kind["allowed_actions"]}:
        raise Refused(403, NOT_NOW)
    workflow = world.configuration.workflows.get(kind["workflow_id"])
    if workflow is None:
        return
    step = next(item for item in workflow["steps"] if item["step_id"] == ticket.workflow_step)
    if outcome["id"] not in {item["action_id"] for item in step["actions"]}:
        raise Refused(403, NOT_NOW)


def _texts(world: "TenantWorld", element: Row) -> Row:
    found: Row = {}
    note, rich = element.get("note"), element.get("note_html")
    if rich is not None:
        rich = str(rich)
        if not world.switches.keep_hidden_span:
            rich = ticket_fields.without_hidden_spans(rich)
        found["note_html"] = rich
    if note is not None:
        found["note"] = str(note).rstrip() if world.switches.trim_text else str(note)
    if "note" in found and "note_html" not in found:
        found["note_html"] = ticket_fields.markup(found["note"])
    elif "note_html" in found and "note" not in found:
        found["note"] = ticket_fields.plain(found["note_html"])
    return found


def _values(world: "TenantWorld", element: Row, outcome: Row) -> Row:
    values = _texts(world, element)
    values["outcome"] = outcome["outcome"]
    values["outcome_id"] = outcome["id"]
    hidden = element.get("hiddenfromuser")
    values["hiddenfromuser"] = outcome["hidefromuser"] if hidden is None else bool(hidden)
    new_status = element.get("new_status")
    if new_status not in (None, "", 0, -1):
        values["new_status"] = whole(new_status, "new_status")
    elif outcome["newstatus"] > 0:
        values["new_status"] = outcome["newstatus"]
    if element.get("timetaken") is not None:
        values["timetaken"] = ticket_fields.number_member(element["timetaken"], "timetaken")
    values["sendemail"] = bool(element.get("sendemail", outcome.get("sendemail", 0)))
    values |= {member: element[member] for member in _PLAIN_MEMBERS if element.get(member) is not None}
    if element.get("datetime") not in (None, ""):
        if world.switches.action_dates == "refused":
            raise Refused(400, "The date of an action cannot be changed")
        if world.switches.action_dates == "accepted":
            values["datetime"] = ticket_fields.date_member(element["datetime"], "datetime")
    if element.get("who") and world.switches.accept_who:
        values["who"] = str(element["who"])
        agent = next((row for row in world.configuration.agents.values() if row["name"] == values["who"]), None)
        values["who_agentid"] = agent["id"] if agent else 0
    return values


def _check_new_status(world: "TenantWorld", ticket: Ticket, values: Row) -> None:
    if "new_status" in values:
        ticket_fields.check_references(world, {"status_id": values["new_status"]}, ticket, {})


def _add(world: "TenantWorld", call: Call, element: Row, ticket: Ticket, given: Row) -> Shape:
    now = world.now()
    before = dict(ticket.values)
    values = base_values(world, ticket, call.actor, now) | {k: v for k, v in given.items() if v is not None}
    ticket.values["status_id"] = values["new_status"]
    values["new_status_name"] = world.configuration.statuses[values["new_status"]]["name"]
    if values["sendemail"]:
        values |= _mail(world, ticket, values, now)
    if values["outcome_id"] == seed_rows.WORKFLOW_ADVANCING_OUTCOME_ID:
        ticket.workflow_step = 2
    action = world.tickets.add_action(ticket, values)
    _note_on_ticket(world, ticket, call, values, now)
    attach_inline(world, call, element.get("attachments"), ticket.id, action.id)
    keep_inline(world, element, ACTION_TABLE, ticket.id, action.id)
    numbers = status_events(world, ticket, before["status_id"], call)
    numbers += [events.UPDATED_BY_USER] if call.actor.is_user else []
    numbers.append(events.TICKET_UPDATED)
    audit(world, ticket, call, before)
    if world.switches.action_moves_last_update or values["new_status"] != before["status_id"]:
        world.tickets.touch(ticket, now)
    events.ticket_changed(world, ticket, numbers, call.actor, action, quiet=events.is_quiet(element))
    return _shape(world, element, ticket, action)


def _mail(world: "TenantWorld", ticket: Ticket, values: Row, now: datetime) -> Row:
    user = world.users.get(ticket.values["user_id"])
    return {
        "emaildirection": "O",
        "emailto": values.get("emailto") or (user["emailaddress"] if user else ""),
        "dateemailed": now,
    }


def _note_on_ticket(world: "TenantWorld", ticket: Ticket, call: Call, values: Row, now: datetime) -> None:
    ticket.values["lastactiondate"] = now
    ticket.values["timetaken"] = ticket.values.get("timetaken", 0.0) + values["timetaken"]
    if values["note"]:
        ticket.values |= {"lastnote": values["note"], "lastnote_date": now}
    if not values["hiddenfromuser"] and not call.actor.is_user and ticket.values.get("responsedate") is None:
        ticket.values["responsedate"] = now


def _edit(world: "TenantWorld", call: Call, element: Row, ticket: Ticket, action: Action, changes: Row) -> Shape:
    if element.get("hiddenfromuser") is not None:
        changes = changes | {"hiddenfromuser": bool(element["hiddenfromuser"])}
    if element.get("timetaken") is not None:
        spent = ticket_fields.number_member(element["timetaken"], "timetaken")
        ticket.values["timetaken"] = ticket.values.get("timetaken", 0.0) + spent - action.values["timetaken"]
        changes = changes | {"timetaken": spent}
    action.values |= changes | {"last_updated": world.now()}
    attach_inline(world, call, element.get("attachments"), ticket.id, action.id)
    keep_inline(world, element, ACTION_TABLE, ticket.id, action.id)
    events.ticket_changed(world, ticket, [events.TICKET_UPDATED], call.actor, action, quiet=events.is_quiet(element))
    return _shape(world, element, ticket, action)


def _shape(world: "TenantWorld", element: Row, ticket: Ticket, action: Action) -> Shape:
    def shape() -> Row:
        row = action_shapes.full(world, action)
        if element.get("_includeticketinresponse"):
            row["ticket"] = render.written(ticket_shapes.full(world, ticket), world.switches)
        return row

    return shape


def delete_action(world: "TenantWorld", call: Call) -> Reply:
    """Delete the action ``id`` of the ticket ``ticket_id``; 400 without the ticket, since ids repeat across
    tickets.
    """
    ticket_id = call.number("ticket_id")
    if ticket_id is None:
        raise Refused(400, "A ticket_id must be given for this Action")
    ticket = world.tickets.live(ticket_id)
    action = world.tickets.remove_action(ticket, call.id()) if ticket else None
    if ticket is None or action is None:
        raise Missing
    if world.switches.action_moves_last_update:
        world.tickets.touch(ticket, world.now())
    events.ticket_changed(world, ticket, [events.TICKET_UPDATED], call.actor, None)
    return Reply(body=action_shapes.full(world, action))


ROUTES = (
    Route("GET", "/Actions", READ, list_actions),
    Route("POST", "/Actions", EDIT, post_actions),
    Route("GET", "/Actions/{id}", READ, get_action),
    Route("DELETE", "/Actions/{id}", EDIT, delete_action),
)
