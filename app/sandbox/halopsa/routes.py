"""Everything that is served under ``/api``, found by method and path whatever the path's case."""

from app.sandbox.halopsa import (
    actions,
    assets,
    attachments,
    configuration,
    delivery_log,
    external_links,
    organisation,
    tickets,
    webhooks,
)
from app.sandbox.halopsa.calls import Route

ROUTES: tuple[Route, ...] = (
    *tickets.ROUTES,
    *actions.ROUTES,
    *attachments.ROUTES,
    *external_links.ROUTES,
    *organisation.ROUTES,
    *configuration.ROUTES,
    *assets.ROUTES,
    *webhooks.ROUTES,
    *delivery_log.ROUTES,
)
BY_TEMPLATE: dict[tuple[str, str], Route] = {(route.method, route.template): route for route in ROUTES}
_BY_PATH: dict[tuple[str, str], Route] = {(route.method, route.template.lower()): route for route in ROUTES}


def find(method: str, path: str) -> tuple[Route | None, str]:
    """The route of a path below ``/api`` and the id in it; (None, "") for an unknown path.

    ``find("GET", "/tickets/12/")`` is the route ``/Tickets/{id}`` with "12".
    """
    clean = "/" + path.strip("/")
    route = _BY_PATH.get((method, clean.lower()))
    if route is not None:
        return route, ""
    head, _, key = clean.rpartition("/")
    route = _BY_PATH.get((method, f"{head.lower()}/{{id}}"))
    return (route, key) if route is not None else (None, "")
