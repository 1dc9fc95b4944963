"""Sending: claim, look when in doubt, call, record.

The network is talked to with no transaction open. What a call brought is recorded in one transaction with its
effects (ledger, shadow), and only for rows that we still hold. Three addresses of failure: before the call (give
back, nothing counted), the remote's answer (retry or dead letter), after the call (leave the row in doubt: the next
try looks first).
"""

import random
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from sqlalchemy.exc import DBAPIError
from sqlmodel.ext.asyncio.session import AsyncSession

from app.connectors.canonical import BULK_SHARE, Deferred, DeskError, ErrorClass, Lane, Refused, WriteResult, Written
from app.connectors.ports import Connector, Connectors
from app.core import clock, ids, telemetry
from app.core.backoff import RetryPolicy
from app.core.db.session import Database, ring_after_commit
from app.core.errors import AppError
from app.core.logging import get_logger
from app.outbox import repository
from app.outbox.batch import Batch, Outcome
from app.outbox.commands import ClaimedCommand
from app.outbox.handlers import handler
from app.outbox.report import attempt_of, tell

log = get_logger(__name__)

# A budget may come back earlier than it said (the window rolls, Redis comes back): asking again costs no call.
BUDGET_RETRY_SECONDS = 15.0

NOT_VISIBLE_YET = "An earlier try may have done this; it is not visible yet."
# One send must end well within its lease: HaloPSA takes it as one or two calls of at most 20 s each.
SEND_MAX = 100
LOOKS_AT_ONCE = 3
# What waited longer than this is asked about again: a desk that was away for a night must not get
# a comment that was hidden in the evening.
STILL_WANTED_FOR = timedelta(minutes=2)
# An unreachable desk says nothing about a write either; but a write that makes the desk fail must end some day.
GIVE_UP_AFTER = timedelta(hours=24)
_PATIENT = frozenset({ErrorClass.UNAVAILABLE, ErrorClass.TIMEOUT})

# These say nothing about the write itself, so they do not use up its tries.
_NOT_ITS_FAULT = frozenset({ErrorClass.RATE, ErrorClass.AUTH, ErrorClass.MISCONFIGURED})


class Trouble(Protocol):
    """Told when a connection's credentials are refused: the connection pauses, its writes wait."""

    async def __call__(self, connection_id: UUID, error: DeskError) -> None: ...


class Sender:
    """Drains the outbox, one serial lane for each connection."""

    def __init__(
        self,
        database: Database,
        connectors: Connectors,
        *,
        owner: UUID,
        lease_seconds: float,
        batch_size: int,
        policy: RetryPolicy,
        visibility_lag_seconds: float,
        recovery_after_seconds: float,
        on_trouble: Trouble,
    ) -> None:
        self._database = database
        self._connectors = connectors
        self._owner = owner
        self._lease = timedelta(seconds=lease_seconds)
        self._batch_size = batch_size
        self._policy = policy
        self._lag = timedelta(seconds=visibility_lag_seconds)
        self._recovery_after_seconds = recovery_after_seconds
        self._on_trouble = on_trouble

    async def due(self) -> list[UUID]:
        """Connections with something to send."""
        async with self._database.autocommit() as session:
            return [connection_id for _, connection_id in await repository.connections_due(session)]

    async def drain(self, connection_id: UUID) -> bool:
        """One claim of one connection. Returns whether anything was due."""
        token = ids.new_id()
        async with self._database.transaction() as session:
            commands = await repository.claim(
                session,
                connection_id,
                limit=self._batch_size,
                lease=self._lease,
                token=token,
                owner=self._owner,
                bulk_first=random.random() < BULK_SHARE,
            )
        if not commands:
            return False
        batch = Batch.of(commands)
        try:
            lane = Lane.BULK if commands[0].lane == Lane.BULK.value else Lane.INTERACTIVE
            connector = await self._connectors.get(connection_id, lane)
        except (AppError, DeskError) as error:
            await self._connection_unusable(commands, token, str(error))
            return True
        while batch.queues:
            for kind, run in batch.next_runs().items():
                outcomes = await self._perform(connector, kind, run, token)
                batch.settle(outcomes)
                auth = next((o.result for o in outcomes if _is_auth(o.result)), None)
                if isinstance(auth, Deferred):
                    await self._on_trouble(connection_id, DeskError(ErrorClass.AUTH, auth.detail))
                    batch.put_off()
                    break
        try:
            await self._record(batch, token)
        except DBAPIError as error:
            await self._record_one_by_one(batch, token, error)
        except BaseException:
            # Everything stays in doubt, and is looked for at once instead of after the lease.
            await self._leave_in_doubt(commands, token)
            raise
        return True

    async def _record_one_by_one(self, batch: Batch, token: UUID, error: DBAPIError) -> None:
        """One result cannot be stored: it must not take the others with it."""
        log.error("outbox.record_failed", outcomes=len(batch.outcomes), error=type(error.orig).__name__)
        for outcome in batch.outcomes:
            try:
                await self._record(Batch(outcomes=[outcome]), token)
            except DBAPIError as failure:
                if failure.connection_invalidated:
                    raise
                await self._give_up_or_doubt(outcome.command, token)
        await self._record(Batch(untouched=batch.untouched), token)

    async def _give_up_or_doubt(self, command: ClaimedCommand, token: UUID) -> None:
        """A result that cannot be stored is looked for again, and in the end left to a person."""
        if command.attempts < self._policy.max_attempts:
            await self._leave_in_doubt([command], token)
            return
        async with self._database.transaction() as session:
            if await repository.held(session, [command.id], token=token):
                await repository.bury(
                    session,
                    command.id,
                    error_class=ErrorClass.VALIDATION.value,
                    error_detail="What the remote side answered could not be stored.",
                    next_step="Look at the ticket at the remote side; report this with the command's id.",
                    in_doubt=True,
                )

    async def _leave_in_doubt(self, commands: Sequence[ClaimedCommand], token: UUID) -> None:
        async with self._database.transaction() as session:
            when = clock.now() + timedelta(seconds=self._recovery_after_seconds)
            await repository.leave_in_doubt(session, [command.id for command in commands], token=token, when=when)

    async def _perform(
        self, connector: Connector, kind: str, commands: list[ClaimedCommand], token: UUID
    ) -> list[Outcome]:
        """Look for those in doubt, send the others in one go."""
        outcomes: list[Outcome] = []
        to_send = [command for command in commands if not command.in_doubt]
        in_doubt = [command for command in commands if command.in_doubt]
        if in_doubt:
            started = time.perf_counter()
            looked = await self._look(connector, kind, in_doubt)
            spent = _since(started)
            for command, result in zip(in_doubt, looked, strict=True):
                if result is None:
                    to_send.append(command)
                else:
                    adopted = isinstance(result, Written)
                    outcomes.append(Outcome(command, result, adopted=adopted, milliseconds=spent))
            to_send.sort(key=lambda command: command.sequence)
        held_up: set[str] = {o.command.ordering_key for o in outcomes if isinstance(o.result, Deferred)}
        for start in range(0, len(to_send), SEND_MAX):
            part = to_send[start : start + SEND_MAX]
            judged = await self._withdrawn(kind, part)
            outcomes += judged
            held_up |= {o.command.ordering_key for o in judged if isinstance(o.result, Deferred)}
            taken_back = {outcome.command.id for outcome in judged}
            wanted = [command for command in part if command.id not in taken_back]
            sent = await self._send(connector, kind, wanted, held_up, token) if wanted else []
            outcomes += sent
            held_up |= {o.command.ordering_key for o in sent if isinstance(o.result, Deferred)}
        return outcomes

    async def _withdrawn(self, kind: str, commands: Sequence[ClaimedCommand]) -> list[Outcome]:
        """Of writes that waited long: those that are not wanted any more, and those of which nobody can say now."""
        long_ago = clock.now() - STILL_WANTED_FOR
        waited = [command for command in commands if command.created_at < long_ago]
        if not waited:
            return []
        try:
            results = await handler(kind).withdrawn(self._connectors, waited)
        except (AppError, DeskError) as error:
            words = f"Whether it is still wanted could not be asked: {error}"
            return [
                Outcome(command, Deferred(command.key, ErrorClass.UNAVAILABLE, words, perhaps_done=command.in_doubt))
                for command in waited
            ]
        return [Outcome(command, result) for command, result in zip(waited, results, strict=True) if result is not None]

    async def _send(
        self, connector: Connector, kind: str, commands: Sequence[ClaimedCommand], held_up: set[str], token: UUID
    ) -> list[Outcome]:
        """One send of what we still hold and what no earlier one of its order holds up."""
        async with self._database.transaction() as session:
            ours = await repository.mark_tried(
                session, [command.id for command in commands], token=token, lease=self._lease
            )
        sendable = [command for command in commands if command.id in ours and command.ordering_key not in held_up]
        left = [command for command in commands if command not in sendable]
        started = time.perf_counter()
        try:
            results = await handler(kind).send(connector, sendable) if sendable else []
        except DeskError as error:  # nothing was sent: budget empty, token refused, name does not resolve
            results = [_not_sent(command, error) for command in sendable]
        except Exception as error:
            log.error("outbox.send_failed", kind=kind, error=type(error).__name__, exc_info=error)
            results = [_unexpected(command, error) for command in sendable]
        spent = _since(started)
        sent = [Outcome(command, result, milliseconds=spent) for command, result in zip(sendable, results, strict=True)]
        waiting = "Another worker has taken it over, or an earlier write of the same ticket waits."
        kept = Deferred("", ErrorClass.UNAVAILABLE, waiting, perhaps_done=False)
        return sent + [Outcome(command, kept) for command in left]

    async def _look(
        self, connector: Connector, kind: str, commands: Sequence[ClaimedCommand]
    ) -> Sequence[WriteResult | None]:
        """For each: the result of an earlier try, ``None`` to do it now, or a deferral until looking is conclusive."""
        try:
            found = await handler(kind).look(connector, commands)
        except DeskError as error:
            return [_not_sent(command, error) for command in commands]
        return [
            result if result is not None else self._not_visible_yet(command)
            for command, result in zip(commands, found, strict=True)
        ]

    def _not_visible_yet(self, command: ClaimedCommand) -> Deferred | None:
        """Some desks list late what they have just created: only a look after the lag may say "not there"."""
        if command.tried_at is None:
            return None  # nothing was ever sent: it was only to be made sure
        wait = (command.tried_at + self._lag - clock.now()).total_seconds()
        if wait <= 0:
            return None
        return Deferred(
            command.key,
            ErrorClass.TIMEOUT,
            NOT_VISIBLE_YET,
            perhaps_done=True,
            retry_after_seconds=wait,
        )

    async def _record(self, batch: Batch, token: UUID) -> None:
        """One transaction: results, their effects, retries and what was given back."""
        mine = await self._database.run(lambda session: self._record_in(session, batch, token))
        lost = len(batch.outcomes) - len(mine)
        if lost:
            telemetry.LEASES_LOST.labels("outbox").inc(lost)
        tell(mine)

    async def _record_in(self, session: AsyncSession, batch: Batch, token: UUID) -> list[Outcome]:
        held = await repository.held(session, [outcome.command.id for outcome in batch.outcomes], token=token)
        mine = [outcome for outcome in batch.outcomes if outcome.command.id in held]
        locks = {handler(outcome.command.kind).lock for outcome in mine}
        for lock in locks:
            await lock(session, [outcome.command.subject_id for outcome in mine])
        final: dict[str, list[tuple[ClaimedCommand, WriteResult]]] = {}
        written: dict[UUID, str] = {}
        for outcome in mine:
            settled = await self._settle_one(session, outcome, written)
            if settled is not None:
                final.setdefault(outcome.command.kind, []).append((outcome.command, settled))
        await repository.finish_many(session, written)
        for kind, results in final.items():
            await handler(kind).record(session, results)
        await repository.record_attempts(session, [attempt_of(outcome) for outcome in mine])
        await repository.release(session, [command.id for command in batch.untouched], token=token)
        if final:
            ring_after_commit(session, "sync")
        return mine

    async def _settle_one(
        self, session: AsyncSession, outcome: Outcome, written: dict[UUID, str]
    ) -> WriteResult | None:
        """Store one outcome; returns the result when it is final."""
        command, result = outcome.command, outcome.result
        if isinstance(result, Written):
            written[command.id] = result.native_id
            return result
        if isinstance(result, Refused):
            telemetry.DEAD_LETTERS.labels("outbound_command").inc()
            await repository.bury(
                session,
                command.id,
                error_class=result.error.value,
                error_detail=result.detail,
                next_step=result.next_step,
                in_doubt=False,
            )
            return result
        innocent = result.error in _NOT_ITS_FAULT or result.detail == NOT_VISIBLE_YET
        delay = self._delay_seconds(command, result, innocent=innocent)
        if delay is None and not innocent:
            gone = Refused(
                command.key,
                result.error,
                f"Given up after {command.attempts} tries. Last: {result.detail}",
                "See what the remote side says, then replay it.",
            )
            telemetry.DEAD_LETTERS.labels("outbound_command").inc()
            await repository.bury(
                session,
                command.id,
                error_class=gone.error.value,
                error_detail=gone.detail,
                next_step=gone.next_step,
                in_doubt=result.perhaps_done or command.in_doubt,
            )
            outcome.result = gone
            return gone
        await repository.retry_at(
            session,
            command.id,
            when=clock.now() + timedelta(seconds=delay if delay is not None else 30.0),
            error_class=result.error.value,
            error_detail=result.detail,
            surely_not_done=not result.perhaps_done,
            tried_at=command.tried_at,
            counts=not innocent,
        )
        return None

    def _delay_seconds(self, command: ClaimedCommand, result: Deferred, *, innocent: bool) -> float | None:
        """Seconds until the next try, or ``None`` to give up."""
        attempt = max(1, command.attempts - (1 if innocent else 0))
        if result.error in _PATIENT and clock.now() - command.created_at < GIVE_UP_AFTER:
            attempt = min(attempt, self._policy.max_attempts - 1)
        hint = result.retry_after_seconds
        if result.error is ErrorClass.RATE and hint is not None:
            hint = min(hint, BUDGET_RETRY_SECONDS)
        if result.perhaps_done and command.attempts <= LOOKS_AT_ONCE:
            # Looking costs one read: no reason to wait for the whole back-off the first times.
            return min(hint if hint is not None else self._recovery_after_seconds, self._policy.cap_seconds)
        return self._policy.delay_seconds(attempt, chance=random.random(), retry_after_seconds=hint)

    async def _connection_unusable(self, commands: Sequence[ClaimedCommand], token: UUID, why: str) -> None:
        """The connection is paused, broken or cannot be opened: its writes wait, no try is counted."""
        async with self._database.transaction() as session:
            held = await repository.held(session, [command.id for command in commands], token=token)
            tried = {command.id: command.tried_at for command in commands}
            for command_id in held:
                await repository.retry_at(
                    session,
                    command_id,
                    when=clock.now() + timedelta(seconds=15),
                    error_class=ErrorClass.AUTH.value,
                    error_detail=why,
                    surely_not_done=True,
                    counts=False,
                    tried_at=tried.get(command_id),
                )


def _is_auth(result: WriteResult) -> bool:
    return isinstance(result, Deferred) and result.error is ErrorClass.AUTH


def _not_sent(command: ClaimedCommand, error: DeskError) -> Deferred:
    return Deferred(
        command.key,
        error.error,
        error.detail,
        perhaps_done=command.in_doubt,
        retry_after_seconds=error.retry_after_seconds,
    )


def _unexpected(command: ClaimedCommand, error: Exception) -> Deferred:
    words = f"Sending ended in an unexpected {type(error).__name__}."
    return Deferred(command.key, ErrorClass.UNAVAILABLE, words, perhaps_done=True)


def _since(started: float) -> int:
    return int((time.perf_counter() - started) * 1000)
