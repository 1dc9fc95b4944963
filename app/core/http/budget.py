"""A call budget that several processes share: at most ``limit`` calls in any rolling window.

The window is exact: one sorted set in Redis holds one member per call of the window (300 members for 300
calls), and one script decides and records in the same step. Redis is a convenience and never a condition:
every request to it is bounded by 50 ms, and when it fails this process goes on alone with a conservative
share. Every call granted here is also remembered here, so a flushed or restarted Redis is filled again
before the next grant instead of starting at zero.

The limit is learnt as well as configured: a 429 that arrives early means that somebody else spends from the
same pot (or the pot is smaller than we were told), so the ceiling shrinks at once and recovers a step per
quiet window."""

import asyncio
import itertools
import math
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.core import clock
from app.core.http import budget_scripts
from app.core.http.budget_window import Grant, Window

SHORT_WAIT_SECONDS = 1.0
REDIS_TIMEOUT_SECONDS = 0.05
# While Redis fails it is asked again once a second only: 50 ms on every call would be a tax on the whole
# outage.
REDIS_REST_SECONDS = 1.0
_OTHER_MEMORY = -1
# A call is counted by the remote side when it arrives, up to a second or two after our grant, so ours is a
# bit wider.
WINDOW_SLACK_SHARE = 0.01
WINDOW_SLACK_MAX_SECONDS = 2.0
# After a flush a process that is calling tells its calls again within seconds; one that has been idle for longer has
# little to tell. A whole window of doubt had halved the budget for five minutes after every restart of Redis.
DOUBT_US = 10_000_000


class BudgetExhausted(RuntimeError):
    """Nothing is left for this kind of work. ``retry_after_seconds`` says when there will be."""

    def __init__(self, retry_after_seconds: float) -> None:
        super().__init__(f"the call budget is spent; the next call is free in {retry_after_seconds:.1f} s")
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class Allowance:
    """What may be spent: ``limit`` calls per ``window_seconds``, of which ``reserve`` are for urgent
    work only."""

    limit: int
    window_seconds: float
    reserve: int

    @property
    def window_us(self) -> int:
        """The guarded window in microseconds: the configured one and a little slack for calls on
        their way."""
        slack = min(self.window_seconds * WINDOW_SLACK_SHARE, WINDOW_SLACK_MAX_SECONDS)
        return int((self.window_seconds + slack) * 1_000_000)


class BudgetStore:
    """The budgets of this process, shared through Redis when a client is given.

    ``assumed_processes`` is how many processes may be calling while Redis is away; each then takes that
    part of the limit. It is 2 with Redis and 1 without (one process owns everything)."""

    def __init__(
        self,
        redis: "Redis | None" = None,
        *,
        assumed_processes: int | None = None,
        redis_timeout_seconds: float = REDIS_TIMEOUT_SECONDS,
    ) -> None:
        self._shared = _SharedLedger(redis, redis_timeout_seconds) if redis is not None else None
        self._processes = max(1, assumed_processes or (2 if redis is not None else 1))
        self._budgets: dict[str, Budget] = {}

    def budget(self, key: str, *, limit: int, window_seconds: float, reserve_share: float = 0.3) -> "Budget":
        """The budget called ``key``. Asking again with other numbers changes them for the whole process."""
        if limit < 1 or window_seconds <= 0 or not 0 <= reserve_share < 1:
            raise ValueError("a budget needs a limit of at least 1, a window over 0 s and a reserve share below 1")
        # A bulk call must stay possible: with a limit of 1 or 2 the reserve is what is left over, not
        # everything.
        allowance = Allowance(limit, window_seconds, min(limit - 1, math.ceil(limit * reserve_share)))
        found = self._budgets.get(key)
        if found is None:
            found = self._budgets[key] = Budget(key, allowance, self._shared, self._processes)
        else:
            found.allowance = allowance
        return found


class Budget:
    """One rolling window of calls."""

    def __init__(self, key: str, allowance: Allowance, shared: "_SharedLedger | None", processes: int) -> None:
        self.key = key
        self.allowance = allowance
        self._shared = shared
        self._processes = processes
        self._own = Window()
        self._others = 0
        self._others_until_us = 0
        self._ceiling = float(allowance.limit)

    async def acquire(self, *, urgent: bool, cost: int = 1) -> None:
        """Spend ``cost`` calls now, or after a wait of less than a second.

        Work that is not ``urgent`` leaves the reserve alone. Raises :class:`BudgetExhausted` when
        the wait would be longer, and ``ValueError`` for a cost that no window can hold."""
        room = self.allowance.limit - (0 if urgent else self.allowance.reserve)
        if not 1 <= cost <= room:
            raise ValueError(f"a cost of {cost} never fits a budget of {room} calls")
        give_up_at = time.monotonic() + SHORT_WAIT_SECONDS
        while True:
            wait_us = await self._try(urgent, cost)
            if wait_us == 0:
                return
            wait_seconds = wait_us / 1_000_000
            if time.monotonic() + wait_seconds > give_up_at:
                raise BudgetExhausted(wait_seconds)
            await asyncio.sleep(wait_seconds)

    async def note_rate_limited(self, retry_after_seconds: float | None) -> float:
        """The remote side answered 429: close the budget for everyone; returns for how many seconds.

        Without ``retry_after_seconds`` the pause grows with each refusal: 15, 30, 45, then 60 s. It
        never exceeds one window (or 60 s), whatever the remote side asks for."""
        self._own.note_rate_limited(self._now_us(), self.allowance, retry_after_seconds)
        if self._shared is not None:
            reply = await self._shared.note(self.key, self.allowance, retry_after_seconds)
            if reply is not None:
                self._own.closed_until_us = max(self._own.closed_until_us, reply)
        return max(0.0, (self._own.closed_until_us - self._now_us()) / 1_000_000)

    def pressure(self) -> float:
        """The spent share of the present window, 0.0 to 1.0, as last heard. No I/O."""
        now_us = self._now_us()
        if now_us < self._own.closed_until_us:
            return 1.0
        others = self._others if now_us < self._others_until_us else 0
        used = self._own.used(now_us, self.allowance.window_us) + others
        return min(1.0, used / max(1.0, min(self._ceiling, self.allowance.limit)))

    async def _try(self, urgent: bool, cost: int) -> int:
        token = _token()
        for _ in range(2):
            wait_us = self._doubtful_wait_us(urgent, cost)
            if wait_us > 0:
                return wait_us
            if self._shared is None:
                break
            answer = await self._shared.take(self.key, self.allowance, self._own, urgent=urgent, cost=cost, token=token)
            if answer is not None:
                return self._heard(answer, cost, token)
            if self._own.told:
                break
        return self._take_alone(urgent, cost, token)

    def _doubtful_wait_us(self, urgent: bool, cost: int) -> int:
        """Redis began anew and the others may not have told it their calls yet: no more than our part till then."""
        now_us = self._now_us()
        if now_us >= self._own.doubtful_until_us:
            return 0
        return self._own.wait_us(now_us, self.allowance.window_us, room=self._part(urgent, cost), cost=cost)

    def _heard(self, answer: "_Answer", cost: int, token: str) -> int:
        if answer.wait_us == 0:
            self._own.record(Grant(answer.now_us, token, cost))
        own = self._own.used(answer.now_us, self.allowance.window_us)
        self._others = max(0, answer.used - own)
        self._others_until_us = answer.now_us + self.allowance.window_us
        self._ceiling = answer.ceiling
        self._own.closed_until_us = answer.closed_until_us
        return answer.wait_us

    def _take_alone(self, urgent: bool, cost: int, token: str) -> int:
        """Redis is away (or there is none): our part of the limit, and never more than the others
        are known to have left over."""
        now_us = self._now_us()
        allowance = self.allowance
        room = self._part(urgent, cost)
        self._ceiling = float(self._part(True, cost))
        if now_us < self._others_until_us:
            left_over = int(self._own.ceiling(now_us, allowance) * self._open_share(urgent) + 1e-9) - self._others
            if left_over < cost:
                return self._others_until_us - now_us
            room = min(room, left_over)
        grant = Grant(now_us, token, cost)
        wait_us = self._own.take(now_us, allowance.window_us, room=room, grant=grant)
        if wait_us == 0 and self._shared is not None:
            self._own.untold.append(grant)
        return wait_us

    def _part(self, urgent: bool, cost: int) -> int:
        """The calls of one window that are surely ours; at least ``cost``, or a small limit would stop everything."""
        ceiling = self._own.ceiling(self._now_us(), self.allowance)
        return max(cost, int(ceiling / self._processes * self._open_share(urgent) + 1e-9))

    def _open_share(self, urgent: bool) -> float:
        return 1.0 if urgent else (self.allowance.limit - self.allowance.reserve) / self.allowance.limit

    def _now_us(self) -> int:
        return self._shared.now_us() if self._shared is not None else _wall_us()


@dataclass(frozen=True, slots=True)
class _Answer:
    wait_us: int
    now_us: int
    used: int
    ceiling: float
    closed_until_us: int


class _SharedLedger:
    """The Redis side. Every method answers ``None`` instead of raising when Redis cannot be asked."""

    def __init__(self, redis: Redis, timeout_seconds: float) -> None:
        self._redis = redis
        self._timeout_seconds = timeout_seconds
        self._take = redis.register_script(budget_scripts.TAKE)
        self._note = redis.register_script(budget_scripts.NOTE)
        self._rest_until = 0.0
        self._offset_us = _wall_us() - _monotonic_us()

    def now_us(self) -> int:
        """Redis's clock as last heard, carried on by our monotonic clock: no step of our wall clock
        moves it."""
        return _monotonic_us() + self._offset_us

    async def take(
        self, key: str, allowance: Allowance, own: Window, *, urgent: bool, cost: int, token: str
    ) -> _Answer | None:
        """Ask for ``cost`` calls. Redis is told what it cannot know first: calls granted while it was away, and
        after a flush or a restart everything of the present window.

        ``None`` when Redis cannot be asked, or has begun anew: then ``own.told`` is empty, and the next ask tells
        it everything.
        """
        untold = own.untold if own.told else own.recent(self.now_us(), allowance.window_us)
        args: list[int | str] = [
            allowance.limit,
            allowance.window_us,
            0 if urgent else allowance.reserve,
            cost,
            token,
            own.told,
            own.closed_until_us,
        ]
        reply = await self._run(self._take, key, [*args, *_told(untold)])
        if reply is not None and int(reply[0]) == _OTHER_MEMORY:
            now_us = self.now_us()
            own.told = ""
            if now_us - own.told_at_us < budget_scripts.MEMORY_WINDOWS * allowance.window_us:
                own.doubtful_until_us = now_us + min(allowance.window_us, DOUBT_US)  # lost, not just expired
            return None
        if reply is None:
            return None
        own.untold.clear()
        own.told_at_us = int(reply[1])
        own.told = reply[5].decode() if isinstance(reply[5], bytes) else str(reply[5])
        wait_us, now_us, used, ceiling, closed_until_us = (int(part) for part in reply[:5])
        return _Answer(wait_us, now_us, used, float(ceiling), closed_until_us)

    async def note(self, key: str, allowance: Allowance, retry_after_seconds: float | None) -> int | None:
        asked = -1 if retry_after_seconds is None else int(retry_after_seconds * 1_000_000)
        reply = await self._run(self._note, key, [allowance.limit, allowance.window_us, asked])
        return None if reply is None else int(reply[0])

    async def _run(self, script: budget_scripts.Script, key: str, args: list[int | str]) -> list[Any] | None:
        if time.monotonic() < self._rest_until:
            return None
        keys = [f"budget:{{{key}}}:calls", f"budget:{{{key}}}:state"]
        try:
            async with asyncio.timeout(self._timeout_seconds):
                reply: list[Any] = await script(keys=keys, args=args)
        except (RedisError, OSError, TimeoutError):
            self._rest_until = time.monotonic() + REDIS_REST_SECONDS
            return None
        self._offset_us = int(reply[1]) - _monotonic_us()
        return reply


def _told(grants: Iterable[Grant]) -> list[int | str]:
    return [part for grant in grants for part in (grant.at_us, grant.token, grant.cost)]


def _monotonic_us() -> int:
    return time.monotonic_ns() // 1000


def _wall_us() -> int:
    return int(clock.now().timestamp() * 1_000_000)


_process = secrets.token_hex(6)
_counter = itertools.count()


def _token() -> str:
    """Unique among all processes that share a window."""
    return f"{_process}{next(_counter):x}"
