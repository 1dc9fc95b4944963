"""Scopes, the principal, and the JSON of API keys."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field

from app.core import clock, ids
from app.core.strict import In, Out


class Scope(StrEnum):
    """What a key may do. A write scope includes the read scope of the same thing; ``admin`` includes all."""

    CONNECTIONS_READ = "connections:read"
    CONNECTIONS_WRITE = "connections:write"
    INBOX_READ = "inbox:read"
    INBOX_WRITE = "inbox:write"
    RELATIONSHIPS_READ = "relationships:read"
    RELATIONSHIPS_WRITE = "relationships:write"
    TICKETS_READ = "tickets:read"
    TICKETS_WRITE = "tickets:write"
    KEYS_READ = "keys:read"
    KEYS_WRITE = "keys:write"
    METRICS_READ = "metrics:read"
    ADMIN = "admin"


def covered(scopes: frozenset[Scope]) -> frozenset[Scope]:
    """Every scope that holding ``scopes`` amounts to."""
    if Scope.ADMIN in scopes:
        return frozenset(Scope)
    reads = {Scope(scope.replace(":write", ":read")) for scope in scopes if scope.endswith(":write")}
    return scopes | reads


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling. ``scopes`` holds everything the key covers."""

    tenant_id: UUID
    key_id: UUID
    key_prefix: str
    scopes: frozenset[Scope]

    def may(self, scope: Scope | str) -> bool:
        """Whether the key covers ``scope``."""
        return Scope(scope) in self.scopes


def _in_future(value: datetime) -> datetime:
    if value <= clock.now():
        raise ValueError("must lie in the future")
    return value


_NAME = Field(min_length=1, max_length=200, description="What the key is for, in your words.")
_KEY_EXAMPLE: dict[str, Any] = {
    "id": "key_019283f0a1b27c3d8e4f5a6b7c8d9e0f",
    "name": "dashboard",
    "prefix": "a8Kd02mQ",
    "scopes": ["connections:read", "tickets:read"],
    "state": "active",
    "created_at": "2026-02-03T09:15:00.000000Z",
    "expires_at": None,
    "revoked_at": None,
    "last_used_at": None,
    "version": 1,
}


class ApiKeyIn(In):
    """A key to be made."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "dashboard", "scopes": ["connections:read", "tickets:read"]}]}
    )

    name: Annotated[str, _NAME]
    scopes: list[Scope] = Field(min_length=1, max_length=30, description="What the key may do.")
    expires_at: Annotated[AwareDatetime, AfterValidator(_in_future)] | None = Field(
        default=None, description="When it stops working; never when absent."
    )


class ApiKeyOut(Out):
    """A key as it may be shown: without the key."""

    model_config = ConfigDict(json_schema_extra={"examples": [_KEY_EXAMPLE]})

    id: ids.ApiKeyId
    name: str
    prefix: str = Field(description="The part of the key that may be shown, `phk_<prefix>_…`.")
    scopes: list[Scope]
    state: Literal["active", "expired", "revoked"]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="True to the minute.")
    version: int


class ApiKeyCreated(ApiKeyOut):
    """A key that was just made, with the text that is shown this once."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{**_KEY_EXAMPLE, "key": "phk_a8Kd02mQ_0000000000000000000000000000000000000"}]}
    )

    key: str = Field(description="The key itself. It is not stored and cannot be shown again.")
