"""A desk of the outside world, in memory: it holds tickets and comments, and fails the way a test tells it to.

It stands for the remote, so a test sees what a failure did there: an answer that was lost after the work was done, a
refusal, a list that shows late what was created.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NoReturn
from uuid import UUID

from app.connectors.canonical import (
    Check,
    Comment,
    CommentDraft,
    CommentKind,
    CommentWindow,
    Deferred,
    DeskError,
    ErrorClass,
    HookEvent,
    HookState,
    Lane,
    Party,
    Picklists,
    Refused,
    Ticket,
    TicketChange,
    TicketDraft,
    WriteResult,
    Written,
)
from app.core import clock

Draft = TicketDraft | TicketChange | CommentDraft
# What becomes of one element: ``None`` does it and says so; a result is answered without doing it; ``Lost`` does it
# and answers that nobody knows.
Fate = Callable[[Draft], "WriteResult | Lost | None"]


@dataclass(frozen=True)
class Lost:
    """The work is done and the answer never comes."""

    def answer(self, key: str) -> Deferred:
        """What a connector makes of it."""
        return Deferred(key, ErrorClass.TIMEOUT, "no answer within 20 s", perhaps_done=True)


def refused(draft: Draft) -> Refused:
    """A desk that says no and says why."""
    return Refused(draft.key, ErrorClass.WORKFLOW_BLOCKED, "not at this step", "Allow the outcome, then replay it.")


def deferred(
    error: ErrorClass, *, perhaps_done: bool = False, retry_after_seconds: float | None = None
) -> Callable[[Draft], Deferred]:
    """A desk that does not do it now."""
    return lambda draft: Deferred(
        draft.key, error, "not now", perhaps_done=perhaps_done, retry_after_seconds=retry_after_seconds
    )


@dataclass
class MemoryDesk:
    """The remote itself and the port to it in one: :class:`app.connectors.ports.TicketDesk`."""

    fate: Fate = lambda _: None
    unreachable: DeskError | None = None
    lists_late: bool = False
    """Whether what was created is not found yet."""
    before_answer: Callable[[], object] | None = None
    tickets: dict[str, Ticket] = field(default_factory=dict)
    comments: list[Comment] = field(default_factory=list)
    calls: list[tuple[str, list[str]]] = field(default_factory=list)
    """(method, keys or markers) of every call, in order."""
    _number: int = 1000

    def in_lane(self, lane: Lane) -> "MemoryDesk":
        return self

    def pressure(self) -> float:
        return 0.0

    def _called(self, method: str, what: Sequence[str]) -> None:
        self.calls.append((method, list(what)))
        if self.unreachable is not None:
            raise self.unreachable

    def sent(self) -> list[list[str]]:
        """The keys of each call that wrote something."""
        return [what for method, what in self.calls if method in ("create", "change", "comment")]

    def looked(self) -> list[list[str]]:
        """The markers (or ticket ids) of each call that looked for something."""
        return [what for method, what in self.calls if method in ("find tickets", "find comments", "read")]

    async def identity(self) -> Party:
        return Party("Parhelion agent", native_id="12", is_agent=True)

    async def picklists(self) -> Picklists:
        return Picklists()

    async def server_time(self) -> datetime:
        return clock.now()

    async def read_tickets(self, ticket_ids: Sequence[str]) -> dict[str, Ticket]:
        self._called("read", ticket_ids)
        return {one: self.tickets[one] for one in ticket_ids if one in self.tickets}

    def changed_tickets(self, since: datetime) -> AsyncIterator[Sequence[Ticket]]:
        return self._pages(since)

    async def _pages(self, since: datetime) -> AsyncIterator[Sequence[Ticket]]:
        yield [one for one in self.tickets.values() if one.updated_at is None or one.updated_at >= since]

    async def read_comments(self, ticket_ids: Sequence[str], since: datetime | None) -> CommentWindow:
        self._called("trails", ticket_ids)
        found = tuple(one for one in self.comments if one.ticket_id in ticket_ids)
        return CommentWindow(found, frozenset(ticket_ids))

    async def recent_comments(self, since: datetime) -> CommentWindow:
        return CommentWindow(tuple(one for one in self.comments if one.created_at >= since), frozenset())

    async def create_tickets(self, drafts: Sequence[TicketDraft]) -> Sequence[WriteResult]:
        self._called("create", [draft.key for draft in drafts])
        return await self._answers(drafts, self._create)

    async def change_tickets(self, changes: Sequence[TicketChange]) -> Sequence[WriteResult]:
        self._called("change", [change.key for change in changes])
        return await self._answers(changes, self._change)

    async def add_comments(self, drafts: Sequence[CommentDraft]) -> Sequence[WriteResult]:
        self._called("comment", [draft.key for draft in drafts])
        return await self._answers(drafts, self._comment)

    async def _answers(self, drafts: Sequence[Draft], do: Callable[..., Written]) -> list[WriteResult]:
        results: list[WriteResult] = []
        for draft in drafts:
            fate = self.fate(draft)
            if fate is None:
                results.append(do(draft))
            elif isinstance(fate, Lost):
                do(draft)
                results.append(fate.answer(draft.key))
            else:
                results.append(fate)
        if self.before_answer is not None:
            waiting = self.before_answer()
            if hasattr(waiting, "__await__"):
                await waiting
        return results

    def _next_id(self) -> str:
        self._number += 1
        return str(self._number)

    def _create(self, draft: TicketDraft) -> Written:
        ticket = Ticket(
            native_id=self._next_id(),
            values=dict(draft.values),
            closed=False,
            updated_at=clock.now(),
            created_at=clock.now(),
            markers=(draft.marker,),
        )
        self.tickets[ticket.native_id] = ticket
        return Written(draft.key, ticket.native_id, ticket)

    def _change(self, change: TicketChange) -> Written:
        known = self.tickets[change.ticket_id]
        ticket = replace(known, values={**known.values, **change.values}, updated_at=clock.now())
        self.tickets[change.ticket_id] = ticket
        return Written(change.key, change.ticket_id, ticket)

    def _comment(self, draft: CommentDraft) -> Written:
        made = Comment(
            native_id=f"{draft.ticket_id}:{self._next_id()}",
            ticket_id=draft.ticket_id,
            text=draft.text,
            visibility=draft.visibility,
            kind=CommentKind.COMMENT,
            author=Party("Parhelion agent", native_id="12", is_agent=True),
            created_at=clock.now(),
            markers=(draft.marker,),
        )
        self.comments.append(made)
        return Written(draft.key, made.native_id)

    async def find_tickets(self, markers: Sequence[str], *, created_after: datetime) -> dict[str, Ticket]:
        self._called("find tickets", markers)
        if self.lists_late:
            return {}
        return {mark: one for one in self.tickets.values() for mark in one.markers if mark in markers}

    async def find_comments(self, wanted: Sequence[tuple[str, str]], *, created_after: datetime) -> dict[str, str]:
        self._called("find comments", [marker for marker, _ in wanted])
        if self.lists_late:
            return {}
        return {
            mark: one.native_id for one in self.comments for mark in one.markers if (mark, one.ticket_id) in set(wanted)
        }


@dataclass
class MemoryConnector:
    """An open connection to a desk in memory."""

    desk: MemoryDesk

    @property
    def webhooks(self) -> "NoWebhooks":
        """Nothing in these tests registers one."""
        return NoWebhooks()

    async def check(self) -> Sequence[Check]:
        return ()

    async def aclose(self) -> None:
        return


class NoWebhooks:
    """A desk without webhooks."""

    def _none(self) -> NoReturn:
        raise AssertionError("the memory desk has no webhooks")

    def events(self, body: bytes) -> Sequence[HookEvent]:
        self._none()

    async def ensure_webhook(self, *, url: str, secret: str, label: str) -> HookState:
        self._none()

    async def inspect_webhook(self, *, url: str, label: str) -> HookState:
        self._none()

    async def remove_webhook(self, *, label: str) -> int:
        self._none()


@dataclass
class OneDesk:
    """Opens the same desk for every connection that is not among the others, or raises what it is told to."""

    desk: MemoryDesk
    failure: Exception | None = None
    opened: list[UUID] = field(default_factory=list)
    others: dict[UUID, MemoryDesk] = field(default_factory=dict)
    broken: dict[UUID, Exception] = field(default_factory=dict)

    async def get(self, connection_id: UUID, lane: Lane = Lane.INTERACTIVE) -> MemoryConnector:
        self.opened.append(connection_id)
        if self.failure is not None:
            raise self.failure
        if connection_id in self.broken:
            raise self.broken[connection_id]
        return MemoryConnector(self.others.get(connection_id, self.desk))
