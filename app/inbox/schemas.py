"""The JSON of the inbox."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, ConfigDict, Field

from app.core import ids
from app.core.strict import In, Out

_MESSAGE = {
    "id": "inm_019283f0a1b27c3d8e4f5a6b7c8d9e20",
    "connection_id": "con_019283f0a1b27c3d8e4f5a6b7c8d9e11",
    "external_id": "8e25a6d0-0000-4000-8000-000000000001",
    "status": "dead",
    "attempts": 8,
    "duplicates": 0,
    "size_bytes": 612,
    "error": "ValueError: the event names no ticket",
    "received_at": "2026-02-03T09:15:00.000000Z",
    "next_attempt_at": "2026-02-03T10:15:00.000000Z",
}


def _example(value: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [value]})


class InboxMessageOut(Out):
    """An event as it was received, without its content."""

    model_config = _example(_MESSAGE)

    id: ids.InboxMessageId
    connection_id: ids.ConnectionId
    external_id: str = Field(description="The sender's own id of the delivery.")
    status: Literal["pending", "done", "dead"]
    attempts: int
    duplicates: int = Field(description="How often it was delivered again; a repeat is never handled twice.")
    size_bytes: int
    error: str | None
    received_at: datetime
    next_attempt_at: datetime


class InboxMessageDetail(InboxMessageOut):
    """An event with its content."""

    model_config = _example({**_MESSAGE, "headers": {"content-type": "application/json"}, "body": '{"object_id":4242}'})

    headers: dict[str, str]
    body: str = Field(description="The bytes as text; bytes that are not UTF-8 are shown as \\ufffd.")


class ReplayIn(In):
    """Which dead letters to handle again. All of them when nothing is given; at most 10,000 at once."""

    model_config = _example({"connection_id": "con_019283f0a1b27c3d8e4f5a6b7c8d9e11"})

    connection_id: ids.ConnectionId | None = None
    received_from: AwareDatetime | None = None
    received_to: AwareDatetime | None = None


class ReplayOut(Out):
    """How many were made due again."""

    model_config = _example({"replayed": 3})

    replayed: Annotated[int, Field(ge=0)]
