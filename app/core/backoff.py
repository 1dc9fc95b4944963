"""When to try again: pure arithmetic on (attempt, hint, chance)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential back-off with full jitter: 5 s, 10 s, 20 s … capped at 30 min, given up after 8 tries."""

    base_seconds: float = 5.0
    cap_seconds: float = 1800.0
    max_attempts: int = 8

    def delay_seconds(self, attempt: int, *, chance: float, retry_after_seconds: float | None = None) -> float | None:
        """Seconds until the next try after ``attempt`` tries (1 = the first failed), or ``None`` to give up.

        ``chance`` in [0, 1) spreads the tries over the upper half of the step, so that a thousand rows that failed
        together do not come back together. A hint of the remote is a floor, and is itself capped at twice the cap:
        a remote may not park a row for a week.
        """
        if attempt >= self.max_attempts:
            return None
        step = min(self.cap_seconds, self.base_seconds * 2.0 ** (attempt - 1))
        delay = step * (0.5 + 0.5 * chance)
        if retry_after_seconds is not None:
            delay = max(delay, min(retry_after_seconds, 2 * self.cap_seconds))
        return delay
