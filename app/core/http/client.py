"""The one place that makes HTTP clients.

httpx has had no release since December 2024; a swap to its successor happens here and nowhere else.
Timeouts nest: connect 5 s < request 20 s < job 60 s < lease 90 s.
"""

import httpx

from app.core.http.egress import PinnedTransport

CONNECT_TIMEOUT_SECONDS = 5.0
REQUEST_TIMEOUT_SECONDS = 20.0

AsyncClient = httpx.AsyncClient
Response = httpx.Response
HTTPError = httpx.HTTPError
TimeoutException = httpx.TimeoutException
ConnectError = httpx.ConnectError
ConnectTimeout = httpx.ConnectTimeout
PoolTimeout = httpx.PoolTimeout


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
    return httpx.AsyncClient(
        transport=PinnedTransport(allow_private=allow_private, limits=limits, verify=verify),
        timeout=httpx.Timeout(timeout_seconds, connect=min(CONNECT_TIMEOUT_SECONDS, timeout_seconds)),
        follow_redirects=False,
        trust_env=False,
    )
