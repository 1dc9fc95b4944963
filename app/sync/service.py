"""Changes to relationships, links and syncs, under the rules. Nothing here talks to the network."""

import secrets
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from sqlmodel.ext.asyncio.session import AsyncSession

from app.connections import service as connections
from app.connectors import registry
from app.core import clock
from app.core.crypto import Vault
from app.core.db.session import Database, ring_after_commit
from app.core.errors import Invalid, Pointer
from app.core.preconditions import Expected
from app.core.problems import pointers_of
from app.sync import repository
from app.sync.context import marker_place
from app.sync.errors import AlreadyRelated, BadSideSettings, RelationshipNameTaken, RelationshipState
from app.sync.models import Relationship, SyncRun, TicketLink
from app.sync.repository import RelationshipRepository, SyncRunRepository, TicketLinkRepository, polls
from app.sync.schemas import RelationshipIn, RelationshipPatch, SyncIn
from app.sync.settings import RelationshipSettings


async def create(session: AsyncSession, vault: Vault, tenant_id: UUID, wanted: RelationshipIn) -> Relationship:
    """Make a relationship; it works at once. Raises ``NotFound``, ``Invalid``, :class:`RelationshipNameTaken`,
    :class:`BadSideSettings`."""
    if wanted.source_connection_id == wanted.target_connection_id:
        raise Invalid(
            "A relationship needs two different connections.",
            next_step="Choose another connection for one side.",
            pointers=(Pointer("/target_connection_id", "is the same as source_connection_id"),),
        )
    settings = await _checked(
        session, tenant_id, wanted.settings, wanted.source_connection_id, wanted.target_connection_id
    )
    relationships = RelationshipRepository(session, tenant_id)
    await _refuse_taken_name(relationships, wanted.name)
    await _refuse_related(session, relationships, wanted.source_connection_id, wanted.target_connection_id)
    if settings.start_at is None:
        settings = settings.model_copy(update={"start_at": clock.now()})
    row = Relationship(
        tenant_id=tenant_id,
        name=wanted.name,
        source_connection_id=wanted.source_connection_id,
        target_connection_id=wanted.target_connection_id,
        settings=settings.model_dump(mode="json"),
        marker_secret="",
    )
    row.marker_secret = vault.seal(secrets.token_hex(32), place=marker_place(row.id))
    await relationships.add(row)
    for connection_id in (row.source_connection_id, row.target_connection_id):
        await polls.ensure_cursor(session, tenant_id, connection_id, watermark=clock.now())
    ring_after_commit(session, "reconcile")
    return row


async def _refuse_related(
    session: AsyncSession, relationships: RelationshipRepository, source: UUID, target: UUID
) -> None:
    """Two ways between the same two desks would copy every ticket twice, and a desk related to itself for ever. A
    desk is told by its address: two connections may lead to the same one."""
    await repository.lock_relationships(session, relationships.tenant_id)
    wanted = {await _address(session, relationships.tenant_id, one) for one in (source, target)}
    if len(wanted) == 1:
        raise AlreadyRelated(
            "Both connections lead to the same desk.", next_step="Choose a connection to another desk for one side."
        )
    for row in await relationships.living():
        ends = {
            await _address(session, relationships.tenant_id, one)
            for one in (row.source_connection_id, row.target_connection_id)
        }
        if ends == wanted:
            raise AlreadyRelated(
                f"'{row.name}' already keeps the tickets of these two desks in step.",
                next_step="Change that relationship (reverse carries both ways), or archive it first.",
            )


async def _address(session: AsyncSession, tenant_id: UUID, connection_id: UUID) -> str:
    connection = await connections.find_connection(session, tenant_id, connection_id)
    config = connection.config
    return f"{connection.kind} {config.get('base_url') or connection.id} {config.get('tenant') or ''}".casefold()


async def _checked(
    session: AsyncSession, tenant_id: UUID, settings: RelationshipSettings, source: UUID, target: UUID
) -> RelationshipSettings:
    """Both connections are the tenant's, and each side's settings fit its kind."""
    pointers: list[Pointer] = []
    for side, connection_id, options in (
        ("source", source, settings.source),
        ("target", target, settings.target),
    ):
        connection = await connections.find_connection(session, tenant_id, connection_id)
        if connection.state == "archived":
            pointers.append(Pointer(f"/{side}_connection_id", "is archived"))
            continue
        try:
            registry.kind(connection.kind).side_options.model_validate(options)
        except ValidationError as error:
            found = pointers_of([{**one, "loc": ("body", *one["loc"])} for one in error.errors()])
            pointers.extend(Pointer(f"/settings/{side}{one.pointer}", one.message) for one in found)
    if pointers:
        raise BadSideSettings(
            "The settings of a side do not fit its connection.",
            next_step="Correct what is listed under errors.",
            pointers=tuple(pointers),
        )
    return settings


async def _refuse_taken_name(relationships: RelationshipRepository, name: str) -> None:
    if await relationships.name_taken(name):
        raise RelationshipNameTaken(
            f"There is already a relationship called '{name}'.",
            next_step="Choose another name.",
            pointers=(Pointer("/name", "is taken by another relationship"),),
        )


async def update(
    session: AsyncSession,
    tenant_id: UUID,
    relationship_id: UUID,
    *,
    patch: RelationshipPatch,
    expected: Expected,
) -> Relationship:
    """Change what ``patch`` names; it takes effect with the next look at each link."""
    row = await _locked(session, tenant_id, relationship_id, expected)
    if row.state == "archived":
        raise RelationshipState(f"'{row.name}' is archived.", next_step="Make a new relationship.")
    if patch.name is not None and patch.name != row.name:
        await _refuse_taken_name(RelationshipRepository(session, tenant_id), patch.name)
        row.name = patch.name
    if patch.settings is not None:
        settings = await _checked(
            session, tenant_id, patch.settings, row.source_connection_id, row.target_connection_id
        )
        if settings.start_at is None:
            settings = settings.model_copy(update={"start_at": _start(row)})
        row.settings = settings.model_dump(mode="json")
        if await repository.mark_troubled(session, row.id):
            ring_after_commit(session, "sync")
    return await _changed(session, row)


async def move(
    session: AsyncSession,
    tenant_id: UUID,
    relationship_id: UUID,
    *,
    to: str,
    expected: Expected,
    reason: str | None = None,
) -> Relationship:
    """Pause, resume or archive. Changes that come while paused are kept and carried after resuming."""
    row = await _locked(session, tenant_id, relationship_id, expected)
    legal = {"active": ("paused", "archived"), "paused": ("active", "archived"), "archived": ()}
    if to not in legal[row.state]:
        raise RelationshipState(
            f"'{row.name}' is {row.state} and cannot become {to}.", next_step="Read it to see its state."
        )
    row.state = to
    row.paused_reason = reason
    if to == "archived":
        await repository.cancel_writes(session, row.id)
    ring_after_commit(session, "sync")
    return await _changed(session, row)


async def _locked(session: AsyncSession, tenant_id: UUID, relationship_id: UUID, expected: Expected) -> Relationship:
    row = await RelationshipRepository(session, tenant_id).get(relationship_id, lock=True)
    expected.check(row)
    return row


async def _changed(session: AsyncSession, row: Relationship) -> Relationship:
    row.touch()
    session.add(row)
    await session.flush()
    return row


def _start(row: Relationship) -> datetime:
    return RelationshipSettings.model_validate(row.settings).start_at or row.created_at


async def resync(session: AsyncSession, tenant_id: UUID, link_id: UUID) -> TicketLink:
    """Look at a link again now. A link that was ignored is looked at afresh."""
    links = TicketLinkRepository(session, tenant_id)
    row = await links.get(link_id, lock=True)
    if row.state in ("merged", "unlinked", "paused"):
        raise RelationshipState(
            f"The link is {row.state}; there is nothing to bring in step.",
            next_step=row.next_step or "Nothing to do.",
        )
    await repository.mark_dirty(session, [row.id])
    await session.refresh(row)
    ring_after_commit(session, "sync")
    return row


async def start_sync(session: AsyncSession, tenant_id: UUID, wanted: SyncIn) -> SyncRun:
    """Ask for a sync since a date. The relationship's start date moves back to it when it is later."""
    relationship = await RelationshipRepository(session, tenant_id).get(wanted.relationship_id, lock=True)
    if relationship.state != "active":
        raise RelationshipState(
            f"'{relationship.name}' is {relationship.state}.", next_step="Resume it before asking for a sync."
        )
    settings = RelationshipSettings.model_validate(relationship.settings)
    if settings.start_at is not None and wanted.since < settings.start_at:
        moved = settings.model_copy(update={"start_at": wanted.since})
        relationship.settings = moved.model_dump(mode="json")
        await _changed(session, relationship)
    row = SyncRun(tenant_id=tenant_id, relationship_id=relationship.id, since=wanted.since)
    ring_after_commit(session, "reconcile")
    return await SyncRunRepository(session, tenant_id).add(row)


def eta_seconds(row: SyncRun, done: int, total: int) -> int | None:
    """Seconds until a sync is through, at its pace so far; ``None`` before there is one."""
    if row.state != "converging" or row.started_at is None or done <= 0:
        return 0 if row.state == "done" else None
    spent = (clock.now() - row.started_at).total_seconds()
    return round(spent / done * max(0, total - done))


def shown_link(row: TicketLink) -> dict[str, Any]:
    """A link as the API shows it."""
    return {**row.model_dump(), "waiting_since": row.dirty_since}


async def reseal_markers(database: Database, vault: Vault) -> int:
    """Seal the marker secrets of every relationship under the newest key. Returns how many were sealed again."""
    changed = 0
    async with database.transaction() as session:
        for row in await repository.every_relationship(session):
            if not vault.is_current(row.marker_secret):
                text = vault.open(row.marker_secret, place=marker_place(row.id))
                row.marker_secret = vault.seal(text, place=marker_place(row.id))
                session.add(row)
                changed += 1
    return changed


async def relationships_using(session: AsyncSession, connection_id: UUID) -> list[str]:
    """Names of the living relationships that use a connection: it must not be archived under them."""
    return [row.name for row in await repository.relationships_of_connection(session, connection_id)]
