"""The language between rooms and connectors: frozen values that no vendor's word has entered.

Native ids are text: the desk's own id as it prints it. Times are aware UTC. A comment's native id is unique on its
desk (a connector whose desk numbers comments per ticket joins both numbers).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class Visibility(StrEnum):
    """Who may read a comment. Anything a desk cannot say for sure is ``PRIVATE``."""

    PUBLIC = "public"
    PRIVATE = "private"


class CommentKind(StrEnum):
    """What an entry in a ticket's trail is: only ``COMMENT`` is something a person wrote to be read."""

    COMMENT = "comment"
    SYSTEM = "system"
    TIME_ENTRY = "time_entry"


class TicketField(StrEnum):
    """The fields that are kept in step. Values are the desk's raw values as text."""

    SUMMARY = "summary"
    DESCRIPTION = "description"
    STATUS = "status"
    PRIORITY = "priority"


class ErrorClass(StrEnum):
    """Why a desk did not do what was asked; each class has one rule for what happens next."""

    AUTH = "auth"  # credentials refused: the connection pauses, no attempt is burnt
    PERMISSION = "permission"  # 403: a scope or an agent's right is missing
    VALIDATION = "validation"  # the desk refuses the content: a retry changes nothing
    REQUIRED_FIELD = "required_field"
    WORKFLOW_BLOCKED = "workflow_blocked"
    NOT_FOUND = "not_found"
    RATE = "rate"
    TIMEOUT = "timeout"  # the outcome is unknown: look before doing it again
    UNAVAILABLE = "unavailable"  # 5xx, refused connection
    MISCONFIGURED = "misconfigured"  # wrong host, HTML instead of JSON
    UNMAPPED_VALUE = "unmapped_value"
    TOO_LARGE = "too_large"


# One claim in five looks for bulk work first: a backfill would stand still at a desk that is never quiet.
BULK_SHARE = 0.2


class Lane(StrEnum):
    """Whose work a call is: interactive calls may use the reserve that bulk calls may not touch."""

    INTERACTIVE = "interactive"
    BULK = "bulk"

    @staticmethod
    def order(*, bulk_first: bool) -> "tuple[Lane, Lane]":
        """The lanes in the order in which a claim looks for work."""
        return (Lane.BULK, Lane.INTERACTIVE) if bulk_first else (Lane.INTERACTIVE, Lane.BULK)


@dataclass(frozen=True, slots=True)
class Party:
    """A person or a program at a desk."""

    name: str
    native_id: str | None = None
    email: str | None = None
    is_agent: bool = False


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket as its desk shows it now. ``values`` holds raw values by field; a missing field is unknown."""

    native_id: str
    values: Mapping[TicketField, str]
    closed: bool
    updated_at: datetime | None
    created_at: datetime | None = None
    context: Mapping[str, str] = field(default_factory=dict)  # what the desk wants back with updates, opaque to us
    markers: tuple[str, ...] = ()  # our keys found on the ticket
    foreign_links: tuple[str, ...] = ()  # other integrations that already sync this ticket
    requester: Party | None = None
    deleted: bool = False
    merged_into: str | None = None


@dataclass(frozen=True, slots=True)
class Comment:
    """One entry of a ticket's trail."""

    native_id: str
    ticket_id: str
    text: str
    visibility: Visibility
    kind: CommentKind
    author: Party
    created_at: datetime
    html: str | None = None
    outcome: str | None = None
    markers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CommentWindow:
    """Comments read at once. ``complete_for`` names the tickets whose trail since ``since`` is wholly in here;
    a ticket that is not named must be read on its own."""

    comments: tuple[Comment, ...]
    complete_for: frozenset[str]


@dataclass(frozen=True, slots=True)
class TicketDraft:
    """A ticket to be created. ``key`` is the stable key of the intent, ``marker`` its signed form for the desk."""

    key: str
    marker: str
    values: Mapping[TicketField, str]
    defaults: Mapping[str, Any] = field(default_factory=dict)  # the side's created-ticket defaults, desk's own words


@dataclass(frozen=True, slots=True)
class TicketChange:
    """Fields of one ticket to be written. A status that closes the ticket goes through ``resolution``."""

    key: str
    marker: str
    ticket_id: str
    values: Mapping[TicketField, str]
    closes: bool = False
    reopens: bool = False
    resolution: str | None = None  # how this desk resolves a ticket (an outcome, a code), from the side's settings
    resolution_note: str = ""
    context: Mapping[str, str] = field(default_factory=dict)  # ``Ticket.context`` as last read


@dataclass(frozen=True, slots=True)
class CommentDraft:
    """A comment to be written. ``text`` is what people read, header included."""

    key: str
    marker: str
    ticket_id: str
    text: str
    visibility: Visibility
    created_at: datetime | None  # the original's time; None: the time of writing
    outcome: str | None = None  # how this desk files a note, from the side's settings


@dataclass(frozen=True, slots=True)
class Written:
    """It was done. ``ticket`` is the state read back after the write, when the desk gave one. ``fields`` names those
    that were written when it was not all of them."""

    key: str
    native_id: str
    ticket: Ticket | None = None
    fields: tuple[TicketField, ...] | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The desk said no and will say no again: a person or a changed ticket is needed.

    ``fields`` are those it refused; the others of the same change were written, and ``ticket`` is the state read
    back after that.
    """

    key: str
    error: ErrorClass
    detail: str
    next_step: str
    fields: tuple[TicketField, ...] = ()
    ticket: Ticket | None = None


@dataclass(frozen=True, slots=True)
class Deferred:
    """It was not (or perhaps not) done now. ``perhaps_done`` means: look before doing it again."""

    key: str
    error: ErrorClass
    detail: str
    perhaps_done: bool
    retry_after_seconds: float | None = None


WriteResult = Written | Refused | Deferred


@dataclass(frozen=True, slots=True)
class Choice:
    """One value of a picklist. ``closes`` is meaningful for statuses only."""

    native_id: str
    name: str
    closes: bool = False


@dataclass(frozen=True, slots=True)
class Picklists:
    """What a desk lets one choose from, for maps, validation and advice."""

    statuses: tuple[Choice, ...] = ()
    priorities: tuple[Choice, ...] = ()
    ticket_types: tuple[Choice, ...] = ()
    outcomes: tuple[Choice, ...] = ()
    teams: tuple[Choice, ...] = ()
    clients: tuple[Choice, ...] = ()


class Verdict(StrEnum):
    """The three answers of a check: "could not ask" is not "not there"."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Check:
    """One named check of a connection with what to do when it failed."""

    name: str
    verdict: Verdict
    detail: str
    advice: str | None = None


@dataclass(frozen=True, slots=True)
class HookEvent:
    """One event of a webhook body: only a hint that something about ``ticket_id`` changed.

    ``raw`` is the event's own bytes; ``actor_id`` and ``ticket_updated_at`` save a read when the event is the
    echo of our own write.
    """

    external_id: str
    name: str
    raw: bytes
    ticket_id: str | None = None
    at: datetime | None = None
    actor_id: str | None = None
    ticket_updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class HookState:
    """What the remote side holds of our webhook. ``problems`` are sentences; empty means healthy."""

    remote_id: str | None
    active: bool
    events: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


class DeskError(Exception):
    """A read failed, or a write failed before anything was sent.

    ``retry_after_seconds`` is set when the desk or our own budget says when to come back.
    """

    def __init__(
        self, error: ErrorClass, detail: str, *, next_step: str = "", retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(detail)
        self.error = error
        self.detail = detail
        self.next_step = next_step
        self.retry_after_seconds = retry_after_seconds
