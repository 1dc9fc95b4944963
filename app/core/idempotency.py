"""``Idempotency-Key``: a creating request may be sent again after a lost answer without creating twice.

The answer is stored in the same transaction as the effect, before it leaves, so a crash leaves both or
neither and the key is usable again at once. Only answers of success are kept: a refused request changed
nothing, and the same key with the mistake corrected has to work. Two requests with one key at the same time:
the second gets 409.
"""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from fastapi import Request, Response
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core import clock, ids
from app.core.crypto import UndecipherableError, Vault
from app.core.db import idempotency as store
from app.core.db.idempotency import IdempotencyRecord
from app.core.errors import Conflict, Invalid, Pointer

REPLAYED_HEADER = "Idempotent-Replayed"
_KEPT_HEADERS = ("content-type", "etag", "location")


class KeyReused(Invalid):
    """The Idempotency-Key was used before for another request."""

    code = "idempotency_key_reused"
    title = "The Idempotency-Key belongs to another request"


class KeyInFlight(Conflict):
    """A request with this Idempotency-Key is being worked on at this moment."""

    code = "idempotency_key_in_flight"
    title = "The same request is being worked on"


class AnswerUnreadable(Conflict):
    """The first request succeeded, but its stored answer is encrypted under a key that was since removed."""

    code = "idempotent_answer_unreadable"
    title = "The first answer can no longer be shown"


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose key space a key lives in: two API keys never see each other's answers."""

    tenant_id: UUID
    name: str


class Replay(Exception):  # not an error: it carries the stored answer past the route
    """The answer is known; the route must not run."""

    def __init__(self, response: Response) -> None:
        super().__init__("the stored answer is given again")
        self.response = response


@dataclass(slots=True)
class _Claim:
    session: AsyncSession
    vault: Vault
    record: IdempotencyRecord


async def claim(request: Request, session: AsyncSession, caller: Caller, key: str | None) -> None:
    """Decide, inside the request's transaction, whether the route runs. Raises :class:`Replay` with the
    stored answer, :class:`KeyReused` or :class:`KeyInFlight`. Without a key nothing happens."""
    if key is None:
        return
    route = f"{request.method} {request.url.path}"
    body = await request.body()
    digest = hashlib.sha256(f"{route}?{request.url.query}\n".encode() + body).hexdigest()
    if not await store.try_lock(session, f"idempotency:{caller.tenant_id}:{caller.name}:{route}:{key}"):
        raise KeyInFlight(
            "A request with this Idempotency-Key is being worked on.",
            next_step="Wait a second and send it again; you will get the answer of the first.",
            headers={"Retry-After": "1"},
        )
    vault: Vault = request.app.state.vault
    known = await store.find(session, caller.tenant_id, caller=caller.name, route=route, key=key)
    if known is not None:
        raise Replay(_replayed(known, digest, vault))
    request.state.idempotency = _Claim(
        session,
        vault,
        IdempotencyRecord(
            tenant_id=caller.tenant_id,
            caller=caller.name,
            route=route,
            key=key,
            request_hash=digest,
            response_status=0,
            response_headers={},
            sealed_body="",
            expires_at=clock.now() + timedelta(hours=store.RETENTION_HOURS),
        ),
    )


def _replayed(record: IdempotencyRecord, digest: str, vault: Vault) -> Response:
    if record.request_hash != digest:
        raise KeyReused(
            "This Idempotency-Key was used for a different request on this path.",
            next_step="Use a fresh key for every new request, for example a UUID.",
            pointers=(Pointer("header:Idempotency-Key", "was used with another body"),),
        )
    try:
        body = vault.open(record.sealed_body, place=_place(record))
    except UndecipherableError:
        raise AnswerUnreadable(
            "The first request with this Idempotency-Key succeeded, but its answer can no longer be decrypted.",
            next_step="List the resources to find what it created.",
        ) from None
    headers = {str(name): str(value) for name, value in record.response_headers.items()}
    return Response(body, status_code=record.response_status, headers={**headers, REPLAYED_HEADER: "true"})


def _place(record: IdempotencyRecord) -> str:
    return f"idempotency_record/sealed_body/{ids.public('idr', record.id)}"


async def answer(request: Request, handler: Callable[[Request], Awaitable[Response]]) -> Response:
    """Run ``handler`` and keep its answer when the request claimed a key. Called by the route class: at this
    point the answer exists and the transaction is not yet committed."""
    try:
        response = await handler(request)
    except Replay as replay:
        return replay.response
    claimed: _Claim | None = getattr(request.state, "idempotency", None)
    if claimed is not None and 200 <= response.status_code < 300:
        record = claimed.record
        record.response_status = response.status_code
        record.response_headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
        record.sealed_body = claimed.vault.seal(bytes(response.body).decode(), place=_place(record))
        claimed.session.add(record)
    return response
