"""What a worker does, without arq: the drains, the liveness lock, the upkeep.

The drains look for work on their own every few seconds, so a Redis that is away costs latency and nothing else.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

import app.tables  # noqa: F401  foreign keys name tables of rooms this process may not have imported
from app.connections import service as connections
from app.connections.pool import ConnectorPool
from app.connectors.canonical import DeskError
from app.core import clock, ids, telemetry
from app.core.backoff import RetryPolicy
from app.core.config import Settings
from app.core.crypto import Vault
from app.core.db import claims, idempotency
from app.core.db.engine import create_engine
from app.core.db.session import Database
from app.core.http.budget import BudgetStore
from app.core.logging import get_logger
from app.core.stages import LanedStage, LocalDoorbell, Stage
from app.inbox import repository as inbox
from app.inbox.tasks import InboxDrain
from app.outbox import repository as outbox
from app.outbox.send import Sender
from app.sync import repository as sync
from app.sync.converge import Converger
from app.sync.reconcile import Reconciler
from app.worker import heartbeat

log = get_logger(__name__)

QUEUES = ("inbox_message", "outbound_command", "ticket_link", "poll_cursor", "sync_run")
UPKEEP_SECONDS = 2.0
# At 100 events a second the inbox drain would otherwise run 30 times a second for three rows each, at three
# transactions a round; 20 ms of gathering halve its cost, and most of them are spent waiting for a lane anyway.
INBOX_GATHER_SECONDS = 0.02
PRUNE_EVERY = timedelta(minutes=10)
# Of 5,000 rows each: a hundred events a second make 60,000 between two prunings.
PRUNE_ROUNDS = 50


class Runtime:
    """One worker: everything it needs, started and stopped as a whole."""

    def __init__(self, settings: Settings, budgets: BudgetStore) -> None:
        self.settings = settings
        self.owner: UUID = ids.new_id()
        self.doorbell = LocalDoorbell()
        self.database = Database(create_engine(settings, application_name=settings.worker_name), self.doorbell)
        self._liveness_connection: AsyncConnection | None = None
        self._liveness = create_engine(settings, application_name=f"{settings.worker_name} liveness", pooled=False)
        self.vault = Vault.from_settings(settings)
        self.pool = ConnectorPool(self.database, self.vault, budgets, settings)
        self._build(settings)
        self._stages = self._build_stages(settings)
        self._tasks: list[asyncio.Task[None]] = []
        self._upkeep_stop = asyncio.Event()
        self._pruned_at = clock.now()

    def _build(self, settings: Settings) -> None:
        """The drains' work."""
        policy = RetryPolicy(settings.retry_base_seconds, settings.retry_cap_seconds, settings.max_attempts)
        self.inbox = InboxDrain(
            self.database,
            self.pool,
            owner=self.owner,
            lease_seconds=settings.lease_seconds,
            batch_size=settings.drain_batch_size,
            policy=policy,
        )
        self.converger = Converger(
            self.database,
            self.pool,
            self.vault,
            owner=self.owner,
            lease_seconds=settings.lease_seconds,
            policy=policy,
            on_trouble=self.trouble,
        )
        self.sender = Sender(
            self.database,
            self.pool,
            owner=self.owner,
            lease_seconds=settings.lease_seconds,
            batch_size=settings.drain_batch_size,
            policy=policy,
            visibility_lag_seconds=settings.visibility_lag_seconds,
            recovery_after_seconds=settings.recovery_after_seconds,
            on_trouble=self.trouble,
        )
        self.reconciler = Reconciler(
            self.database,
            self.pool,
            self.vault,
            owner=self.owner,
            lease_seconds=settings.lease_seconds,
            interval_seconds=settings.poll_interval_seconds,
            overlap_seconds=settings.poll_overlap_seconds,
            on_trouble=self.trouble,
        )

    def _build_stages(self, settings: Settings) -> list[Stage]:
        """The drains themselves, connected to the doorbell."""
        sweep = settings.sweep_seconds
        self._inbox_stage = Stage("inbox", self.inbox.drain, sweep_seconds=sweep, gather_seconds=INBOX_GATHER_SECONDS)
        self._laned: list[LanedStage[UUID] | LanedStage[tuple[str, UUID]]] = [
            LanedStage("sync", due=self.converger.due, work=self.converger.converge, sweep_seconds=sweep),
            LanedStage("outbox", due=self.sender.due, work=self.sender.drain, sweep_seconds=sweep),
            LanedStage("reconcile", due=self.reconciler.due, work=self.reconciler.work, sweep_seconds=sweep),
        ]
        stages = {"inbox": self._inbox_stage} | {laned.stage.name: laned.stage for laned in self._laned}
        self.doorbell.connect(stages)
        return list(stages.values())

    async def trouble(self, connection_id: UUID, error: DeskError) -> None:
        """Credentials were refused: the connection stops until a person has tested it, its work waits."""
        async with self.database.transaction() as session:
            await connections.mark_broken(session, connection_id, error.detail)
        log.error("connection.broken", connection=str(connection_id), error=error.error.value)

    async def start(self) -> None:
        """Start the drains and the upkeep. Raises when PostgreSQL does not answer."""
        await self._hold_liveness()
        runs: list[tuple[str, Callable[[], Awaitable[None]]]] = [("inbox", self._inbox_stage.run)]
        runs += [(laned.stage.name, laned.run) for laned in self._laned]
        runs.append(("upkeep", self._upkeep))
        for name, run in runs:
            self._tasks.append(asyncio.create_task(_forever(run), name=f"drain {name}"))

    async def stop(self, *, within_seconds: float = 25.0) -> None:
        """Stop claiming, let what was begun finish, close everything."""
        for stage in self._stages:
            stage.stop()
        self._upkeep_stop.set()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=within_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self.pool.aclose()
        await self._let_go()
        await self._liveness.dispose()
        await self.database.aclose()

    async def _hold_liveness(self) -> None:
        connection = await self._liveness.connect()
        await claims.hold_liveness(connection, self.owner)
        self._liveness_connection = connection

    async def _let_go(self) -> None:
        """Give the liveness lock back: whoever tests it then knows that this worker is gone."""
        held, self._liveness_connection = self._liveness_connection, None
        if held is not None:
            with contextlib.suppress(SQLAlchemyError, OSError):
                await held.close()

    async def _upkeep(self) -> None:
        while not self._upkeep_stop.is_set():
            try:
                await self._upkeep_round()
            except Exception as error:  # noqa: BLE001  PostgreSQL may be away for a while; the next round tells
                log.warning("upkeep.failed", error=type(error).__name__)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(UPKEEP_SECONDS):
                    await self._upkeep_stop.wait()

    async def _upkeep_round(self) -> None:
        if self._liveness_connection is None:
            await self._hold_liveness()
        assert self._liveness_connection is not None
        try:
            await heartbeat.beat(self._liveness_connection, self.owner, self.settings.worker_name)
        except (SQLAlchemyError, OSError):
            # Only the end of this very connection gives the lock up: another failed statement of the round had made a
            # living worker look dead, and its rows were taken from it in the middle of a send.
            await self._let_go()
            raise
        async with self.database.transaction() as session:
            freed = await claims.release_orphans(session, QUEUES)
        if freed:
            telemetry.LEASES_LOST.labels("orphans").inc(freed)
            log.warning("leases.freed", rows=freed)
            self.doorbell.ring_all()
        await self._gauges()
        if clock.now() - self._pruned_at > PRUNE_EVERY:
            self._pruned_at = clock.now()
            await self._prune()

    async def _gauges(self) -> None:
        old = clock.now() - timedelta(minutes=5)
        async with self.database.transaction() as session:
            for name, room in (("inbox_message", inbox), ("outbound_command", outbox), ("ticket_link", sync)):
                pending, _, age = await room.backlog(session, older_than=old)
                telemetry.QUEUE_BACKLOG.labels(name).set(pending)
                telemetry.QUEUE_OLDEST.labels(name).set(age)

    async def _prune(self) -> None:
        now = clock.now()
        for room, days in ((inbox, self.settings.inbox_retention_days), (outbox, self.settings.outbox_retention_days)):
            for _ in range(PRUNE_ROUNDS):
                async with self.database.transaction() as session:
                    if not await room.prune(session, before=now - timedelta(days=days)):
                        break
        async with self.database.transaction() as session:
            await idempotency.prune_expired(session)


async def _forever(run: Callable[[], Awaitable[None]]) -> None:
    await run()
