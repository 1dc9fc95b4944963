"""/WebhookEvent: the delivery log, by which lost deliveries can be found and replayed."""

from typing import TYPE_CHECKING

from app.sandbox.halopsa import render
from app.sandbox.halopsa.calls import Call, Reply, Route
from app.sandbox.halopsa.paging import enveloped, ordered
from app.sandbox.halopsa.refusals import Missing

if TYPE_CHECKING:
    from app.sandbox.halopsa.world import TenantWorld

_SCOPES = ("admin", "admin:webhooks")


def list_events(world: "TenantWorld", call: Call) -> Reply:
    """The rows of a webhook (or of all), newest first, in an envelope whose key is ``results``."""
    wanted = call.params.get("webhook_id", "").lower()
    rows = [row for row in world.deliveries.rows() if not wanted or row["webhook_id"] == wanted]
    ordered(call, rows, lambda row, member: row.get(member))
    return enveloped(world, call, "results", rows, lambda row: render.dated(row, world.switches))


def get_event(world: "TenantWorld", call: Call) -> Reply:
    """One row."""
    row = world.deliveries.log.get(call.key.lower())
    if row is None:
        raise Missing
    return Reply(body=render.dated(row, world.switches))


ROUTES = (
    Route("GET", "/WebhookEvent", _SCOPES, list_events),
    Route("GET", "/WebhookEvent/{id}", _SCOPES, get_event),
)
