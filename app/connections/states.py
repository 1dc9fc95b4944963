"""The life of a connection: a table of legal moves and the decisions on checks (pure)."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from app.connectors.canonical import Check, Verdict


class State(StrEnum):
    """Where a connection stands. Work runs over ``ACTIVE`` only; webhooks are kept unless it is
    ``ARCHIVED``."""

    DRAFT = "draft"  # made, never tested with success
    ACTIVE = "active"
    PAUSED = "paused"  # a person said so
    BROKEN = "broken"  # the other side refuses us
    ARCHIVED = "archived"  # over; secrets are gone


MOVES: Mapping[State, frozenset[State]] = {
    State.DRAFT: frozenset({State.ACTIVE, State.ARCHIVED}),
    State.ACTIVE: frozenset({State.PAUSED, State.BROKEN, State.ARCHIVED}),
    State.PAUSED: frozenset({State.ACTIVE, State.BROKEN, State.DRAFT, State.ARCHIVED}),
    State.BROKEN: frozenset({State.ACTIVE, State.PAUSED, State.ARCHIVED}),
    State.ARCHIVED: frozenset(),
}


def may_move(before: State, after: State) -> bool:
    """Whether the table allows the move."""
    return after in MOVES[before]


# Without these a connection still does its work, only slower: polling makes up for a missing webhook, and our own
# items are recognised by other marks than the correlation table.
OPTIONAL_CHECKS = frozenset({"webhooks", "external links"})


def overall(checks: Iterable[Check]) -> Verdict:
    """What the checks amount to: failed when a needed one failed; unknown when nothing needed could be
    asked."""
    needed = [check.verdict for check in checks if check.name not in OPTIONAL_CHECKS]
    if Verdict.FAILED in needed:
        return Verdict.FAILED
    return Verdict.OK if Verdict.OK in needed else Verdict.UNKNOWN


def after_check(state: State, verdict: Verdict) -> State:
    """Where a test with this verdict leaves the connection. "Could not ask" moves nothing, and a test never
    ends a pause that a person asked for."""
    if verdict is Verdict.OK and state in {State.DRAFT, State.BROKEN}:
        return State.ACTIVE
    if verdict is Verdict.FAILED and state is State.ACTIVE:
        return State.BROKEN
    return state


def resumed(health: Mapping[str, Any]) -> State:
    """Where a pause ends: active when the last that was known of the other side was good."""
    match health.get("overall"):
        case Verdict.OK:
            return State.ACTIVE
        case Verdict.FAILED:
            return State.BROKEN
        case _:
            return State.DRAFT
