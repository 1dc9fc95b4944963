"""What one needs to type in to connect a HaloPSA, as forgiving as it can be without guessing.

HaloPSA shows a resource server (``https://host/api``), an authorisation server (``https://host/auth``) and a
tenant beside each other (Configuration > Integrations > Halo API), and people paste any of them, or the
address bar."""

import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from app.connectors.registry import SideOptions

# The first of these in a pasted path is where the address of the HaloPSA itself ends.
_NOT_PART_OF_BASE = frozenset(
    {
        "api",
        "auth",
        "apidoc",
        "swagger",
        "portal",
        "config",
        "ticket",
        "tickets",
        "home",
        "login",
        "index.html",
    }
)
# Hosted HaloPSA: the first label of the host is the tenant, and the token address wants it (contract, 1.2).
_HOSTED = (".halopsa.com", ".haloitsm.com", ".haloservicedesk.com", ".halocrm.com")


class HaloConfig(BaseModel):
    """Settings of a HaloPSA connection. Nothing in here is secret."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_url: str = Field(
        max_length=500,
        description="Address of the HaloPSA, as in the browser; /api and /auth are added here.",
        examples=["https://example.halopsa.com"],
    )
    auth_url: str | None = Field(
        default=None, max_length=500, description="Authorisation server when it is not <base_url>/auth."
    )
    tenant: str | None = Field(
        default=None,
        max_length=100,
        description="Tenant shown beside the authorisation server; found by itself on *.halopsa.com.",
    )
    scope: str = Field(default="all", max_length=500, description="Scopes to ask for, separated by blanks.")
    budget_limit: int = Field(
        default=300, ge=1, le=100_000, description="Calls allowed in a rolling window, for all our processes."
    )
    budget_window_seconds: float = Field(default=300.0, ge=1, le=3600, description="Length of that window.")
    closed_status_ids: tuple[int, ...] = Field(
        default=(9,),
        min_length=1,
        max_length=20,
        description="Statuses that mean a ticket is closed; 9 is built in.",
    )
    page_size: int = Field(default=100, ge=1, le=1000, description="Rows per page; HaloPSA gives 100 tickets at most.")

    @field_validator("base_url")
    @classmethod
    def _base(cls, value: str) -> str:
        return normal_base(value)

    @field_validator("auth_url")
    @classmethod
    def _auth(cls, value: str | None) -> str | None:
        return None if value is None or not value.strip() else normal_base(value) + "/auth"

    @field_validator("tenant")
    @classmethod
    def _tenant(cls, value: str | None) -> str | None:
        return (value or "").strip() or None

    @field_validator("scope")
    @classmethod
    def _scope(cls, value: str) -> str:
        return " ".join(value.split()) or "all"

    @property
    def api_url(self) -> str:
        """The resource server, without a slash at the end."""
        return self.base_url + "/api"

    @property
    def token_url(self) -> str:
        """Where tokens come from, without the tenant."""
        return (self.auth_url or self.base_url + "/auth") + "/token"

    @property
    def token_tenant(self) -> str | None:
        """The tenant to name when asking for a token: the configured one, or the host's first label
        where hosted."""
        if self.tenant:
            return self.tenant
        host = urlsplit(self.base_url).hostname or ""
        return host.partition(".")[0] if host.endswith(_HOSTED) else None


class HaloCredentials(BaseModel):
    """An API application of the method "Client ID and Secret (Services)"."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    client_id: str = Field(min_length=1, max_length=200, description="Client ID of the API application.")
    client_secret: SecretStr = Field(min_length=1, max_length=500, description="Client secret; shown once by HaloPSA.")

    @field_validator("client_id")
    @classmethod
    def _trimmed(cls, value: str) -> str:
        return value.strip()

    @field_validator("client_secret")
    @classmethod
    def _trimmed_secret(cls, value: SecretStr) -> SecretStr:
        return SecretStr(value.get_secret_value().strip())


class HaloSideOptions(SideOptions):
    """HaloPSA's own settings of one side of a relationship; ids are those that the connection's
    picklists show."""

    resolution: str | None = Field(default=None, description="Id of the action outcome that resolves a ticket.")
    comment_outcome: str | None = Field(
        default=None, description="Id of the action outcome for public notes; found by itself when absent."
    )
    private_comment_outcome: str | None = Field(
        default=None,
        description="Id of the action outcome for private notes; the built-in internal note when absent.",
    )
    customer: int | None = Field(default=None, ge=1, description="Client of created tickets (client id).")
    site: int | None = Field(
        default=None, ge=1, description="Site of created tickets; the client's main site if absent."
    )
    end_user: int | None = Field(default=None, ge=1, description="End user of created tickets (user id).")
    team: str | None = Field(default=None, max_length=200, description="Team of created tickets, by its name.")
    agent: int | None = Field(default=None, ge=1, description="Agent of created tickets; 1 is Unassigned.")
    ticket_type: int | None = Field(default=None, ge=1, description="Type of created tickets (ticket type id).")
    category: str | None = Field(
        default=None, max_length=500, description="First category of created tickets, in full."
    )
    impact: int | None = Field(default=None, ge=1, le=9, description="Impact of created tickets; 3 is low.")
    urgency: int | None = Field(default=None, ge=1, le=9, description="Urgency of created tickets; 3 is low.")
    priority: int | None = Field(default=None, ge=1, description="Priority of created tickets (number within its SLA).")
    source: int | None = Field(default=None, ge=0, description="Source of created tickets (source id).")

    def created_ticket_defaults(self) -> Mapping[str, Any]:
        """The members of a new ticket as HaloPSA names them; what is not set is left to its ticket type."""
        found = {
            "client_id": self.customer,
            "site_id": self.site,
            "user_id": self.end_user,
            "team": self.team,
            "agent_id": self.agent,
            "tickettype_id": self.ticket_type,
            "category_1": self.category,
            "impact": self.impact,
            "urgency": self.urgency,
            "priority_id": self.priority,
            "source": self.source,
        }
        return {name: value for name, value in found.items() if value is not None}


def normal_base(pasted: str) -> str:
    """The address of a HaloPSA from whatever of it was pasted: ``scheme://host[:port][/prefix]``, no
    slash at the end.

    Raises ``ValueError`` with a sentence when there is no host in it, or a password."""
    text = pasted.strip().strip("<>\"'")
    if "://" not in text:
        text = f"{'http' if _is_loopback(text) else 'https'}://{text}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError("this is not a web address; it looks like https://example.halopsa.com") from error
    _refuse_unusable(parts)
    host = (parts.hostname or "").rstrip(".")
    host = f"[{host}]" if ":" in host else host
    prefix: list[str] = []
    for segment in parts.path.split("/"):
        if segment.lower() in _NOT_PART_OF_BASE:
            break
        if segment:
            prefix.append(segment)
    default_port = {"http": 80, "https": 443}[parts.scheme.lower()]
    authority = host if port in (None, default_port) else f"{host}:{port}"
    return "/".join([f"{parts.scheme.lower()}://{authority}", *prefix])


def _refuse_unusable(parts: SplitResult) -> None:
    if parts.scheme.lower() not in ("http", "https"):
        raise ValueError("the address must start with https://")
    if parts.username or parts.password:
        raise ValueError("the address must not contain a user name or password; use client_id and client_secret")
    host = (parts.hostname or "").rstrip(".")
    if not host or any(character.isspace() for character in host):
        raise ValueError("there is no host in this address; it looks like https://example.halopsa.com")


def _is_loopback(text: str) -> bool:
    try:
        host = urlsplit(f"//{text}").hostname or ""
    except ValueError:
        return False
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
