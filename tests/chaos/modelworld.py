"""Two model desks, people at both, and the real engine between them on a real PostgreSQL. Time moves only when told."""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

from sqlalchemy import text

from app.connectors.canonical import HookEvent, Lane, TicketField, Visibility
from app.core import ids
from app.core.backoff import RetryPolicy
from app.core.crypto import Vault
from app.core.db import claims
from app.core.db.session import Database
from app.inbox.dispatch import Delivery
from app.outbox.send import Sender
from app.sync.converge import Converger
from app.sync.inbound import take_in
from app.sync.maps import same_text
from app.sync.reconcile import Reconciler
from app.sync.repository import polls
from app.sync.settings import RelationshipSettings, ValuePair
from app.worker.runtime import QUEUES
from tests.chaos.modeldesk import HUMAN, Crash, Mischief, ModelDesk
from tests.support.memorydesk import NoWebhooks
from tests.support.rows import Pair, add_pair

A_STATUSES = ("new", "working", "onhold", "waitcust", "done")
B_STATUSES = ("Open", "Pending", "Solved")
TO_B = {"working": "Open", "new": "Open", "waitcust": "Pending", "onhold": "Pending", "done": "Solved"}
SUMMARIES = (" printer  burns ", "vpn drops", "mail is slow  ", "x", "a  b")
LAG = timedelta(seconds=4)
_START = datetime(2031, 5, 5, 8, tzinfo=UTC)
_words = count(1)


class Hands:
    """The virtual clock: a stand-in for ``clock.now``."""

    def __init__(self) -> None:
        self.at = _START

    def now(self) -> datetime:
        """The present moment of the model."""
        return self.at

    def pass_by(self, seconds: float) -> None:
        """Let time pass."""
        self.at += timedelta(seconds=seconds)


@dataclass
class _Connector:
    desk: Any  # a ModelDesk, or what a test has put around one
    kind: str = "testdesk"

    @property
    def webhooks(self) -> NoWebhooks:
        return NoWebhooks()

    async def check(self) -> tuple[()]:
        return ()

    async def aclose(self) -> None:
        return


@dataclass
class _Connectors:
    by_id: dict[UUID, _Connector]

    async def get(self, connection_id: UUID, lane: Lane = Lane.INTERACTIVE) -> _Connector:
        return self.by_id[connection_id]

    async def hook_target(self, connection_id: UUID) -> _Connector:
        return self.by_id[connection_id]


async def _no_trouble(connection_id: UUID, error: Exception) -> None:
    raise AssertionError(f"no credentials are refused here: {error}")


@dataclass
class World:
    """One history. ``rng`` decides everything in it."""

    database: Database
    vault: Vault
    hands: Hands
    rng: random.Random
    a: ModelDesk
    b: ModelDesk
    pair: Pair
    connectors: _Connectors
    mischief: Mischief
    humans: int = 0
    crashes: int = 0
    people_at: tuple[str, ...] = ("A", "B")
    waiting: dict[str, list[HookEvent]] = field(default_factory=lambda: {"A": [], "B": []})

    # People

    def somebody_acts(self, desk: ModelDesk | None = None) -> None:
        """One random thing that a person does, at ``desk`` or at either."""
        if desk is None or desk.name not in self.people_at:
            desk = self.rng.choice([one for one in (self.a, self.b) if one.name in self.people_at])
        chance = self.rng.random()
        if chance < 0.2 or not desk.tickets:
            desk.born({name: self._value(desk, name) for name in TicketField})
            self.humans += 1
            return
        ticket_id = self.rng.choice(list(desk.tickets))
        if chance < 0.6:
            name = self.rng.choice(list(TicketField))
            desk.edit(ticket_id, name, self._value(desk, name))
        else:
            shown = Visibility.PUBLIC if self.rng.random() < 0.75 else Visibility.PRIVATE
            desk.say(ticket_id, f"word-{next(_words)}-{shown.value}", shown)

    def _value(self, desk: ModelDesk, name: TicketField) -> str:
        if name is TicketField.STATUS:
            return self.rng.choice(desk.statuses)
        if name is TicketField.PRIORITY:
            return str(self.rng.randint(1, 4))
        return f"{self.rng.choice(SUMMARIES)} {self.rng.randrange(1000)}"

    # The hub

    def _engine(self) -> tuple[Converger, Sender, Reconciler]:
        """A fresh process."""
        owner, policy = ids.new_id(), RetryPolicy(1.0, 4.0, 1000)
        converger = Converger(
            self.database,
            self.connectors,
            self.vault,
            owner=owner,
            lease_seconds=90,
            policy=policy,
            on_trouble=_no_trouble,
        )
        sender = Sender(
            self.database,
            self.connectors,
            owner=owner,
            lease_seconds=90,
            batch_size=50,
            policy=policy,
            visibility_lag_seconds=LAG.total_seconds() + 1,
            recovery_after_seconds=1,
            on_trouble=_no_trouble,
        )
        reconciler = Reconciler(
            self.database,
            self.connectors,
            self.vault,
            owner=owner,
            lease_seconds=90,
            interval_seconds=20,
            overlap_seconds=600,
            on_trouble=_no_trouble,
        )
        return converger, sender, reconciler

    async def deliver(self, *, all_of_them: bool = False) -> None:
        """Some events arrive: late, in any order, twice, or never."""
        for desk, connection_id in ((self.a, self.pair.source_id), (self.b, self.pair.target_id)):
            queue = self.waiting[desk.name]
            for event in desk.events:
                fate = 1.0 if all_of_them else self.rng.random()
                queue.extend([] if fate < 0.15 else [event, event] if fate < 0.3 else [event])
            desk.events.clear()
            self.rng.shuffle(queue)
            arriving = len(queue) if all_of_them else self.rng.randint(0, len(queue))
            batch = [Delivery(ids.new_id(), event) for event in queue[:arriving]]
            self.waiting[desk.name] = queue[arriving:]
            if batch:
                self.waiting[desk.name] += await self._taken_in(connection_id, batch)

    async def _taken_in(self, connection_id: UUID, batch: list[Delivery]) -> list[HookEvent]:
        """The events that have to be shown again: early echoes, or all, when the process dies while taking them in."""
        try:
            early = set(await self.database.run(lambda session: take_in(session, connection_id, batch)))
        except Crash:
            self.crashes += 1
            return [one.event for one in batch]
        return [one.event for one in batch if one.message_id in early]

    async def work(self, *, poll: bool) -> None:
        """One round of everything by a process that may die on the way."""
        converger, sender, reconciler = self._engine()
        try:
            if poll:
                await self._poll(reconciler)
            await converger.converge(self.pair.relationship_id)
            for connection_id in (self.pair.source_id, self.pair.target_id):
                await sender.drain(connection_id)
        except Crash:
            self.crashes += 1
            async with self.database.transaction() as session:
                await claims.release_orphans(session, QUEUES)

    async def _poll(self, reconciler: Reconciler) -> None:
        async with self.database.transaction() as session:
            for connection_id in (self.pair.source_id, self.pair.target_id):
                await polls.poll_soon(session, connection_id)
        for kind, row_id in await reconciler.due():
            await reconciler.work((kind, row_id))

    async def live(self, rounds: int) -> None:
        """A history: people act, time passes, the hub works and dies."""
        for _ in range(rounds):
            for _ in range(self.rng.choice((1, 2, 3, 5))):
                self.somebody_acts()
                self.hands.pass_by(self.rng.random() * 1.2)
            await self.deliver()
            await self.work(poll=self.rng.random() < 0.2)

    async def settle(self, passes_max: int = 25, *, at_least: int = 4, polls: tuple[int, ...] = (0, 3)) -> int:
        """Everybody goes home, everything works: how many passes until the hub has nothing left to do.

        By the first poll what was dropped is found; a later one must change nothing."""
        self.mischief.off()
        for number in range(passes_max):
            self.hands.pass_by(8)
            await self.deliver(all_of_them=True)
            await self.work(poll=number in polls)
            if number >= at_least and await self.is_idle():
                return number
        raise AssertionError(f"still busy after {passes_max} passes")

    async def is_idle(self) -> bool:
        """Whether nothing waits."""
        if any(self.waiting.values()) or self.a.events or self.b.events:
            return False
        async with self.database.autocommit() as session:
            connection = await session.connection()
            left = await connection.scalar(
                text(
                    "SELECT (SELECT count(*) FROM ticket_link WHERE relationship_id = :r AND dirty_since IS NOT NULL)"
                    " + (SELECT count(*) FROM outbound_command WHERE tenant_id = :t AND status = 'pending')"
                ),
                {"r": self.pair.relationship_id, "t": self.pair.tenant_id},
            )
        return int(left or 0) == 0

    async def end(self) -> None:
        """The hub's polls leave this world alone from now on."""
        async with self.database.transaction() as session:
            connection = await session.connection()
            await connection.execute(
                text("UPDATE relationship SET state = 'archived' WHERE id = :r"), {"r": self.pair.relationship_id}
            )

    @property
    def writes(self) -> int:
        """What the hub has written at both sides."""
        return self.a.writes + self.b.writes

    # The judgement

    async def faults(self) -> list[str]:
        """What is wrong in the end, in words; empty when every promise held."""
        wrong: list[str] = []
        if not len(self.a.tickets) == len(self.b.tickets) == self.humans:
            wrong.append(f"tickets: {self.humans} born, {len(self.a.tickets)} at A, {len(self.b.tickets)} at B")
        links = await self._links()
        if len(links) != self.humans:
            wrong.append(f"links: {len(links)} for {self.humans} tickets")
        for left, right in links:
            if left is None or right is None:
                wrong.append(f"one-sided link {left} {right}")
                continue
            wrong += self._fields(left, right)
            wrong += _conversation(self.a, self.b, left, right) + _conversation(self.b, self.a, right, left)
        return wrong

    async def _links(self) -> list[tuple[str | None, str | None]]:
        async with self.database.autocommit() as session:
            connection = await session.connection()
            rows = await connection.execute(
                text(
                    "SELECT source_ticket_id, target_ticket_id FROM ticket_link WHERE relationship_id = :r "
                    "AND state <> 'ignored'"
                ),
                {"r": self.pair.relationship_id},
            )
            return [(row[0], row[1]) for row in rows]

    def _fields(self, left: str, right: str) -> list[str]:
        wrong = []
        for name in TicketField:
            here, there = self.a.tickets[left].values[name], self.b.tickets[right].values[name]
            if not same_text(_in_b(name, here), there):
                wrong.append(f"{left}/{right} {name}: {here!r} at A, {there!r} at B")
            last_words = (self.a.human_last.get((left, name)), self.b.human_last.get((right, name)))
            said = [_in_b(name, value) for value in last_words if value is not None]
            if said and not any(same_text(there, one) for one in said):
                wrong.append(f"{left}/{right} {name}: {there!r} is nobody's last word of {said}")
        return wrong


def _in_b(name: TicketField, value: str) -> str:
    return TO_B.get(value, value) if name is TicketField.STATUS else value


def _conversation(home: ModelDesk, away: ModelDesk, here: str, there: str) -> list[str]:
    """Every public word of people at home stands once, in order, away; no private one does."""
    spoken = [one for one in home.comments[here] if one.author.native_id == HUMAN]
    public = [one.text for one in spoken if one.visibility is Visibility.PUBLIC]
    copies = [one.text.split("\n\n", 1)[-1] for one in away.comments[there] if one.author.native_id != HUMAN]
    wrong = []
    if sorted(copies) != sorted(public):
        wrong.append(f"{here}: {public} became {copies}")
    elif copies != public:
        wrong.append(f"{here}: order {public} became {copies}")
    leaked = [one.text for one in spoken if one.visibility is Visibility.PRIVATE and any(one.text in c for c in copies)]
    return wrong + [f"{here}: leaked {leaked}"] * bool(leaked)


async def new_world(
    database: Database,
    vault: Vault,
    hands: Hands,
    seed: int,
    *,
    crash: float = 0.12,
    lost_answer: float = 0.1,
    people: float = 0.05,
    people_at: tuple[str, ...] = ("A", "B"),
) -> World:
    """A world without tickets. The probabilities are for one remote call (crash: one element)."""
    rng = random.Random(seed)
    random.seed(seed)  # the engine's own jitter
    mischief = Mischief(rng, crash, lost_answer, people, LAG)
    a = ModelDesk("A", A_STATUSES, "done", mischief)
    b = ModelDesk("B", B_STATUSES, "Solved", mischief, trims=True)
    settings = RelationshipSettings(
        reverse=True,
        source={"resolution": "r"},
        target={"resolution": "r"},
        status_map=tuple(ValuePair(source=left, target=right) for left, right in TO_B.items()),
        priority_map=tuple(ValuePair(source=str(one), target=str(one)) for one in range(1, 5)),
    )
    pair = await add_pair(database, vault=vault, settings=settings)
    async with database.transaction() as session:
        for connection_id in (pair.source_id, pair.target_id):
            await polls.ensure_cursor(session, pair.tenant_id, connection_id, watermark=hands.at)
    connectors = _Connectors({pair.source_id: _Connector(a), pair.target_id: _Connector(b)})
    world = World(database, vault, hands, rng, a, b, pair, connectors, mischief, people_at=people_at)
    mischief.meddle = world.somebody_acts
    return world
