"""The request budget: so many requests in a rolling window, for the whole tenant."""

import math
import time
from collections import deque

from app.sandbox.halopsa.calls import Reply
from app.sandbox.halopsa.switches import Switches


class RateLimiter:
    """Counts a tenant's requests in a rolling window. A refused request is not counted."""

    def __init__(self) -> None:
        self._taken: deque[float] = deque()
        self.refused = 0

    def refuse(self, switches: Switches) -> Reply | None:
        """None and the request is counted, or the 429."""
        if switches.rate_limit_off:
            return None
        now = time.monotonic()
        oldest = now - switches.rate_window_seconds
        while self._taken and self._taken[0] <= oldest:
            self._taken.popleft()
        if len(self._taken) < switches.rate_limit:
            self._taken.append(now)
            return None
        self.refused += 1
        headers: tuple[tuple[str, str], ...] = ()
        if switches.rate_limit_header:
            wait = self._taken[0] - oldest if self._taken else switches.rate_window_seconds
            headers = (("retry-after", str(max(math.ceil(wait), 1))),)
        minutes = switches.rate_window_seconds / 60
        text = f"Rate Limit Reached - {switches.rate_limit} Requests per rolling {minutes:g} minute window."
        return Reply(429, {"error": text}, headers=headers)

    @property
    def used(self) -> int:
        """Requests counted in the window when last asked."""
        return len(self._taken)
