"""The one place that makes HTTP clients.

httpx has had no release since December 2024; a swap to its successor happens here and nowhere else.
Timeouts nest: connect 5 s < request 20 s < job 60 s < lease 90 s.
"""

import asyncio
from typing import Any

import httpx

from app.core.http.egress import PinnedTransport

CONNECT_TIMEOUT_SECONDS = 5.0
REQUEST_TIMEOUT_SECONDS = 20.0
# httpx's time-outs are for each read: an answer that drips a byte every 19 s would hold a lane for ever.
TOTAL_TIMEOUTS = 3
# The largest answers asked for are pages of a hundred tickets. 1.3 MB of gzip unpacked to 300 MB once.
ANSWER_LIMIT_BYTES = 64 * 1024 * 1024

AsyncClient = httpx.AsyncClient
Response = httpx.Response
HTTPError = httpx.HTTPError
TimeoutException = httpx.TimeoutException
ConnectError = httpx.ConnectError
ConnectTimeout = httpx.ConnectTimeout
PoolTimeout = httpx.PoolTimeout


class AnswerTooLarge(httpx.ReadError):
    """An answer that is larger, unpacked, than anything we ask for."""


class BoundedClient(httpx.AsyncClient):
    """A client whose answers end: in time, and below a size. Raises :class:`httpx.ReadTimeout`,
    :class:`AnswerTooLarge`; what a write did is unknown then."""

    async def send(self, request: httpx.Request, *, stream: bool = False, **options: Any) -> httpx.Response:
        """Send and read the whole answer; with ``stream`` the caller reads it, and bounds it."""
        if stream:
            return await super().send(request, stream=True, **options)
        seconds = (self.timeout.read or REQUEST_TIMEOUT_SECONDS) * TOTAL_TIMEOUTS
        try:
            async with asyncio.timeout(seconds):
                return await _whole(await super().send(request, stream=True, **options))
        except TimeoutError as error:
            raise httpx.ReadTimeout(f"no whole answer within {seconds:.0f} s", request=request) from error


async def _whole(response: httpx.Response) -> httpx.Response:
    """The answer with its body read and unpacked."""
    body = bytearray()
    try:
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > ANSWER_LIMIT_BYTES:
                words = f"the answer is larger than {ANSWER_LIMIT_BYTES // 1024 // 1024} MiB"
                raise AnswerTooLarge(words, request=response.request)
    finally:
        await response.aclose()
    headers = [
        (name, value)
        for name, value in response.headers.multi_items()
        if name not in ("content-encoding", "content-length", "transfer-encoding")
    ]
    return httpx.Response(
        response.status_code,
        headers=headers,
        content=bytes(body),
        request=response.request,
        extensions=response.extensions,
    )


def open_client(
    *,
    allow_private: bool = False,
    timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
    verify: bool = True,
    max_connections: int = 20,
) -> httpx.AsyncClient:
    """A client under the egress policy: no redirects, no proxies or credentials from the environment.

    Use it as an async context manager or close it with ``aclose``.
    """
    limits = httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections)
    return BoundedClient(
        transport=PinnedTransport(allow_private=allow_private, limits=limits, verify=verify),
        timeout=httpx.Timeout(timeout_seconds, connect=min(CONNECT_TIMEOUT_SECONDS, timeout_seconds)),
        follow_redirects=False,
        trust_env=False,
    )
