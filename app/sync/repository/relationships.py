"""SQL of relationships, and the lists that the API shows."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlmodel import col, func, or_, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.db.repository import TenantRepository
from app.core.db.session import raw
from app.core.pagination import PageRequest, Slice, paginate
from app.sync.models import LinkChange, PollCursor, Relationship, SyncRun, TicketLink


async def load_relationship(session: AsyncSession, relationship_id: UUID) -> Relationship | None:
    """A relationship by id, for the workers; requests use the tenant-scoped form."""
    return (await session.exec(select(Relationship).where(Relationship.id == relationship_id))).one_or_none()


async def every_relationship(session: AsyncSession) -> Sequence[Relationship]:
    """The relationships of every tenant, locked: for the rotation of encryption keys."""
    return (await session.exec(select(Relationship).order_by(col(Relationship.id)).with_for_update())).all()


async def store_learnt(session: AsyncSession, relationship_id: UUID, learnt: dict[str, Any]) -> None:
    """Keep what the desks told; not a change of the settings, so the version stays."""
    await session.exec(update(Relationship).where(col(Relationship.id) == relationship_id).values(learnt=learnt))


async def lock_relationships(session: AsyncSession, tenant_id: UUID) -> None:
    """One relationship of a tenant is made at a time: two made at once would not see each other."""
    await raw(
        session,
        text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"),
        {"name": f"relationships:{tenant_id}"},
    )


async def cancel_writes(session: AsyncSession, relationship_id: UUID) -> None:
    """Withdraw the writes of a relationship that nobody has begun."""
    await raw(
        session,
        text(
            "UPDATE outbound_command SET status = 'cancelled', finished_at = now() WHERE status = 'pending' "
            "AND lease_token IS NULL AND subject_id IN (SELECT id FROM ticket_link WHERE relationship_id = :id)"
        ),
        {"id": relationship_id},
    )


async def sealed_markers(session: AsyncSession, tenant_id: UUID, besides: UUID) -> Sequence[tuple[UUID, str]]:
    """(id, sealed marker secret) of a tenant's other relationships: their copies must be known as such."""
    found = await session.exec(
        select(Relationship.id, Relationship.marker_secret).where(
            Relationship.tenant_id == tenant_id, Relationship.id != besides
        )
    )
    return found.all()


async def polled_until(session: AsyncSession, connection_id: UUID) -> datetime | None:
    """Up to when the reconciling poll has read a connection, by the remote's clock."""
    found = await session.exec(select(PollCursor.watermark).where(PollCursor.connection_id == connection_id))
    return found.one_or_none()


async def relationships_of_connection(session: AsyncSession, connection_id: UUID) -> Sequence[Relationship]:
    """The relationships that are not archived and use a connection, on either side."""
    found = await session.exec(
        select(Relationship)
        .where(
            or_(
                Relationship.source_connection_id == connection_id,
                Relationship.target_connection_id == connection_id,
            ),
            Relationship.state != "archived",
        )
        .order_by(col(Relationship.id))
    )
    return found.all()


class RelationshipRepository(TenantRepository[Relationship]):
    """The relationships of one tenant."""

    model = Relationship
    noun = "relationship"

    async def page(self, request: PageRequest, *, state: str | None, name: str | None) -> Slice[Relationship]:
        """One page, narrowed to a state and a part of the name when given."""
        statement = self.rows()
        if state is not None:
            statement = statement.where(col(Relationship.state) == state)
        if name is not None:
            statement = statement.where(col(Relationship.name).icontains(name, autoescape=True))
        columns = {"created_at": Relationship.created_at, "name": Relationship.name}
        return await paginate(self.session, statement, request, columns=columns, id_column=Relationship.id)

    async def living(self) -> Sequence[Relationship]:
        """Those that are not archived, locked: two that are made at once see each other."""
        found = await self.session.exec(
            self.rows()
            .where(col(Relationship.state) != "archived")
            .order_by(col(Relationship.id))
            .with_for_update(key_share=True)
        )
        return found.all()

    async def name_taken(self, name: str) -> bool:
        """Whether another relationship has the name."""
        return (await self.session.exec(self.rows().where(col(Relationship.name) == name))).first() is not None

    async def counts(self, relationship_id: UUID) -> dict[str, int]:
        """Links by state, and how many are waiting to be looked at."""
        rows = await self.session.exec(
            select(TicketLink.state, func.count(), func.count().filter(col(TicketLink.dirty_since).is_not(None)))
            .where(TicketLink.tenant_id == self.tenant_id, TicketLink.relationship_id == relationship_id)
            .group_by(col(TicketLink.state))
        )
        found: dict[str, int] = {"waiting": 0}
        for state, count, dirty in rows:
            found[state] = count
            found["waiting"] += dirty
        return found


class TicketLinkRepository(TenantRepository[TicketLink]):
    """The ticket links of one tenant."""

    model = TicketLink
    noun = "ticket link"

    async def page(
        self,
        request: PageRequest,
        *,
        relationship_id: UUID | None,
        state: str | None,
        ticket_id: str | None,
        waiting: bool | None,
    ) -> Slice[TicketLink]:
        """One page, narrowed by what is given. ``ticket_id`` is a ticket of either side."""
        statement = self.rows()
        if relationship_id is not None:
            statement = statement.where(col(TicketLink.relationship_id) == relationship_id)
        if state is not None:
            statement = statement.where(col(TicketLink.state) == state)
        if ticket_id is not None:
            statement = statement.where(
                or_(
                    col(TicketLink.source_ticket_id) == ticket_id,
                    col(TicketLink.target_ticket_id) == ticket_id,
                )
            )
        if waiting is not None:
            dirty = col(TicketLink.dirty_since)
            statement = statement.where(dirty.is_not(None) if waiting else dirty.is_(None))
        columns = {"created_at": TicketLink.created_at, "updated_at": TicketLink.updated_at}
        return await paginate(self.session, statement, request, columns=columns, id_column=TicketLink.id)

    async def changes(self, link_id: UUID, *, limit: int = 100) -> Sequence[LinkChange]:
        """What happened to a link, newest first."""
        found = await self.session.exec(
            select(LinkChange)
            .where(LinkChange.tenant_id == self.tenant_id, LinkChange.link_id == link_id)
            .order_by(col(LinkChange.id).desc())
            .limit(limit)
        )
        return found.all()


class SyncRunRepository(TenantRepository[SyncRun]):
    """The asked-for syncs of one tenant."""

    model = SyncRun
    noun = "sync"

    async def page(self, request: PageRequest, *, relationship_id: UUID | None, state: str | None) -> Slice[SyncRun]:
        """One page, narrowed by what is given."""
        statement = self.rows()
        if relationship_id is not None:
            statement = statement.where(col(SyncRun.relationship_id) == relationship_id)
        if state is not None:
            statement = statement.where(col(SyncRun.state) == state)
        columns = {"created_at": SyncRun.created_at}
        return await paginate(self.session, statement, request, columns=columns, id_column=SyncRun.id)
