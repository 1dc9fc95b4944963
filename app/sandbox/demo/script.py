"""What the people of both organisations do, and what goes wrong meanwhile. Pure: the same seed plays the same day."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from app.sandbox.halopsa.seed_rows import (
    IN_PROGRESS_STATUS_ID,
    INTERNAL_NOTE_OUTCOME_ID,
    PUBLIC_NOTE_OUTCOME_ID,
    REOPEN_OUTCOME_ID,
    RESOLVE_OUTCOME_ID,
)

Desk = Literal["acme", "globex"]
Deed = Literal["create", "comment", "private", "status", "close", "reopen", "retitle"]

SUBJECTS = (
    "Printer on floor 3 prints blank pages",
    "Cannot open the shared mailbox",
    "Laptop battery swells",
    "VPN drops every hour",
    "New starter needs accounts",
    "Backup of the file server failed",
    "Phone shows no caller id",
    "Website certificate expires soon",
)
OPEN_STATUSES = (2, 3, 4, 5)
ACME_AGENTS = (3, 4, 5)
GLOBEX_AGENTS = (3, 4, 6)
DAY_SECONDS = 24.0


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that one person does. ``ticket`` is the story's own number; ``nonce`` marks what is written."""

    at_seconds: float
    desk: Desk
    deed: Deed
    ticket: int
    nonce: str
    value: int = 0
    agent: int = 3


def acts(tickets: int, *, seed: int = 20) -> list[Act]:
    """The day in the order of time: every ticket is born at Acme; both sides write, move, close and reopen it."""
    rng = random.Random(seed)
    day: list[Act] = []
    for number in range(tickets):
        day.extend(_life(number, tickets, rng))
    return sorted(day, key=lambda act: act.at_seconds)


def _life(number: int, tickets: int, rng: random.Random) -> Iterator[Act]:
    born = DAY_SECONDS * 0.7 * number / max(1, tickets)
    yield Act(born, "acme", "create", number, f"T{number:04d}", agent=rng.choice(ACME_AGENTS))
    at = born
    for step in range(rng.randint(1, 3)):
        at = _later(at, rng)
        yield Act(at, "acme", "comment", number, f"A{number:04d}-{step}", agent=rng.choice(ACME_AGENTS))
    at = born + 3.0
    for step in range(rng.randint(1, 2)):
        at = _later(at, rng)
        yield Act(at, "globex", "comment", number, f"G{number:04d}-{step}", agent=rng.choice(GLOBEX_AGENTS))
    if rng.random() < 0.4:
        desk: Desk = rng.choice(("acme", "globex"))
        at = _later(born + 3.0, rng)
        yield Act(at, desk, "private", number, f"P{number:04d}", agent=rng.choice(ACME_AGENTS))
    if rng.random() < 0.5:
        yield Act(_later(born + 2.5, rng), "acme", "status", number, "", rng.choice(OPEN_STATUSES))
    if rng.random() < 0.15:
        yield Act(_later(born + 2.0, rng), "acme", "retitle", number, f"R{number:04d}")
    if rng.random() < 0.45:
        # Late enough that what was said before has crossed; who closes is chance, who reopens is the other.
        closer: Desk = rng.choice(("acme", "globex"))
        yield Act(DAY_SECONDS * 0.85 + rng.random() * 2, closer, "close", number, f"C{number:04d}")
        if rng.random() < 0.3:
            again: Desk = "globex" if closer == "acme" else "acme"
            yield Act(DAY_SECONDS + 4 + rng.random() * 2, again, "reopen", number, f"O{number:04d}")


def _later(at: float, rng: random.Random) -> float:
    return min(at + rng.uniform(0.4, 4.0), DAY_SECONDS * 0.84)


def wire(act: Act, ticket_id: int | None) -> tuple[str, dict[str, object]]:
    """The act as HaloPSA takes it: (path, object)."""
    match act.deed:
        case "create":
            subject = SUBJECTS[act.ticket % len(SUBJECTS)]
            return "/Tickets", {
                "tickettype_id": 1,
                "client_id": 2 + act.ticket % 4,
                "summary": f"{subject} [{act.nonce}]",
                "details": f"Reported by phone. Reference {act.nonce}.",
            }
        case "retitle":
            return "/Tickets", {"id": ticket_id, "summary": f"Changed subject [T{act.ticket:04d}] {act.nonce}"}
        case "status":
            return "/Tickets", {"id": ticket_id, "status_id": act.value}
        case "comment":
            return "/Actions", _note(ticket_id, PUBLIC_NOTE_OUTCOME_ID, f"We looked at it. <{act.nonce}>", hidden=False)
        case "private":
            return "/Actions", _note(ticket_id, INTERNAL_NOTE_OUTCOME_ID, f"Do not share: {act.nonce}", hidden=True)
        case "close":
            note = _note(ticket_id, RESOLVE_OUTCOME_ID, f"Solved. <{act.nonce}>", hidden=False)
            return "/Actions", note
        case "reopen":
            note = _note(ticket_id, REOPEN_OUTCOME_ID, f"It is back. <{act.nonce}>", hidden=False)
            return "/Actions", {**note, "new_status": IN_PROGRESS_STATUS_ID}


def _note(ticket_id: int | None, outcome: int, text: str, *, hidden: bool) -> dict[str, object]:
    return {"ticket_id": ticket_id, "outcome_id": outcome, "note": text, "hiddenfromuser": hidden}


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that goes wrong at a moment of the day."""

    at_seconds: float
    words: str
    name: Literal["webhooks_fail", "kill_worker", "flush_redis", "refuse", "time_out", "calm"]


def troubles() -> list[Trouble]:
    """What goes wrong, in order."""
    return [
        Trouble(3.0, "a fifth of all webhooks is dropped, another fifth delivered twice", "webhooks_fail"),
        Trouble(6.0, "the worker is killed (SIGKILL)", "kill_worker"),
        Trouble(9.0, "Globex answers 429 to writes, then times out after having written", "refuse"),
        Trouble(12.0, "Redis is flushed", "flush_redis"),
        Trouble(13.0, "Globex hangs up after having saved new tickets and comments", "time_out"),
        Trouble(17.0, "the worker is killed again and Redis is flushed", "kill_worker"),
        Trouble(17.1, "Redis is flushed", "flush_redis"),
        Trouble(DAY_SECONDS + 7, "everything behaves again", "calm"),
    ]
