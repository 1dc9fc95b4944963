"""A sender, the desk it writes to, and the rows it works on."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlmodel import col, select

from app.connections.errors import ConnectionPaused
from app.connectors.canonical import Comment, CommentKind, DeskError, Party, Visibility
from app.core import clock, ids
from app.core.backoff import RetryPolicy
from app.core.db.session import Database
from app.outbox import repository
from app.outbox.commands import NewCommand
from app.outbox.models import OutboundAttempt, OutboundCommand
from app.outbox.send import Sender
from tests.support.memorydesk import MemoryDesk, OneDesk
from tests.support.rows import LEASE, Pair, command_for, read_command

LAG = timedelta(seconds=120)
RECOVERY_SECONDS = 5.0


@dataclass
class Rig:
    """A sender, its remote, and the rows it works on."""

    database: Database
    desk: MemoryDesk
    origin: MemoryDesk
    connectors: OneDesk
    pair: Pair
    link_id: UUID
    troubles: list[DeskError] = field(default_factory=list)

    def sender(self, **changes: Any) -> Sender:
        values: dict[str, Any] = {
            "owner": ids.new_id(),
            "lease_seconds": LEASE.total_seconds(),
            "batch_size": 200,
            "policy": RetryPolicy(5, 1800, 3),
            "visibility_lag_seconds": LAG.total_seconds(),
            "recovery_after_seconds": RECOVERY_SECONDS,
            "on_trouble": self.trouble,
            **changes,
        }
        return Sender(self.database, self.connectors, **values)

    async def trouble(self, connection_id: UUID, error: DeskError) -> None:
        assert connection_id == self.pair.target_id
        self.troubles.append(error)
        self.connectors.failure = ConnectionPaused("'Desk' is paused.")

    async def decided(self, *commands: NewCommand) -> list[str]:
        self.origin.comments += [original(one) for one in commands if one.kind == "comment.create"]
        async with self.database.transaction() as session:
            await repository.enqueue(session, commands)
        return [command.key for command in commands]

    def comment(self, **changes: Any) -> NewCommand:
        return command_for(self.pair, self.link_id, **changes)

    async def drain(self, *, after: timedelta = timedelta(), sender: Sender | None = None) -> bool:
        """One drain of the target connection, some time later."""
        with clock.shifted(after):
            return await (sender or self.sender()).drain(self.pair.target_id)

    async def row(self, key: str) -> OutboundCommand:
        return await read_command(self.database, key)

    async def attempts(self, key: str) -> list[str]:
        row = await self.row(key)
        async with self.database.transaction() as session:
            found = await session.exec(
                select(OutboundAttempt.outcome)
                .where(col(OutboundAttempt.command_id) == row.id)
                .order_by(col(OutboundAttempt.id))
            )
            return list(found.all())

    async def statuses(self, keys: Sequence[str]) -> list[str]:
        return [(await self.row(key)).status for key in keys]


def original(command: NewCommand, visibility: Visibility = Visibility.PUBLIC) -> Comment:
    """What a comment's write was decided for."""
    return Comment(
        native_id=command.snapshot["origin_comment_id"],
        ticket_id=command.snapshot["origin_ticket_id"],
        text=command.body["text"],
        visibility=visibility,
        kind=CommentKind.COMMENT,
        author=Party("Ann"),
        created_at=datetime.fromisoformat(command.snapshot["origin_created_at"]),
    )


def change(rig: Rig, key: str, values: dict[str, str], *, before: dict[str, str]) -> NewCommand:
    return rig.comment(
        kind="ticket.change",
        key=key,
        body={
            "marker": f"marker of {key}",
            "ticket_id": "9001",
            "values": values,
            "closes": False,
            "reopens": False,
            "resolution": None,
            "resolution_note": "",
            "context": {},
        },
        snapshot={
            "side": "target",
            "relationship_id": str(rig.pair.relationship_id),
            "before": before,
            "cause": {name: f"cause of {value}" for name, value in values.items()},
        },
    )


def creation(rig: Rig, link_id: UUID, number: int) -> NewCommand:
    return command_for(
        rig.pair,
        link_id,
        kind="ticket.create",
        body={"marker": f"ticket marker {number}", "values": {"summary": f"Ticket {number}"}, "defaults": {}},
        snapshot={
            "relationship_id": str(rig.pair.relationship_id),
            "origin": "source",
            "origin_ticket_id": f"{number}",
            "values": {"summary": f"Ticket {number}"},
        },
    )
