"""The only reading of the wall clock.

Everything that asks "what time is it" asks here, so a test can move time and a reader can find every use.
Durations are measured with ``time.perf_counter`` or ``time.monotonic`` where they are needed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

_shift = timedelta()


def now() -> datetime:
    """The present instant, timezone-aware UTC, microsecond resolution."""
    return datetime.now(UTC) + _shift


@contextmanager
def shifted(delta: timedelta) -> Iterator[None]:
    """Run the body with the clock moved by ``delta`` (tests only; not safe across threads)."""
    global _shift  # noqa: PLW0603  one clock for the process is the point
    before = _shift
    _shift = before + delta
    try:
        yield
    finally:
        _shift = before


def rfc3339(moment: datetime) -> str:
    """``2026-01-31T08:00:00.123456Z``: UTC with a ``Z``, the form every API answer uses."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
