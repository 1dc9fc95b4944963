"""Doorbells through a real Redis, and what happens when it is away, flushed, or comes back."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
from redis.asyncio import Redis

from app.core import telemetry
from app.core.config import Settings
from app.core.queue import ArqDoorbell
from app.core.stages import LocalDoorbell
from app.embedded.redis import EmbeddedRedis
from app.worker import bells
from tests.support.database import make_settings
from tests.support.waiting import wait_until

# arq closes its pool by redis-py's old name for it; nothing of ours can change that.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")

DATABASE = "postgresql://nobody@127.0.0.1:1/none"


class Ears(LocalDoorbell):
    """Remembers what it heard."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []
        self.all = 0

    def ring(self, name: str) -> None:
        self.heard.append(name)

    def ring_all(self) -> None:
        self.all += 1


@asynccontextmanager
async def listening(settings: Settings) -> AsyncIterator[Ears]:
    ears = Ears()
    task = asyncio.create_task(bells.listen(settings, ears))
    try:
        yield ears
        assert not task.done()
    finally:
        task.cancel()
        [ended] = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(ended, asyncio.CancelledError), ended


@asynccontextmanager
async def ringing(url: str) -> AsyncIterator[ArqDoorbell]:
    bell = ArqDoorbell(url)
    try:
        yield bell
    finally:
        await bell.aclose()


def dead_redis() -> str:
    """The address of a port at which nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"redis://127.0.0.1:{found.getsockname()[1]}/0"


def rung_in_vain() -> float:
    return float(telemetry.DOORBELL_FAILURES._value.get())


class TestHeard:
    async def test_every_name(self, redis_url: str) -> None:
        settings = make_settings(DATABASE, redis_url)
        async with listening(settings) as ears, ringing(redis_url) as bell:
            for name in bells.NAMES:
                bell.ring(name)
            await wait_until(lambda: set(ears.heard) == set(bells.NAMES))

    async def test_quickly(self, redis_url: str) -> None:
        settings = make_settings(DATABASE, redis_url)
        async with listening(settings) as ears, ringing(redis_url) as bell:
            bell.ring("inbox")
            await wait_until(lambda: ears.heard == ["inbox"])
            waits = []
            for number in range(2, 12):
                started = time.perf_counter()
                bell.ring("inbox")
                await wait_until(partial(_heard, ears, number), every_seconds=0.002)
                waits.append(time.perf_counter() - started)

        assert sorted(waits)[5] < 0.5, "the sweep comes after 3 s; a ring must be heard long before it"

    async def test_many_rings_are_few_jobs(self, redis_url: str) -> None:
        settings = make_settings(DATABASE, redis_url)
        async with listening(settings) as ears, ringing(redis_url) as bell:
            for _ in range(1000):
                bell.ring("sync")
            await wait_until(lambda: ears.heard)
            bell.ring("inbox")
            await wait_until(lambda: "inbox" in ears.heard)

        assert ears.heard.count("sync") <= 3

    async def test_the_same_bell_again_and_again(self, redis_url: str) -> None:
        """A kept result or a repeated job id would swallow the second ring."""
        settings = make_settings(DATABASE, redis_url)
        async with listening(settings) as ears, ringing(redis_url) as bell:
            for number in range(1, 6):
                bell.ring("inbox")
                await wait_until(partial(_heard, ears, number))

    async def test_nothing_is_left_in_redis(self, redis_url: str) -> None:
        settings = make_settings(DATABASE, redis_url)
        client: Redis = Redis.from_url(redis_url)
        async with listening(settings) as ears, ringing(redis_url) as bell:
            bell.ring("inbox")
            await wait_until(lambda: ears.heard)

            async def left() -> list[bytes]:
                keys: list[bytes] = await client.keys("arq:*")
                return [key for key in keys if b"health-check" not in key]

            await wait_until(lambda: _none(left))
        await client.aclose()

    async def test_after_a_flush_the_next_ring_is_heard(self, redis_url: str) -> None:
        settings = make_settings(DATABASE, redis_url)
        client: Redis = Redis.from_url(redis_url)
        async with listening(settings) as ears, ringing(redis_url) as bell:
            bell.ring("inbox")
            await wait_until(lambda: ears.heard == ["inbox"])
            await client.flushall()
            bell.ring("outbox")
            await wait_until(lambda: ears.heard == ["inbox", "outbox"])
        await client.aclose()


def _heard(ears: Ears, count: int) -> bool:
    return len(ears.heard) >= count


async def _none(question: object) -> bool:
    assert callable(question)
    return not await question()


class TestAway:
    async def test_ringing_never_raises_and_never_waits(self) -> None:
        async with ringing(dead_redis()) as bell:
            before = rung_in_vain()
            started = time.perf_counter()
            for _ in range(1000):
                bell.ring("inbox")
            spent = time.perf_counter() - started
            await wait_until(lambda: rung_in_vain() > before)

            assert spent < 0.5
            bell.ring("inbox")

    async def test_a_dead_redis_is_not_tried_for_every_ring(self) -> None:
        async with ringing(dead_redis()) as bell:
            before = rung_in_vain()
            bell.ring("inbox")
            await wait_until(lambda: rung_in_vain() > before)
            for _ in range(50):
                bell.ring("inbox")

            assert rung_in_vain() <= before + 2

    async def test_a_worker_without_redis_goes_on_and_says_that_it_may_have_missed_something(self) -> None:
        before = rung_in_vain()
        async with listening(make_settings(DATABASE, dead_redis())) as ears:
            await wait_until(lambda: rung_in_vain() > before and ears.all > 0)

    @pytest.mark.slow
    async def test_when_redis_comes_back_bells_are_heard_again(self) -> None:
        server = EmbeddedRedis()
        server.start()
        try:
            settings = make_settings(DATABASE, server.url)
            async with listening(settings) as ears, ringing(server.url) as bell:
                bell.ring("inbox")
                await wait_until(lambda: ears.heard)
                client: Redis = Redis.from_url(server.url)
                await client.client_kill_filter(_type="normal", skipme=True)
                await client.aclose()
                ears.heard.clear()

                async def heard() -> bool:
                    bell.ring("outbox")
                    return "outbox" in ears.heard

                await wait_until(heard, timeout_seconds=20, every_seconds=0.1)
        finally:
            server.stop()

    async def test_closing_is_quick_and_quiet(self) -> None:
        bell = ArqDoorbell(dead_redis())
        bell.ring("inbox")
        started = time.perf_counter()
        await bell.aclose()
        await bell.aclose()

        assert time.perf_counter() - started < 1
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "doorbell"]
