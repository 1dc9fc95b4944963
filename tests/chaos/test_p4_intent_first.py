"""Promise 4: every write is a row first, so after a death at any moment we look before we create."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from app.connectors.canonical import TicketField, Visibility
from app.core import clock
from app.core.config import Settings
from app.core.crypto import Vault
from app.core.db.engine import create_engine
from app.core.db.session import Database
from app.sync.outbound import CommentCreate, TicketCreate
from tests.chaos.modeldesk import Crash, ModelDesk
from tests.chaos.modelworld import Hands, World, new_world
from tests.support.comparing import differences
from tests.support.desks import TIMES_OUT, post_fault
from tests.support.stage import Stage


@dataclass
class Wire:
    """Counts the moments at which a process may die, and lets it die at one of them."""

    deadly: int | None = None
    armed: bool = False
    passed: list[str] = field(default_factory=list)

    def step(self, name: str) -> None:
        """One such moment."""
        if not self.armed:
            return
        self.passed.append(name)
        if len(self.passed) - 1 == self.deadly:
            raise Crash


class MortalDatabase(Database):
    """A process may die before it begins a transaction, before its commit, and right after it."""

    wire: Wire

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        self.wire.step("before a transaction")
        async with super().transaction() as session:
            yield session
            self.wire.step("before a commit")
        self.wire.step("after a commit")


class MortalDesk:
    """A process may die before each call to the desk, and right after it."""

    def __init__(self, desk: ModelDesk, wire: Wire) -> None:
        self._desk, self._wire = desk, wire

    def in_lane(self, lane: object) -> "MortalDesk":
        return self

    def __getattr__(self, name: str) -> Any:
        real: Callable[..., Any] = getattr(self._desk, name)
        if name in ("pressure", "changed_tickets"):
            return real

        async def call(*arguments: Any, **named: Any) -> Any:
            self._wire.step(f"before {name} at {self._desk.name}")
            answer = await real(*arguments, **named)
            self._wire.step(f"after {name} at {self._desk.name}")
            return answer

        return call


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    found = Hands()
    monkeypatch.setattr(clock, "now", found.now)
    return found


async def mortal_world(settings: Settings, hands: Hands, wire: Wire) -> World:
    """A quiet world with one pair of tickets, then a busy moment at both sides that nobody has carried yet."""
    database = MortalDatabase(create_engine(settings, application_name="mortal"))
    database.wire = wire
    world = await new_world(database, Vault.from_settings(settings), hands, 1, crash=0, lost_answer=0, people=0)
    for connector in world.connectors.by_id.values():
        connector.desk = MortalDesk(connector.desk, wire)
    a, b = world.a, world.b
    old = a.born({TicketField.SUMMARY: "first", TicketField.STATUS: "working"})
    world.humans += 1
    await world.settle(at_least=0, polls=())
    [twin] = b.tickets
    for number in range(2):
        a.say(old, f"a{number}", Visibility.PUBLIC)
        b.say(twin, f"b{number}", Visibility.PUBLIC)
    a.say(old, "secret", Visibility.PRIVATE)
    a.edit(old, TicketField.SUMMARY, "first, and more")
    a.edit(old, TicketField.STATUS, "done")
    b.edit(twin, TicketField.PRIORITY, "1")
    new = a.born({TicketField.SUMMARY: "second", TicketField.STATUS: "onhold"})
    a.say(new, "early words", Visibility.PUBLIC)
    b.born({TicketField.SUMMARY: "third", TicketField.STATUS: "Solved"})
    world.humans += 2
    world.mischief.rng = Random(1)
    return world


async def lived(settings: Settings, hands: Hands, wire: Wire) -> list[str]:
    """Carry everything, dying where the wire says; what is wrong in the end."""
    world = await mortal_world(settings, hands, wire)
    try:
        wire.armed = True
        await world.settle(at_least=0, polls=())
        wire.armed = False
        wrong = await world.faults()
        await world.end()
        return wrong
    finally:
        wire.armed = False
        await world.database.aclose()


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.usefixtures("testdesk")
@pytest.mark.parametrize("part", range(3))
async def test_p4_a_death_at_any_await_doubles_and_loses_nothing(settings: Settings, hands: Hands, part: int) -> None:
    """The same busy moment again and again, each time with a death at another moment: before and after every
    transaction and every call. A fresh process finds what the dead one did."""
    rehearsal = Wire()
    assert await lived(settings, hands, rehearsal) == []
    moments = rehearsal.passed
    assert {"after create_tickets at B", "after add_comments at A", "after change_tickets at B"} <= set(moments)
    deaths = {}
    for moment in range(part, len(moments), 3):
        wire = Wire(deadly=moment)
        wrong = await lived(settings, hands, wire)
        if wrong:
            deaths[moment, moments[moment]] = wrong
    assert deaths == {}


@pytest.mark.usefixtures("testdesk")
@pytest.mark.parametrize("kind", [TicketCreate, CommentCreate])
async def test_p4_without_the_look_there_would_be_doubles(
    settings: Settings, hands: Hands, monkeypatch: pytest.MonkeyPatch, kind: type[Any]
) -> None:
    """The test above can fail: a sender that does not look doubles what the dead process had done."""

    async def blind(self: object, connector: object, commands: list[object]) -> list[None]:
        return [None for _ in commands]

    rehearsal = Wire()
    await lived(settings, hands, rehearsal)
    call = "create_tickets" if kind is TicketCreate else "add_comments"
    after = rehearsal.passed.index(f"after {call} at B")
    monkeypatch.setattr(kind, "look", blind)
    assert await lived(settings, hands, Wire(deadly=after)) != []


@pytest.mark.parametrize("nth", range(1, 8))
async def test_p4_any_write_may_lose_its_answer(stage: Stage, nth: int) -> None:
    """The same over the wire: HaloPSA saves what the n-th write says and the connection breaks."""
    pair = await stage.pair(reverse=True)
    first, twin = await stage.twins(pair, "first")
    for desk in pair.desks:
        desk.fail({"match": {"method": "POST", "nth": nth}, "times": 1, "effect": TIMES_OUT})

    for number in range(3):
        pair.source.say(first, f"a{number}")
        pair.target.say(twin, f"b{number}")
    pair.source.change(first, priority_id=1)
    pair.source.new_ticket("second")
    pair.source.say(pair.source.titled("second")[0], "early words")
    pair.target.new_ticket("third")
    await stage.settled()
    pair.source.resolve(first)
    await stage.settled()
    await stage.poll()

    assert differences(pair.source, pair.target, ["first", "second"], born_at_target=["third"]) == []
    assert await stage.dead_letters() == []


@pytest.mark.parametrize("path", ["/Tickets", "/Actions"])
async def test_p4_silence_after_every_write_for_a_while(stage: Stage, path: str) -> None:
    pair = await stage.pair()
    first, _ = await stage.twins(pair, "first")
    pair.target.fail(post_fault(path, TIMES_OUT, times=4))

    pair.source.change(first, priority_id=1)
    for number in range(5):
        pair.source.new_ticket(f"ticket {number}")
        pair.source.say(first, f"word {number}")
    await stage.settled()

    assert differences(pair.source, pair.target, ["first", *(f"ticket {number}" for number in range(5))]) == []
