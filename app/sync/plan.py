"""From what was seen of a link to what is stored and sent. Pure."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from app.connectors.canonical import Comment, Ticket, TicketField
from app.core import clock
from app.outbox.commands import NewCommand
from app.sync import marker
from app.sync.compose import comment_text, resolution_note
from app.sync.context import OpenRelationship
from app.sync.decide import Conflict, Decision, Unmapped, creation_values, decide, to_carry
from app.sync.look import SideView
from app.sync.models import LinkChange
from app.sync.repository import ClaimedLink, Settled
from app.sync.settings import SIDES, Side, covers, other

# A ticket this old that is new to us may have its twin already; looking costs one or two calls for a whole batch.
LOOK_FIRST_AGE = timedelta(minutes=10)
LOOKS_UNTIL_GONE = 6  # 2 + 4 + … + 64 s: the visibility lag


@dataclass(slots=True)
class Plan:
    """What follows from one look at one link."""

    settled: Settled
    commands: list[NewCommand] = field(default_factory=list)
    changes: list[LinkChange] = field(default_factory=list)
    adopted: list[dict[str, Any]] = field(default_factory=list)


def plan(
    opened: OpenRelationship,
    link: ClaimedLink,
    views: dict[Side, SideView],
    known: set[tuple[str, str]],
    *,
    may_be_ours: bool,
) -> Plan:
    """``known`` are the (side, native id) pairs of comments in the ledger. ``may_be_ours``: a creation of ours at the
    side where this ticket was first seen has not been recorded yet."""
    settled = Settled(link, link.state, dict(link.shadow), dict(link.field_errors))
    origin: Side = "source" if link.origin == "source" else "target"
    if link.ticket_id(other(origin)) is None:
        return _plan_new(opened, link, origin, views, settled, may_be_ours=may_be_ours)
    for side in SIDES:
        ticket = views[side].tickets.get(link.ticket_id(side) or "")
        if ticket is None and link.source_comments_until is None and link.attempts <= LOOKS_UNTIL_GONE:
            # Never seen on both sides yet: a desk may list late what was created a moment ago.
            settled.stay_dirty = True
            settled.next_attempt_at = clock.now() + timedelta(seconds=2**link.attempts)
            return Plan(settled)
        if ticket is None or ticket.deleted:
            return _gone(opened, settled, side)
        if ticket.merged_into:
            settled.state = "merged"
            settled.reason = f"Merged into {ticket.merged_into} at the {side} side."
            settled.next_step = "Work goes on in the surviving ticket; link that one if it is not linked."
            return Plan(settled, changes=[_change(opened, link.id, side, "note", reason=settled.reason)])
    return _plan_linked(opened, link, views, settled, known)


def _plan_new(
    opened: OpenRelationship,
    link: ClaimedLink,
    origin: Side,
    views: dict[Side, SideView],
    settled: Settled,
    *,
    may_be_ours: bool,
) -> Plan:
    ticket = views[origin].tickets.get(link.ticket_id(origin) or "")
    if ticket is None and link.attempts <= LOOKS_UNTIL_GONE:
        # A webhook may overtake the desk's own list: "not there" is believed after a minute of asking.
        settled.stay_dirty = True
        settled.next_attempt_at = clock.now() + timedelta(seconds=2**link.attempts)
        return Plan(settled)
    refusal = _refusal(opened, ticket)
    if refusal is not None:
        settled.state, settled.reason = "ignored", refusal
        if ticket is not None:
            _set_updated(settled, origin, ticket)
        return Plan(settled)
    assert ticket is not None
    if may_be_ours and not ticket.markers:
        settled.stay_dirty = True
        settled.next_attempt_at = clock.now() + timedelta(seconds=1)
        return Plan(settled)
    twin = other(origin)
    values, unmapped = creation_values(ticket, origin, opened.maps, opened.closed_statuses(twin))
    key = marker.ticket_key(opened.relationship.id, origin, ticket.native_id)
    settled.field_errors = _field_errors(unmapped)
    _set_updated(settled, origin, ticket)
    command = NewCommand(
        tenant_id=opened.relationship.tenant_id,
        connection_id=opened.connection_id(twin),
        subject_id=link.id,
        ordering_key=f"{link.id.hex}:{twin}",
        kind="ticket.create",
        key=key,
        lane=link.lane,
        body={
            "marker": marker.sign(key, opened.marker_secret),
            "values": {name.value: value for name, value in values.items()},
            "defaults": dict(opened.options[twin].created_ticket_defaults()),
        },
        snapshot={
            "relationship_id": str(opened.relationship.id),
            "origin": origin,
            "origin_ticket_id": ticket.native_id,
            "values": {name.value: value for name, value in ticket.values.items()},
        },
        look_first=_is_old(ticket, views[origin]),
    )
    return Plan(settled, commands=[command])


def _is_old(ticket: Ticket, view: SideView) -> bool:
    """Whether a ticket may have been dealt with before: by a database that was since restored from a backup, or by a
    relationship that came before this one's memory. What is minutes old was not."""
    return ticket.created_at is None or ticket.created_at < view.read_at - LOOK_FIRST_AGE


def _refusal(opened: OpenRelationship, ticket: Ticket | None) -> str | None:
    """Why a ticket seen for the first time gets no twin."""
    if ticket is None or ticket.deleted:
        return "The ticket does not exist any more, or the API agent may not see it."
    if ticket.merged_into:
        return f"The ticket was merged into {ticket.merged_into}."
    if any(marker.read(mark, opened.marker_secret) for mark in ticket.markers):
        return "This is a ticket that Parhelion created itself."
    if any(marker.read(mark, secret) for mark in ticket.markers for secret in opened.other_secrets):
        return (
            "This is a copy that another relationship made; copies are not passed on, or tickets could go in circles."
        )
    if ticket.foreign_links:
        return f"Another integration already keeps this ticket in step: {', '.join(ticket.foreign_links)}."
    if not covers(opened.settings, ticket.created_at, ticket.updated_at):
        return "The ticket is older than the start date of the relationship."
    return None


def _gone(opened: OpenRelationship, settled: Settled, side: Side) -> Plan:
    if settled.state == "orphaned":
        return Plan(settled)
    settled.state = "orphaned"
    settled.reason = f"The ticket is gone at the {side} side: deleted, or no longer visible to the API agent."
    settled.next_step = "Nothing was deleted at the other side. Give the agent access again, or unlink the ticket."
    return Plan(settled, changes=[_change(opened, settled.link.id, side, "note", reason=settled.reason)])


def _plan_linked(
    opened: OpenRelationship,
    link: ClaimedLink,
    views: dict[Side, SideView],
    settled: Settled,
    known: set[tuple[str, str]],
) -> Plan:
    tickets: dict[Side, Ticket] = {side: views[side].tickets[link.ticket_id(side) or ""] for side in SIDES}
    decision = decide(link.shadow, tickets["source"], tickets["target"], opened.settings, opened.maps)
    result = Plan(settled)
    settled.state = "linked"
    for name, pair in decision.shadow.items():
        settled.shadow[name.value] = dict(pair)
    kept = _kept_errors(link, tickets)
    settled.field_errors = kept | _field_errors(decision.unmapped)
    for refused in kept:
        # The desk has refused this very value: it waits in its dead letter, and is not sent again with every other
        # write of the ticket.
        for side in SIDES:
            decision.writes[side].pop(TicketField(refused), None)
    for side in SIDES:
        _set_updated(settled, side, tickets[side])
    settled.source_comments_until = views["source"].read_at
    settled.target_comments_until = views["target"].read_at
    for side in SIDES:
        comments = _comment_commands(opened, link, side, tickets, views[other(side)], known, result)
        before, after = _field_commands(opened, link, side, tickets[side], tickets[other(side)], decision)
        result.commands.extend([*before, *comments, *after])
    result.changes.extend(
        _change(opened, link.id, conflict.winner, "conflict", **_conflict_detail(conflict))
        for conflict in decision.conflicts
    )
    return result


def _field_commands(
    opened: OpenRelationship,
    link: ClaimedLink,
    side: Side,
    current: Ticket,
    cause: Ticket,
    decision: Decision,
) -> tuple[list[NewCommand], list[NewCommand]]:
    """Writes of fields at ``side``: those that go before comments, and the closing one, which goes last because a
    closed ticket may refuse a comment."""
    writes = dict(decision.writes[side])
    closing: dict[TicketField, str] = {}
    status = writes.get(TicketField.STATUS)
    if status is not None and status in opened.closed_statuses(side) and not current.closed:
        closing[TicketField.STATUS] = writes.pop(TicketField.STATUS)
    reopens = status is not None and current.closed and status not in opened.closed_statuses(side)
    before = [_change_command(opened, link, side, current, cause, writes, reopens=reopens)] if writes else []
    after = [_change_command(opened, link, side, current, cause, closing, closes=True)] if closing else []
    return before, after


def _change_command(
    opened: OpenRelationship,
    link: ClaimedLink,
    side: Side,
    current: Ticket,
    cause: Ticket,
    values: dict[TicketField, str],
    *,
    closes: bool = False,
    reopens: bool = False,
) -> NewCommand:
    plain = {name.value: value for name, value in values.items()}
    key = marker.change_key(link.id, side, link.generation, plain)
    return NewCommand(
        tenant_id=opened.relationship.tenant_id,
        connection_id=opened.connection_id(side),
        subject_id=link.id,
        ordering_key=f"{link.id.hex}:{side}",
        kind="ticket.change",
        key=key,
        lane=link.lane,
        body={
            "marker": marker.sign(key, opened.marker_secret),
            "ticket_id": current.native_id,
            "values": plain,
            "closes": closes,
            "reopens": reopens,
            "resolution": opened.options[side].resolution if closes else None,
            "resolution_note": resolution_note(opened.label(other(side))) if closes else "",
            "context": dict(current.context),
        },
        snapshot={
            "side": side,
            "relationship_id": str(opened.relationship.id),
            "before": {name.value: current.values.get(name) for name in values},
            "cause": {name.value: cause.values.get(name) for name in values},
        },
    )


def _comment_commands(
    opened: OpenRelationship,
    link: ClaimedLink,
    side: Side,
    tickets: dict[Side, Ticket],
    origin_view: SideView,
    known: set[tuple[str, str]],
    result: Plan,
) -> list[NewCommand]:
    """Comments written at the other side that go to ``side``."""
    if not opened.settings.public_comments:
        return []
    origin = other(side)
    look_first = link.source_comments_until is None and _is_old(tickets[side], origin_view)
    found = origin_view.comments.get(tickets[origin].native_id, [])
    ours = {comment.native_id for comment in found if (origin, comment.native_id) in known}
    for comment in found:
        if comment.native_id not in ours and _is_marked(opened, comment):
            # Ours by its signed marker, but not in the ledger: we died between the write and its record.
            ours.add(comment.native_id)
            result.adopted.append(ledger_entry(opened, link.id, origin, "comment", comment.native_id, ""))
    return [
        _comment_command(opened, link, side, tickets[side], comment, look_first=look_first)
        for comment in to_carry(found, ours=frozenset(ours))
    ]


def _is_marked(opened: OpenRelationship, comment: Comment) -> bool:
    return any(marker.read(mark, opened.marker_secret) for mark in comment.markers)


def _comment_command(
    opened: OpenRelationship, link: ClaimedLink, side: Side, ticket: Ticket, comment: Comment, *, look_first: bool
) -> NewCommand:
    origin = other(side)
    key = marker.comment_key(opened.relationship.id, origin, comment.native_id)
    return NewCommand(
        tenant_id=opened.relationship.tenant_id,
        connection_id=opened.connection_id(side),
        subject_id=link.id,
        ordering_key=f"{link.id.hex}:{side}",
        kind="comment.create",
        key=key,
        lane=link.lane,
        body={
            "marker": marker.sign(key, opened.marker_secret),
            "ticket_id": ticket.native_id,
            "text": comment_text(comment, organisation=opened.label(origin)),
            # What is carried is public by decision (to_carry), and the twin is no more visible than the original.
            "visibility": comment.visibility.value,
            "created_at": comment.created_at.isoformat() if opened.settings.preserve_dates else None,
            "outcome": opened.options[side].comment_outcome,
        },
        snapshot={
            "side": side,
            "relationship_id": str(opened.relationship.id),
            "origin_comment_id": comment.native_id,
            "origin_created_at": comment.created_at.isoformat(),
            "origin_ticket_id": comment.ticket_id,
            "origin_connection_id": str(opened.connection_id(origin)),
        },
        look_first=look_first,
    )


def ledger_entry(
    opened: OpenRelationship, link_id: UUID, side: str, kind: str, native_id: str, peer: str
) -> dict[str, Any]:
    """The columns of one ledger row."""
    return {
        "tenant_id": opened.relationship.tenant_id,
        "relationship_id": opened.relationship.id,
        "link_id": link_id,
        "side": side,
        "kind": kind,
        "native_id": native_id,
        "peer_native_id": peer,
    }


def _set_updated(settled: Settled, side: Side, ticket: Ticket) -> None:
    if side == "source":
        settled.source_updated_at = ticket.updated_at
    else:
        settled.target_updated_at = ticket.updated_at


def _kept_errors(link: ClaimedLink, tickets: dict[Side, Ticket]) -> dict[str, Any]:
    """Refusals of earlier writes stand until the value that was refused has changed."""
    return {
        name: problem
        for name, problem in link.field_errors.items()
        if problem.get("class") != "unmapped_value"
        and tickets[problem["side"]].values.get(TicketField(name)) == problem.get("value")
    }


def _field_errors(unmapped: list[Unmapped]) -> dict[str, Any]:
    return {
        one.field.value: {
            "class": "unmapped_value",
            "side": one.side,
            "value": one.value,
            "next_step": f"Add a pair for the {one.side} value {one.value} to the {one.field.value} map.",
        }
        for one in unmapped
    }


def _conflict_detail(conflict: Conflict) -> dict[str, Any]:
    return {
        "field": conflict.field.value,
        "winner": conflict.winner,
        "winner_value": conflict.winner_value,
        "loser_value": conflict.loser_value,
        "rule": conflict.rule,
    }


def _change(opened: OpenRelationship, link_id: UUID, side: str, operation: str, **detail: Any) -> LinkChange:
    return LinkChange(
        tenant_id=opened.relationship.tenant_id,
        link_id=link_id,
        side=side,
        operation=operation,
        detail=detail,
    )
