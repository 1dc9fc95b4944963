"""Creating and changing tickets.

Updates carry ``tickettype_id`` and ``client_id``, because some versions answer "Record not found" without
them (contract, 4.1). A ticket is closed by an action with the resolution outcome, after its other fields: a
closed ticket may refuse them. When a change is refused as a whole, its fields are tried one by one, so one
bad value does not keep the others out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from app.connectors.canonical import (
    ErrorClass,
    Refused,
    Ticket,
    TicketChange,
    TicketDraft,
    TicketField,
    WriteResult,
    Written,
)
from app.connectors.halopsa import finding, mapping, markers, reading, wire
from app.connectors.halopsa.batches import Batch, Fate, result
from app.connectors.halopsa.client import HaloClient
from app.connectors.halopsa.refusals import CallFailed

_TICKETS_PER_CALL = 50
_NO_SUBJECT = "(no subject)"
# What works on the most ticket types, where they are mandatory: 3 is low (contract, 4.1 and trap 13).
_WIDELY_ACCEPTED = {"impact": 3, "urgency": 3}


@dataclass(frozen=True, slots=True)
class _NewTicket:
    draft: TicketDraft
    members: Mapping[str, Any]
    queue: str | None = None

    @property
    def key(self) -> str:
        return self.draft.key

    def body(self) -> Mapping[str, Any]:
        summary = str(self.members.get("summary") or "").strip() or _NO_SUBJECT
        given = {name: value for name, value in self.draft.defaults.items() if name != "id"}
        return {
            **_WIDELY_ACCEPTED,
            **given,
            **self.members,
            "summary": summary,
            "details": str(self.members.get("details") or "") or summary,
            "third_party_id_string": self.draft.marker,
            "new_external_link": markers.external_link(self.draft.marker, summary),
            "donotapplytemplateintheapi": True,
        }

    def claims(self, row: wire.Row) -> bool:
        return self.draft.marker in markers.of_ticket(row) and wire.identifier(row.get("id")) is not None

    def fits(self, row: wire.Row) -> bool:
        # Another marker on it means another draft; no marker at all means a version that does not give it
        # back.
        return wire.identifier(row.get("id")) is not None and not wire.text(row.get("third_party_id_string")).strip()


async def create_tickets(client: HaloClient, drafts: Sequence[TicketDraft]) -> list[WriteResult]:
    """Create tickets, one call for up to fifty. Results are in the order of the drafts."""
    started = finding.now_less_doubt()
    results: dict[str, WriteResult] = {}
    items: list[_NewTicket] = []
    for draft in drafts:
        try:
            items.append(_NewTicket(draft, mapping.members(draft.values)))
        except mapping.Unmappable as error:
            results[draft.key] = _unmappable(draft.key, error)

    async def look(some: Sequence[_NewTicket]) -> dict[str, dict[str, Any]]:
        keys = {item.draft.marker: item.key for item in some}
        rows = await finding.recent_tickets(client, list(keys), created_after=started)
        return {keys[marker]: row for marker, row in rows.items()}

    batch: Batch[_NewTicket] = Batch(client, "/Tickets", look, _TICKETS_PER_CALL)
    for key, fate in (await batch.save(items)).items():
        results[key] = result(key, fate) if isinstance(fate, CallFailed) else _written(client, key, fate)
    return [results[draft.key] for draft in drafts]


@dataclass(frozen=True, slots=True)
class _Update:
    """Some fields of one ticket as an element of POST /Tickets."""

    key: str
    ticket_id: str
    members: Mapping[str, Any]
    context: Mapping[str, int]
    queue: str | None = None

    def body(self) -> Mapping[str, Any]:
        return {"id": int(self.ticket_id), **self.context, **self.members}

    def claims(self, row: wire.Row) -> bool:
        return wire.text(wire.identifier(row.get("id"))) == self.ticket_id

    def fits(self, row: wire.Row) -> bool:
        return self.claims(row)


@dataclass(frozen=True, slots=True)
class _Closing:
    """A resolution as an element of POST /Actions."""

    change: TicketChange
    status_id: int
    queue: str | None = None

    @property
    def key(self) -> str:
        return self.change.key

    def body(self) -> Mapping[str, Any]:
        note = self.change.resolution_note
        return {
            "ticket_id": int(self.change.ticket_id),
            **outcome_members(self.change.resolution or ""),
            "new_status": self.status_id,
            "note": note,
            "note_html": markers.markup(note, self.change.marker),
            # Nobody said that the note may be read by the end user, so it is not shown to him.
            "hiddenfromuser": True,
            "sendemail": False,
            # The ticket as this very write left it; read a moment later it may carry a person's next change.
            "_includeticketinresponse": True,
            "new_external_link": markers.external_link(self.change.marker, "Resolution"),
        }

    def claims(self, row: wire.Row) -> bool:
        return self.change.marker in markers.of_action(row) and wire.identifier(row.get("id")) is not None

    def fits(self, row: wire.Row) -> bool:
        return wire.text(wire.identifier(row.get("ticket_id"))) in ("", self.change.ticket_id)


@dataclass(slots=True)
class _Progress:
    """What is known about one change while its parts are written."""

    change: TicketChange
    context: Mapping[str, int]
    row: dict[str, Any] | None = None
    reread: bool = False
    refused: dict[TicketField, CallFailed] = field(default_factory=dict)
    undecided: CallFailed | None = None

    @property
    def plain(self) -> dict[TicketField, str]:
        """The fields that an update of the ticket carries: all but a status that goes through an outcome."""
        through_outcome = self.change.closes and self.change.resolution
        return {
            name: value
            for name, value in self.change.values.items()
            if not (through_outcome and name is TicketField.STATUS)
        }


async def change_tickets(client: HaloClient, changes: Sequence[TicketChange]) -> list[WriteResult]:
    """Write fields of tickets: one call for the plain ones, one for the closings. Results in the order
    given."""
    results: dict[str, WriteResult] = {}
    open_changes: list[TicketChange] = []
    for change in changes:
        try:
            mapping.members(change.values)
        except mapping.Unmappable as error:
            results[change.key] = _unmappable(change.key, error)
        else:
            open_changes.append(change)
    progress = await _with_context(client, open_changes, results)
    await _write_plain(client, list(progress.values()))
    await _write_closings(client, list(progress.values()))
    await _read_back(client, list(progress.values()))
    results |= {key: _result(client, one) for key, one in progress.items()}
    return [results[change.key] for change in changes]


async def _with_context(
    client: HaloClient, changes: Sequence[TicketChange], results: dict[str, WriteResult]
) -> dict[str, _Progress]:
    """What HaloPSA wants back with each update, read in one call for the changes that do not bring it."""
    progress = {one.key: _Progress(one, mapping.context_members(one.context)) for one in changes}
    bare = [one for one in progress.values() if len(one.context) < len(mapping.CONTEXT_MEMBERS)]
    if not bare:
        return progress
    found = await reading.read_tickets(client, [one.change.ticket_id for one in bare])
    for one in bare:
        ticket = found.get(one.change.ticket_id)
        if ticket is None:
            key = one.change.key
            del progress[key]
            results[key] = Refused(
                key,
                ErrorClass.NOT_FOUND,
                f"Ticket {one.change.ticket_id} is not there, or the API's agent may not see it.",
                "Check in HaloPSA whether it was deleted; else check the teams and clients of the agent.",
            )
        else:
            one.context = mapping.context_members(ticket.context)
    return progress


async def _write_plain(client: HaloClient, progress: Sequence[_Progress]) -> None:
    items = [_update(one, one.plain) for one in progress if one.plain]
    fates = await _save_updates(client, items)
    for one in progress:
        fate = fates.get(one.change.key)
        if fate is None:
            continue
        if not isinstance(fate, CallFailed):
            one.row = fate
        elif not fate.is_content:
            one.undecided = fate
        elif len(one.plain) == 1 or fate.error is ErrorClass.NOT_FOUND:
            one.refused |= dict.fromkeys(one.plain, fate)
        else:
            await _write_field_by_field(client, one)


async def _write_field_by_field(client: HaloClient, one: _Progress) -> None:
    for name, value in one.plain.items():
        fate = (await _save_updates(client, [_update(one, {name: value})])).get(one.change.key)
        if not isinstance(fate, CallFailed):
            one.row = fate
        elif fate.is_content:
            one.refused[name] = fate
        else:
            one.undecided = fate
            return


def _update(one: _Progress, values: Mapping[TicketField, str]) -> _Update:
    return _Update(one.change.key, one.change.ticket_id, mapping.members(values), one.context)


async def _save_updates(client: HaloClient, items: Sequence[_Update]) -> dict[str, Fate]:
    """An update done twice is the same update, so nothing needs to be looked up before parts are sent
    again."""

    async def look(some: Sequence[_Update]) -> dict[str, dict[str, Any]]:
        return {}

    batch: Batch[_Update] = Batch(client, "/Tickets", look, _TICKETS_PER_CALL)
    return await batch.save(items)


async def _write_closings(client: HaloClient, progress: Sequence[_Progress]) -> None:
    """Closing twice writes the note twice, so after a refused array the tickets are read before parts
    are sent."""
    through_outcome = {
        one.change.key: one
        for one in progress
        if one.change.closes and one.change.resolution and TicketField.STATUS in one.change.values and not one.undecided
    }
    items = [
        _Closing(one.change, int(mapping.members(one.change.values)["status_id"])) for one in through_outcome.values()
    ]

    async def look(some: Sequence[_Closing]) -> dict[str, dict[str, Any]]:
        tickets = await reading.read_tickets(client, [item.change.ticket_id for item in some])
        return {item.key: {} for item in some if _has_status(tickets.get(item.change.ticket_id), item.status_id)}

    batch: Batch[_Closing] = Batch(client, "/Actions", look, _TICKETS_PER_CALL)
    for key, fate in (await batch.save(items)).items():
        one = through_outcome[key]
        if not isinstance(fate, CallFailed):
            embedded = fate.get("ticket")
            one.row = embedded if isinstance(embedded, dict) else None
            one.reread = one.row is None or not _shows_state(one.row)
        elif fate.is_content:
            one.refused[TicketField.STATUS] = fate
        else:
            one.undecided = fate


def _has_status(ticket: Ticket | None, status_id: int) -> bool:
    return ticket is not None and ticket.values.get(TicketField.STATUS) == str(status_id)


async def _read_back(client: HaloClient, progress: Sequence[_Progress]) -> None:
    """The state after the write where no answer showed it: one call for all. A failure to read hides no
    write."""
    unseen = [one for one in progress if one.reread or (one.row is not None and not _shows_state(one.row))]
    if not unseen:
        return
    try:
        found = await reading.read_tickets(client, [one.change.ticket_id for one in unseen])
    except CallFailed:
        found = {}
    for one in unseen:
        one.row = None
        ticket = found.get(one.change.ticket_id)
        if ticket is not None:
            # Somebody may have changed the ticket between our write and this read. What we wrote is what counts as
            # the state after the write: their value must be seen as a change, not taken for our own.
            written = {name: value for name, value in one.change.values.items() if name not in one.refused}
            one.row = {"_ticket": replace(ticket, values={**ticket.values, **written})}


def _shows_state(row: wire.Row) -> bool:
    return row.get("status_id") is not None and row.get("summary") is not None and row.get("details") is not None


def _result(client: HaloClient, one: _Progress) -> WriteResult:
    ticket = _ticket_of(client, one.row)
    key = one.change.key
    if one.undecided is not None:
        return result(key, one.undecided, tuple(one.change.values))
    if not one.refused:
        return Written(key, one.change.ticket_id, ticket)
    first = next(iter(one.refused.values()))
    names = ", ".join(name.value for name in one.refused)
    return Refused(key, first.error, f"{names}: {first.detail}", first.next_step, tuple(one.refused), ticket)


def _ticket_of(client: HaloClient, row: dict[str, Any] | None) -> Ticket | None:
    if row is None:
        return None
    known = row.get("_ticket")
    if isinstance(known, Ticket):
        return known
    return next(iter(reading.tickets_in(client, [row])), None)


def _written(client: HaloClient, key: str, row: dict[str, Any]) -> Written:
    ticket = _ticket_of(client, row)
    native_id = wire.text(wire.identifier(row.get("id")))
    return Written(key, native_id, ticket if _shows_state(row) else None)


def _unmappable(key: str, error: mapping.Unmappable) -> Refused:
    return Refused(
        key,
        ErrorClass.UNMAPPED_VALUE,
        f"{error}.",
        f"Map this {error.field.value} to one of HaloPSA's own in the relationship's value maps.",
        (error.field,),
    )


def outcome_members(outcome: str) -> dict[str, Any]:
    """An outcome by id, or by its text when the settings name it."""
    number = wire.identifier(outcome)
    return {"outcome_id": number} if number is not None else {"outcome": outcome}
