"""Which rooms use connections, and how to ask them: a table, resolved on first use."""

from collections.abc import Awaitable, Callable
from importlib import import_module
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

USERS = ("app.sync.service:relationships_using",)


async def names_of_users(session: AsyncSession, connection_id: UUID) -> list[str]:
    """What still uses a connection, by the names people gave it."""
    found: list[str] = []
    for user in USERS:
        module, _, name = user.partition(":")
        ask: Callable[[AsyncSession, UUID], Awaitable[list[str]]] = getattr(import_module(module), name)
        found.extend(await ask(session, connection_id))
    return found
