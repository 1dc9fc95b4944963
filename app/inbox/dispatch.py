"""Which room understands the events of which kind of connection: a table, resolved on first use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from app.connectors.canonical import HookEvent


@dataclass(frozen=True, slots=True)
class Delivery:
    """One stored event with its parsed form."""

    message_id: UUID
    event: HookEvent


class Handler(Protocol):
    """Takes the events of one connection in. Runs in the transaction that finishes them and talks to no network."""

    async def __call__(
        self, session: AsyncSession, connection_id: UUID, deliveries: Sequence[Delivery]
    ) -> Sequence[UUID]:
        """Returns the message ids that came too early and must be shown again in a moment."""
        ...


HANDLERS: Mapping[str, str] = {"halopsa": "app.sync.inbound:take_in"}


def handler(kind: str) -> Handler:
    """The handler for connections of ``kind``. Raises ``KeyError`` for an unknown one."""
    module, _, name = HANDLERS[kind].partition(":")
    found: Handler = getattr(import_module(module), name)
    return found
