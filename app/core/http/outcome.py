"""What became of a call? A pure reading of a status or an exception, for every system we call.

The one question that matters for a write is "may it have been done?". It is answered here once: a connection
that was never made did nothing; a connection that broke, or a server that failed, after the request was on
its way may have done everything."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

import httpx

LONGEST_RETRY_AFTER_SECONDS = 86_400.0


class Kind(StrEnum):
    """What to do next."""

    OK = "ok"
    RETRY = "retry"  # nothing was done; later it may work
    RATE_LIMITED = "rate_limited"  # nothing was done; wait first
    REJECTED = "rejected"  # nothing was done and nothing will be: the content or the address is wrong
    AUTH_BROKEN = "auth_broken"  # nothing was done; the credentials are not accepted
    UNKNOWN = "unknown"  # perhaps done: look before doing it again


@dataclass(frozen=True, slots=True)
class Outcome:
    """The fate of one call. ``reason`` is a short sentence without anything from the request."""

    kind: Kind
    reason: str
    status: int | None = None
    retry_after_seconds: float | None = None

    @property
    def perhaps_done(self) -> bool:
        """Whether the remote side may have done what was asked although we got no clear answer."""
        return self.kind is Kind.UNKNOWN


def of_status(status: int, *, writes: bool, retry_after: str | None = None, now: datetime) -> Outcome:
    """The fate of a call that was answered with ``status``.

    A 5xx after a write is ``UNKNOWN``: servers fail after saving, and gateways give up on servers that go on.
    """
    wait = parse_retry_after(retry_after, now)
    if 200 <= status < 300:
        return Outcome(Kind.OK, "done", status)
    if status == 401:
        return Outcome(Kind.AUTH_BROKEN, "the credentials were not accepted", status)
    if status == 429:
        return Outcome(Kind.RATE_LIMITED, "too many calls", status, wait)
    if status in (408, 425):  # the request never arrived whole, or was turned away before being read
        return Outcome(Kind.RETRY, "the request was not taken", status, wait)
    if status >= 500 and status not in (501, 505):
        kind = Kind.UNKNOWN if writes else Kind.RETRY
        return Outcome(kind, f"the server failed with status {status}", status, wait)
    if 300 <= status < 400:
        return Outcome(Kind.REJECTED, "the server sent us elsewhere; redirects are not followed", status)
    return Outcome(Kind.REJECTED, f"the server refused with status {status}", status)


def of_exception(error: Exception, *, writes: bool) -> Outcome | None:
    """The fate of a call that ended in ``error``, or ``None`` when it is not a failure of HTTP or of a
    socket."""
    if isinstance(error, httpx.ConnectTimeout):
        return Outcome(Kind.RETRY, "no connection could be made in time")
    if isinstance(error, httpx.ConnectError):
        return Outcome(Kind.RETRY, "no connection could be made")
    if isinstance(error, httpx.PoolTimeout):
        return Outcome(Kind.RETRY, "no connection became free in time")
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError | httpx.InvalidURL):
        return Outcome(Kind.REJECTED, "the request could not be put on the wire")
    if isinstance(error, httpx.TimeoutException | TimeoutError):
        return _lost("no answer came in time", writes)
    if isinstance(error, httpx.TransportError | httpx.DecodingError | OSError):
        return _lost("the connection was lost before the answer", writes)
    return None


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds to wait by a ``Retry-After`` header (RFC 9110, 10.2.3): a number of seconds or an HTTP date.

    ``None`` when there is no header or it says nothing; never negative, never more than a day.
    """
    text = (value or "").strip()
    if not text:
        return None
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return min(float(text[:12]), LONGEST_RETRY_AFTER_SECONDS)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(0.0, (moment - now).total_seconds()), LONGEST_RETRY_AFTER_SECONDS)


def _lost(reason: str, writes: bool) -> Outcome:
    return Outcome(Kind.UNKNOWN if writes else Kind.RETRY, reason)
