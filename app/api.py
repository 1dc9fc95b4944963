"""The one list of routers."""

from fastapi import FastAPI

from app.auth.routes import router as api_keys
from app.connections.routes import kinds_router as connection_kinds
from app.connections.routes import router as connections
from app.health.routes import router as health
from app.inbox.routes import hooks
from app.inbox.routes import router as inbox
from app.outbox.routes import router as outbox
from app.sync.routes import relationships, syncs, ticket_links

ROUTERS = (
    hooks,
    health,
    api_keys,
    connection_kinds,
    connections,
    relationships,
    ticket_links,
    syncs,
    inbox,
    outbox,
)


def include_all(app: FastAPI) -> None:
    """Mount every router."""
    for router in ROUTERS:
        app.include_router(router)
