"""How the three kinds of sync writes are looked for, sent and recorded: the outbox's handlers of this room."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from app.connectors.canonical import (
    CommentDraft,
    Refused,
    Ticket,
    TicketChange,
    TicketDraft,
    TicketField,
    Visibility,
    WriteResult,
    Written,
)
from app.connectors.ports import Connector
from app.outbox.commands import ClaimedCommand
from app.sync import repository
from app.sync.decide import first_shadow
from app.sync.maps import Maps, same_text
from app.sync.models import LinkChange, Relationship
from app.sync.refresh import refresh
from app.sync.repository import Recorded
from app.sync.settings import Learnt, RelationshipSettings, Side, other
from app.sync.withdrawn import always_wanted, hidden_since

# Desks and we do not share a clock: look for our own creation from a little before we meant to make it.
LOOK_BACK = timedelta(minutes=5)

Result = tuple[ClaimedCommand, WriteResult]


def _values(command: ClaimedCommand) -> dict[TicketField, str]:
    return {TicketField(name): value for name, value in command.body["values"].items()}


def _side(command: ClaimedCommand) -> Side:
    side: Side = command.snapshot["side"]
    return side


class TicketCreate:
    """A ticket's twin."""

    lock = staticmethod(repository.lock_links)
    refresh = staticmethod(refresh)
    withdrawn = staticmethod(always_wanted)

    async def look(self, connector: Connector, commands: Sequence[ClaimedCommand]) -> Sequence[WriteResult | None]:
        """Find the twins by their markers. What people changed in them since is left for the next look to see."""
        found = await connector.desk.find_tickets(
            [command.body["marker"] for command in commands], created_after=_earliest(commands)
        )
        results: list[WriteResult | None] = []
        for command in commands:
            ticket = found.get(command.body["marker"])
            results.append(Written(command.key, ticket.native_id, ticket) if ticket is not None else None)
        return results

    async def send(self, connector: Connector, commands: Sequence[ClaimedCommand]) -> Sequence[WriteResult]:
        """Create them in as few calls as the desk allows."""
        drafts = [
            TicketDraft(command.key, command.body["marker"], _values(command), command.body["defaults"])
            for command in commands
        ]
        return await connector.desk.create_tickets(drafts)

    async def record(self, session: AsyncSession, results: Sequence[Result]) -> None:
        """Link the pair, with the base taken from what the twin was made from."""
        relationships = await _relationships(session, (command for command, _ in results))
        recorded, entries, changes = [], [], []
        for command, result in results:
            relationship, maps = relationships[command.snapshot["relationship_id"]]
            origin: Side = command.snapshot["origin"]
            twin = other(origin)
            if isinstance(result, Written):
                await repository.drop_candidates(session, relationship.id, twin, [result.native_id])
                recorded.append(_linked(command, result, origin, maps))
                entries.append(_entry(command, relationship.id, twin, "ticket", result.native_id, origin))
                changes.append(_change(command, twin, "created", ticket_id=result.native_id))
            elif isinstance(result, Refused):
                recorded.append(
                    Recorded(command.subject_id, state="failed", reason=result.detail, next_step=result.next_step)
                )
                changes.append(_change(command, twin, "refused", **_reason(result)))
        await repository.add_ledger(session, entries)
        await repository.record(session, recorded)
        await repository.add_changes(session, changes)


def _linked(command: ClaimedCommand, result: Written, origin: Side, maps: Maps) -> Recorded:
    twin = other(origin)
    recorded = Recorded(command.subject_id, state="linked", look_again=True, wrote=True)
    if twin == "target":
        recorded.target_ticket_id = result.native_id
    else:
        recorded.source_ticket_id = result.native_id
    if result.ticket is not None:
        created = _as_made(result.ticket, command) if command.in_doubt else result.ticket
        recorded.shadow = first_shadow(command.snapshot["values"], created, origin, maps)
        _updated(recorded, twin, result.ticket.updated_at)
    return recorded


def _as_made(ticket: Ticket, command: ClaimedCommand) -> Ticket:
    """The twin as we made it: an edit by a person since then must count as a change, not as our base."""
    values = dict(ticket.values)
    for name, made in _values(command).items():
        if not same_text(values.get(name, made), made):
            values[name] = made
    return replace(ticket, values=values)


def _earliest(commands: Sequence[ClaimedCommand]) -> datetime:
    return min(command.created_at for command in commands) - LOOK_BACK


def _compared(command: ClaimedCommand, ticket: Ticket | None) -> WriteResult | None:
    """What a ticket says about a write of fields that may have been done, judged field by field.

    A field that holds neither what was to be written nor what stood there before was changed by a person since: then
    our write counts as done, so that their value is the newer change, unless another field of the same write shows
    that nothing was written. What was not done is decided afresh.
    """
    if ticket is None:
        return None  # the write itself will say what became of the ticket
    wanted, before = _values(command), command.snapshot["before"]
    held = {name: ticket.values.get(name) for name in wanted}
    done = [name for name, value in held.items() if value is not None and same_text(value, wanted[name])]
    undone = [name for name, value in held.items() if name not in done and value == before.get(name.value)]
    touched = [name for name in wanted if name not in done and name not in undone]
    if undone and not done and not touched:
        return None
    if done or not undone:
        done += touched
    written = {name: wanted[name] for name in done}
    state = replace(ticket, values={**ticket.values, **written})
    return Written(command.key, ticket.native_id, state, tuple(done) if len(done) < len(wanted) else None)


class TicketChangeWrite:
    """Fields of a ticket, its closing and its reopening."""

    lock = staticmethod(repository.lock_links)
    refresh = staticmethod(refresh)
    withdrawn = staticmethod(always_wanted)

    async def look(self, connector: Connector, commands: Sequence[ClaimedCommand]) -> Sequence[WriteResult | None]:
        """Compare the tickets with what was to be written and what stood there before."""
        tickets = await connector.desk.read_tickets([command.body["ticket_id"] for command in commands])
        return [_compared(command, tickets.get(command.body["ticket_id"])) for command in commands]

    async def send(self, connector: Connector, commands: Sequence[ClaimedCommand]) -> Sequence[WriteResult]:
        """Write them in as few calls as the desk allows."""
        changes = [
            TicketChange(
                key=command.key,
                marker=command.body["marker"],
                ticket_id=command.body["ticket_id"],
                values=_values(command),
                closes=command.body["closes"],
                reopens=command.body["reopens"],
                resolution=command.body["resolution"],
                resolution_note=command.body["resolution_note"],
                context=command.body["context"],
            )
            for command in commands
        ]
        return await connector.desk.change_tickets(changes)

    async def record(self, session: AsyncSession, results: Sequence[Result]) -> None:
        """Move the shadow on: what was read back here, what caused it there."""
        recorded = [_changed(command, result) for command, result in results if isinstance(result, (Written, Refused))]
        changes = []
        for command, result in results:
            if isinstance(result, Written):
                closes, reopens = command.body["closes"], command.body["reopens"]
                operation = "closed" if closes else "reopened" if reopens else "updated"
                changes.append(_change(command, _side(command), operation, values=command.body["values"]))
            elif isinstance(result, Refused):
                changes.append(_change(command, _side(command), "refused", **_reason(result)))
        await repository.record(session, _one_for_each_link(recorded))
        await repository.add_changes(session, changes)


def _changed(command: ClaimedCommand, result: Written | Refused) -> Recorded:
    side, cause = _side(command), command.snapshot["cause"]
    wanted = _values(command)
    refused = set(result.fields or wanted) if isinstance(result, Refused) else set()
    read_back = result.ticket.values if result.ticket is not None else {}
    recorded = Recorded(command.subject_id)
    if isinstance(result, Written) and result.fields is not None:
        # The generation moves on even if nothing was written, so that what is decided afresh has a key of its own.
        wanted = {name: wanted[name] for name in result.fields}
        recorded.look_again = recorded.wrote = True
    for name, value in wanted.items():
        if name in refused:
            recorded.field_errors[name.value] = {
                **_reason(result),
                "side": other(side),
                "value": cause[name.value],
            }
        else:
            recorded.shadow[name.value] = {side: read_back.get(name, value), other(side): cause[name.value]}
    recorded.wrote = recorded.wrote or bool(recorded.shadow)
    if result.ticket is not None:
        _updated(recorded, side, result.ticket.updated_at)
    return recorded


def _one_for_each_link(recorded: Iterable[Recorded]) -> list[Recorded]:
    """Both sides of a link may finish in one transaction; the statement takes a link once."""
    merged: dict[UUID, Recorded] = {}
    for one in recorded:
        known = merged.setdefault(one.link_id, one)
        if known is one:
            continue
        known.shadow |= one.shadow
        known.field_errors |= one.field_errors
        known.source_updated_at = known.source_updated_at or one.source_updated_at
        known.target_updated_at = known.target_updated_at or one.target_updated_at
        known.wrote = known.wrote or one.wrote
        known.look_again = known.look_again or one.look_again
    return list(merged.values())


class CommentCreate:
    """A comment's twin."""

    lock = staticmethod(repository.lock_links)
    refresh = staticmethod(refresh)
    withdrawn = staticmethod(hidden_since)

    async def look(self, connector: Connector, commands: Sequence[ClaimedCommand]) -> Sequence[WriteResult | None]:
        """Find the twins by their markers."""
        found = await connector.desk.find_comments(
            [(command.body["marker"], command.body["ticket_id"]) for command in commands],
            created_after=_earliest(commands),
        )
        natives = [found.get(command.body["marker"]) for command in commands]
        return [
            Written(command.key, native) if native is not None else None
            for command, native in zip(commands, natives, strict=True)
        ]

    async def send(self, connector: Connector, commands: Sequence[ClaimedCommand]) -> Sequence[WriteResult]:
        """Write them in as few calls as the desk allows, those of one ticket in order."""
        drafts = []
        for command in commands:
            written_at = command.body["created_at"]
            drafts.append(
                CommentDraft(
                    key=command.key,
                    marker=command.body["marker"],
                    ticket_id=command.body["ticket_id"],
                    text=command.body["text"],
                    visibility=Visibility(command.body["visibility"]),
                    created_at=datetime.fromisoformat(written_at) if written_at else None,
                    outcome=command.body["outcome"],
                )
            )
        return await connector.desk.add_comments(drafts)

    async def record(self, session: AsyncSession, results: Sequence[Result]) -> None:
        """Note both comments as carried."""
        entries, recorded, changes = [], [], []
        for command, result in results:
            side = _side(command)
            relationship_id = UUID(command.snapshot["relationship_id"])
            original = command.snapshot["origin_comment_id"]
            if isinstance(result, Written):
                entries.append(
                    _entry(
                        command,
                        relationship_id,
                        side,
                        "comment",
                        result.native_id,
                        other(side),
                        peer=original,
                    )
                )
                entries.append(
                    _entry(
                        command,
                        relationship_id,
                        other(side),
                        "comment",
                        original,
                        side,
                        peer=result.native_id,
                    )
                )
                if result.ticket is not None:
                    one = Recorded(command.subject_id)
                    _updated(one, side, result.ticket.updated_at)
                    recorded.append(one)
                changes.append(_change(command, side, "commented", comment_id=result.native_id, original=original))
            elif isinstance(result, Refused):
                changes.append(_change(command, side, "refused", original=original, **_reason(result)))
        await repository.add_ledger(session, entries)
        await repository.record(session, _one_for_each_link(recorded))
        await repository.add_changes(session, changes)


TICKET_CREATE = TicketCreate()
TICKET_CHANGE = TicketChangeWrite()
COMMENT_CREATE = CommentCreate()


async def _relationships(
    session: AsyncSession, commands: Iterable[ClaimedCommand]
) -> Mapping[str, tuple[Relationship, Maps]]:
    found: dict[str, tuple[Relationship, Maps]] = {}
    for text in {command.snapshot["relationship_id"] for command in commands}:
        relationship = await repository.load_relationship(session, UUID(text))
        assert relationship is not None  # commands hold a foreign key chain to it
        learnt = Learnt.model_validate(relationship.learnt) if relationship.learnt else None
        settings = RelationshipSettings.model_validate(relationship.settings)
        found[text] = relationship, Maps.of(settings, learnt)
    return found


def _updated(recorded: Recorded, side: Side, at: datetime | None) -> None:
    if side == "source":
        recorded.source_updated_at = at
    else:
        recorded.target_updated_at = at


def _entry(
    command: ClaimedCommand,
    relationship_id: UUID,
    side: str,
    kind: str,
    native_id: str,
    origin: str,
    *,
    peer: str | None = None,
) -> dict[str, Any]:
    return {
        "tenant_id": command.tenant_id,
        "relationship_id": relationship_id,
        "link_id": command.subject_id,
        "side": side,
        "kind": kind,
        "native_id": native_id,
        "peer_native_id": peer if peer is not None else command.snapshot.get("origin_ticket_id", origin),
    }


def _reason(result: Refused | Written) -> dict[str, Any]:
    if isinstance(result, Written):
        return {}
    return {"class": result.error.value, "detail": result.detail, "next_step": result.next_step}


def _change(command: ClaimedCommand, side: str, operation: str, **detail: Any) -> LinkChange:
    return LinkChange(
        tenant_id=command.tenant_id, link_id=command.subject_id, side=side, operation=operation, detail=detail
    )
