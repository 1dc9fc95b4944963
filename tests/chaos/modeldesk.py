"""A service desk in memory that behaves as badly as remotes do: whole-second stamps, trimmed texts, late lists, answers
that never come, and people who act in the middle of our calls."""

import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from app.connectors.canonical import (
    Choice,
    Comment,
    CommentDraft,
    CommentKind,
    CommentWindow,
    Deferred,
    ErrorClass,
    HookEvent,
    Lane,
    Party,
    Picklists,
    Ticket,
    TicketChange,
    TicketDraft,
    TicketField,
    Visibility,
    WriteResult,
    Written,
)
from app.core import clock

HUB = "hub-agent"
HUMAN = "somebody"
Draft = TicketDraft | TicketChange | CommentDraft


class Crash(Exception):
    """Our process dies here."""


@dataclass
class Mischief:
    """How likely each accident is in one call. ``off()`` ends them all."""

    rng: random.Random
    crash: float = 0.0
    lost_answer: float = 0.0
    people: float = 0.0
    lag: timedelta = timedelta()
    meddle: Callable[["ModelDesk"], None] = lambda _: None

    def off(self) -> None:
        """From now on everything works."""
        self.crash = self.lost_answer = self.people = 0.0

    def perhaps_die(self) -> None:
        """The process ends here, sometimes."""
        if self.rng.random() < self.crash:
            raise Crash

    def perhaps_meddle(self, desk: "ModelDesk") -> None:
        """A person acts just now, sometimes."""
        if self.rng.random() < self.people:
            self.meddle(desk)


@dataclass
class ModelDesk:
    """The remote and the port to it in one: :class:`app.connectors.ports.TicketDesk`."""

    name: str
    statuses: tuple[str, ...]
    closed: str
    mischief: Mischief
    trims: bool = False
    tickets: dict[str, Ticket] = field(default_factory=dict)
    comments: dict[str, list[Comment]] = field(default_factory=dict)
    events: list[HookEvent] = field(default_factory=list)
    human_last: dict[tuple[str, TicketField], str] = field(default_factory=dict)
    writes: int = 0
    field_writes: int = 0
    _number: int = 0

    # People

    def born(self, values: Mapping[TicketField, str]) -> str:
        """Somebody reports something; the ticket's id."""
        ticket = self._new(values, ())
        for name, value in ticket.values.items():
            self.human_last[ticket.native_id, name] = value
        return ticket.native_id

    def edit(self, ticket_id: str, name: TicketField, value: str) -> None:
        """Somebody changes a field."""
        self._set(ticket_id, {name: value}, HUMAN)
        self.human_last[ticket_id, name] = self.tickets[ticket_id].values[name]

    def say(self, ticket_id: str, text: str, visibility: Visibility) -> None:
        """Somebody writes a comment."""
        self._add(ticket_id, text, visibility, HUMAN, ())

    # The remote itself

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _kept(self, values: Mapping[TicketField, str]) -> dict[TicketField, str]:
        return {
            name: " ".join(value.split()) if self.trims and name is TicketField.SUMMARY else value
            for name, value in values.items()
        }

    def _now(self) -> datetime:
        return clock.now().replace(microsecond=0)

    def _new(self, values: Mapping[TicketField, str], marks: tuple[str, ...]) -> Ticket:
        initial = {
            TicketField.STATUS: self.statuses[0],
            TicketField.PRIORITY: "3",
            TicketField.SUMMARY: "(none)",
            TicketField.DESCRIPTION: "(none)",
        }
        kept = {**initial, **self._kept(values)}
        now = self._now()
        ticket = Ticket(
            native_id=f"{self.name}{self._next()}",
            values=kept,
            closed=kept[TicketField.STATUS] == self.closed,
            updated_at=now,
            created_at=now,
            markers=marks,
        )
        self.tickets[ticket.native_id] = ticket
        self.comments[ticket.native_id] = []
        self._tell(ticket.native_id, HUB if marks else HUMAN)
        return ticket

    def _set(self, ticket_id: str, values: Mapping[TicketField, str], who: str) -> Ticket:
        before = self.tickets[ticket_id]
        kept = {**before.values, **self._kept(values)}
        ticket = replace(before, values=kept, closed=kept[TicketField.STATUS] == self.closed, updated_at=self._now())
        self.tickets[ticket_id] = ticket
        self._tell(ticket_id, who)
        return ticket

    def _add(self, ticket_id: str, text: str, visibility: Visibility, who: str, marks: tuple[str, ...]) -> Comment:
        made = Comment(
            native_id=f"{ticket_id}:{self._next()}",
            ticket_id=ticket_id,
            text=text,
            visibility=visibility,
            kind=CommentKind.COMMENT,
            author=Party(who, native_id=who, is_agent=True),
            created_at=self._now(),
            markers=marks,
        )
        self.comments[ticket_id].append(made)
        self.tickets[ticket_id] = replace(self.tickets[ticket_id], updated_at=self._now())
        self._tell(ticket_id, who)
        return made

    def _tell(self, ticket_id: str, who: str) -> None:
        at = self.tickets[ticket_id].updated_at
        event = HookEvent(f"{self.name}-event-{self._next()}", "changed", b"{}", ticket_id, at, who, at)
        self.events.append(event)

    # The port: reads

    def in_lane(self, lane: Lane) -> "ModelDesk":
        return self

    def pressure(self) -> float:
        return 0.0

    async def identity(self) -> Party:
        return Party("Hub", native_id=HUB, is_agent=True)

    async def picklists(self) -> Picklists:
        return Picklists(statuses=tuple(Choice(one, one, closes=one == self.closed) for one in self.statuses))

    async def server_time(self) -> datetime:
        return clock.now()

    async def read_tickets(self, ticket_ids: Sequence[str]) -> dict[str, Ticket]:
        self.mischief.perhaps_die()
        self.mischief.perhaps_meddle(self)
        return {one: self.tickets[one] for one in ticket_ids if one in self.tickets}

    async def changed_tickets(self, since: datetime) -> AsyncIterator[Sequence[Ticket]]:
        shown = [one for one in self.tickets.values() if (one.updated_at or since) >= since and self._listed(one)]
        for start in range(0, len(shown), 3):
            self.mischief.perhaps_die()
            yield shown[start : start + 3]

    async def read_comments(self, ticket_ids: Sequence[str], since: datetime | None) -> CommentWindow:
        self.mischief.perhaps_meddle(self)
        found = [
            comment
            for ticket_id in ticket_ids
            for comment in self.comments.get(ticket_id, [])
            if since is None or comment.created_at >= since
        ]
        return CommentWindow(tuple(found), frozenset(ticket_ids))

    async def recent_comments(self, since: datetime) -> CommentWindow:
        return await self.read_comments(list(self.tickets), since)

    def _listed(self, one: Ticket | Comment) -> bool:
        return (one.created_at or clock.now()) <= clock.now() - self.mischief.lag

    async def find_tickets(self, markers: Sequence[str], *, created_after: datetime) -> dict[str, Ticket]:
        self.mischief.perhaps_die()
        listed = [one for one in self.tickets.values() if self._listed(one)]
        return {mark: one for one in listed for mark in one.markers if mark in markers}

    async def find_comments(self, wanted: Sequence[tuple[str, str]], *, created_after: datetime) -> dict[str, str]:
        self.mischief.perhaps_die()
        return {
            mark: one.native_id
            for marker, ticket_id in wanted
            for one in self.comments.get(ticket_id, [])
            for mark in one.markers
            if mark == marker and self._listed(one)
        }

    # The port: writes

    async def create_tickets(self, drafts: Sequence[TicketDraft]) -> Sequence[WriteResult]:
        return self._each(drafts, self._create)

    async def change_tickets(self, changes: Sequence[TicketChange]) -> Sequence[WriteResult]:
        return self._each(changes, self._change)

    async def add_comments(self, drafts: Sequence[CommentDraft]) -> Sequence[WriteResult]:
        return self._each(drafts, self._comment)

    def _each(self, drafts: Sequence[Draft], do: Callable[..., Written]) -> list[WriteResult]:
        """Element by element, as a batch is saved. Where the connection breaks, what follows is in doubt as well."""
        results: list[WriteResult] = []
        broken = self.mischief.rng.random() < self.mischief.lost_answer
        breaks_at = self.mischief.rng.randrange(len(drafts) + 1) if broken else len(drafts)
        for place, draft in enumerate(drafts):
            self.mischief.perhaps_meddle(self)
            written = do(draft) if place < breaks_at else None
            if broken or written is None:
                results.append(Deferred(draft.key, ErrorClass.TIMEOUT, "no answer", perhaps_done=True))
            else:
                results.append(written)
            self.mischief.perhaps_meddle(self)
            self.mischief.perhaps_die()
        return results

    def _create(self, draft: TicketDraft) -> Written:
        self.writes += 1
        ticket = self._new(draft.values, (draft.marker,))
        return Written(draft.key, ticket.native_id, ticket)

    def _change(self, change: TicketChange) -> Written:
        self.writes += 1
        self.field_writes += 1
        return Written(change.key, change.ticket_id, self._set(change.ticket_id, change.values, HUB))

    def _comment(self, draft: CommentDraft) -> Written:
        self.writes += 1
        made = self._add(draft.ticket_id, draft.text, draft.visibility, HUB, (draft.marker,))
        return Written(draft.key, made.native_id)
