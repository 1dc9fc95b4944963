"""Writing comments: in order within a ticket, marked, and never more visible than they were meant to be.

Every comment is an action with an outcome (contract, 4.2). ``sendemail`` is always false: what mails the end
user is a person's decision in HaloPSA, not a copy's. After each private comment the answer is checked: an
outcome may decide the visibility by itself, and then the action is corrected or removed before anything else
happens."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.connectors.canonical import CommentDraft, ErrorClass, Refused, Visibility, WriteResult, Written
from app.connectors.halopsa import finding, mapping, markers, wire
from app.connectors.halopsa.batches import Batch, Fate, Look, result
from app.connectors.halopsa.client import HaloClient
from app.connectors.halopsa.outcomes import default_outcome
from app.connectors.halopsa.refusals import CallFailed
from app.connectors.halopsa.ticket_writes import outcome_members

_COMMENTS_PER_CALL = 100


@dataclass(frozen=True, slots=True)
class _NewComment:
    draft: CommentDraft
    client: HaloClient
    outcome: str

    @property
    def key(self) -> str:
        return self.draft.key

    @property
    def queue(self) -> str | None:
        return self.draft.ticket_id

    def body(self) -> Mapping[str, Any]:
        learnt = self.client.learnt
        text, marker = self.draft.text, self.draft.marker
        # Where a test of the first answer showed that neither hidden place is kept, the marker is a visible
        # line.
        shown = markers.with_last_line(text, marker) if learnt.hidden_markers_kept is False else text
        found: dict[str, Any] = {
            "ticket_id": int(self.draft.ticket_id),
            **outcome_members(self.outcome),
            "note": shown,
            "note_html": markers.markup(shown, marker),
            "hiddenfromuser": self.draft.visibility is not Visibility.PUBLIC,
            "sendemail": False,
            "new_external_link": markers.external_link(marker, "Comment"),
        }
        if self.draft.created_at is not None and not learnt.original_dates_refused:
            found["datetime"] = wire.sent(self.draft.created_at)
        return found

    def claims(self, row: wire.Row) -> bool:
        return self.fits(row) and self.draft.marker in markers.of_action(row)

    def fits(self, row: wire.Row) -> bool:
        same_ticket = wire.text(wire.identifier(row.get("ticket_id"))) in ("", self.draft.ticket_id)
        return same_ticket and wire.identifier(row.get("id")) is not None


async def add_comments(client: HaloClient, drafts: Sequence[CommentDraft]) -> list[WriteResult]:
    """Write comments, one call for up to a hundred. Results are in the order of the drafts.

    Raises :class:`CallFailed` when HaloPSA's outcomes are needed and cannot be read (nothing was sent then).
    """
    outcomes = {one.visibility: "" for one in drafts if not one.outcome}
    for visibility in outcomes:
        outcomes[visibility] = await default_outcome(client, visibility)
    results: dict[str, WriteResult] = {}
    items: list[_NewComment] = []
    for draft in drafts:
        if wire.identifier(draft.ticket_id) is None:
            results[draft.key] = _no_such_ticket(draft)
        else:
            items.append(_NewComment(draft, client, draft.outcome or outcomes[draft.visibility]))
    fates = await _save(client, items)
    for item in items:
        fate = fates[item.key]
        if isinstance(fate, CallFailed):
            results[item.key] = result(item.key, fate)
        else:
            results[item.key] = await _checked(client, item, fate)
    return [results[draft.key] for draft in drafts]


async def _save(client: HaloClient, items: Sequence[_NewComment]) -> dict[str, Fate]:
    fates: dict[str, Fate] = {}
    todo = list(items)
    while todo:
        batch: Batch[_NewComment] = Batch(client, "/Actions", _looker(client), _COMMENTS_PER_CALL, _no_dates(client))
        if client.learnt.hidden_markers_kept is None:
            # Without a marker that stays, a lost answer could not be looked up: one comment tells first.
            await _learn_markers(client, todo[0], (await batch.save(todo[:1]))[todo[0].key])
        found = await batch.save([item for item in todo if item.key not in batch.fates])
        fates |= found
        todo = await _second_tries(client, todo, found)
    return fates


def _no_dates(client: HaloClient) -> Callable[[CallFailed], bool]:
    def learns(failure: CallFailed) -> bool:
        """A system that takes no original dates is sent none from then on."""
        news = failure.is_about_dates and not client.learnt.original_dates_refused
        client.learnt.original_dates_refused |= news
        return news

    return learns


async def _second_tries(
    client: HaloClient, items: Sequence[_NewComment], found: Mapping[str, Fate]
) -> list[_NewComment]:
    """Comments whose outcome the workflow forbids, with the usual outcome instead, and those that waited
    for them."""
    changed: dict[str, _NewComment] = {}
    for item in items:
        fate = found[item.key]
        if isinstance(fate, CallFailed) and fate.is_content and fate.error is ErrorClass.WORKFLOW_BLOCKED:
            usual = await _usual_outcome(client, item)
            if usual != item.outcome:
                changed[item.key] = replace(item, outcome=usual)
    queues = {item.queue for item in changed.values()}
    waiting = [item for item in items if item.queue in queues and isinstance(found[item.key], CallFailed)]
    return [changed.get(item.key, item) for item in waiting]


async def _usual_outcome(client: HaloClient, item: _NewComment) -> str:
    """The outcome to fall back to; the comment's own when none can be found now, for something was sent already."""
    try:
        return await default_outcome(client, item.draft.visibility)
    except CallFailed:
        return item.outcome


def _looker(client: HaloClient) -> Look[_NewComment]:
    async def look(some: Sequence[_NewComment]) -> dict[str, dict[str, Any]]:
        """What is saved already. Elements are saved in order, so when the first is not there none is."""
        found: dict[str, dict[str, Any]] = {}
        trails: dict[str, dict[str, dict[str, Any]]] = {}
        for place, item in enumerate(some):
            ticket_id = item.draft.ticket_id
            if ticket_id not in trails:
                trails[ticket_id] = await finding.comments_of(client, ticket_id)
            row = trails[ticket_id].get(item.draft.marker)
            if row is not None:
                found[item.key] = row
            elif place == 0:
                break
        return found

    return look


async def _learn_markers(client: HaloClient, item: _NewComment, fate: Fate) -> None:
    """From the first saved comment: did a hidden marker survive? Read back where it does not show."""
    if isinstance(fate, CallFailed):
        return
    found = {**fate, "new_external_link": None}
    if found.get("note_html") is None and not markers.of_action(found):
        try:
            client.learnt.hidden_markers_kept = item.draft.marker in await finding.comments_of(
                client, item.draft.ticket_id
            )
        except CallFailed:
            return  # not known yet: the next comment tells
    else:
        client.learnt.hidden_markers_kept = item.draft.marker in markers.of_action(found)


async def _checked(client: HaloClient, item: _NewComment, row: dict[str, Any]) -> WriteResult:
    """The result of a saved comment, once it is sure that a private one is hidden."""
    ticket_id, action_id = item.draft.ticket_id, wire.identifier(row.get("id")) or 0
    if item.draft.visibility is Visibility.PRIVATE and mapping.is_shown(row):
        refused = await _hide(client, item, action_id)
        if refused is not None:
            return refused
    return Written(item.key, mapping.comment_id(ticket_id, action_id))


async def _hide(client: HaloClient, item: _NewComment, action_id: int) -> Refused | None:
    """Correct an action that HaloPSA made visible against our word; remove it when that does not help."""
    ticket_id = int(item.draft.ticket_id)
    try:
        rows = await client.post("/Actions", [{"id": action_id, "ticket_id": ticket_id, "hiddenfromuser": True}])
        if rows and rows[0].get("hiddenfromuser") is not None and not mapping.is_shown(rows[0]):
            return None
    except CallFailed:
        pass  # whatever it was, the note is still visible: removing it is all that is left
    step = "Choose an outcome for private notes in this side's settings whose visibility can be set."
    try:
        await client.delete(f"/Actions/{action_id}", {"ticket_id": ticket_id}, template="/Actions/{id}")
    except CallFailed as failure:
        return Refused(
            item.key,
            ErrorClass.PERMISSION,
            f"The outcome made private comment {ticket_id}:{action_id} visible to the end user, and it could "
            f"not be removed: {failure.detail}",
            f"Hide or delete action {action_id} of ticket {ticket_id} in HaloPSA now. {step}",
        )
    return Refused(
        item.key,
        ErrorClass.VALIDATION,
        "The outcome made this private comment visible to the end user, so it was removed at once.",
        step,
    )


def _no_such_ticket(draft: CommentDraft) -> Refused:
    return Refused(
        draft.key,
        ErrorClass.NOT_FOUND,
        f"HaloPSA numbers its tickets; {draft.ticket_id!r} is no number.",
        "Look at the link of this ticket: it names a ticket of another desk.",
    )
