"""How an action comes into being: the opening text, system actions, and what a person writes."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from app.sandbox.halopsa import seed_rows, ticket_fields
from app.sandbox.halopsa.calls import Actor, Row
from app.sandbox.halopsa.ticket_store import Action, Ticket

if TYPE_CHECKING:
    from app.sandbox.halopsa.world import TenantWorld


def base_values(world: "TenantWorld", ticket: Ticket, actor: Actor, now: datetime) -> Row:
    """The members that every action has, as written by ``actor`` now. The status is unchanged."""
    status = ticket.values["status_id"]
    return {
        "guid": world.guid("action", f"{ticket.id}-{ticket.last_action_id + 1}"),
        "who": actor.name,
        "who_type": 2 if actor.is_user else 1,
        "who_agentid": 0 if actor.is_user else actor.agent_id,
        "actionby_agent_id": 0 if actor.is_user else actor.agent_id,
        "actionby_user_id": actor.user_id,
        "actionby_application_id": actor.application,
        "datetime": now,
        "actiondatecreated": now,
        "last_updated": now,
        "hiddenfromuser": False,
        "important": False,
        "note": "",
        "note_html": "",
        "timetaken": 0.0,
        "action_systemid": 0,
        "old_status": status,
        "new_status": status,
        "sendemail": False,
    }


def _outcome(row: tuple[Any, ...]) -> Row:
    return {"outcome": row[1], "outcome_id": row[0], "hiddenfromuser": row[4], "action_systemid": row[6]}


def add_opening_action(world: "TenantWorld", ticket: Ticket, actor: Actor) -> Action:
    """The ticket's opening text as its first action."""
    values = base_values(world, ticket, actor, ticket.values["datecreated"])
    values |= _outcome(seed_rows.OUTCOMES[0])
    values["note"] = ticket.values.get("details", "")
    values["note_html"] = ticket.values.get("details_html", "")
    return world.tickets.add_action(ticket, values)


def add_system_action(
    world: "TenantWorld", ticket: Ticket, actor: Actor, outcome: tuple[Any, ...], **changes: Any
) -> Action:
    """An action that HaloPSA writes by itself about a change; ``excludesys`` leaves it out of lists."""
    now = world.now()
    values = base_values(world, ticket, actor, now) | _outcome(outcome) | changes
    if "new_status" in changes:
        statuses = world.configuration.statuses
        values["new_status_name"] = statuses[changes["new_status"]]["name"]
        values["note"] = f"Status changed from {statuses[changes['old_status']]['name']} to {values['new_status_name']}"
    else:
        values["note"] = f"Assigned to {changes.get('new_team', '')}"
    values["note_html"] = ticket_fields.markup(values["note"])
    return world.tickets.add_action(ticket, values)
