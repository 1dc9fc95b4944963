"""Which room knows how to send and record each kind of write: a table, resolved on first use."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Protocol
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from app.connectors.canonical import Refused, WriteResult
from app.connectors.ports import Connector, Connectors
from app.outbox.commands import ClaimedCommand, DeadLetter


class Lock(Protocol):
    """Locks subjects in one statement and one order, before anything of a batch is recorded."""

    async def __call__(self, session: AsyncSession, subject_ids: Sequence[UUID]) -> None: ...


class Handler(Protocol):
    """How writes of one kind are looked for, sent and recorded."""

    @property
    def lock(self) -> "Lock":
        """How the rows that results are recorded on are locked; kinds that share them share this."""
        ...

    async def refresh(self, session: AsyncSession, commands: Sequence[DeadLetter]) -> None:
        """Bring the parts of dead letters that come from settings up to date, before they are tried again."""
        ...

    async def look(self, connector: Connector, commands: Sequence[ClaimedCommand]) -> Sequence[WriteResult | None]:
        """Whether earlier tries did them, in few calls: for each the result if so, ``None`` if the remote surely does
        not hold it. Raises :class:`DeskError` when it cannot be asked."""
        ...

    async def withdrawn(self, connectors: Connectors, commands: Sequence[ClaimedCommand]) -> Sequence[Refused | None]:
        """For each write that waited long: why it is not wanted any more, or ``None``. Raises :class:`DeskError` or
        :class:`AppError` when nobody can say now."""
        ...

    async def send(self, connector: Connector, commands: Sequence[ClaimedCommand]) -> Sequence[WriteResult]:
        """Do them in as few calls as the remote allows; one result for each, in the order given."""
        ...

    async def record(self, session: AsyncSession, results: Sequence[tuple[ClaimedCommand, WriteResult]]) -> None:
        """Store what final results (written, refused, given up) mean, in the transaction that finishes them."""
        ...


HANDLERS: Mapping[str, str] = {
    "ticket.create": "app.sync.outbound:TICKET_CREATE",
    "ticket.change": "app.sync.outbound:TICKET_CHANGE",
    "comment.create": "app.sync.outbound:COMMENT_CREATE",
}


def handler(kind: str) -> Handler:
    """The handler of ``kind``. Raises ``KeyError`` for an unknown one."""
    module, _, name = HANDLERS[kind].partition(":")
    found: Handler = getattr(import_module(module), name)
    return found
