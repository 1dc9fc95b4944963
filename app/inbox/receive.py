"""The hot path: bytes in, committed row, 2xx out.

Five things and no more: read the body under a cap, find the connection (cached), verify, insert or count as a
duplicate, answer. The answer waits for the commit; concurrent requests share one (group commit), so the cost of
an fsync is divided by the load. This is a bare ASGI application, mounted under one documented route, because the
framework's own work per request costs several times what these five things do.
"""

import asyncio
import hashlib
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from functools import lru_cache
from typing import Any, Protocol
from uuid import UUID

import orjson
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from app.connectors import registry
from app.core import clock, ids, telemetry
from app.core.db.session import Database
from app.core.http import signing
from app.core.logging import get_logger
from app.inbox import repository
from app.inbox.repository import Arrival

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
_Waiting = tuple[Sequence[Arrival], asyncio.Future[int]]

log = get_logger(__name__)

EXTERNAL_ID_MAX = 200
ID_TEXT_MAX = 60  # of a public id; longer ones are no ids and must not fill the cache of those
_NOBODY = uuid.UUID(int=0)
COMMITS_MAX = 4  # under way at once: connections of the pool that deliveries may hold
JOIN_MIN = 8  # fewer waiting deliveries than this wait for a commit under way: a commit costs what 20 rows do
GONE = b"\x00 the sender hung up"  # compared by identity
# Kept with the row for whoever reads a dead letter; nothing that authenticates is among them.
KEPT_HEADERS = frozenset({"content-type", "user-agent", "x-request-id", "webhook-id", "webhook-timestamp"})
# One body for a wrong signature and an unknown connection: the answer must not tell which addresses exist.
_REFUSED = (
    b'{"type":"/problems/delivery_refused","title":"The delivery was not accepted","code":"delivery_refused",'
    b'"detail":"The address is unknown or the signature is wrong.",'
    b'"next_step":"Compare the webhook\'s address and secret with the connection in Parhelion."}'
)

_DECOY = signing.decoy()
_ACCEPTED = telemetry.HOOK_DELIVERIES.labels("accepted")  # looked up once: 1.5 us on every delivery otherwise


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
    """Collects arrivals and stores all that wait in one transaction; while commits run the next group forms.

    A few commits may be under way at once: one that waits for the disk leaves the processor idle. With 64 senders and
    a disk that is slow to flush one at a time stored 3,000 events a second, three stored 5,900.
    """

    def __init__(self, database: Database, *, batch_max: int) -> None:
        self._database = database
        self._batch_max = batch_max
        self._waiting: deque[_Waiting] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way = 0
        self._starting = False

    async def add(self, arrivals: Sequence[Arrival]) -> int:
        """Store and wait for the commit. Returns how many were new; raises what the database raised."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((arrivals, future))
        if not self._starting and self._wants_another():
            # The task begins in the loop's next turn, so whatever else was received in this one goes along.
            self._starting = True
            self._under_way += 1
            task = asyncio.create_task(self._flush(), name="inbox group commit")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    def _wants_another(self) -> bool:
        return self._under_way == 0 or (self._under_way < COMMITS_MAX and len(self._waiting) >= JOIN_MIN)

    async def _flush(self) -> None:
        self._starting = False
        try:
            while self._waiting:
                await self._store_group(self._next_group())
        finally:
            self._under_way -= 1

    def _next_group(self) -> list[_Waiting]:
        group = [self._waiting.popleft()]
        size = len(group[0][0])
        while self._waiting and size + len(self._waiting[0][0]) <= self._batch_max:
            group.append(self._waiting.popleft())
            size += len(group[-1][0])
        return group

    async def _store_group(self, group: Sequence[_Waiting]) -> None:
        try:
            fresh = await self._store([one for arrivals, _ in group for one in arrivals])
        except DBAPIError as error:
            await self._one_by_one(group, error)
            return
        except Exception as error:  # noqa: BLE001  every waiter gets it; none may be answered with a 2xx
            for _, future in group:
                if not future.done():
                    future.set_exception(error)
            return
        position = 0
        for arrivals, future in group:
            if not future.done():
                future.set_result(sum(fresh[position : position + len(arrivals)]))
            position += len(arrivals)

    async def _store(self, arrivals: Sequence[Arrival]) -> list[bool]:
        # One statement that is a transaction of its own: PostgreSQL answers it after its commit, and BEGIN and COMMIT
        # need no round trips (a third of what a small group costs).
        async with self._database.autocommit() as session:
            fresh = await repository.store(session, arrivals)
        self._database.doorbell.ring("inbox")
        return fresh

    async def _one_by_one(self, group: Sequence[_Waiting], error: Exception) -> None:
        """One delivery of a group cannot be stored: it must not take the others with it."""
        for arrivals, future in group:
            try:
                if len(group) == 1:
                    raise error
                fresh = await self._store(arrivals)
            except Exception as failure:  # noqa: BLE001  this waiter gets it
                if not future.done():
                    future.set_exception(failure)
            else:
                if not future.done():
                    future.set_result(sum(fresh))


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
        if body is GONE:
            return
        if body is None:
            telemetry.HOOK_DELIVERIES.labels("too_large").inc()
            limit = self._body_max_bytes
            await _answer(
                send, 413, _problem(413, "body_too_large", "The body is too large", f"At most {limit} bytes.")
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
            events = _split(target.kind, body)
        except ValueError:
            telemetry.HOOK_DELIVERIES.labels("malformed").inc()
            detail = "The body must be JSON: one event, or an array of events."
            await _answer(
                send, 400, _problem(400, "malformed_body", "The body is not JSON of the expected form", detail)
            )
            return
        kept = {name: headers[name][:200] for name in KEPT_HEADERS if name in headers}
        arrivals = [
            Arrival(target.tenant_id, target.connection_id, _external_id(name, raw), raw, kept) for name, raw in events
        ]
        try:
            fresh = await self._committer.add(arrivals)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            log.error("inbox.commit_failed", connection=str(target.connection_id), error=type(error).__name__)
            await _unavailable(send)
            return
        if fresh:
            _ACCEPTED.inc(fresh)
        if fresh < len(arrivals):
            telemetry.HOOK_DELIVERIES.labels("duplicate").inc(len(arrivals) - fresh)
        await _answer(send, 202, b'{"accepted":%d,"duplicates":%d}' % (fresh, len(arrivals) - fresh))


def _split(kind: str, body: bytes) -> Sequence[tuple[str, bytes]]:
    """(the sender's id, bytes) of each event of a delivery. Raises ``ValueError`` for a body that has none."""
    known = registry.kind(kind)
    if known.split_hook is not None:
        return known.split_hook(body)
    return [(event.external_id, event.raw) for event in known.parse_hook(body)]


def _external_id(found: str, raw: bytes) -> str:
    """The sender's id of the event where PostgreSQL can hold and index it, else its hash: cutting would make two
    events one, and a NUL in one event would fail every delivery of its commit group."""
    if not found:
        # An event without an id is a repeat of one with the same bytes only within the minute: chosen payloads say
        # nothing but "ticket 5 was updated", each time in the same words.
        return hashlib.sha256(f"{clock.now():%Y-%m-%dT%H:%M} ".encode() + raw).hexdigest()
    return hashlib.sha256(found.encode()).hexdigest() if len(found) > EXTERNAL_ID_MAX or "\x00" in found else found


def _connection_id(path: str) -> UUID:
    """The connection named by the path; the nil id, which no row has, when it names none."""
    name = path.rsplit("/", 1)[-1]
    return _parsed(name) if len(name) <= ID_TEXT_MAX else _NOBODY


@lru_cache(maxsize=4096)
def _parsed(name: str) -> UUID:
    try:
        return ids.parse("con", name)
    except ValueError:
        return _NOBODY


async def _read(receive: Receive, headers: dict[str, str], limit: int) -> bytes | None:
    """The whole body, ``None`` when it is over ``limit`` bytes (told by its length, or found while reading), or
    :data:`GONE` when the sender hung up before its end: half a body must not pass for a whole one."""
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        return None
    message = await receive()
    if message["type"] == "http.disconnect":
        return GONE
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return body if len(body) <= limit else None
    chunks, size = [body], len(body)
    while message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            return GONE
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit:
            return None
    return b"".join(chunks)


def _problem(status: int, code: str, title: str, detail: str) -> bytes:
    body = {"type": f"/problems/{code}", "title": title, "status": status, "code": code, "detail": detail}
    return orjson.dumps(body)


async def _unavailable(send: Send) -> None:
    telemetry.HOOK_DELIVERIES.labels("unavailable").inc()
    detail = "The delivery was not stored. Send it again."
    body = _problem(503, "unavailable", "Temporarily unavailable", detail)
    await _answer(send, 503, body, extra=((b"retry-after", b"5"),))


async def _answer(send: Send, status: int, body: bytes, extra: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    kind = b"application/json" if status == 202 else b"application/problem+json"
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
