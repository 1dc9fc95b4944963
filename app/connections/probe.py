"""Asking the other side: the connection test, its webhooks, its picklists. No transaction is open
meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import ceil
from uuid import UUID

from app.connections import secrets, service, states
from app.connections.errors import RemoteBusy, RemoteFailed, RemoteTimedOut, SecretNotNeeded
from app.connections.models import Connection
from app.connections.pool import ConnectorPool
from app.connections.repository import ConnectionRepository
from app.connections.schemas import hook_url_of, label_of
from app.connectors.canonical import Check, DeskError, ErrorClass, HookState, Lane, Party, Picklists, Verdict
from app.core.config import Settings
from app.core.crypto import Vault
from app.core.db.session import Database
from app.core.errors import AppError


@dataclass(frozen=True, slots=True)
class Probed:
    """A test's result and the connection after it."""

    row: Connection
    verdict: Verdict
    checks: tuple[Check, ...]
    identity: Party | None


def problem_of(error: DeskError) -> AppError:
    """What a desk's failure is to a caller of our API."""
    retry = {"Retry-After": str(ceil(error.retry_after_seconds))} if error.retry_after_seconds else {}
    next_step = error.next_step or "Run POST /v1/connections/{id}/test: it names what is wrong."
    match error.error:
        case ErrorClass.TIMEOUT:
            kind: type[AppError] = RemoteTimedOut
        case ErrorClass.RATE:
            kind = RemoteBusy
            retry = retry or {"Retry-After": "60"}
        case _:
            kind = RemoteFailed
    return kind(error.detail, next_step=next_step, headers=retry, remote_error=error.error.value)


class Prober:
    """Asks the other side of a tenant's connection."""

    def __init__(self, database: Database, pool: ConnectorPool, vault: Vault, settings: Settings) -> None:
        self._database = database
        self._pool = pool
        self._vault = vault
        self._settings = settings

    async def _row(self, tenant_id: UUID, connection_id: UUID) -> Connection:
        async with self._database.transaction() as session:
            return await ConnectionRepository(session, tenant_id).get(connection_id)

    @asynccontextmanager
    async def _asking(self, connection_id: UUID) -> AsyncIterator[None]:
        """Bound the wait and name the failure; refused credentials mark the connection broken."""
        try:
            async with asyncio.timeout(self._settings.job_timeout_seconds):
                yield
        except TimeoutError:
            raise RemoteTimedOut(
                f"The other side did not finish within {self._settings.job_timeout_seconds:g} seconds.",
                next_step="Try again later; if it stays, look at the health of the other side.",
            ) from None
        except DeskError as error:
            if error.error is ErrorClass.AUTH:
                async with self._database.transaction() as session:
                    await service.mark_broken(session, connection_id, error.detail)
            raise problem_of(error) from error

    async def test(self, tenant_id: UUID, connection_id: UUID) -> Probed:
        """Run every check, keep the result, move the connection. Raises what the pool raises,
        ``RemoteTimedOut``."""
        row = await self._row(tenant_id, connection_id)
        connector = await self._pool.get(connection_id, Lane.INTERACTIVE, whatever_state=True)
        async with self._asking(connection_id):
            checks = tuple(await connector.check())
        verdict = states.overall(checks)
        identity: Party | None = None
        if verdict is Verdict.OK:
            async with self._asking(connection_id):
                identity = await connector.desk.identity()
        async with self._database.transaction() as session:
            row = await service.store_checks(
                session,
                connection_id,
                checks=checks,
                identity=identity,
                settings_version=row.settings_version,
            )
        return Probed(row, verdict, checks, identity)

    async def ensure_webhook(self, tenant_id: UUID, connection_id: UUID) -> HookState:
        """Register or repair our webhook there, with the newest secret."""
        await self._row(tenant_id, connection_id)
        async with self._database.transaction() as session:
            known = await secrets.active(session, self._vault, connection_id, secrets.Purpose.WEBHOOK)
        if not known:
            raise SecretNotNeeded(
                "The connection has no webhook secret to give to the other side.",
                next_step="Set a verifier with PATCH, then rotate the webhook secret.",
            )
        connector = await self._pool.get(connection_id, whatever_state=True)
        async with self._asking(connection_id):
            return await connector.webhooks.ensure_webhook(
                url=hook_url_of(self._settings.public_url, connection_id),
                secret=known[0],
                label=label_of(connection_id),
            )

    async def inspect_webhook(self, tenant_id: UUID, connection_id: UUID) -> HookState:
        """What is registered there now."""
        await self._row(tenant_id, connection_id)
        connector = await self._pool.get(connection_id, whatever_state=True)
        async with self._asking(connection_id):
            return await connector.webhooks.inspect_webhook(
                url=hook_url_of(self._settings.public_url, connection_id), label=label_of(connection_id)
            )

    async def remove_webhooks(self, tenant_id: UUID, connection_id: UUID) -> int:
        """Remove every webhook of ours there; returns how many."""
        await self._row(tenant_id, connection_id)
        connector = await self._pool.get(connection_id, whatever_state=True)
        async with self._asking(connection_id):
            return await connector.webhooks.remove_webhook(label=label_of(connection_id))

    async def picklists(self, tenant_id: UUID, connection_id: UUID) -> Picklists:
        """What one may choose from there."""
        await self._row(tenant_id, connection_id)
        connector = await self._pool.get(connection_id, whatever_state=True)
        async with self._asking(connection_id):
            return await connector.desk.picklists()
