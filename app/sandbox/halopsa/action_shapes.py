"""How an action looks on the wire."""

from typing import TYPE_CHECKING

from app.sandbox.halopsa import render
from app.sandbox.halopsa.attachments import attachments_of
from app.sandbox.halopsa.calls import Row
from app.sandbox.halopsa.external_links import ACTION_TABLE, links_of
from app.sandbox.halopsa.ticket_store import Action

if TYPE_CHECKING:
    from app.sandbox.halopsa.world import TenantWorld

_RICH = ("note_html", "emailbody_html")


def row(world: "TenantWorld", action: Action, *, rich: bool, attachments: bool) -> Row:
    """An action with its HTML (``rich``) and its files only where the reader asked for them."""
    found = {
        "ticket_id": action.ticket_id,
        "id": action.id,
        **render.dated(action.values, world.switches),
        "attachment_count": world.attachments.count_of(action.ticket_id, action.id),
    }
    if not rich:
        for member in _RICH:
            found.pop(member, None)
    if attachments:
        found["attachments"] = attachments_of(world, action.ticket_id, action.id)
    return found


def full(world: "TenantWorld", action: Action) -> Row:
    """The whole action, as the answer to a POST and a webhook carry it."""
    found = row(world, action, rich=True, attachments=True)
    found["external_links"] = links_of(world, ACTION_TABLE, action.ticket_id, action.id)
    return found
