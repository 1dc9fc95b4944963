"""The JSON of the outbox."""

from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict, Field

from app.core import ids
from app.core.strict import In, Out

_COMMAND = {
    "id": "cmd_019283f0a1b27c3d8e4f5a6b7c8d9e30",
    "connection_id": "con_019283f0a1b27c3d8e4f5a6b7c8d9e12",
    "ticket_link_id": "tkl_019283f0a1b27c3d8e4f5a6b7c8d9e13",
    "kind": "comment.create",
    "lane": "interactive",
    "status": "dead",
    "attempts": 1,
    "in_doubt": False,
    "remote_id": None,
    "error_class": "workflow_blocked",
    "error_detail": "HaloPSA answered 400: the outcome is not allowed at this step.",
    "next_step": "Allow the outcome in the ticket type's workflow, then replay this.",
    "created_at": "2026-02-03T09:15:00.000000Z",
    "next_attempt_at": "2026-02-03T09:15:00.000000Z",
    "finished_at": "2026-02-03T09:15:01.000000Z",
}


def _example(value: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [value]})


class OutboundCommandOut(Out):
    """A write we owe (or owed) an outside system, without its content."""

    model_config = _example(_COMMAND)

    id: ids.OutboundCommandId
    connection_id: ids.ConnectionId
    ticket_link_id: ids.TicketLinkId
    kind: str = Field(description="ticket.create, ticket.change or comment.create.")
    lane: Literal["interactive", "bulk"]
    status: Literal["pending", "done", "dead", "cancelled"]
    attempts: int
    in_doubt: bool = Field(description="An earlier try may have done it: the next one looks before it writes.")
    remote_id: str | None
    error_class: str | None
    error_detail: str | None
    next_step: str | None
    created_at: datetime
    next_attempt_at: datetime
    finished_at: datetime | None


class AttemptOut(Out):
    """One attempt and what came of it."""

    model_config = _example(
        {
            "at": "2026-02-03T09:15:01.000000Z",
            "outcome": "refused",
            "error_class": "workflow_blocked",
            "error_detail": "HaloPSA answered 400.",
            "duration_ms": 85,
        }
    )

    at: datetime
    outcome: str = Field(description="written, adopted (found done), refused, deferred, unknown.")
    error_class: str | None
    error_detail: str | None
    duration_ms: int


class OutboundCommandDetail(OutboundCommandOut):
    """A write with its content and its attempts."""

    model_config = _example({**_COMMAND, "body": {"ticket_id": "977", "text": "…"}, "history": []})

    body: dict[str, Any]
    history: list[AttemptOut]


class OutboxReplayIn(In):
    """Which dead letters to try again. All of them when nothing is given; at most 10,000 at once."""

    model_config = _example({"error_class": "workflow_blocked"})

    connection_id: ids.ConnectionId | None = None
    error_class: str | None = Field(default=None, max_length=60)
