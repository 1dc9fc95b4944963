"""The hot path: bytes in, committed row, 2xx out.

Five things and no more: read the body under a cap, find the connection (cached), verify, insert or count as a
duplicate, answer. The answer waits for the commit; concurrent requests share one (group commit), so the cost of
an fsync is divided by the load. This is a bare ASGI application, mounted under one documented route, because the
framework's own work per request costs several times what these five things do.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Protocol
from uuid import UUID

import orjson
from sqlalchemy.exc import SQLAlchemyError

from app.connectors import registry
from app.connectors.canonical import HookEvent
from app.core import clock, ids, telemetry
from app.core.db.session import Database, ring_after_commit
from app.core.http import signing
from app.core.logging import get_logger
from app.inbox import repository
from app.inbox.repository import Arrival

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

log = get_logger(__name__)

# Kept with the row for whoever reads a dead letter; nothing that authenticates is among them.
KEPT_HEADERS = frozenset({"content-type", "user-agent", "x-request-id", "webhook-id", "webhook-timestamp"})
# One body for a wrong signature and an unknown connection: the answer must not tell which addresses exist.
_REFUSED = (
    b'{"type":"/problems/delivery_refused","title":"The delivery was not accepted","code":"delivery_refused",'
    b'"detail":"The address is unknown or the signature is wrong.",'
    b'"next_step":"Compare the webhook\'s address and secret with the connection in Parhelion."}'
)
_DECOY = signing.HmacVerifier(header="x-parhelion-signature")


class HookTarget(Protocol):
    """What the hot path needs to know of a connection."""

    @property
    def connection_id(self) -> UUID: ...
    @property
    def tenant_id(self) -> UUID: ...
    @property
    def kind(self) -> str: ...
    @property
    def verifier(self) -> signing.Verifier: ...
    @property
    def secrets(self) -> Sequence[str]: ...


class GroupCommit:
    """Collects arrivals and stores all that wait in one transaction; while one commit runs the next group forms."""

    def __init__(self, database: Database, *, batch_max: int) -> None:
        self._database = database
        self._batch_max = batch_max
        self._waiting: list[tuple[Sequence[Arrival], asyncio.Future[int]]] = []
        self._task: asyncio.Task[None] | None = None

    async def add(self, arrivals: Sequence[Arrival]) -> int:
        """Store and wait for the commit. Returns how many were new; raises what the database raised."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((arrivals, future))
        if self._task is None:
            self._task = asyncio.create_task(self._flush(), name="inbox group commit")
        return await future

    async def _flush(self) -> None:
        while self._waiting:
            group: list[tuple[Sequence[Arrival], asyncio.Future[int]]] = []
            size = 0
            while self._waiting and (not group or size + len(self._waiting[0][0]) <= self._batch_max):
                group.append(self._waiting.pop(0))
                size += len(group[-1][0])
            try:
                async with self._database.transaction() as session:
                    fresh = await repository.store(
                        session, [one for arrivals, _ in group for one in arrivals]
                    )
                    ring_after_commit(session, "inbox")
            except Exception as error:  # every waiter gets it; none may be answered with a 2xx
                for _, future in group:
                    if not future.done():
                        future.set_exception(error)
                continue
            position = 0
            for arrivals, future in group:
                if not future.done():
                    future.set_result(sum(fresh[position : position + len(arrivals)]))
                position += len(arrivals)
        self._task = None


class HookReceiver:
    """The ASGI application behind ``POST /hooks/{connection_id}``."""

    def __init__(
        self,
        *,
        find: Callable[[UUID], Awaitable[HookTarget | None]],
        committer: GroupCommit,
        body_max_bytes: int,
    ) -> None:
        self._find = find
        self._committer = committer
        self._body_max_bytes = body_max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one delivery."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        body = await _read(receive, headers, self._body_max_bytes)
        if body is None:
            telemetry.HOOK_DELIVERIES.labels("too_large").inc()
            limit = self._body_max_bytes
            await _answer(
                send, 413, _problem("body_too_large", "The body is too large", f"At most {limit} bytes.")
            )
            return
        try:
            target = await self._find(_connection_id(scope["path"]))
        except (SQLAlchemyError, OSError):
            await _unavailable(send)
            return
        now = clock.now()
        if target is None:
            signing.verify(_DECOY, ("decoy",), headers, body, now)  # the same time as a wrong signature
            telemetry.HOOK_DELIVERIES.labels("unknown_connection").inc()
            await _answer(send, 404, _REFUSED)
            return
        if not signing.verify(target.verifier, target.secrets, headers, body, now):
            telemetry.HOOK_DELIVERIES.labels("bad_signature").inc()
            await _answer(send, 401, _REFUSED)
            return
        await self._store(target, headers, body, send)

    async def _store(self, target: HookTarget, headers: dict[str, str], body: bytes, send: Send) -> None:
        try:
            events = registry.kind(target.kind).parse_hook(body)
        except ValueError:
            telemetry.HOOK_DELIVERIES.labels("malformed").inc()
            detail = "The body must be JSON: one event, or an array of events."
            await _answer(
                send, 400, _problem("malformed_body", "The body is not JSON of the expected form", detail)
            )
            return
        kept = {name: headers[name][:200] for name in KEPT_HEADERS if name in headers}
        arrivals = [
            Arrival(target.tenant_id, target.connection_id, _external_id(event), event.raw, kept)
            for event in events
        ]
        try:
            fresh = await self._committer.add(arrivals)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            log.error("inbox.commit_failed", connection=str(target.connection_id), error=type(error).__name__)
            await _unavailable(send)
            return
        if fresh:
            telemetry.HOOK_DELIVERIES.labels("accepted").inc(fresh)
        if fresh < len(arrivals):
            telemetry.HOOK_DELIVERIES.labels("duplicate").inc(len(arrivals) - fresh)
        await _answer(send, 202, b'{"accepted":%d,"duplicates":%d}' % (fresh, len(arrivals) - fresh))


def _external_id(event: HookEvent) -> str:
    return event.external_id[:200]


def _connection_id(path: str) -> UUID:
    """The connection named by the path; the nil id, which no row has, when it names none."""
    try:
        return ids.parse("con", path.rsplit("/", 1)[-1])
    except ValueError:
        return uuid.UUID(int=0)


async def _read(receive: Receive, headers: dict[str, str], limit: int) -> bytes | None:
    """The whole body, or ``None`` when it is over ``limit`` bytes (told by its length, or found while reading)."""
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        return None
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return body if len(body) <= limit else None
    chunks, size = [body], len(body)
    while message.get("more_body", False):
        message = await receive()
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit:
            return None
    return b"".join(chunks)


def _problem(code: str, title: str, detail: str) -> bytes:
    return orjson.dumps({"type": f"/problems/{code}", "title": title, "code": code, "detail": detail})


async def _unavailable(send: Send) -> None:
    telemetry.HOOK_DELIVERIES.labels("unavailable").inc()
    detail = "The delivery was not stored. Send it again."
    body = _problem("unavailable", "Temporarily unavailable", detail)
    await _answer(send, 503, body, extra=((b"retry-after", b"5"),))


async def _answer(send: Send, status: int, body: bytes, extra: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    kind = b"application/json" if status == 202 else b"application/problem+json"
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
