"""The outbox over HTTP: what is owed to the outside world, what failed and why, and trying again."""

from typing import Annotated, Any, Literal

from fastapi import Depends, Query

from app.auth.dependencies import require
from app.auth.schemas import Principal
from app.core import ids
from app.core.db.session import Session
from app.core.errors import Conflict, Forbidden, NotFound
from app.core.pagination import Page, PageRequest, paging
from app.core.problems import problems
from app.core.strict import strict_router
from app.inbox.schemas import ReplayOut
from app.outbox import service
from app.outbox.models import DEAD, OutboundCommand
from app.outbox.repository import OutboxRepository
from app.outbox.schemas import AttemptOut, OutboundCommandDetail, OutboundCommandOut, OutboxReplayIn

router = strict_router("/v1/outbox", tags=["outbox"])

Reader = Annotated[Principal, require("tickets:read")]
Writer = Annotated[Principal, require("tickets:write")]


class NotDead(Conflict):
    """Only a dead letter can be tried again; the others are on their way or done."""

    code = "not_a_dead_letter"
    title = "This is not a dead letter"


def _shown(row: OutboundCommand) -> dict[str, Any]:
    return {**row.model_dump(), "ticket_link_id": row.subject_id, "in_doubt": row.open_tries > 0}


@router.get("", summary="List writes to outside systems", responses=problems(Forbidden))
async def list_outbox(
    principal: Reader,
    session: Session,
    page: Annotated[PageRequest, Depends(paging("created_at"))],
    connection_id: Annotated[ids.ConnectionId | None, Query(description="Only to this connection.")] = None,
    ticket_link_id: Annotated[ids.TicketLinkId | None, Query(description="Only for this ticket link.")] = None,
    status: Annotated[
        Literal["pending", "done", "dead", "cancelled"] | None, Query(description="Only in this state.")
    ] = None,
    kind: Annotated[str | None, Query(max_length=60, description="Only this kind of write.")] = None,
) -> Page[OutboundCommandOut]:
    """What is owed or was written; `status=dead` lists the dead letters."""
    found = await OutboxRepository(session, principal.tenant_id).page(
        page, connection_id=connection_id, subject_id=ticket_link_id, status=status, kind=kind
    )
    items = [OutboundCommandOut.model_validate(_shown(row)) for row in found.rows]
    return Page(items=items, next_cursor=found.next_cursor)


@router.get("/{command_id}", summary="Look at one write", responses=problems(Forbidden, NotFound))
async def get_outbound_command(
    principal: Reader, session: Session, command_id: ids.OutboundCommandId
) -> OutboundCommandDetail:
    """One write with its content and every attempt at it."""
    outbox = OutboxRepository(session, principal.tenant_id)
    row = await outbox.get(command_id)
    history = [
        AttemptOut.model_validate({**attempt.model_dump(), "at": attempt.created_at})
        for attempt in await outbox.attempts(row.id)
    ]
    return OutboundCommandDetail.model_validate({**_shown(row), "history": history})


@router.post(
    "/{command_id}/replay",
    summary="Try a failed write again",
    description="With the settings as they are now. It looks first whether an earlier try did it after all, so nothing "
    "is made twice.",
    responses=problems(Forbidden, NotFound, NotDead),
)
async def replay_outbound_command(
    principal: Writer, session: Session, command_id: ids.OutboundCommandId
) -> OutboundCommandOut:
    """Make one dead letter due again."""
    outbox = OutboxRepository(session, principal.tenant_id)
    row = await outbox.get(command_id, lock=True)
    if row.status != DEAD:
        raise NotDead(f"The write is {row.status}.", next_step="Nothing to do.")
    await service.replay(session, principal.tenant_id, command_ids=[row.id])
    return OutboundCommandOut.model_validate(_shown(row))


@router.post("/replay", summary="Try failed writes again", responses=problems(Forbidden))
async def replay_outbox(principal: Writer, session: Session, wanted: OutboxReplayIn) -> ReplayOut:
    """Make every dead letter that fits due again."""
    rows = await service.replay(
        session, principal.tenant_id, connection_id=wanted.connection_id, error_class=wanted.error_class
    )
    return ReplayOut(replayed=len(rows))
