"""A sandbox HaloPSA as the people who work in it see it: they act on its screens, and what it holds can be read."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.sandbox.halopsa.seed_rows import (
    IN_PROGRESS_STATUS_ID,
    INTERNAL_NOTE_OUTCOME_ID,
    PUBLIC_NOTE_OUTCOME_ID,
    REOPEN_OUTCOME_ID,
    RESOLVE_OUTCOME_ID,
)
from app.sandbox.halopsa.world import TenantWorld

OPENING_ACTION = 1
CLOSED = 9
SYNCED = ("summary", "details", "status_id", "priority_id")
# What the hub puts before a carried text: author (organisation) · date.
HEADER = re.compile(r"^(?P<who>[^\n]+) · (?P<at>\d{4}-\d\d-\d\d \d\d:\d\d [+-]\d\d:\d\d)\n\n(?P<said>.*)$", re.DOTALL)


@dataclass(frozen=True)
class Note:
    """One thing somebody said in a ticket."""

    id: int
    text: str
    hidden: bool
    by_us: bool
    values: Mapping[str, Any]

    @property
    def said(self) -> str:
        """The words without what the hub puts around them: the header line, and a marker where none can be hidden."""
        match = HEADER.match(self.text) if self.by_us else None
        return match["said"].partition("\n[ref:")[0] if match else self.text


@dataclass
class Desk:
    """One organisation. Methods without a return value are gestures of its people."""

    world: TenantWorld
    base_url: str

    @property
    def name(self) -> str:
        """The tenant's name."""
        return self.world.name

    def act(self, method: str, path: str, body: Any = None, *, agent: int = 3, user: int = 0, **params: Any) -> Any:
        """Anything a person can do; fails when HaloPSA refuses."""
        who: dict[str, int] = {"user_id": user} if user else {"agent_id": agent}
        done = self.world.act(method, path, body=body, params=params, **who)
        assert done.status < 300, (path, body, done)
        # Some versions answer an array to an array of one.
        return done.body[0] if isinstance(done.body, list) and len(done.body) == 1 else done.body

    def new_ticket(self, summary: str = "Printer is on fire", **members: Any) -> int:
        """Somebody reports something; the ticket's id."""
        body = {"tickettype_id": 1, "client_id": 2, "summary": summary, "details": f"About: {summary}", **members}
        made = self.act("POST", "/Tickets", [body], agent=4)
        number: int = made["id"]
        return number

    def change(self, ticket: int, *, agent: int = 3, **members: Any) -> None:
        """An agent changes fields of a ticket."""
        # HaloPSA's own screen sends the type and the client along, and some versions insist on it.
        same = {"tickettype_id": self.field(ticket, "tickettype_id"), "client_id": self.field(ticket, "client_id")}
        self.act("POST", "/Tickets", [{"id": ticket, **same, **members}], agent=agent)

    def say(self, ticket: int, text: str, *, hidden: bool = False, agent: int = 3, **members: Any) -> int:
        """An agent writes a public note (or, hidden, a private one); the action's id."""
        outcome = INTERNAL_NOTE_OUTCOME_ID if hidden else PUBLIC_NOTE_OUTCOME_ID
        note = {"ticket_id": ticket, "outcome_id": outcome, "note": text, "hiddenfromuser": hidden, **members}
        made = self.act("POST", "/Actions", [note], agent=agent)
        number: int = made["id"]
        return number

    def resolve(self, ticket: int, text: str = "Solved.") -> None:
        """An agent closes the ticket with the resolution."""
        note = {"ticket_id": ticket, "outcome_id": RESOLVE_OUTCOME_ID, "note": text, "hiddenfromuser": False}
        self.act("POST", "/Actions", [note])

    def reopen(self, ticket: int, text: str = "It is back.") -> None:
        """An agent opens a closed ticket again."""
        note = {"ticket_id": ticket, "outcome_id": REOPEN_OUTCOME_ID, "note": text, "hiddenfromuser": False}
        self.act("POST", "/Actions", [{**note, "new_status": IN_PROGRESS_STATUS_ID}])

    def delete(self, ticket: int) -> None:
        """An agent deletes the ticket."""
        self.act("DELETE", f"/Tickets/{ticket}")

    # What it holds

    @property
    def tickets(self) -> list[int]:
        """The ids of its tickets that are not deleted."""
        return [one.id for one in self.world.tickets.by_id.values() if not one.deleted]

    def titled(self, summary: str) -> list[int]:
        """The ids of the tickets with that summary."""
        return [one for one in self.tickets if self.field(one, "summary") == summary]

    def field(self, ticket: int, member: str) -> Any:
        """One member of a ticket."""
        return self.world.tickets.by_id[ticket].values.get(member)

    def fields(self, ticket: int) -> dict[str, Any]:
        """The members that are kept in step."""
        return {member: self.field(ticket, member) for member in SYNCED}

    @property
    def our_agent(self) -> int:
        """Who the hub is here."""
        [application] = self.world.tokens.applications.values()
        return application.agent_id

    def notes(self, ticket: int, *, hidden: bool | None = False) -> list[Note]:
        """What was said in a ticket, in the order of arrival: public notes, or private ones, or (None) all."""
        found = [
            Note(
                action.id,
                str(action.values["note"]),
                bool(action.values["hiddenfromuser"]),
                action.values.get("actionby_agent_id") == self.our_agent,
                dict(action.values),
            )
            for action in self.world.tickets.by_id[ticket].actions.values()
            if action.id != OPENING_ACTION and not action.values["action_systemid"]
        ]
        return [note for note in found if hidden is None or note.hidden is hidden]

    def said(self, ticket: int) -> list[str]:
        """The words of the public notes, in the order of arrival."""
        return [note.said for note in self.notes(ticket)]

    def holds(self, words: str) -> bool:
        """Whether the words are to be read anywhere in this organisation."""
        return words in str(self.world.export())

    def writes(self) -> int:
        """How many times the hub has written here."""
        return self.world.journal.count("POST", "/Tickets") + self.world.journal.count("POST", "/Actions")

    def calls(self) -> int:
        """How many times the hub has called here."""
        return sum(self.world.journal.counters.values())

    # What goes wrong

    def fail(self, *faults: Mapping[str, Any]) -> None:
        """Script faults."""
        for fault in faults:
            self.world.faults.add(dict(fault))

    def no_webhooks(self) -> None:
        """Every delivery is lost from now on, without a trace."""
        self.fail({"webhook": "drop", "unlogged": True})

    def calm(self) -> None:
        """No more faults."""
        self.world.faults.clear()


def post_fault(path: str, effect: Any, *, times: int | None = 1, **match: Any) -> dict[str, Any]:
    """A fault of POST ``path``."""
    return {"match": {"method": "POST", "path": path, **match}, "times": times, "effect": effect}


TIMES_OUT = {"timeout_after_write": True}
