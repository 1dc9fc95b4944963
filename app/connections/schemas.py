"""The JSON of connections."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import ConfigDict, Field, SecretStr, field_validator

from app.connections.secrets import DEFAULT_GRACE_SECONDS, MAX_GRACE_SECONDS, Purpose
from app.connections.states import State
from app.connectors.canonical import Check, HookState, Picklists, Verdict
from app.core import ids
from app.core.http.signing import Verifier
from app.core.strict import In, Out

_EXAMPLE_ID = "con_019283f0a1b27c3d8e4f5a6b7c8d9e0f"
_CONFIG = {"base_url": "https://acme.halopsa.example"}
_CREDENTIALS = {"client_id": "6f1d2c3b-0a9e", "client_secret": "the-secret-that-HaloPSA-showed"}
_CHECKS = [
    {"name": "address", "verdict": "ok", "detail": "acme.halopsa.example answers.", "advice": None},
    {
        "name": "token",
        "verdict": "failed",
        "detail": "The client secret was refused.",
        "advice": "Make a new secret in HaloPSA under Configuration > Integrations > HaloPSA API.",
    },
]
_HEALTH = {
    "overall": "ok",
    "last_checked_at": "2026-02-03T09:20:00.000000Z",
    "checks": _CHECKS[:1],
    "identity": {"name": "Parhelion", "native_id": "12"},
}
_CONNECTION = {
    "id": _EXAMPLE_ID,
    "kind": "halopsa",
    "name": "Acme HaloPSA",
    "state": "active",
    "config": _CONFIG,
    "credentials_set": True,
    "verifier": {"kind": "hmac_sha256", "header": "x-signature", "prefix": "sha256=", "encoding": "base64"},
    "hook_url": f"https://parhelion.example/hooks/{_EXAMPLE_ID}",
    "health": _HEALTH,
    "paused_reason": None,
    "broken_reason": None,
    "created_at": "2026-02-03T09:15:00.000000Z",
    "updated_at": "2026-02-03T09:20:00.000000Z",
    "version": 2,
}
_SECRET = "0ZJcQ1ExampleOfASecretThatIsShownOnce"  # noqa: S105  # an invented example for the documentation


def _examples(*values: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": list(values)})


class ConnectionIn(In):
    """A connection to be made."""

    model_config = _examples(
        {"kind": "halopsa", "name": "Acme HaloPSA", "config": _CONFIG, "credentials": _CREDENTIALS}
    )

    kind: str = Field(min_length=1, max_length=60, description="A name from GET /v1/connection-kinds.")
    name: str = Field(min_length=1, max_length=200, description="Your name for it, unique among living connections.")
    config: dict[str, Any] = Field(description="What the kind needs to know; no secrets.")
    credentials: dict[str, Any] = Field(description="Stored encrypted and never returned.")
    verifier: Verifier | None = Field(
        default=None, description="How webhooks prove their sender; the kind's own way when absent."
    )
    webhook_secret: SecretStr | None = Field(
        default=None, min_length=8, max_length=500, description="Made for you, and shown once, when absent."
    )


class ConnectionPatch(In):
    """Changes to a connection. What is left out stays as it is."""

    model_config = _examples({"name": "Acme HaloPSA (live)"})

    name: str | None = Field(default=None, min_length=1, max_length=200)
    config: dict[str, Any] | None = Field(default=None, description="Replaces the whole configuration.")
    credentials: dict[str, Any] | None = Field(default=None, description="Replaces the stored credentials.")
    verifier: Verifier | None = Field(default=None, description="Replaces the way webhooks prove their sender.")

    @field_validator("name", "config", "credentials", "verifier", mode="before")
    @classmethod
    def _not_null(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("cannot be null; leave it out to keep what is there")
        return value


class CheckOut(Out):
    """One named check of a connection."""

    name: str
    verdict: Verdict
    detail: str
    advice: str | None = Field(description="What to do when it failed.")

    @classmethod
    def of(cls, check: Check) -> "CheckOut":
        """The check as JSON."""
        return cls(name=check.name, verdict=check.verdict, detail=check.detail, advice=check.advice)


class IdentityOut(Out):
    """Who we are at the other side."""

    name: str
    native_id: str | None


class HealthOut(Out):
    """What was last known of the other side."""

    overall: Verdict
    last_checked_at: datetime | None
    checks: list[CheckOut]
    identity: IdentityOut | None


class ConnectionOut(Out):
    """A connection. Credentials are never shown."""

    model_config = _examples(_CONNECTION)

    id: ids.ConnectionId
    kind: str
    name: str
    state: State
    config: dict[str, Any]
    credentials_set: bool
    verifier: Verifier
    hook_url: str = Field(description="Where the other side sends its webhooks.")
    health: HealthOut
    paused_reason: str | None
    broken_reason: str | None
    created_at: datetime
    updated_at: datetime
    version: int


class ConnectionWithSecret(ConnectionOut):
    """A connection, and the webhook secret when this request made one."""

    model_config = _examples({**_CONNECTION, "webhook_secret": _SECRET})

    webhook_secret: str | None = Field(description="Shown this once; null when this request made none.")


class TestOut(Out):
    """The result of a connection test."""

    model_config = _examples(
        {
            "overall": "failed",
            "state": "draft",
            "checks": _CHECKS,
            "identity": None,
            "tested_at": "2026-02-03T09:20:00Z",
        }
    )

    overall: Verdict = Field(description="`unknown`: the other side could not be asked.")
    state: State = Field(description="Where the test left the connection.")
    checks: list[CheckOut]
    identity: IdentityOut | None
    tested_at: datetime


class RotateIn(In):
    """Which secret to replace, and how long the old one stays good."""

    model_config = _examples({"purpose": "webhook", "grace_seconds": 86400})

    purpose: Purpose
    grace_seconds: int = Field(
        default=DEFAULT_GRACE_SECONDS,
        ge=0,
        le=MAX_GRACE_SECONDS,
        description="How long the old webhook secret still verifies. Old credentials end at once.",
    )
    webhook_secret: SecretStr | None = Field(
        default=None,
        min_length=8,
        max_length=500,
        description="The new webhook secret; made for you when absent.",
    )
    credentials: dict[str, Any] | None = Field(default=None, description="The new credentials.")


class RotateOut(Out):
    """The result of a rotation."""

    model_config = _examples(
        {
            "purpose": "webhook",
            "webhook_secret": _SECRET,
            "previous_valid_until": "2026-02-04T09:15:00.000000Z",
            "next_step": f"POST /v1/connections/{_EXAMPLE_ID}/webhooks puts it into the other side.",
            "version": 3,
        }
    )

    purpose: Purpose
    webhook_secret: str | None = Field(description="Shown this once; null for credentials and for one you supplied.")
    previous_valid_until: datetime | None
    next_step: str
    version: int


class PauseIn(In):
    """Why work stops."""

    model_config = _examples({"reason": "HaloPSA is being upgraded tonight"})

    reason: str = Field(min_length=1, max_length=500, description="Shown to whoever wonders.")


class WebhookOut(Out):
    """Our webhook as the other side holds it."""

    model_config = _examples(
        {
            "hook_url": _CONNECTION["hook_url"],
            "label": f"Parhelion {_EXAMPLE_ID}",
            "remote_id": "41",
            "active": True,
            "events": ["Ticket Updated"],
            "problems": [],
        }
    )

    hook_url: str
    label: str = Field(description="The name by which we recognise our own webhook there.")
    remote_id: str | None
    active: bool
    events: list[str]
    problems: list[str] = Field(description="What is wrong with it; empty means healthy.")

    @classmethod
    def of(cls, state: HookState, *, hook_url: str, label: str) -> "WebhookOut":
        """The remote state as JSON."""
        return cls(
            hook_url=hook_url,
            label=label,
            remote_id=state.remote_id,
            active=state.active,
            events=list(state.events),
            problems=list(state.problems),
        )


class WebhooksRemoved(Out):
    """How many webhooks of ours the other side had."""

    model_config = _examples({"removed": 1})

    removed: int


class ChoiceOut(Out):
    """One value that the other side offers."""

    native_id: str
    name: str
    closes: bool = Field(description="For statuses: whether a ticket with it is closed.")


class PicklistsOut(Out):
    """What the other side lets one choose from."""

    model_config = _examples(
        {
            "statuses": [{"native_id": "9", "name": "Closed", "closes": True}],
            "priorities": [],
            "ticket_types": [],
            "outcomes": [],
            "teams": [{"native_id": "Service Desk", "name": "Service Desk", "closes": False}],
            "clients": [],
        }
    )

    statuses: list[ChoiceOut]
    priorities: list[ChoiceOut]
    ticket_types: list[ChoiceOut]
    outcomes: list[ChoiceOut]
    teams: list[ChoiceOut]
    clients: list[ChoiceOut]

    @classmethod
    def of(cls, lists: Picklists) -> "PicklistsOut":
        """The lists as JSON."""
        return cls.model_validate(lists)


class KindOut(Out):
    """One kind of outside system that can be connected."""

    model_config = _examples(
        {
            "name": "halopsa",
            "title": "HaloPSA",
            "config_schema": {"type": "object"},
            "credentials_schema": {"type": "object"},
            "default_verifier": {
                "kind": "hmac_sha256",
                "header": "x-signature",
                "prefix": "",
                "encoding": "either",
            },
        }
    )

    name: str
    title: str
    config_schema: dict[str, Any] = Field(description="JSON Schema of `config`.")
    credentials_schema: dict[str, Any] = Field(description="JSON Schema of `credentials`.")
    default_verifier: Verifier


StateFilter = Literal["draft", "active", "paused", "broken", "archived"]


def label_of(connection_id: UUID) -> str:
    """The name that our webhook has at the other side."""
    return f"Parhelion {ids.public('con', connection_id)}"


def hook_url_of(public_url: str, connection_id: UUID) -> str:
    """Where the other side reaches us."""
    return f"{public_url}/hooks/{ids.public('con', connection_id)}"
