"""Rows made directly in the database, for tests of what works on rows."""

from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import UUID

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.connections.models import Connection
from app.core import clock, ids
from app.core.crypto import Vault
from app.core.db.session import Database
from app.outbox.commands import NewCommand
from app.outbox.models import OutboundCommand
from app.sync.context import marker_place
from app.sync.models import Relationship, TicketLink
from app.sync.settings import RelationshipSettings
from app.tenants.models import Tenant

_numbers = count(1)
LEASE = timedelta(seconds=90)


async def add_tenant(session: AsyncSession) -> UUID:
    """A tenant; its id."""
    row = Tenant(name=f"Tenant {next(_numbers)}")
    session.add(row)
    await session.flush()
    return row.id


async def add_connection(session: AsyncSession, tenant_id: UUID, *, state: str = "active") -> UUID:
    """A connection of the kind ``testdesk`` without secrets; its id."""
    number = next(_numbers)
    row = Connection(
        tenant_id=tenant_id,
        kind="testdesk",
        name=f"Connection {number}",
        state=state,
        config={"base_url": f"https://connection{number}.test"},
        verifier={"kind": "none"},
    )
    session.add(row)
    await session.flush()
    return row.id


@dataclass(frozen=True)
class Pair:
    """A tenant with two connections and a relationship between them."""

    tenant_id: UUID
    source_id: UUID
    target_id: UUID
    relationship_id: UUID


MARKER_SECRET = "an-invented-marker-secret"


async def add_relationship(
    session: AsyncSession, pair: Pair, vault: Vault | None, settings: RelationshipSettings
) -> None:
    """The relationship of a pair. Without a vault its marker secret cannot be opened."""
    row = Relationship(
        id=pair.relationship_id,
        tenant_id=pair.tenant_id,
        name=f"Relationship {next(_numbers)}",
        source_connection_id=pair.source_id,
        target_connection_id=pair.target_id,
        settings=settings.model_dump(mode="json"),
        marker_secret="unused",
    )
    if vault is not None:
        row.marker_secret = vault.seal(MARKER_SECRET, place=marker_place(row.id))
    session.add(row)
    await session.flush()


async def add_pair(
    database: Database, *, vault: Vault | None = None, settings: RelationshipSettings | None = None
) -> Pair:
    """A tenant with two connections that a relationship joins."""
    async with database.transaction() as session:
        tenant_id = await add_tenant(session)
        pair = Pair(
            tenant_id,
            await add_connection(session, tenant_id),
            await add_connection(session, tenant_id),
            ids.new_id(),
        )
        await add_relationship(session, pair, vault, settings or RelationshipSettings())
    return pair


async def add_link(database: Database, pair: Pair, **columns: Any) -> UUID:
    """A link of the pair, linked and at rest unless ``columns`` say otherwise; its id."""
    number = next(_numbers)
    values: dict[str, Any] = {
        "source_ticket_id": f"{number}",
        "target_ticket_id": f"{9000 + number}",
        "state": "linked",
        **columns,
    }
    row = TicketLink(tenant_id=pair.tenant_id, relationship_id=pair.relationship_id, **values)
    async with database.transaction() as session:
        session.add(row)
    return row.id


async def dirty_link(database: Database, pair: Pair, **columns: Any) -> UUID:
    """A link that waits to be looked at; its id."""
    return await add_link(database, pair, **{"dirty_since": clock.now(), "dirty_mark": 1, **columns})


async def read_link(database: Database, link_id: UUID) -> TicketLink:
    """The link as it is stored now."""
    async with database.transaction() as session:
        return (await session.exec(select(TicketLink).where(col(TicketLink.id) == link_id))).one()


async def read_command(database: Database, key: str) -> OutboundCommand:
    """The command with this key as it is stored now."""
    async with database.transaction() as session:
        return (await session.exec(select(OutboundCommand).where(col(OutboundCommand.key) == key))).one()


def command_for(pair: Pair, link_id: UUID, **changes: Any) -> NewCommand:
    """A comment to be written at the target side of a link."""
    number = next(_numbers)
    made = NewCommand(
        tenant_id=pair.tenant_id,
        connection_id=pair.target_id,
        subject_id=link_id,
        ordering_key=f"{link_id.hex}:target",
        kind="comment.create",
        key=f"key-{number}",
        lane="interactive",
        body={
            "marker": f"marker-{number}",
            "ticket_id": "9001",
            "text": f"Comment {number}",
            "visibility": "public",
            "created_at": None,
            "outcome": None,
        },
        snapshot={
            "side": "target",
            "relationship_id": str(pair.relationship_id),
            "origin_comment_id": f"1:{number}",
            "origin_created_at": clock.now().isoformat(),
            "origin_ticket_id": "1",
            "origin_connection_id": str(pair.source_id),
        },
    )
    return replace(made, **changes)
