"""A HaloPSA on a real socket and a connection to it, for one test."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from app.connectors.canonical import (
    CommentDraft,
    Deferred,
    Refused,
    Ticket,
    TicketChange,
    TicketDraft,
    TicketField,
    Visibility,
    WriteResult,
    Written,
)
from app.connectors.halopsa.config import HaloConfig, HaloCredentials
from app.connectors.halopsa.connection import HaloConnection, open_connection
from app.connectors.registry import OpenContext
from app.core import clock
from app.core.http.budget import BudgetStore
from app.sandbox.halopsa.seed import Seed
from app.sandbox.halopsa.server import create_sandbox
from app.sandbox.halopsa.switches import Switches
from app.sandbox.halopsa.world import Acted, TenantWorld
from app.sandbox.serving import serving

TENANT = "acme"
INCIDENT = {"tickettype_id": 1, "client_id": 2, "team": "1st Line Support"}
RESOLVE = "12"
PUBLIC_NOTE = "10"
AGENT = 3


@dataclass(slots=True)
class Rig:
    """``world`` is what HaloPSA holds, ``halo`` how we see it."""

    url: str
    world: TenantWorld
    halo: HaloConnection

    def calls(self, template: str) -> int:
        """Requests so far, e.g. ``POST /Tickets``."""
        return self.world.journal.counters.get(template, 0)

    def total_calls(self) -> int:
        """Requests so far that count against the rate limit."""
        return sum(n for name, n in self.world.journal.counters.items() if "/auth/" not in name and "Info" not in name)

    def human_ticket(self, **members: Any) -> str:
        """A ticket that an agent opens in HaloPSA's own screens."""
        body = {"summary": "Printer on fire", "details": "It burns.", **INCIDENT, **members}
        return str(self._saved(self.world.act("POST", "/Tickets", agent_id=AGENT, body=[body]))["id"])

    def human_note(self, ticket_id: str, note: str, **members: Any) -> str:
        """A note that an agent writes in HaloPSA's own screens; its native id."""
        body = {"ticket_id": int(ticket_id), "outcome_id": 10, "note": note, **members}
        saved = self._saved(self.world.act("POST", "/Actions", agent_id=AGENT, body=[body]))
        return f"{ticket_id}:{saved['id']}"

    def _saved(self, acted: Acted) -> dict[str, Any]:
        assert acted.status in (200, 201), acted
        found: dict[str, Any] = acted.body[0] if isinstance(acted.body, list) else acted.body
        return found

    async def find_ticket(self, marker: str, *, created_after: datetime) -> Ticket | None:
        """The ticket with one marker, as the desk finds it."""
        return (await self.halo.desk.find_tickets([marker], created_after=created_after)).get(marker)

    async def find_comment(self, marker: str, ticket_id: str) -> str | None:
        """The comment with one marker, as the desk finds it."""
        found = await self.halo.desk.find_comments([(marker, ticket_id)], created_after=LONG_AGO)
        return found.get(marker)

    def tickets_marked(self, marker: str) -> list[dict[str, Any]]:
        """Tickets in HaloPSA that carry the marker."""
        exported: list[dict[str, Any]] = self.world.export()["tickets"]
        return [row for row in exported if row.get("third_party_id_string") == marker]

    def actions_of(self, ticket_id: str) -> list[dict[str, Any]]:
        """A ticket's actions without its opening and HaloPSA's own, oldest first."""
        exported: list[dict[str, Any]] = self.world.export()["tickets"]
        row = next(row for row in exported if str(row["id"]) == ticket_id)
        return [one for one in row["actions"] if one["id"] > 1 and not one["action_systemid"]]


@asynccontextmanager
async def rigged(
    *,
    switches: dict[str, Any] | None = None,
    seed: Seed | None = None,
    config: dict[str, Any] | None = None,
    credentials: dict[str, str] | None = None,
) -> AsyncIterator[Rig]:
    """A sandbox tenant under ``switches`` and a connection with ``config``."""
    sandbox = create_sandbox()
    world = sandbox.add_tenant(TENANT, switches=Switches().changed(switches or {}), seed=seed)
    async with serving(sandbox.app) as server:
        halo = connect(f"{server}/{TENANT}", config=config, credentials=credentials)
        try:
            yield Rig(f"{server}/{TENANT}", world, halo)
        finally:
            await halo.aclose()


def connect(
    url: str, *, config: dict[str, Any] | None = None, credentials: dict[str, str] | None = None
) -> HaloConnection:
    """A connection with a budget of its own."""
    given = {"client_id": f"{TENANT}-app", "client_secret": f"{TENANT}-app-secret"} | (credentials or {})
    return open_connection(
        HaloConfig.model_validate({"base_url": url, **(config or {})}),
        HaloCredentials.model_validate(given),
        OpenContext(budget_key=url, budgets=BudgetStore(), allow_private=True),
    )


def draft(number: int = 1, *, defaults: dict[str, Any] | None = None, **values: str) -> TicketDraft:
    """A ticket to be created."""
    given = {TicketField.SUMMARY: f"Case {number}", TicketField.DESCRIPTION: f"Text of case {number}"}
    given |= {TicketField(name): value for name, value in values.items()}
    return TicketDraft(f"key-{number}", f"PHL-mark-{number:04d}", given, INCIDENT if defaults is None else defaults)


def note(
    number: int,
    ticket_id: str,
    *,
    visibility: Visibility = Visibility.PUBLIC,
    text: str | None = None,
    outcome: str | None = None,
    minutes_ago: int = 60,
) -> CommentDraft:
    """A comment to be written."""
    when = clock.now().replace(microsecond=0) - timedelta(minutes=minutes_ago) + timedelta(seconds=number)
    return CommentDraft(
        f"note-{number}",
        f"PHL-note-{number:04d}",
        ticket_id,
        text or f"Note {number}",
        visibility,
        when,
        outcome,
    )


def change(number: int, ticket_id: str, *, context: dict[str, str] | None = None, **values: str) -> TicketChange:
    """A change of fields."""
    given = {TicketField(name): value for name, value in values.items()}
    return TicketChange(f"change-{number}", f"PHL-chg-{number:04d}", ticket_id, given, context=context or {})


def written(results: Sequence[WriteResult]) -> list[Written]:
    """All results, which must all be written."""
    assert all(isinstance(one, Written) for one in results), results
    return [one for one in results if isinstance(one, Written)]


def refused(result: WriteResult) -> Refused:
    """A result, which must be a refusal."""
    assert isinstance(result, Refused), result
    return result


def deferred(result: WriteResult) -> Deferred:
    """A result, which must be a deferral."""
    assert isinstance(result, Deferred), result
    return result


LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
