"""Drains: rings, rounds that fail, lanes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from app.core import telemetry
from app.core.stages import LanedStage, LocalDoorbell, Stage
from tests.support.waiting import wait_until

NEVER_SECONDS = 3600.0


@asynccontextmanager
async def running(stage: "Stage | LanedStage[str]") -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(stage.run())
    try:
        yield task
    finally:
        (stage if isinstance(stage, Stage) else stage.stage).stop()
        await asyncio.wait_for(task, 5)


def failures(name: str) -> float:
    return float(telemetry.STAGE_ERRORS.labels(name)._value.get())


class Work:
    """Counts its rounds; says that there is more as often as it is told to."""

    def __init__(self, more: int = 0) -> None:
        self.rounds = 0
        self.more = more
        self.gate: asyncio.Event | None = None
        self.failure: Exception | None = None

    async def __call__(self) -> bool:
        self.rounds += 1
        if self.failure is not None:
            raise self.failure
        if self.gate is not None:
            await self.gate.wait()
        self.more -= 1
        return self.more >= 0


class TestStage:
    async def test_drains_at_once_and_until_empty(self) -> None:
        work = Work(more=3)
        async with running(Stage("test", work, sweep_seconds=NEVER_SECONDS)):
            await wait_until(lambda: work.rounds == 4)

    async def test_a_ring_starts_a_round(self) -> None:
        work = Work()
        stage = Stage("test", work, sweep_seconds=NEVER_SECONDS)
        async with running(stage):
            await wait_until(lambda: work.rounds == 1)
            stage.ring()
            await wait_until(lambda: work.rounds == 2)

    async def test_rings_while_it_works_are_kept_as_one(self) -> None:
        work = Work()
        work.gate = asyncio.Event()
        stage = Stage("test", work, sweep_seconds=NEVER_SECONDS)
        async with running(stage):
            await wait_until(lambda: work.rounds == 1)
            for _ in range(100):
                stage.ring()
            work.gate.set()
            await wait_until(lambda: work.rounds == 2)
            other = Work()
            async with running(Stage("other", other, sweep_seconds=NEVER_SECONDS)):
                await wait_until(lambda: other.rounds == 1)
            assert work.rounds == 2

    async def test_without_a_ring_it_looks_by_itself(self) -> None:
        work = Work()
        async with running(Stage("test", work, sweep_seconds=0.01)):
            await wait_until(lambda: work.rounds >= 5)

    async def test_a_round_that_fails_is_counted_and_not_the_end(self) -> None:
        work = Work()
        work.failure = RuntimeError("a bug")
        stage = Stage("failing", work, sweep_seconds=NEVER_SECONDS)
        before = failures("failing")
        async with running(stage) as task:
            await wait_until(lambda: failures("failing") == before + 1)
            work.failure = None
            stage.ring()
            await wait_until(lambda: work.rounds == 2)
            assert not task.done()

    async def test_stops_after_the_present_round(self) -> None:
        work = Work(more=10**9)
        work.gate = asyncio.Event()
        stage = Stage("test", work, sweep_seconds=NEVER_SECONDS)
        task = asyncio.create_task(stage.run())
        await wait_until(lambda: work.rounds == 1)

        stage.stop()
        assert not task.done()
        work.gate.set()
        await asyncio.wait_for(task, 5)

        assert work.rounds == 1
        assert stage.stopping

    async def test_a_stop_while_it_waits_is_heard_at_once(self) -> None:
        work = Work()
        stage = Stage("test", work, sweep_seconds=NEVER_SECONDS)
        task = asyncio.create_task(stage.run())
        await wait_until(lambda: work.rounds == 1)

        stage.stop()

        await asyncio.wait_for(task, 1)


class TestLanes:
    class Lanes:
        """Keys with work, and what is being done."""

        def __init__(self, work: Callable[[str], Awaitable[bool]], lanes_max: int = 16) -> None:
            self.keys: set[str] = set()
            self.looks = 0
            self.stage = LanedStage("lanes", due=self.due, work=work, sweep_seconds=NEVER_SECONDS, lanes_max=lanes_max)

        async def due(self) -> list[str]:
            self.looks += 1
            return sorted(self.keys)

    async def test_keys_are_worked_side_by_side_and_each_in_one_lane(self) -> None:
        active: dict[str, int] = {}
        worst = 0
        gate = asyncio.Event()

        async def work(key: str) -> bool:
            nonlocal worst
            active[key] = active.get(key, 0) + 1
            worst = max(worst, active[key])
            await gate.wait()
            active[key] -= 1
            lanes.keys.discard(key)
            return False

        lanes = self.Lanes(work)
        lanes.keys = {"a", "b", "c"}
        async with running(lanes.stage):
            await wait_until(lambda: len(active) == 3)
            looks = lanes.looks
            for _ in range(5):
                lanes.stage.stage.ring()
            await wait_until(lambda: lanes.looks > looks)
            gate.set()
            await wait_until(lambda: not lanes.keys)

        assert worst == 1

    async def test_a_lane_that_ends_makes_the_stage_look_again(self) -> None:
        """Rows that came between the lane's last look and its end would otherwise wait for the sweep."""
        seen: list[str] = []

        async def work(key: str) -> bool:
            seen.append(key)
            lanes.keys.discard(key)
            if key == "a":
                lanes.keys.add("b")
                lanes.stage.stage.ring()  # as everything does that adds a row
            return False

        lanes = self.Lanes(work)
        lanes.keys = {"a"}
        async with running(lanes.stage):
            await wait_until(lambda: seen == ["a", "b"])

    async def test_a_lane_goes_on_while_there_is_more(self) -> None:
        rounds = 0

        async def work(key: str) -> bool:
            nonlocal rounds
            rounds += 1
            lanes.keys.clear()
            return rounds < 5

        lanes = self.Lanes(work)
        lanes.keys = {"a"}
        async with running(lanes.stage):
            await wait_until(lambda: rounds == 5)

    async def test_one_lanes_failure_leaves_the_others_alone(self) -> None:
        seen: list[str] = []
        before = failures("lanes")

        async def work(key: str) -> bool:
            lanes.keys.discard(key)
            if key == "bad":
                raise RuntimeError("a bug")
            seen.append(key)
            return False

        lanes = self.Lanes(work)
        lanes.keys = {"a", "bad", "z"}
        async with running(lanes.stage):
            await wait_until(lambda: sorted(seen) == ["a", "z"] and failures("lanes") == before + 1)
            lanes.keys.add("later")
            lanes.stage.stage.ring()
            await wait_until(lambda: "later" in seen)

    async def test_there_are_only_so_many_lanes(self) -> None:
        active = 0
        most = 0
        done: list[str] = []
        gate = asyncio.Event()

        async def work(key: str) -> bool:
            nonlocal active, most
            active += 1
            most = max(most, active)
            await gate.wait()
            active -= 1
            lanes.keys.discard(key)
            done.append(key)
            return False

        lanes = self.Lanes(work, lanes_max=3)
        lanes.keys = {f"k{number}" for number in range(10)}
        async with running(lanes.stage):
            await wait_until(lambda: active == 3)
            gate.set()
            await wait_until(lambda: len(done) == 10)

        assert most == 3

    async def test_stopping_waits_for_the_rounds_that_have_begun(self) -> None:
        gate = asyncio.Event()
        begun, done = asyncio.Event(), False

        async def work(key: str) -> bool:
            nonlocal done
            begun.set()
            await gate.wait()
            done = True
            return True

        lanes = self.Lanes(work)
        lanes.keys = {"a"}
        task = asyncio.create_task(lanes.stage.run())
        await begun.wait()
        lanes.stage.stage.stop()
        gate.set()
        await asyncio.wait_for(task, 5)

        assert done


class TestLocalDoorbell:
    async def test_rings_by_name_and_ignores_strangers(self) -> None:
        one, two = Work(), Work()
        stages = {
            "one": Stage("one", one, sweep_seconds=NEVER_SECONDS),
            "two": Stage("two", two, sweep_seconds=NEVER_SECONDS),
        }
        bell = LocalDoorbell()
        bell.connect(stages)
        async with running(stages["one"]), running(stages["two"]):
            await wait_until(lambda: one.rounds == two.rounds == 1)
            bell.ring("nobody")
            bell.ring("one")
            await wait_until(lambda: one.rounds == 2)
            assert two.rounds == 1
            bell.ring_all()
            await wait_until(lambda: (one.rounds, two.rounds) == (3, 2))


@pytest.mark.parametrize("name", ["inbox", "sync", "outbox", "reconcile"])
def test_every_drain_has_a_bell(name: str) -> None:
    from app.worker.bells import NAMES

    assert name in NAMES
