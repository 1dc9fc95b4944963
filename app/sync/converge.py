"""One round of a relationship: claim dirty links, look at both sides, decide, store the writes.

The network is talked to between two transactions, never inside one. The writes themselves are sent by the outbox;
a link is not looked at again before they are settled.
"""

import asyncio
import random
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from app.connectors.canonical import BULK_SHARE, DeskError, ErrorClass
from app.core import clock, ids, telemetry
from app.core.backoff import RetryPolicy
from app.core.crypto import Vault
from app.core.db.session import Database, ring_after_commit
from app.core.errors import AppError
from app.core.logging import get_logger
from app.outbox import repository as outbox
from app.outbox.send import BUDGET_RETRY_SECONDS, Trouble
from app.sync import repository
from app.sync.context import Connectors, OpenRelationship, open_relationship
from app.sync.look import SideUnreadable, SideView, look
from app.sync.pacing import hold_seconds
from app.sync.plan import Plan, plan
from app.sync.repository import ClaimedLink
from app.sync.settings import SIDES, Side

log = get_logger(__name__)

LINKS_MAX = 200  # two pages of tickets a side; more would make the first change of a burst wait for the last


class Identities:
    """Who we are at each connection, learnt once a process: lets the inbox recognise echoes without a read."""

    def __init__(self) -> None:
        self._known: dict[UUID, str | None] = {}

    def get(self, connection_id: UUID) -> str | None:
        """Our actor id there, if known."""
        return self._known.get(connection_id)

    async def learn(self, opened: OpenRelationship) -> None:
        """Ask both desks once."""
        for side in SIDES:
            connection_id = opened.connection_id(side)
            if connection_id not in self._known:
                self._known[connection_id] = (await opened.desk(side).identity()).native_id


# One process, one table: the inbox asks it in the transaction that takes events in.
IDENTITIES = Identities()


class Converger:
    """Drains dirty links, one serial lane for each relationship."""

    def __init__(
        self,
        database: Database,
        connectors: Connectors,
        vault: Vault,
        *,
        owner: UUID,
        lease_seconds: float,
        policy: RetryPolicy,
        on_trouble: Trouble,
    ) -> None:
        self._database = database
        self._connectors = connectors
        self._vault = vault
        self._owner = owner
        self._lease = timedelta(seconds=lease_seconds)
        self._policy = policy
        self._on_trouble = on_trouble

    async def due(self) -> list[UUID]:
        """Relationships with links to look at."""
        async with self._database.autocommit() as session:
            return [found for found, _, _ in await repository.due_relationships(session)]

    async def converge(self, relationship_id: UUID) -> bool:
        """One round. Returns whether there may be more."""
        try:
            opened = await open_relationship(self._database, self._connectors, self._vault, relationship_id)
            if opened is None:
                return False
            await IDENTITIES.learn(opened)
        except (AppError, DeskError) as error:
            # A paused or broken connection, or one whose identity could not be read: nothing was concluded.
            await self._put_off_all(relationship_id, str(error))
            return False
        if await self._held(opened):
            return True
        token = ids.new_id()
        async with self._database.transaction() as session:
            links = await repository.claim_links(
                session,
                relationship_id,
                limit=LINKS_MAX,
                lease=self._lease,
                token=token,
                owner=self._owner,
                bulk_first=random.random() < BULK_SHARE,
            )
        if not links:
            return False
        try:
            await self._round(opened, links, token)
        except SideUnreadable as failure:
            await self._put_off(opened, links, token, failure)
        except Exception as error:  # noqa: BLE001  one link's trouble must not hold up the others: each is tried alone
            log.error("sync.round_failed", links=len(links), error=type(error).__name__)
            await self._one_by_one(opened, links, token)
        return True

    async def _one_by_one(self, opened: OpenRelationship, links: Sequence[ClaimedLink], token: UUID) -> None:
        """After a round failed: each link alone; one that fails again is put off with what happened."""
        for link in links:
            try:
                await self._round(opened, [link], token)
            except SideUnreadable as failure:
                await self._put_off(opened, [link], token, failure)
            except Exception as error:
                log.error("sync.link_failed", link=str(link.id), error=type(error).__name__, exc_info=error)
                await self._wait(link, token, f"Looking at it ended in an unexpected {type(error).__name__}.")

    async def _wait(self, link: ClaimedLink, token: UUID, reason: str) -> None:
        attempt = min(link.attempts, self._policy.max_attempts - 1)
        delay = self._policy.delay_seconds(attempt, chance=random.random()) or self._policy.cap_seconds
        async with self._database.transaction() as session:
            when = clock.now() + timedelta(seconds=delay)
            await repository.put_off(session, [link.id], token=token, when=when, reason=reason, counts=True)

    async def _held(self, opened: OpenRelationship) -> bool:
        """Wait a moment when the budget asks for wider batches; true when the caller should ask again."""
        pressure = max(opened.desk(side).pressure() for side in SIDES)
        telemetry.BUDGET_PRESSURE.labels("desk").set(pressure)
        if hold_seconds(pressure, 0) == 0.0:
            return False  # the usual case: nobody needs to be counted
        async with self._database.autocommit() as session:
            waiting, oldest = await repository.waiting(session, opened.relationship.id)
        if oldest is None:
            return False
        hold = hold_seconds(pressure, waiting)
        left = hold - (clock.now() - oldest).total_seconds()
        if left <= 0:
            return False
        await asyncio.sleep(min(left, 0.2))
        return True

    async def _round(self, opened: OpenRelationship, links: Sequence[ClaimedLink], token: UUID) -> None:
        views = await look(opened, links)
        seen: set[tuple[str, str]] = {
            (side, comment.native_id)
            for side in SIDES
            for comments in views[side].comments.values()
            for comment in comments
        }
        mine, fresh = await self._database.run(lambda session: self._store(session, opened, links, views, seen, token))
        _tell(opened, mine, fresh)

    async def _store(
        self,
        session: AsyncSession,
        opened: OpenRelationship,
        links: Sequence[ClaimedLink],
        views: dict[Side, SideView],
        seen: set[tuple[str, str]],
        token: UUID,
    ) -> tuple[list[Plan], int]:
        """Decide and store, in one transaction: the looks' results and the writes that follow from them."""
        known = await repository.known_items(session, opened.relationship.id, "comment", seen)
        under_way = {
            side: any(link.state == "new" and link.origin == side for link in links)
            and await repository.creations_under_way(session, opened.connection_id(side))
            for side in SIDES
        }
        plans = [plan(opened, link, views, known, may_be_ours=under_way[_origin(link)]) for link in links]
        held = await repository.settle(session, [one.settled for one in plans], token=token)
        telemetry.LEASES_LOST.labels("sync").inc(len(links) - len(held))
        mine = [one for one in plans if one.settled.link.id in held]
        fresh = await outbox.enqueue(session, [command for one in mine for command in one.commands])
        await repository.add_ledger(session, [entry for one in mine for entry in one.adopted])
        await repository.add_changes(session, [change for one in mine for change in one.changes])
        if fresh:
            ring_after_commit(session, "outbox")
        return mine, len(fresh)

    async def _put_off(
        self, opened: OpenRelationship, links: Sequence[ClaimedLink], token: UUID, failure: SideUnreadable
    ) -> None:
        """A side could not be asked: nothing is concluded, the links wait."""
        error = failure.error
        counts = error.error not in (ErrorClass.RATE, ErrorClass.AUTH)
        attempts = max(link.attempts for link in links) if counts else 1
        steps = min(attempts, self._policy.max_attempts - 1)
        hint = error.retry_after_seconds
        if error.error is ErrorClass.RATE and hint is not None:
            hint = min(hint, BUDGET_RETRY_SECONDS)
        delay = self._policy.delay_seconds(steps, chance=random.random(), retry_after_seconds=hint)
        async with self._database.transaction() as session:
            await repository.put_off(
                session,
                [link.id for link in links],
                token=token,
                when=clock.now() + timedelta(seconds=delay or self._policy.cap_seconds),
                reason=f"The {failure.side} side could not be asked: {error.detail}",
                counts=counts,
            )
        log.warning("sync.put_off", relationship=str(opened.relationship.id), error=error.error.value)
        if error.error is ErrorClass.AUTH:
            await self._on_trouble(opened.connection_id(failure.side), error)

    async def _put_off_all(self, relationship_id: UUID, why: str) -> None:
        """The relationship cannot be opened (a connection is paused or broken): its links wait a little."""
        token = ids.new_id()
        async with self._database.transaction() as session:
            links = await repository.claim_links(
                session, relationship_id, limit=10_000, lease=self._lease, token=token, owner=self._owner
            )
            when = clock.now() + timedelta(seconds=15)
            held = [link.id for link in links]
            await repository.put_off(session, held, token=token, when=when, reason=why, counts=False)


def _origin(link: ClaimedLink) -> Side:
    return "source" if link.origin == "source" else "target"


def _tell(opened: OpenRelationship, plans: Sequence[Plan], commands: int) -> None:
    log.info(
        "sync.round",
        relationship=str(opened.relationship.id),
        links=len(plans),
        commands=commands,
        conflicts=sum(len(one.changes) for one in plans),
    )
