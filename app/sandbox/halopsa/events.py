"""Which webhook events a change raises, and what each delivery says (HaloPSA wire contract, event kinds)."""

from typing import TYPE_CHECKING

from app.sandbox.halopsa import action_shapes, render, ticket_shapes, webhooks
from app.sandbox.halopsa.calls import Actor, Row
from app.sandbox.halopsa.ticket_store import Action, Ticket

if TYPE_CHECKING:
    from app.sandbox.halopsa.world import TenantWorld

NEW_TICKET = 3
UPDATED_BY_USER = 19
TICKET_CLOSED = 39
TICKET_UPDATED = 61
STATUS_CHANGED = 76
TICKET_DELETED = 1072

NAMES = {
    NEW_TICKET: "new ticket logged",
    UPDATED_BY_USER: "ticket updated by user",
    TICKET_CLOSED: "ticket closed",
    TICKET_UPDATED: "ticket updated",
    STATUS_CHANGED: "ticket status changed",
    TICKET_DELETED: "ticket deleted",
}
_MESSAGES = {
    NEW_TICKET: "A new ticket has been logged with Ticket ID: {}.",
    UPDATED_BY_USER: "The user has updated Ticket ID: {}.",
    TICKET_CLOSED: "Ticket ID: {} has been closed.",
    TICKET_UPDATED: "Ticket ID: {} has been updated.",
    STATUS_CHANGED: "The status has been changed for Ticket ID: {}.",
    TICKET_DELETED: "Ticket ID: {} has been deleted.",
}


def is_quiet(element: Row) -> bool:
    """Whether a body asked for rules or automations to be left out."""
    return bool(element.get("dont_do_rules") or element.get("_dont_fire_automations"))


def ticket_changed(
    world: "TenantWorld",
    ticket: Ticket,
    numbers: list[int],
    actor: Actor,
    action: Action | None,
    *,
    quiet: bool = False,
) -> None:
    """Queue a delivery for every live rule of these events whose conditions hold.

    One gesture may raise several events. The content is the ticket as it is now; deliveries may arrive in any
    order.
    """
    if quiet and world.switches.quiet_flags_silence_webhooks:
        return
    for number in numbers:
        for rule in world.webhooks.rules_of(number):
            if webhooks.conditions_hold(rule, ticket.values):
                webhook = world.webhooks.webhooks[rule["webhook_id"]]
                content = _content(world, ticket, number, rule, webhook, actor, action)
                world.deliveries.raise_event(webhook["id"], rule["id"], number, ticket.id, content)


def _content(
    world: "TenantWorld",
    ticket: Ticket,
    number: int,
    rule: Row,
    webhook: Row,
    actor: Actor,
    action: Action | None,
) -> Row:
    content: Row = {
        "id": world.next_guid("delivery"),
        "webhook_id": webhook["id"],
        "notification_id": rule["id"],
        "escmsg_id": world.next_guid("escmsg"),
        "event": NAMES[number],
        "message": _MESSAGES[number].format(f"{ticket.id:07d}"),
        "object_id": ticket.id,
        "agent_id": actor.agent_id,
        "timestamp": render.delivery_stamp(world.now()),
    }
    if webhook["custom_payload"]:
        return _mapped(world, ticket, webhook, content)
    kind = _kind(world, webhook)
    if kind == webhooks.PAYLOAD_EVENT_ONLY:
        return content
    if kind == webhooks.PAYLOAD_SMALL:
        return content | {"ticket": ticket_shapes.small(world, ticket)}
    content["ticket"] = render.written(ticket_shapes.full(world, ticket), world.switches)
    if action is not None:
        shown = action_shapes.full(world, action)
        if world.switches.action_key == "action":
            content["action"] = shown
        elif world.switches.action_key == "actions":
            content["ticket"]["actions"] = [shown]
    return content


def _kind(world: "TenantWorld", webhook: Row) -> int:
    forced = {
        "full": webhooks.PAYLOAD_FULL,
        "small": webhooks.PAYLOAD_SMALL,
        "event_only": webhooks.PAYLOAD_EVENT_ONLY,
    }.get(world.switches.payload)
    kind: int = webhook["payload_type"] if forced is None else forced
    return kind


def _mapped(world: "TenantWorld", ticket: Ticket, webhook: Row, content: Row) -> Row:
    """A custom payload: the administrator's keys over chosen fields (``finame``), and nothing else."""
    available = content | ticket_shapes.full(world, ticket)
    return {
        str(mapping["key"]): available.get(str(mapping.get("finame", "")))
        for mapping in webhook["mappings"]
        if isinstance(mapping, dict) and mapping.get("key")
    }
