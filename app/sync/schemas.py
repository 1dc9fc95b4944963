"""The JSON of relationships, ticket links and syncs."""

from datetime import datetime
from typing import Any, Literal

from pydantic import AwareDatetime, ConfigDict, Field

from app.core import ids
from app.core.strict import In, Out
from app.sync.settings import Learnt, RelationshipSettings

_REL = "rel_019283f0a1b27c3d8e4f5a6b7c8d9e10"
_SOURCE = "con_019283f0a1b27c3d8e4f5a6b7c8d9e11"
_TARGET = "con_019283f0a1b27c3d8e4f5a6b7c8d9e12"
_LINK = "tkl_019283f0a1b27c3d8e4f5a6b7c8d9e13"
_AT = "2026-02-03T09:15:00.000000Z"
_SETTINGS = {
    "source": {"resolution": "12"},
    "target": {"customer": 14, "ticket_type": 1, "resolution": "12"},
    "source_label": "Acme",
    "target_label": "Globex",
}
_RELATIONSHIP = {
    "id": _REL,
    "name": "Acme to Globex",
    "source_connection_id": _SOURCE,
    "target_connection_id": _TARGET,
    "state": "active",
    "paused_reason": None,
    "settings": _SETTINGS,
    "learnt": None,
    "links": {"waiting": 0, "linked": 41},
    "created_at": _AT,
    "updated_at": _AT,
    "version": 1,
}
_TICKET_LINK: dict[str, Any] = {
    "id": _LINK,
    "relationship_id": _REL,
    "source_ticket_id": "4242",
    "target_ticket_id": "977",
    "origin": "source",
    "state": "linked",
    "reason": None,
    "next_step": None,
    "field_errors": {},
    "waiting_since": None,
    "last_synced_at": _AT,
    "created_at": _AT,
    "updated_at": _AT,
}
_CHANGE = {
    "id": "019283f0a1b27c3d8e4f5a6b7c8d9e14",
    "at": _AT,
    "side": "target",
    "operation": "updated",
    "detail": {"values": {"status": "2"}},
}
_SYNC = {
    "id": "syn_019283f0a1b27c3d8e4f5a6b7c8d9e15",
    "relationship_id": _REL,
    "since": _AT,
    "state": "converging",
    "read": 1200,
    "done": 300,
    "total": 1200,
    "eta_seconds": 90,
    "error": None,
    "next_step": None,
    "created_at": _AT,
    "started_at": _AT,
    "finished_at": None,
}


def _example(value: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [value]})


class RelationshipIn(In):
    """Two connections of yours to be kept in step."""

    model_config = _example(
        {
            "name": "Acme to Globex",
            "source_connection_id": _SOURCE,
            "target_connection_id": _TARGET,
            "settings": _SETTINGS,
        }
    )

    name: str = Field(min_length=1, max_length=200, description="Your name for it, unique.")
    source_connection_id: ids.ConnectionId = Field(description="Where tickets originate.")
    target_connection_id: ids.ConnectionId = Field(description="Where tickets are received.")
    settings: RelationshipSettings = Field(
        default_factory=RelationshipSettings,
        description="Maps that are left out are learnt from both desks by name. `start_at` is now when left out.",
    )


class RelationshipPatch(In):
    """Changes to a relationship. What is left out stays; `settings` is replaced as a whole."""

    model_config = _example({"settings": _SETTINGS})

    name: str | None = Field(default=None, min_length=1, max_length=200)
    settings: RelationshipSettings | None = None


class PauseRelationshipIn(In):
    """Why work stops."""

    model_config = _example({"reason": "Globex migrates this weekend"})

    reason: str = Field(min_length=1, max_length=500)


class RelationshipOut(Out):
    """A relationship."""

    model_config = _example(_RELATIONSHIP)

    id: ids.RelationshipId
    name: str
    source_connection_id: ids.ConnectionId
    target_connection_id: ids.ConnectionId
    state: Literal["active", "paused", "archived"]
    paused_reason: str | None
    settings: RelationshipSettings
    learnt: Learnt | None = Field(description="What the desks told; used where the settings leave a map out.")
    links: dict[str, int] = Field(description="Ticket links by state, and how many wait to be looked at.")
    created_at: datetime
    updated_at: datetime
    version: int


class TicketLinkOut(Out):
    """One ticket at both sides."""

    model_config = _example(_TICKET_LINK)

    id: ids.TicketLinkId
    relationship_id: ids.RelationshipId
    source_ticket_id: str | None
    target_ticket_id: str | None
    origin: Literal["source", "target"]
    state: str = Field(description="new, linked, ignored, paused, orphaned, merged, unlinked or failed.")
    reason: str | None = Field(description="Why, in a sentence, when it is not simply linked.")
    next_step: str | None
    field_errors: dict[str, Any] = Field(description="Fields that could not be carried, each with its reason.")
    waiting_since: datetime | None = Field(description="Since when a change waits to be carried.")
    last_synced_at: datetime | None
    created_at: datetime
    updated_at: datetime


class LinkChangeOut(Out):
    """Something that happened to a link."""

    model_config = _example(_CHANGE)

    id: str
    at: datetime
    side: str = Field(description="Where it was written; for a conflict the side that won.")
    operation: str = Field(description="created, updated, closed, reopened, commented, conflict, refused or note.")
    detail: dict[str, Any]


class TicketLinkDetail(TicketLinkOut):
    """One ticket at both sides with its base values and its history."""

    model_config = _example(
        {**_TICKET_LINK, "shadow": {"status": {"source": "2", "target": "2"}}, "changes": [_CHANGE]}
    )

    shadow: dict[str, Any] = Field(description="Per field, the raw value last seen or written at each side.")
    changes: list[LinkChangeOut] = Field(description="The newest 100.")


class SyncIn(In):
    """A sync of everything created or changed since a date."""

    model_config = _example({"relationship_id": _REL, "since": "2026-01-01T00:00:00Z"})

    relationship_id: ids.RelationshipId
    since: AwareDatetime = Field(description="Tickets created or changed at or after this are taken in.")


class SyncOut(Out):
    """A sync and how far it is."""

    model_config = _example(_SYNC)

    id: ids.SyncId
    relationship_id: ids.RelationshipId
    since: datetime
    state: Literal["queued", "reading", "converging", "done", "failed"]
    read: int = Field(description="Tickets read so far.")
    done: int = Field(description="Links of this sync that are in step or need a person.")
    total: int = Field(description="Links of this sync; grows while it is reading.")
    eta_seconds: int | None = Field(description="A guess from the pace so far.")
    error: str | None
    next_step: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
