"""Relationships, ticket links and syncs over HTTP."""

from typing import Annotated, Literal

from fastapi import Depends, Query, Request, Response, status

from app.auth.dependencies import Idempotent, require
from app.auth.schemas import Principal
from app.core import ids
from app.core.crypto import Vault
from app.core.db.session import Session
from app.core.errors import Forbidden, NotFound, PreconditionFailed, PreconditionRequired
from app.core.idempotency import KeyInFlight, KeyReused
from app.core.pagination import Page, PageRequest, paging
from app.core.preconditions import ETAG_HEADER, IfMatch, IfNoneMatch, versioned
from app.core.problems import problems
from app.core.strict import strict_router
from app.sync import service
from app.sync.errors import AlreadyRelated, BadSideSettings, RelationshipNameTaken, RelationshipState
from app.sync.models import LinkChange, Relationship, SyncRun
from app.sync.repository import RelationshipRepository, SyncRunRepository, TicketLinkRepository, polls
from app.sync.schemas import (
    LinkChangeOut,
    PauseRelationshipIn,
    RelationshipIn,
    RelationshipOut,
    RelationshipPatch,
    SyncIn,
    SyncOut,
    TicketLinkDetail,
    TicketLinkOut,
)

relationships = strict_router("/v1/relationships", tags=["relationships"])
ticket_links = strict_router("/v1/ticket-links", tags=["ticket links"])
syncs = strict_router("/v1/syncs", tags=["syncs"])

RelationshipReader = Annotated[Principal, require("relationships:read")]
RelationshipWriter = Annotated[Principal, require("relationships:write")]
TicketReader = Annotated[Principal, require("tickets:read")]
TicketWriter = Annotated[Principal, require("tickets:write")]

_CHANGE = {
    **problems(Forbidden, NotFound, RelationshipState, PreconditionFailed, PreconditionRequired),
    200: ETAG_HEADER,
}
LinkState = Literal["new", "linked", "ignored", "paused", "orphaned", "merged", "unlinked", "failed"]


def _vault(request: Request) -> Vault:
    vault: Vault = request.app.state.vault
    return vault


async def _shown(session: Session, row: Relationship) -> RelationshipOut:
    counts = await RelationshipRepository(session, row.tenant_id).counts(row.id)
    return RelationshipOut.model_validate({**row.model_dump(exclude={"marker_secret"}), "links": counts})


@relationships.post(
    "",
    status_code=status.HTTP_201_CREATED,
    summary="Keep the tickets of two connections in step",
    description="It works at once. Test both connections and register their webhooks first; without webhooks changes "
    "are found by polling.",
    responses={
        **problems(Forbidden, NotFound, RelationshipNameTaken, AlreadyRelated, BadSideSettings, KeyInFlight, KeyReused),
        201: ETAG_HEADER,
    },
)
async def create_relationship(
    principal: RelationshipWriter,
    session: Session,
    _key: Idempotent,
    vault: Annotated[Vault, Depends(_vault)],
    wanted: RelationshipIn,
    response: Response,
) -> RelationshipOut:
    """Make a relationship."""
    row = await service.create(session, vault, principal.tenant_id, wanted)
    response.headers["Location"] = f"/v1/relationships/{ids.public('rel', row.id)}"
    response.headers["ETag"] = f'"{row.version}"'
    return await _shown(session, row)


@relationships.get("", summary="List your relationships", responses=problems(Forbidden))
async def list_relationships(
    principal: RelationshipReader,
    session: Session,
    page: Annotated[PageRequest, Depends(paging("created_at", "name"))],
    state: Annotated[Literal["active", "paused", "archived"] | None, Query(description="Only this state.")] = None,
    name: Annotated[str | None, Query(max_length=200, description="Only names that contain this.")] = None,
) -> Page[RelationshipOut]:
    """The tenant's relationships."""
    found = await RelationshipRepository(session, principal.tenant_id).page(page, state=state, name=name)
    return Page(items=[await _shown(session, row) for row in found.rows], next_cursor=found.next_cursor)


@relationships.get(
    "/{relationship_id}",
    summary="Look at one relationship",
    response_model=RelationshipOut,
    responses={
        **problems(Forbidden, NotFound),
        200: ETAG_HEADER,
        304: {"description": "Your copy is current"},
    },
)
async def get_relationship(
    principal: RelationshipReader,
    session: Session,
    relationship_id: ids.RelationshipId,
    response: Response,
    if_none_match: IfNoneMatch = None,
) -> RelationshipOut | Response:
    """One relationship with the counts of its links."""
    row = await RelationshipRepository(session, principal.tenant_id).get(relationship_id)
    return versioned(response, row, await _shown(session, row), if_none_match)


@relationships.patch(
    "/{relationship_id}",
    summary="Change a relationship",
    responses={
        **_CHANGE,
        **problems(Forbidden, NotFound, RelationshipState, RelationshipNameTaken, BadSideSettings),
    },
)
async def update_relationship(
    principal: RelationshipWriter,
    session: Session,
    relationship_id: ids.RelationshipId,
    expected: IfMatch,
    patch: RelationshipPatch,
    response: Response,
) -> RelationshipOut:
    """Change a relationship's name or settings."""
    row = await service.update(session, principal.tenant_id, relationship_id, patch=patch, expected=expected)
    response.headers["ETag"] = f'"{row.version}"'
    return await _shown(session, row)


@relationships.post(
    "/{relationship_id}/pause",
    summary="Stop a relationship for now",
    description="Changes are still noticed and kept; they are carried after it is resumed.",
    responses=_CHANGE,
)
async def pause_relationship(
    principal: RelationshipWriter,
    session: Session,
    relationship_id: ids.RelationshipId,
    expected: IfMatch,
    wanted: PauseRelationshipIn,
    response: Response,
) -> RelationshipOut:
    """Stop carrying changes."""
    row = await service.move(
        session, principal.tenant_id, relationship_id, to="paused", expected=expected, reason=wanted.reason
    )
    response.headers["ETag"] = f'"{row.version}"'
    return await _shown(session, row)


@relationships.post("/{relationship_id}/resume", summary="End the pause of a relationship", responses=_CHANGE)
async def resume_relationship(
    principal: RelationshipWriter,
    session: Session,
    relationship_id: ids.RelationshipId,
    expected: IfMatch,
    response: Response,
) -> RelationshipOut:
    """Go on; what was kept meanwhile is carried."""
    row = await service.move(session, principal.tenant_id, relationship_id, to="active", expected=expected)
    response.headers["ETag"] = f'"{row.version}"'
    return await _shown(session, row)


@relationships.post(
    "/{relationship_id}/archive",
    summary="End a relationship for good",
    description="Nothing is deleted at either side; the tickets are no longer kept in step.",
    responses=_CHANGE,
)
async def archive_relationship(
    principal: RelationshipWriter,
    session: Session,
    relationship_id: ids.RelationshipId,
    expected: IfMatch,
    response: Response,
) -> RelationshipOut:
    """End a relationship."""
    row = await service.move(session, principal.tenant_id, relationship_id, to="archived", expected=expected)
    response.headers["ETag"] = f'"{row.version}"'
    return await _shown(session, row)


@ticket_links.get("", summary="List ticket links", responses=problems(Forbidden))
async def list_ticket_links(
    principal: TicketReader,
    session: Session,
    page: Annotated[PageRequest, Depends(paging("created_at", "updated_at"))],
    relationship_id: Annotated[ids.RelationshipId | None, Query(description="Only this relationship.")] = None,
    state: Annotated[LinkState | None, Query(description="Only links in this state.")] = None,
    ticket_id: Annotated[
        str | None, Query(max_length=100, description="Only the link of this ticket, of either side.")
    ] = None,
    waiting: Annotated[bool | None, Query(description="Only links with (or without) a change to carry.")] = None,
) -> Page[TicketLinkOut]:
    """The tenant's ticket links."""
    found = await TicketLinkRepository(session, principal.tenant_id).page(
        page, relationship_id=relationship_id, state=state, ticket_id=ticket_id, waiting=waiting
    )
    items = [TicketLinkOut.model_validate(service.shown_link(row)) for row in found.rows]
    return Page(items=items, next_cursor=found.next_cursor)


@ticket_links.get(
    "/{ticket_link_id}",
    summary="Look at one ticket link and its history",
    responses=problems(Forbidden, NotFound),
)
async def get_ticket_link(
    principal: TicketReader, session: Session, ticket_link_id: ids.TicketLinkId
) -> TicketLinkDetail:
    """One link: its base values, what was carried, conflicts with their losers, refusals with their next step."""
    links = TicketLinkRepository(session, principal.tenant_id)
    row = await links.get(ticket_link_id)
    changes = [_change(change) for change in await links.changes(row.id)]
    return TicketLinkDetail.model_validate({**service.shown_link(row), "changes": changes})


def _change(row: LinkChange) -> LinkChangeOut:
    return LinkChangeOut(id=row.id.hex, at=row.created_at, side=row.side, operation=row.operation, detail=row.detail)


@ticket_links.post(
    "/{ticket_link_id}/resync",
    status_code=status.HTTP_202_ACCEPTED,
    summary="Look at a ticket link again now",
    responses=problems(Forbidden, NotFound, RelationshipState),
)
async def resync_ticket_link(
    principal: TicketWriter, session: Session, ticket_link_id: ids.TicketLinkId
) -> TicketLinkOut:
    """Bring one link in step now."""
    row = await service.resync(session, principal.tenant_id, ticket_link_id)
    return TicketLinkOut.model_validate(service.shown_link(row))


@syncs.post(
    "",
    status_code=status.HTTP_202_ACCEPTED,
    summary="Sync everything created or changed since a date",
    description="Runs in the background and never in the way of live changes; read it to see how far it is.",
    responses=problems(Forbidden, NotFound, RelationshipState, KeyInFlight, KeyReused),
)
async def start_sync(
    principal: TicketWriter, session: Session, _key: Idempotent, wanted: SyncIn, response: Response
) -> SyncOut:
    """Ask for a sync."""
    row = await service.start_sync(session, principal.tenant_id, wanted)
    response.headers["Location"] = f"/v1/syncs/{ids.public('syn', row.id)}"
    return await _sync(session, row)


async def _sync(session: Session, row: SyncRun) -> SyncOut:
    done, total = await polls.progress(session, row)
    eta = service.eta_seconds(row, done, total)
    return SyncOut.model_validate({**row.model_dump(), "done": done, "total": total, "eta_seconds": eta})


@syncs.get("", summary="List syncs", responses=problems(Forbidden))
async def list_syncs(
    principal: TicketReader,
    session: Session,
    page: Annotated[PageRequest, Depends(paging("created_at"))],
    relationship_id: Annotated[ids.RelationshipId | None, Query(description="Only this relationship.")] = None,
    state: Annotated[
        Literal["queued", "reading", "converging", "done", "failed"] | None,
        Query(description="Only this state."),
    ] = None,
) -> Page[SyncOut]:
    """The syncs that were asked for."""
    found = await SyncRunRepository(session, principal.tenant_id).page(
        page, relationship_id=relationship_id, state=state
    )
    return Page(items=[await _sync(session, row) for row in found.rows], next_cursor=found.next_cursor)


@syncs.get("/{sync_id}", summary="See how far a sync is", responses=problems(Forbidden, NotFound))
async def get_sync(principal: TicketReader, session: Session, sync_id: ids.SyncId) -> SyncOut:
    """One sync with its progress."""
    row = await SyncRunRepository(session, principal.tenant_id).get(sync_id)
    return await _sync(session, row)
