"""Which outcome a note gets when the settings name none.

HaloPSA takes no action without one. The built-in internal note is outcome 7 (contract, 4.2); a public one
has no number of its own, so it is found among the tenant's outcomes, once per process."""

import re

from app.connectors.canonical import ErrorClass, Visibility
from app.connectors.halopsa import wire
from app.connectors.halopsa.client import HaloClient
from app.connectors.halopsa.refusals import CallFailed

_INTERNAL_NOTE = 7
_NOTE_NAME = re.compile(r"\bnote\b|\bcomment\b|\bupdate\b", re.IGNORECASE)


async def default_outcome(client: HaloClient, visibility: Visibility) -> str:
    """The id of the outcome for notes of that visibility. Raises :class:`CallFailed` when there is none
    to be found or the outcomes cannot be read."""
    public = visibility is Visibility.PUBLIC
    known = client.learnt.public_outcome if public else client.learnt.private_outcome
    if known is not None:
        return known
    rows = client.rows(await client.get("/Outcome"), "/Outcome", "outcomes")
    client.learnt.private_outcome = _private(rows)
    client.learnt.public_outcome = _public(rows)
    found = client.learnt.public_outcome if public else client.learnt.private_outcome
    if found is None:
        raise CallFailed(
            ErrorClass.MISCONFIGURED,
            f"HaloPSA has no outcome that is plainly a {visibility.value} note.",
            next_step="Name the outcome in this side's settings; the connection's picklists show them.",
        )
    return found


def _private(rows: list[dict[str, object]]) -> str | None:
    """The built-in internal note, else a note that its outcome hides."""
    ids = {wire.identifier(row.get("id")) for row in rows}
    if _INTERNAL_NOTE in ids:
        return str(_INTERNAL_NOTE)
    hidden = [row for row in _notes(rows) if wire.flag(row.get("hidefromuser"))]
    return wire.text(wire.identifier(hidden[0].get("id"))) if hidden else None


def _public(rows: list[dict[str, object]]) -> str | None:
    shown = [row for row in _notes(rows) if not wire.flag(row.get("hidefromuser"))]
    # "Public Note" before "Note" before "User Update": the plainer the name, the surer the meaning.
    shown.sort(key=lambda row: ("note" not in _name(row), "public" not in _name(row)))
    return wire.text(wire.identifier(shown[0].get("id"))) if shown else None


def _notes(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Outcomes that only file a text: no change of status, no mail, not hidden, not HaloPSA's own."""
    return [
        row
        for row in rows
        if wire.identifier(row.get("id")) is not None
        and _NOTE_NAME.search(_name(row))
        and (wire.whole(row.get("newstatus")) or 0) <= 0
        and not wire.whole(row.get("sendemail"))
        and not wire.flag(row.get("hidden"))
        and (wire.whole(row.get("systemid")) or 0) == 0
    ]


def _name(row: wire.Row) -> str:
    return f"{wire.text(row.get('outcome'))} {wire.text(row.get('buttonname'))}".casefold()
