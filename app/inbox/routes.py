"""The inbox over HTTP: the hooks themselves, and what became of what they brought."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, status
from fastapi.routing import APIRoute

from app.auth.dependencies import require
from app.auth.schemas import Principal
from app.core import ids
from app.core.db.session import Session, ring_after_commit
from app.core.errors import AppError, Forbidden, NotFound, TooLarge, Unavailable
from app.core.pagination import Page, PageRequest, paging
from app.core.problems import MalformedBody, problems
from app.core.strict import strict_router
from app.inbox import repository
from app.inbox.models import InboxMessage
from app.inbox.receive import Receive, Scope, Send
from app.inbox.repository import InboxRepository
from app.inbox.schemas import InboxMessageDetail, InboxMessageOut, ReplayIn, ReplayOut

router = strict_router("/v1/inbox", tags=["inbox"])

Reader = Annotated[Principal, require("inbox:read")]
Writer = Annotated[Principal, require("inbox:write")]


class DeliveryRefused(AppError):
    """A webhook came to an address that does not exist, or its signature is wrong: one answer for both, so that it
    tells nobody which addresses exist."""

    status = 401
    code = "delivery_refused"
    title = "The delivery was not accepted"


class DeliveryUnknown(NotFound):
    """A webhook came to an address that does not exist."""

    status = 404
    code = "delivery_unknown"
    title = "The delivery was not accepted"


class HookRoute(APIRoute):
    """A documented route whose work is done by the bare ASGI application of ``receive``: the framework's own request
    handling costs several times what receiving a webhook does."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a POST over as it came; any other method is answered by the framework."""
        if scope["method"] == "POST":
            await scope["app"].state.hook_receiver(scope, receive, send)
        else:
            await super().handle(scope, receive, send)


hooks = APIRouter(
    prefix="/hooks",
    tags=["hooks"],
    route_class=HookRoute,
    generate_unique_id_function=lambda route: route.name,
)


@hooks.post(
    "/{connection_id}",
    status_code=status.HTTP_202_ACCEPTED,
    summary="Deliver a webhook",
    description="For HaloPSA and partners. One event as a JSON object, or several as an array. Authenticated by the "
    "connection's own verifier, not by an API key. A 2xx means that the events are stored; a repeat is counted and "
    "not handled again.",
    responses={
        **problems(MalformedBody, DeliveryRefused, DeliveryUnknown, TooLarge, Unavailable),
        202: {
            "description": "Stored",
            "content": {"application/json": {"example": {"accepted": 1, "duplicates": 0}}},
        },
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"anyOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}]},
                    "example": {
                        "id": "8e25a6d0-0000-4000-8000-000000000001",
                        "event": "ticket updated",
                        "object_id": 42,
                    },
                }
            },
        }
    },
)
async def deliver_webhook(connection_id: str) -> dict[str, int]:
    """Documentation only: :class:`HookRoute` hands the request to :class:`~app.inbox.receive.HookReceiver`."""
    raise NotImplementedError(connection_id)  # pragma: no cover  never reached


def _out(row: InboxMessage, size_bytes: int) -> dict[str, Any]:
    return {**row.model_dump(exclude={"body"}), "size_bytes": size_bytes, "received_at": row.created_at}


@router.get("", summary="List received events", responses=problems(Forbidden))
async def list_inbox(
    principal: Reader,
    session: Session,
    page: Annotated[PageRequest, Depends(paging("created_at"))],
    connection_id: Annotated[ids.ConnectionId | None, Query(description="Only from this connection.")] = None,
    status: Annotated[Literal["pending", "done", "dead"] | None, Query(description="Only in this state.")] = None,
    external_id: Annotated[str | None, Query(max_length=200, description="Only this delivery.")] = None,
) -> Page[InboxMessageOut]:
    """What the hooks brought; `status=dead` lists the dead letters."""
    inbox = InboxRepository(session, principal.tenant_id)
    found = await inbox.page(page, connection_id=connection_id, status=status, external_id=external_id)
    sizes = await inbox.sizes([row.id for row in found.rows])
    items = [InboxMessageOut.model_validate(_out(row, sizes[row.id])) for row in found.rows]
    return Page(items=items, next_cursor=found.next_cursor)


@router.get("/{inbox_message_id}", summary="Look at one received event", responses=problems(Forbidden, NotFound))
async def get_inbox_message(
    principal: Reader, session: Session, inbox_message_id: ids.InboxMessageId
) -> InboxMessageDetail:
    """One event with its content."""
    row = await InboxRepository(session, principal.tenant_id).get(inbox_message_id)
    return InboxMessageDetail.model_validate({**_out(row, len(row.body)), "body": row.body.decode(errors="replace")})


@router.post(
    "/{inbox_message_id}/replay",
    summary="Handle one received event again",
    description="Harmless at any time: an event only says that something may have changed.",
    responses=problems(Forbidden, NotFound),
)
async def replay_inbox_message(principal: Writer, session: Session, inbox_message_id: ids.InboxMessageId) -> ReplayOut:
    """Make one event due again; one that is waiting already is left alone."""
    row = await InboxRepository(session, principal.tenant_id).get(inbox_message_id)
    count = await repository.replay(session, principal.tenant_id, message_ids=[row.id])
    ring_after_commit(session, "inbox")
    return ReplayOut(replayed=count)


@router.post("/replay", summary="Handle dead letters again", responses=problems(Forbidden))
async def replay_inbox(principal: Writer, session: Session, wanted: ReplayIn) -> ReplayOut:
    """Make every dead letter that fits due again."""
    count = await repository.replay(
        session,
        principal.tenant_id,
        connection_id=wanted.connection_id,
        received_from=wanted.received_from,
        received_to=wanted.received_to,
    )
    ring_after_commit(session, "inbox")
    return ReplayOut(replayed=count)
