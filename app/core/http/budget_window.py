"""The arithmetic of one rolling window, in memory: what this process granted and what it learnt from
refusals.

Pure of any clock: every method is told the time, in microseconds. Granting is exact for half-open windows
``(now - window, now]``."""

from collections import deque
from dataclasses import dataclass
from typing import Protocol

RECOVERY_SHARE = 0.2  # of the configured limit, per quiet window: a burst of somebody else's is over within one
SHRINK_SHARE = 0.7  # of the present ceiling, at most, per early refusal
FLOOR_SHARE = 0.1  # of the configured limit: below it nothing would ever be learnt again
FIRST_PAUSE_US = 15_000_000
LONGEST_PAUSE_US = 60_000_000
SHORTEST_PAUSE_US = 1_000_000


class Limits(Protocol):
    """The configured numbers a window is measured against."""

    @property
    def limit(self) -> int: ...

    @property
    def window_us(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Grant:
    """``cost`` calls that were allowed at ``at_us``."""

    at_us: int
    token: str
    cost: int


class Window:
    """Grants of the present window and the learnt ceiling.

    ``told`` names the shared memory that knows these grants, ``untold`` are those it does not know yet. Until
    ``doubtful_until_us`` that memory may lack grants of other processes, because it began anew.
    """

    def __init__(self) -> None:
        self.told = ""
        self.told_at_us = 0
        self.untold: list[Grant] = []
        self.doubtful_until_us = 0
        self._grants: deque[Grant] = deque()
        self._used = 0
        self.closed_until_us = 0
        self._learnt: float | None = None
        self._learnt_at_us = 0
        self._strikes = 0
        self._noted_at_us = 0

    def used(self, now_us: int, window_us: int) -> int:
        """Calls granted within the window that ends now."""
        while self._grants and self._grants[0].at_us <= now_us - window_us:
            self._used -= self._grants.popleft().cost
        return self._used

    def recent(self, now_us: int, window_us: int) -> list[Grant]:
        """Grants younger than ``window_us``, oldest first."""
        return [grant for grant in self._grants if grant.at_us > now_us - window_us]

    def record(self, grant: Grant) -> None:
        """Remember a grant that was decided elsewhere."""
        self._grants.append(grant)
        self._used += grant.cost

    def ceiling(self, now_us: int, limits: Limits) -> float:
        """The limit as learnt: the configured one, lowered by refusals, recovering 5 % per quiet window."""
        if self._learnt is None:
            return float(limits.limit)
        quiet_windows = max(0, now_us - self._learnt_at_us) // limits.window_us
        return min(float(limits.limit), self._learnt + quiet_windows * limits.limit * RECOVERY_SHARE)

    def take(self, now_us: int, window_us: int, *, room: int, grant: Grant) -> int:
        """Record ``grant`` and answer 0 when it fits into ``room``; else the wait in microseconds,
        at least 1."""
        wait_us = self.wait_us(now_us, window_us, room=room, cost=grant.cost)
        if wait_us == 0:
            self.record(grant)
        return wait_us

    def wait_us(self, now_us: int, window_us: int, *, room: int, cost: int) -> int:
        """How long until ``cost`` calls fit into ``room``, in microseconds; 0: now."""
        used = self.used(now_us, window_us)
        if now_us < self.closed_until_us:
            return self.closed_until_us - now_us
        too_many = used + cost - room
        if too_many <= 0:
            return 0
        for earlier in self._grants:
            too_many -= earlier.cost
            if too_many <= 0:
                return max(1, earlier.at_us + window_us - now_us)
        return window_us  # the cost alone is larger than the room: nothing that leaves can make it fit

    def note_rate_limited(self, now_us: int, limits: Limits, asked_seconds: float | None) -> None:
        """Close the window after a refusal. Refusals that arrive while it is closed belong to the
        same burst: they may lengthen the pause but do not lower the ceiling again."""
        if self.closed_until_us <= now_us:
            ceiling = self.ceiling(now_us, limits)
            used = self.used(now_us, limits.window_us)
            if asked_seconds is None:  # a remote that says when to come back leaves nothing to be guessed
                lowered = min(ceiling, max(float(used), ceiling * SHRINK_SHARE))
                self._learnt = max(1.0, limits.limit * FLOOR_SHARE, lowered)
                self._learnt_at_us = now_us
            self._strikes = self._strikes + 1 if now_us - self._noted_at_us < limits.window_us else 1
        self._noted_at_us = now_us
        if asked_seconds is None:
            pause_us = min(LONGEST_PAUSE_US, FIRST_PAUSE_US * max(1, self._strikes))
        else:
            pause_us = int(asked_seconds * 1_000_000)
        pause_us = max(SHORTEST_PAUSE_US, min(pause_us, max(limits.window_us, LONGEST_PAUSE_US)))
        self.closed_until_us = max(self.closed_until_us, now_us + pause_us)
