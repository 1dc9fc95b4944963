"""GET /Actions: the actions of one ticket, or of every ticket within about a day; newest first."""

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

from app.sandbox.halopsa import action_shapes
from app.sandbox.halopsa.calls import Call, Reply, Row
from app.sandbox.halopsa.refusals import Missing, Refused
from app.sandbox.halopsa.ticket_store import Action

if TYPE_CHECKING:
    from app.sandbox.halopsa.world import TenantWorld

# HaloPSA answers about one day of a longer range: the first one.
WINDOW = timedelta(days=1)


def list_actions(world: "TenantWorld", call: Call) -> Reply:
    """Without a ticket and without both dates the list is empty, not an error."""
    ticket_id = call.number("ticket_id")
    found = [action for action in _candidates(world, call, ticket_id) if _wanted(call, action)]
    total = len(found)
    count = call.number("count") or world.switches.actions_default_count
    if count:
        found = found[:count]
    return Reply(
        body={
            "ticket_id": ticket_id or 0,
            "record_count": total,
            "actions": [_row(world, call, action) for action in found],
        }
    )


def _candidates(world: "TenantWorld", call: Call, ticket_id: int | None) -> Iterable[Action]:
    start, end = call.moment("startdate"), call.moment("enddate")
    by_creation = world.switches.actions_window_by == "created"
    if ticket_id is not None:
        ticket = world.tickets.live(ticket_id)
        if ticket is None:
            return []
        stamp = "actiondatecreated" if by_creation else "datetime"
        found = sorted(ticket.actions.values(), key=lambda action: (action.values[stamp], action.id), reverse=True)
        return [
            action
            for action in found
            if (start is None or action.values[stamp] >= start) and (end is None or action.values[stamp] <= end)
        ]
    if start is None or end is None:
        return []
    return world.tickets.actions_between(start, min(end, start + WINDOW), by_creation=by_creation)


def _wanted(call: Call, action: Action) -> bool:
    values = action.values
    is_system = values["action_systemid"] > 0
    outcome = call.params.get("actoutcome", "").strip().casefold()
    outcome_id = call.number("actoutcomenum")
    refused = (
        call.flag("excludesys") and is_system,
        call.flag("excludeprivate") and values["hiddenfromuser"],
        call.flag("conversationonly") and (is_system or values["hiddenfromuser"]),
        call.flag("agentonly") and values["actionby_user_id"] > 0,
        call.flag("importantonly") and not values["important"],
        call.flag("timeentriesonly") and not values["timetaken"],
        bool(outcome) and values["outcome"].casefold() != outcome,
        outcome_id is not None and values["outcome_id"] != outcome_id,
    )
    return not any(refused)


def _row(world: "TenantWorld", call: Call, action: Action) -> Row:
    rich, files = call.flag("includehtmlnote"), call.flag("includeattachments")
    return action_shapes.row(world, action, rich=rich, attachments=files)


def get_action(world: "TenantWorld", call: Call) -> Reply:
    """One action, by its ticket and its id within the ticket. ``mostrecent`` and ``nonsystem`` look from the
    end.
    """
    ticket_id = call.number("ticket_id")
    if ticket_id is None:
        raise Refused(400, "A ticket_id must be given for this Action")
    ticket = world.tickets.live(ticket_id)
    if ticket is None:
        raise Missing
    action = ticket.actions.get(call.id())
    if call.flag("mostrecent") or call.flag("nonsystem"):
        recent = sorted(ticket.actions.values(), key=lambda item: item.id, reverse=True)
        action = next(
            (item for item in recent if not (call.flag("nonsystem") and item.values["action_systemid"])), None
        )
    if action is None:
        raise Missing
    return Reply(body=action_shapes.full(world, action))
