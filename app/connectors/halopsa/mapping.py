"""HaloPSA's records as the canonical values that rooms know, and back. Pure.

Ids become text. A comment's native id is ``<ticket>:<action>``, because HaloPSA numbers actions per ticket
(contract, 4.2). Raw values stay HaloPSA's own: status and priority are its numbers, translated by nobody
here."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from app.connectors.canonical import Comment, CommentKind, Party, Ticket, TicketField, Visibility
from app.connectors.halopsa import markers, wire

OPENING_ACTION_ID = 1
CONTEXT_MEMBERS = ("tickettype_id", "client_id")
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_AGENT, _USER = 1, 2

_MEMBER_OF = {
    TicketField.SUMMARY: "summary",
    TicketField.DESCRIPTION: "details",
    TicketField.STATUS: "status_id",
    TicketField.PRIORITY: "priority_id",
}
_NUMERIC = frozenset({TicketField.STATUS, TicketField.PRIORITY})


def ticket(row: wire.Row, closed_status_ids: frozenset[int]) -> Ticket:
    """A ticket from a list row, a full object, the answer to a POST or a webhook's copy.

    Raises ``ValueError`` when it has no id.
    """
    ticket_id = wire.identifier(row.get("id"))
    if ticket_id is None:
        raise ValueError("a ticket without an id")
    status = wire.whole(row.get("status_id"))
    merged_into = wire.identifier(row.get("merged_into_id"))
    context = {name: wire.identifier(row.get(name)) for name in CONTEXT_MEMBERS}
    return Ticket(
        native_id=str(ticket_id),
        values=_values(row),
        closed=status in closed_status_ids,
        updated_at=wire.moment(wire.first(row, "last_update", "lastupdate", "lastactiondate")),
        created_at=wire.moment(wire.first(row, "datecreated", "dateoccurred")),
        context={name: str(value) for name, value in context.items() if value is not None},
        markers=markers.of_ticket(row),
        foreign_links=markers.foreign(row.get("external_links")),
        requester=_requester(row),
        deleted=bool(wire.flag(row.get("deleted"))) or bool(wire.flag(row.get("inactive"))),
        merged_into=str(merged_into) if merged_into is not None else None,
    )


def _values(row: wire.Row) -> dict[TicketField, str]:
    found: dict[TicketField, str] = {}
    for field, member in _MEMBER_OF.items():
        value = row.get(member)
        if value is None:
            continue
        found[field] = wire.text(wire.whole(value) if field in _NUMERIC else value)
    if not found.get(TicketField.DESCRIPTION) and row.get("details_html"):
        found[TicketField.DESCRIPTION] = wire.plain(wire.text(row["details_html"]))
    return found


def _requester(row: wire.Row) -> Party | None:
    name = wire.text(row.get("user_name"))
    user_id = wire.identifier(row.get("user_id"))
    if not name and user_id is None:
        return None
    email = wire.text(wire.first(row, "user_email", "useremail")).strip()
    return Party(name=name, native_id=str(user_id) if user_id is not None else None, email=email or None)


def comment_id(ticket_id: str, action_id: int) -> str:
    """The native id of a comment."""
    return f"{ticket_id}:{action_id}"


def comment(row: wire.Row) -> Comment | None:
    """An action as a comment; ``None`` when it lacks an id or a ticket (nothing could be kept about it)."""
    ticket_number, action_id = wire.identifier(row.get("ticket_id")), wire.identifier(row.get("id"))
    if ticket_number is None or action_id is None:
        return None
    markup = wire.text(row.get("note_html"))
    return Comment(
        native_id=comment_id(str(ticket_number), action_id),
        ticket_id=str(ticket_number),
        text=wire.text(row.get("note")) or wire.plain(markup),
        # Only an explicit "not hidden" is public: a missing or odd value must never publish a private note.
        visibility=Visibility.PUBLIC if is_shown(row) else Visibility.PRIVATE,
        kind=_kind(row, action_id),
        author=_author(row),
        created_at=wire.moment(wire.first(row, "datetime", "actiondatecreated")) or _stored_at(row) or _NEVER,
        html=markup or None,
        outcome=str(outcome) if (outcome := wire.identifier(row.get("outcome_id"))) is not None else None,
        markers=markers.of_action(row),
    )


def is_shown(row: wire.Row) -> bool:
    """Whether the end user surely sees an action."""
    return wire.flag(row.get("hiddenfromuser")) is False


def touched_since(row: wire.Row, since: datetime) -> bool:
    """Whether an action was dated, stored or edited at or after ``since``."""
    stamps = (wire.moment(row.get(name)) for name in ("datetime", "actiondatecreated", "last_updated"))
    return any(stamp is not None and stamp >= since for stamp in stamps)


def _stored_at(row: wire.Row) -> datetime | None:
    return wire.moment(wire.first(row, "actiondatecreated", "actionarrivaldate", "last_updated"))


def _kind(row: wire.Row, action_id: int) -> CommentKind:
    if action_id == OPENING_ACTION_ID or (wire.whole(row.get("action_systemid")) or 0) > 0:
        return CommentKind.SYSTEM
    said_something = any(wire.text(row.get(name)).strip() for name in ("note", "note_html"))
    if not said_something and (wire.whole(row.get("timetaken")) != 0 and row.get("timetaken")):
        return CommentKind.TIME_ENTRY
    return CommentKind.COMMENT


def _author(row: wire.Row) -> Party:
    agent_id = wire.identifier(wire.first(row, "who_agentid")) or wire.identifier(row.get("actionby_agent_id"))
    user_id = wire.identifier(row.get("actionby_user_id"))
    who_type = wire.whole(row.get("who_type"))
    is_agent = who_type == _AGENT or (who_type != _USER and user_id is None and agent_id is not None)
    native = agent_id if is_agent else user_id
    email = wire.text(row.get("emailfrom")).strip() if not is_agent else ""
    return Party(
        name=wire.text(row.get("who")).strip(),
        native_id=str(native) if native is not None else None,
        email=email or None,
        is_agent=is_agent,
    )


class Unmappable(ValueError):
    """A value that HaloPSA cannot take in ``field``: status and priority are numbers there."""

    def __init__(self, field: TicketField, value: str) -> None:
        super().__init__(f"HaloPSA knows {field.value} by number; {value!r} is none")
        self.field = field
        self.value = value


def members(values: Mapping[TicketField, str]) -> dict[str, Any]:
    """Canonical values as members of a ticket to be written. Raises :class:`Unmappable`."""
    found: dict[str, Any] = {}
    for field, value in values.items():
        if field in _NUMERIC:
            number = wire.identifier(value)
            if number is None:
                raise Unmappable(field, value)
            found[_MEMBER_OF[field]] = number
        else:
            found[_MEMBER_OF[field]] = value
    return found


def context_members(context: Mapping[str, str]) -> dict[str, int]:
    """What HaloPSA wants back with an update: some versions answer "Record not found" without it
    (contract, 4.1)."""
    found = {name: wire.identifier(context.get(name)) for name in CONTEXT_MEMBERS}
    return {name: value for name, value in found.items() if value is not None}
