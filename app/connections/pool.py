"""Open connectors and webhook targets, kept by each process.

Reads rows in short transactions of its own and opens connectors after they ended: no transaction is ever open
while the network is talked to.
"""

import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from pydantic import BaseModel, ValidationError
from sqlmodel.ext.asyncio.session import AsyncSession

from app.connections import repository, secrets
from app.connections.errors import ConnectionBroken, ConnectionPaused, ConnectionUntested
from app.connections.models import Connection
from app.connections.states import State
from app.connectors import registry
from app.connectors.canonical import Check, DeskError, Lane
from app.connectors.ports import Connector, TicketDesk, WebhookSource
from app.connectors.registry import OpenContext
from app.core import telemetry
from app.core.config import Settings
from app.core.crypto import UndecipherableError, Vault, stable_key
from app.core.db.session import Database, after_commit
from app.core.errors import NotFound
from app.core.http.budget import BudgetStore
from app.core.http.signing import Verifier, verifier_adapter

ValueT = TypeVar("ValueT")

# Another process that changed a secret or a state is noticed after this time; in this process at once.
HOOK_TTL_SECONDS = 5.0
_HOOKS_KEPT = 10_000
# Addresses nobody has are remembered as such, but only so many: a scan must not grow our memory.
_MISSES_KEPT = 2_000
# A connector replaced by a new one may still be in use: it is closed after the longest job is over.
_RETIRED_SECONDS = 120.0


@dataclass(frozen=True, slots=True, repr=False)
class HookTarget:
    """What the hot path needs to know of a connection. ``secrets`` are those that count now, opened."""

    connection_id: UUID
    tenant_id: UUID
    kind: str
    verifier: Verifier
    secrets: tuple[str, ...]
    state: State


@dataclass(frozen=True, slots=True)
class InLane:
    """An open connector whose calls count against a lane's share. Closing is the pool's business."""

    connector: Connector
    lane: Lane

    @property
    def desk(self) -> TicketDesk:
        """The service desk, in the lane."""
        return self.connector.desk.in_lane(self.lane)

    @property
    def webhooks(self) -> WebhookSource:
        """The webhook registry of the remote side."""
        return self.connector.webhooks

    async def check(self) -> Sequence[Check]:
        """The connection test."""
        return await self.connector.check()

    async def aclose(self) -> None:
        """Nothing: the pool keeps the sockets."""


@dataclass(slots=True)
class _Open:
    settings_version: int
    connector: Connector


class ConnectorPool:
    """The open connectors of this process."""

    def __init__(self, database: Database, vault: Vault, budgets: BudgetStore, settings: Settings) -> None:
        self._database = database
        self._vault = vault
        self._budgets = budgets
        self._settings = settings
        self._open: dict[UUID, _Open] = {}
        self._retired: list[tuple[float, Connector]] = []
        self._hooks: OrderedDict[UUID, tuple[float, HookTarget]] = OrderedDict()
        self._misses: OrderedDict[UUID, float] = OrderedDict()
        _pools.add(self)

    async def get(
        self, connection_id: UUID, lane: Lane = Lane.INTERACTIVE, *, whatever_state: bool = False
    ) -> Connector:
        """An open connector of the connection, in the lane. Call it with no transaction open.

        Raises ``NotFound``, :class:`ConnectionPaused`, :class:`ConnectionUntested`,
        :class:`ConnectionBroken`. ``whatever_state`` is for testing and repairing: only archived connections
        are refused then.
        """
        await self._close_retired()
        async with self._database.autocommit() as session:
            row = await repository.find_any(session, connection_id)
            if row is None:
                raise NotFound("There is no such connection.")
            if row.state == State.ARCHIVED:
                self._retire(connection_id)
            refuse_unusable(row, whatever_state=whatever_state)
            known = self._open.get(connection_id)
            if known is not None and known.settings_version == row.settings_version:
                return InLane(known.connector, lane)
            credentials = await self._credentials(session, row)
        # Opening makes no I/O and does not await, so two callers at once cannot both replace the entry
        # unseen.
        known = self._open.get(connection_id)
        if known is None or known.settings_version != row.settings_version:
            self._retire(connection_id)
            known = self._open[connection_id] = _Open(row.settings_version, self._opened(row, credentials))
        return InLane(known.connector, lane)

    async def _credentials(self, session: AsyncSession, row: Connection) -> dict[str, object]:
        try:
            found = await secrets.credentials(session, self._vault, row.id)
        except UndecipherableError as error:
            raise ConnectionBroken(
                f"The credentials of '{row.name}' cannot be decrypted: {error}",
                next_step="Put the missing key back into PARHELION_SECRET_KEYS, or store the credentials again.",
            ) from None
        if found is None:
            raise ConnectionBroken(
                f"'{row.name}' has no credentials.", next_step="Store them with PATCH /v1/connections/{id}."
            )
        return found

    def _opened(self, row: Connection, credentials: dict[str, object]) -> Connector:
        try:
            kind = registry.kind(row.kind)
            config = kind.config.model_validate(row.config)
            secret = kind.credentials.model_validate(credentials)
        except (KeyError, ValidationError) as error:
            # Only the type is shown: the error's text would repeat the credentials.
            raise ConnectionBroken(
                f"The stored settings of '{row.name}' do not fit this version ({type(error).__name__}).",
                next_step="Read the connection, correct its config with PATCH and store the credentials again.",
            ) from None
        context = OpenContext(
            budget_key=_budget_key(row, config),
            budgets=self._budgets,
            allow_private=self._settings.allow_private_egress,
            on_call=_counted(kind.name),
        )
        try:
            return kind.open(config, secret, context)
        except DeskError as error:
            raise ConnectionBroken(error.detail, next_step=error.next_step) from None

    async def hook_target(self, connection_id: UUID) -> HookTarget | None:
        """What proves the sender of a webhook to this connection; ``None`` when there is none or it is
        archived."""
        cached = self._hooks.get(connection_id)
        now = time.monotonic()
        if cached is not None and cached[0] > now:
            return cached[1]
        missed = self._misses.get(connection_id)
        if missed is not None and missed > now:
            return None
        found = await self._read_hook_target(connection_id)
        if found is None:
            _keep(self._misses, connection_id, now + HOOK_TTL_SECONDS, _MISSES_KEPT)
            return None
        _keep(self._hooks, connection_id, (now + HOOK_TTL_SECONDS, found), _HOOKS_KEPT)
        return found

    async def _read_hook_target(self, connection_id: UUID) -> HookTarget | None:
        async with self._database.transaction() as session:
            row = await repository.find_any(session, connection_id)
            if row is None or row.state == State.ARCHIVED:
                return None
            try:
                active = await secrets.active(session, self._vault, connection_id, secrets.Purpose.WEBHOOK)
            except UndecipherableError:
                active = ()  # nothing verifies then: refused until the key is back
        return HookTarget(
            connection_id=row.id,
            tenant_id=row.tenant_id,
            kind=row.kind,
            verifier=verifier_adapter.validate_python(row.verifier),
            secrets=active,
            state=State(row.state),
        )

    def forget(self, connection_id: UUID) -> None:
        """Drop what is kept for webhooks of a connection. Open connectors stay: ``get`` compares versions."""
        self._hooks.pop(connection_id, None)
        self._misses.pop(connection_id, None)

    def _retire(self, connection_id: UUID) -> None:
        """Stop handing a connector out, and close it once nobody can be using it."""
        known = self._open.pop(connection_id, None)
        if known is not None:
            self._retired.append((time.monotonic() + _RETIRED_SECONDS, known.connector))

    async def _close_retired(self) -> None:
        now = time.monotonic()
        while self._retired and self._retired[0][0] <= now:
            _, connector = self._retired.pop(0)
            await connector.aclose()

    async def aclose(self) -> None:
        """Close every connector."""
        connectors = [known.connector for known in self._open.values()] + [old for _, old in self._retired]
        self._open.clear()
        self._retired.clear()
        for connector in connectors:
            await connector.aclose()


def _counted(kind: str) -> Callable[[str, str, int, float], None]:
    """What a connector tells its calls to: (method, path template, status or 0, seconds)."""

    def count(method: str, template: str, status: int, seconds: float) -> None:
        telemetry.observe_vendor_call(kind, method, template, status or None, seconds)

    return count


def _budget_key(row: Connection, config: BaseModel) -> str:
    """Connections of a tenant to the same remote spend the same budget: the remote counts calls, not
    connections. The tenant is part of the key, or one tenant could use up another's by naming its address."""
    remote = getattr(config, "base_url", None)
    if remote is None:
        return f"{row.kind}:{row.id}"
    return f"{row.kind}:" + stable_key(str(row.tenant_id), str(remote), str(getattr(config, "tenant", "") or ""))


def _keep(kept: OrderedDict[UUID, ValueT], key: UUID, value: ValueT, most: int) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)


def refuse_unusable(row: Connection, *, whatever_state: bool) -> None:
    """Raise the failure that names why work may not run over the connection now."""
    match State(row.state):
        case State.ARCHIVED:
            raise ConnectionPaused(f"'{row.name}' is archived.", next_step="Make a new connection.")
        case _ if whatever_state:
            return
        case State.PAUSED:
            reason = f": {row.paused_reason}" if row.paused_reason else ""
            raise ConnectionPaused(
                f"'{row.name}' is paused{reason}.",
                next_step="POST /v1/connections/{id}/resume when it may go on.",
            )
        case State.BROKEN:
            raise ConnectionBroken(
                f"'{row.name}' is broken: {row.broken_reason or 'its last test failed'}",
                next_step="Correct it, then POST /v1/connections/{id}/test.",
            )
        case State.DRAFT:
            raise ConnectionUntested(
                f"'{row.name}' has not passed a test yet.", next_step="POST /v1/connections/{id}/test."
            )
        case State.ACTIVE:
            return


_pools: "weakref.WeakSet[ConnectorPool]" = weakref.WeakSet()


def announce_change(session: AsyncSession, connection_id: UUID) -> None:
    """Once this transaction is committed, every pool of this process drops what it keeps of the
    connection."""

    def forget() -> None:
        for pool in tuple(_pools):
            pool.forget(connection_id)

    after_commit(session, forget)
