"""A connector kind for tests of the rooms above connectors: a desk whose answers a test scripts.

It speaks no wire, so a test that is about the wire uses the HaloPSA sandbox instead.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NoReturn

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from app.connectors.canonical import (
    Check,
    Choice,
    CommentDraft,
    CommentWindow,
    DeskError,
    HookEvent,
    HookState,
    Lane,
    Party,
    Picklists,
    Ticket,
    TicketChange,
    TicketDraft,
    Verdict,
    WriteResult,
)
from app.connectors.registry import ConnectorKind, OpenContext, SideOptions
from app.core import clock


class TestDeskConfig(BaseModel):
    """Configuration of the test desk."""

    __test__ = False
    model_config = ConfigDict(extra="forbid", frozen=True)

    base_url: str = Field(min_length=3)
    page_size: int = Field(default=100, ge=1, le=100)


class TestDeskCredentials(BaseModel):
    """Credentials of the test desk."""

    __test__ = False
    model_config = ConfigDict(extra="forbid", frozen=True)

    client_id: str
    client_secret: SecretStr = Field(min_length=4)


@dataclass
class Remote:
    """What the "other side" of one address is told to say, and what it saw."""

    checks: tuple[Check, ...] = (
        Check("address", Verdict.OK, "It answers."),
        Check("token", Verdict.OK, "Accepted."),
    )
    on_check: Callable[[], Awaitable[tuple[Check, ...]]] | None = None
    failure: DeskError | None = None
    opened: list[tuple[str, str]] = field(default_factory=list)
    closed: int = 0
    lanes: list[Lane] = field(default_factory=list)
    hooks: dict[str, tuple[str, str]] = field(default_factory=dict)


REMOTES: dict[str, Remote] = {}


def remote(base_url: str) -> Remote:
    """The other side at ``base_url``."""
    return REMOTES.setdefault(base_url, Remote())


class ScriptedDesk:
    """A desk that knows who we are and what one may choose from, and nothing else."""

    def __init__(self, other: Remote, lane: Lane = Lane.INTERACTIVE) -> None:
        self._other = other
        self._lane = lane

    def in_lane(self, lane: Lane) -> "ScriptedDesk":
        return ScriptedDesk(self._other, lane)

    def pressure(self) -> float:
        return 0.0

    def _refuse(self) -> None:
        self._other.lanes.append(self._lane)
        if self._other.failure is not None:
            raise self._other.failure

    async def identity(self) -> Party:
        self._refuse()
        return Party("Parhelion agent", native_id="12", is_agent=True)

    async def picklists(self) -> Picklists:
        self._refuse()
        return Picklists(statuses=(Choice("9", "Closed", closes=True),))

    async def server_time(self) -> datetime:
        return clock.now()

    def _unscripted(self) -> NoReturn:
        raise AssertionError("the test desk has no tickets")

    async def read_tickets(self, ticket_ids: Sequence[str]) -> dict[str, Ticket]:
        self._unscripted()

    def changed_tickets(self, since: datetime) -> AsyncIterator[Sequence[Ticket]]:
        self._unscripted()

    async def read_comments(self, ticket_ids: Sequence[str], since: datetime | None) -> CommentWindow:
        self._unscripted()

    async def recent_comments(self, since: datetime) -> CommentWindow:
        self._unscripted()

    async def create_tickets(self, drafts: Sequence[TicketDraft]) -> Sequence[WriteResult]:
        self._unscripted()

    async def change_tickets(self, changes: Sequence[TicketChange]) -> Sequence[WriteResult]:
        self._unscripted()

    async def add_comments(self, drafts: Sequence[CommentDraft]) -> Sequence[WriteResult]:
        self._unscripted()

    async def find_tickets(self, markers: Sequence[str], *, created_after: datetime) -> dict[str, Ticket]:
        self._unscripted()

    async def find_comments(self, wanted: Sequence[tuple[str, str]], *, created_after: datetime) -> dict[str, str]:
        self._unscripted()


class ScriptedWebhooks:
    """A webhook registry in memory."""

    def __init__(self, other: Remote) -> None:
        self._other = other

    def events(self, body: bytes) -> Sequence[HookEvent]:
        return ()

    async def ensure_webhook(self, *, url: str, secret: str, label: str) -> HookState:
        if self._other.failure is not None:
            raise self._other.failure
        self._other.hooks[label] = (url, secret)
        return HookState("41", True, ("Ticket Updated",))

    async def inspect_webhook(self, *, url: str, label: str) -> HookState:
        if self._other.failure is not None:
            raise self._other.failure
        if label not in self._other.hooks:
            return HookState(None, False, problems=("No webhook of ours is registered.",))
        return HookState("41", True, ("Ticket Updated",))

    async def remove_webhook(self, *, label: str) -> int:
        if self._other.failure is not None:
            raise self._other.failure
        return 1 if self._other.hooks.pop(label, None) else 0


class ScriptedConnector:
    """One open connection to a scripted remote."""

    def __init__(self, other: Remote) -> None:
        self._other = other
        self._desk = ScriptedDesk(other)
        self._webhooks = ScriptedWebhooks(other)

    @property
    def desk(self) -> ScriptedDesk:
        return self._desk

    @property
    def webhooks(self) -> ScriptedWebhooks:
        return self._webhooks

    async def check(self) -> Sequence[Check]:
        return await self._other.on_check() if self._other.on_check else self._other.checks

    async def aclose(self) -> None:
        self._other.closed += 1


def _open(config: BaseModel, credentials: BaseModel, context: OpenContext) -> ScriptedConnector:
    assert isinstance(config, TestDeskConfig)
    assert isinstance(credentials, TestDeskCredentials)
    other = remote(config.base_url)
    other.opened.append((credentials.client_secret.get_secret_value(), context.budget_key))
    return ScriptedConnector(other)


KIND = ConnectorKind(
    name="testdesk",
    title="Test desk",
    config=TestDeskConfig,
    credentials=TestDeskCredentials,
    side_options=SideOptions,
    open=_open,
)
