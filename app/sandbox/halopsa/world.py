"""One tenant of the sandbox: everything it holds, and the same levers as the control API for tests in
process.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from app.core import clock
from app.sandbox.halopsa import assets, seed
from app.sandbox.halopsa.attachments import FileStore
from app.sandbox.halopsa.calls import Actor, Call, Reply, Row
from app.sandbox.halopsa.deliveries import Deliveries
from app.sandbox.halopsa.external_links import LinkTable
from app.sandbox.halopsa.faults import Faults
from app.sandbox.halopsa.journal import Journal
from app.sandbox.halopsa.ratelimit import RateLimiter
from app.sandbox.halopsa.refusals import ErrorVoice, Missing, Refused
from app.sandbox.halopsa.routes import BY_TEMPLATE, find
from app.sandbox.halopsa.seed import Seed
from app.sandbox.halopsa.switches import Switches
from app.sandbox.halopsa.ticket_store import TicketStore
from app.sandbox.halopsa.tokens import TokenOffice
from app.sandbox.halopsa.webhooks import Registry


@dataclass(frozen=True, slots=True)
class Acted:
    """What a person's gesture in HaloPSA's own screens led to."""

    status: int
    body: Any


class UnknownPerson(ValueError):
    """There is no such agent or user in the tenant."""


class TenantWorld:
    """A tenant: its records, its configuration, its switches and its machinery."""

    def __init__(self, name: str, switches: Switches | None = None, given: Seed | None = None) -> None:
        self.name = name
        self.seed = given or Seed()
        self.switches = switches or Switches()
        self.skew_seconds = 0.0
        self.configuration: seed.Configuration = seed.configuration(name, self.seed)
        self.clients: dict[int, Row]
        self.sites: dict[int, Row]
        self.users: dict[int, Row]
        self.clients, self.sites, self.users = seed.organisation(name, self.seed)
        self.assets = assets.seeded(name, self.clients, self.seed.number)
        self.tickets = TicketStore()
        self.attachments = FileStore()
        self.links = LinkTable()
        self.webhooks = Registry()
        self.webhook_count = 0
        self.deliveries = Deliveries(self)
        self.journal = Journal()
        self.faults = Faults()
        self.limiter = RateLimiter()
        self.tokens = TokenOffice(self.seed.applications_of(name), seed.FIRST_API_AGENT_ID)
        self._voice = ErrorVoice()
        self._sequences: dict[str, int] = {}
        self._plant_tickets()

    # Time and names

    def now(self) -> datetime:
        """The tenant's clock: ours, shifted by its skew."""
        moment = clock.now()
        return moment + timedelta(seconds=self.skew_seconds) if self.skew_seconds else moment

    def guid(self, kind: str, ident: object) -> str:
        """The GUID of a record: the same in every run with the same seed."""
        return seed.guid(self.name, self.seed.number, kind, ident)

    def next_guid(self, kind: str) -> str:
        """The next GUID of a sequence."""
        number = self._sequences[kind] = self._sequences.get(kind, 0) + 1
        return self.guid(kind, f"next-{number}")

    # Questions that several rooms ask

    def is_closed(self, status_id: int) -> bool:
        """Whether tickets in that status are closed. There is no flag for it; 9 is the system's own."""
        return status_id in self.switches.closed_status_ids

    def general_user_id(self, site_id: int) -> int:
        """The site's General User, 0 when it has none."""
        return next(
            (row["id"] for row in self.users.values() if row["site_id"] == site_id and row["name"] == "General User"),
            0,
        )

    def user_name(self, user_id: int) -> str:
        """The user's name, empty when unknown."""
        user = self.users.get(user_id)
        name: str = user["name"] if user else ""
        return name

    def is_in_use(self, kind: str, ident: int) -> bool:
        """Whether a client, site or user (plural, as the list key) still has tickets or people."""
        member = {"clients": "client_id", "sites": "site_id", "users": "user_id"}[kind]
        if any(ticket.values[member] == ident for ticket in self.tickets.by_id.values()):
            return True
        if kind == "users":
            return False
        named = [row for row in self.users.values() if row[member] == ident and row["name"] != "General User"]
        return bool(named)

    # Levers

    def run(self, call: Call) -> Reply:
        """Answer a call as its actor. Refusals become their bodies, in the shape the switches ask for."""
        try:
            return BY_TEMPLATE[call.method, call.template].handler(self, call)
        except Refused as refused:
            return self.refusal(refused)

    def refusal(self, refused: Refused) -> Reply:
        """The answer to a refused call."""
        status = refused.status
        if isinstance(refused, Missing):
            if self.switches.missing_id == "200_empty":
                return Reply(200, {})
            status = int(self.switches.missing_id)
        body = self._voice.body(refused, self.switches.error_shape)
        return Reply(status, raw=b"") if body is None else Reply(status, body)

    def act(
        self,
        method: str,
        path: str,
        *,
        agent_id: int = 0,
        user_id: int = 0,
        params: dict[str, Any] | None = None,
        body: Any = None,
    ) -> Acted:
        """Do something as a person in HaloPSA's own screens: not metered, not in the API journal.

        ``path`` as in the API (``/Tickets``, ``/Tickets/12``). Ids, events and webhooks behave as for the
        API. Call it in the event loop that serves the sandbox. Raises :class:`UnknownPerson`.
        """
        route, key = find(method.upper(), path)
        if route is None:
            return Acted(404, {"error": "Not found"})
        text = {name.lower(): _text(value) for name, value in (params or {}).items()}
        call = Call(method.upper(), route.template, self._person(agent_id, user_id), text, key, body)
        reply = self.run(call)
        return Acted(reply.status, reply.body)

    def _person(self, agent_id: int, user_id: int) -> Actor:
        if user_id:
            if user_id not in self.users:
                raise UnknownPerson(f"there is no user {user_id} in {self.name}")
            return Actor(0, user_id, self.users[user_id]["name"])
        if agent_id not in self.configuration.agents:
            raise UnknownPerson(f"there is no agent {agent_id} in {self.name}")
        return Actor(agent_id, 0, self.configuration.agents[agent_id]["name"])

    def export(self) -> Row:
        """Every ticket with its actions, files and links as plain JSON without quirks, for comparing."""
        return {
            "tenant": self.name,
            "tickets": [
                {
                    "id": ticket.id,
                    "deleted": ticket.deleted,
                    "last_update": _text(ticket.updated),
                    **{name: _plain(value) for name, value in ticket.values.items()},
                    "customfields": {str(ident): value for ident, value in ticket.custom.items()},
                    "actions": [
                        {"id": action.id, **{name: _plain(value) for name, value in action.values.items()}}
                        for action in sorted(ticket.actions.values(), key=lambda item: item.id)
                    ],
                    "attachments": [
                        {
                            "id": stored.id,
                            "sha256": hashlib.sha256(stored.content).hexdigest(),
                            **{name: _plain(value) for name, value in stored.values.items()},
                        }
                        for stored in self.attachments.of(ticket.id)
                    ],
                }
                for ticket in self.tickets.by_id.values()
            ],
            "external_links": [
                {name: _plain(value) for name, value in row.items()} for row in self.links.by_id.values()
            ],
        }

    def _plant_tickets(self) -> None:
        """The seed's tickets, spread over clients and types that need nothing special."""
        clients = [ident for ident in self.clients if ident > 1] or [1]
        for number in range(1, self.seed.tickets + 1):
            body = [
                {
                    "tickettype_id": 1 + number % 2,
                    "client_id": clients[number % len(clients)],
                    "summary": f"Seeded ticket {number}",
                    "details": f"This is seeded ticket {number}.",
                }
            ]
            self.act("POST", "/Tickets", agent_id=3 + number % 5, body=body)


def _plain(value: Any) -> Any:
    return _text(value) if isinstance(value, datetime) else value


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
