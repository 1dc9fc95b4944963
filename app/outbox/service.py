"""Dead letters tried again."""

from collections.abc import Sequence
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.db.session import ring_after_commit
from app.outbox import repository
from app.outbox.handlers import handler
from app.outbox.models import OutboundCommand


async def replay(
    session: AsyncSession,
    tenant_id: UUID,
    *,
    command_ids: Sequence[UUID] | None = None,
    connection_id: UUID | None = None,
    error_class: str | None = None,
) -> Sequence[OutboundCommand]:
    """Make the dead letters that fit due again, with the settings as they are now. Returns them.

    Usually a person has corrected a setting in between, and what was refused was the old one.
    """
    rows = await repository.dead(
        session, tenant_id, command_ids=command_ids, connection_id=connection_id, error_class=error_class
    )
    by_kind: dict[str, list[OutboundCommand]] = {}
    for row in rows:
        by_kind.setdefault(row.kind, []).append(row)
    for kind, commands in by_kind.items():
        await handler(kind).refresh(session, commands)
    for row in rows:
        repository.revive(row)
        session.add(row)
    await session.flush()
    ring_after_commit(session, "outbox")
    return rows
