"""Draining the inbox: claim, hand each connection's events to their room, finish; and its upkeep."""

import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from app.connectors import registry
from app.core import clock, ids, telemetry
from app.core.backoff import RetryPolicy
from app.core.db.session import Database, ring_after_commit
from app.core.logging import get_logger
from app.inbox import repository
from app.inbox.dispatch import Delivery, handler
from app.inbox.repository import Claimed

log = get_logger(__name__)

# An echo that overtook the record of our own write is shown again after this; nothing else waits for it.
EARLY_SECONDS = 0.5
EARLY_TRIES_MAX = 20


class Known(Protocol):
    """What is known of a connection without opening it."""

    @property
    def kind(self) -> str: ...


class Targets(Protocol):
    """Where a connection's kind comes from."""

    async def hook_target(self, connection_id: UUID) -> Known | None: ...


class InboxDrain:
    """Empties the inbox in batches."""

    def __init__(
        self,
        database: Database,
        targets: Targets,
        *,
        owner: UUID,
        lease_seconds: float,
        batch_size: int,
        policy: RetryPolicy,
    ) -> None:
        self._database = database
        self._targets = targets
        self._owner = owner
        self._lease = timedelta(seconds=lease_seconds)
        self._batch_size = batch_size
        self._policy = policy

    async def drain(self) -> bool:
        """One claim. Returns whether anything was due."""
        token = ids.new_id()
        async with self._database.transaction() as session:
            claimed = await repository.claim(
                session, limit=self._batch_size, lease=self._lease, token=token, owner=self._owner
            )
        groups: dict[UUID, list[Claimed]] = {}
        for message in claimed:
            groups.setdefault(message.connection_id, []).append(message)
        for connection_id, messages in groups.items():
            try:
                await self._take_in(connection_id, messages, token)
            except Exception as error:  # noqa: BLE001  one event's trouble must not hold up the others: each is tried alone
                log.warning("inbox.group_failed", connection=str(connection_id), error=type(error).__name__)
                await self._one_by_one(connection_id, messages, token)
        return bool(claimed)

    async def _take_in(self, connection_id: UUID, messages: Sequence[Claimed], token: UUID) -> None:
        target = await self._targets.hook_target(connection_id)
        if target is None:
            await self._drop(messages, token, "Its connection is archived.")
            return
        parse = registry.kind(target.kind).parse_hook
        deliveries = [Delivery(message.id, event) for message in messages for event in parse(message.body)]
        finished = await self._database.run(
            lambda session: self._hand_over(session, connection_id, target.kind, deliveries, messages, token)
        )
        telemetry.ATTEMPTS.labels("inbox_message", "done").inc(finished)

    async def _hand_over(
        self,
        session: AsyncSession,
        connection_id: UUID,
        kind: str,
        deliveries: Sequence[Delivery],
        messages: Sequence[Claimed],
        token: UUID,
    ) -> int:
        attempts = {message.id: message.attempts for message in messages}
        shown_again = await handler(kind)(session, connection_id, deliveries)
        early = {message_id for message_id in shown_again if attempts[message_id] < EARLY_TRIES_MAX}
        done = [message.id for message in messages if message.id not in early]
        finished = await repository.finish(session, done, token=token)
        when = clock.now() + timedelta(seconds=EARLY_SECONDS)
        for message_id in early:
            await repository.retry_at(session, message_id, token=token, when=when, error=None)
        ring_after_commit(session, "sync")
        return finished

    async def _one_by_one(self, connection_id: UUID, messages: Sequence[Claimed], token: UUID) -> None:
        """After a group failed: each alone, so that one bad event cannot hold up the others."""
        for message in messages:
            try:
                await self._take_in(connection_id, [message], token)
            except Exception as error:  # noqa: BLE001  it is recorded on its row, and ends as a dead letter
                await self._failed(message, token, error)

    async def _failed(self, message: Claimed, token: UUID, error: Exception) -> None:
        why = f"{type(error).__name__}: {error}"[:500]
        delay = self._policy.delay_seconds(message.attempts, chance=random.random())
        async with self._database.transaction() as session:
            if delay is None:
                await repository.bury(session, message.id, token=token, error=why)
                telemetry.DEAD_LETTERS.labels("inbox_message").inc()
            else:
                when = clock.now() + timedelta(seconds=delay)
                await repository.retry_at(session, message.id, token=token, when=when, error=why)
        telemetry.ATTEMPTS.labels("inbox_message", "dead" if delay is None else "retry").inc()
        log.error("inbox.failed", message=str(message.id), attempt=message.attempts, error=type(error).__name__)

    async def _drop(self, messages: Sequence[Claimed], token: UUID, why: str) -> None:
        async with self._database.transaction() as session:
            for message in messages:
                await repository.bury(session, message.id, token=token, error=why)
        telemetry.DEAD_LETTERS.labels("inbox_message").inc(len(messages))
