"""Promises 1 and 2, tried on real processes."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import text

from app.core import ids
from tests.support.application import body
from tests.support.comparing import differences
from tests.support.machine import Machine, machine, stage_on
from tests.support.stage import Pair, Stage
from tests.support.waiting import wait_until

__all__ = ["machine"]
pytestmark = [pytest.mark.chaos, pytest.mark.slow]

SENDERS = 20
DELIVERIES = 1500


@pytest_asyncio.fixture
async def hub(machine: Machine) -> AsyncIterator[Stage]:
    async with stage_on(machine) as found:
        yield found


async def open_door(hub: Stage) -> str:
    """A connection whose webhooks need no signature; its path."""
    desk = hub.desk("acme")
    made = await hub.create(desk)
    await hub.patch(f"/v1/connections/{made['id']}", {"verifier": {"kind": "none"}})
    return f"/hooks/{made['id']}"


async def stored(hub: Stage, path: str) -> set[str]:
    async with hub.database.transaction() as session:
        connection = await session.connection()
        rows = await connection.execute(
            text("SELECT external_id FROM inbox_message WHERE connection_id = :c"),
            {"c": ids.parse("con", path.rsplit("/", 1)[1])},
        )
        return {row[0] for row in rows}


async def restart_postgres(machine: Machine, hub: Stage) -> None:
    await machine.restart_postgres()
    await hub.database.engine.dispose()  # the test's own connections died with it


def event(number: object) -> dict[str, object]:
    return {"id": f"delivery-{number}", "event": "Ticket Updated", "ticket": {"id": 1}}


async def takes(hub: Stage, path: str, number: object) -> bool:
    try:
        return (await hub.api.client.post(path, json=event(number))).status_code == 202
    except httpx.TransportError:
        return False


class TestP1A2xxMeansCommitted:
    async def test_p1_postgres_killed_in_the_middle_of_a_burst(self, machine: Machine, hub: Stage) -> None:
        """Whatever was answered with a 2xx is in the table, although PostgreSQL was killed while it was written."""
        path = await open_door(hub)
        accepted: set[str] = set()
        refused: list[int] = []
        numbers = iter(range(DELIVERIES))

        async def send() -> None:
            for number in numbers:
                try:
                    answer = await hub.api.client.post(path, json=event(number), timeout=60)
                except httpx.TransportError:
                    continue
                if answer.status_code // 100 == 2:
                    accepted.add(f"delivery-{number}")
                else:
                    refused.append(answer.status_code)

        async def kill() -> None:
            await wait_until(lambda: len(accepted) > 200)
            await machine.kill_postgres()

        await asyncio.gather(kill(), *(send() for _ in range(SENDERS)))
        await restart_postgres(machine, hub)

        assert 200 < len(accepted) < DELIVERIES, "the kill came too early or too late"
        assert set(refused) == {503}
        await wait_until(lambda: takes(hub, path, "after"), 30)
        assert accepted <= await stored(hub, path)

    async def test_p1_a_commit_that_fails_is_not_answered_with_success(self, machine: Machine, hub: Stage) -> None:
        """PostgreSQL refuses one delivery at its commit, after every statement went well: its sender hears of it, and
        the senders whose deliveries shared the commit are not made to pay."""
        path = await open_door(hub)
        await wait_until(lambda: takes(hub, path, "before"), 30)
        await doom(hub)
        try:
            names = [f"good-{number}" if number % 5 else f"doomed-{number}" for number in range(40)]
            answers = await asyncio.gather(*(hub.api.client.post(path, json=event(name)) for name in names))
        finally:
            await spare(hub)

        assert [answer.status_code for answer in answers] == [503 if number % 5 == 0 else 202 for number in range(40)]
        there = await stored(hub, path)
        assert {f"delivery-good-{number}" for number in range(40) if number % 5} <= there
        assert not any("doomed" in one for one in there)

    async def test_p1_a_table_that_cannot_be_written_is_not_answered_with_success(self, hub: Stage) -> None:
        path = await open_door(hub)
        async with hub.database.transaction() as session:
            connection = await session.connection()
            await connection.execute(text("LOCK TABLE inbox_message IN ACCESS EXCLUSIVE MODE"))
            answer = await hub.api.client.post(path, json=event("locked out"))
        assert answer.status_code == 503
        assert "Send it again" in answer.json()["detail"]
        assert await stored(hub, path) == set()


async def doom(hub: Stage) -> None:
    """From now on PostgreSQL refuses, at the commit, any delivery that is called doomed."""
    statements = (
        """CREATE FUNCTION refuse_doomed() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = 'check_violation'; END $$""",
        """CREATE CONSTRAINT TRIGGER doomed AFTER INSERT ON inbox_message DEFERRABLE INITIALLY DEFERRED
           FOR EACH ROW WHEN (NEW.external_id LIKE '%doomed%') EXECUTE FUNCTION refuse_doomed()""",
    )
    async with hub.database.transaction() as session:
        connection = await session.connection()
        for statement in statements:
            await connection.execute(text(statement))


async def spare(hub: Stage) -> None:
    async with hub.database.transaction() as session:
        connection = await session.connection()
        await connection.execute(text("DROP TRIGGER IF EXISTS doomed ON inbox_message"))
        await connection.execute(text("DROP FUNCTION IF EXISTS refuse_doomed()"))


class TestP2PostgresIsTheTruth:
    @pytest.mark.timeout(240)
    async def test_p2_kills_at_any_moment_lose_and_double_nothing(self, machine: Machine, hub: Stage) -> None:
        """People write at both sides while Redis is flushed and taken away, the API, the worker and PostgreSQL are
        killed in the middle of their work: in the end both sides hold every ticket and every word once."""
        pair = await hub.pair(poll_interval_seconds=2)
        day = Day(hub, pair, machine)
        accidents: list[Callable[[], Awaitable[None]]] = [
            machine.kill_worker,
            machine.flush_redis,
            machine.kill_api,
            machine.kill_worker,
            partial(restart_postgres, machine, hub),
            machine.kill_worker,
            machine.kill_redis,
        ]
        for accident in accidents:
            await day.busy_moment()
            await accident()
        # Redis is away now: work goes on without it, at most slower.
        await day.busy_moment()
        await hub.settled(60)
        await machine.restart_redis()
        await day.busy_moment()
        await day.over()

        assert differences(pair.source, pair.target, day.born) == []
        before = pair.source.writes() + pair.target.writes()
        await hub.poll()
        assert pair.source.writes() + pair.target.writes() == before
        assert await hub.dead_letters() == []


class Day:
    """What people do, seeded: the same words every time."""

    def __init__(self, hub: Stage, pair: Pair, machine: Machine) -> None:
        self.hub, self.pair, self.machine = hub, pair, machine
        self.rng = random.Random(7)
        self.born: list[str] = []
        self.words = 0

    async def busy_moment(self) -> None:
        """A handful of deeds, then wait until the hub is in the middle of carrying them."""
        source, target = self.pair.desks
        for _ in range(4):
            self.born.append(f"Case {len(self.born)}")
            source.new_ticket(self.born[-1])
        for desk in (source, target):
            for ticket in self.rng.sample(desk.tickets, min(5, len(desk.tickets))):
                self.words += 1
                desk.say(ticket, f"word {self.words:03}", hidden=self.rng.random() < 0.2)
        for ticket in self.rng.sample(source.tickets, 2):
            source.change(ticket, status_id=self.rng.choice((2, 3, 4, 5)))
        reached = target.writes() + self.rng.choice((1, 2, 3))
        try:
            await wait_until(lambda: self._has_written(reached), 40, every_seconds=0.002)
        except AssertionError as late:
            raise AssertionError(f"{late}; the worker's last words: {self.machine.last_words()}") from None

    def _has_written(self, reached: int) -> bool:
        self.machine.keep_alive()
        return self.pair.target.writes() >= reached

    async def over(self) -> None:
        """Until everything is carried, what no webhook told included."""
        await self.hub.settled(60)
        since = "2026-01-01T00:00:00Z"
        wanted = {"relationship_id": self.pair.relationship_id, "since": since}
        body(await self.hub.api.post("/v1/syncs", json=wanted), 202)
        await self.hub.settled(60)
