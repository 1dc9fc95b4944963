"""The edge of the process: what happens to every request before a route and after its answer.

One pure ASGI class, because each middleware layer costs an await on every message. Webhooks (``/hooks/``) get
the correlation id and a named answer for the unnamed failure, nothing else: their route caps the body itself.
"""

import re
import time
from contextlib import suppress
from typing import Any

from fastapi.exceptions import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core import ids, telemetry
from app.core.config import Settings
from app.core.errors import TooLarge
from app.core.logging import correlation_id, get_logger
from app.core.problems import render, unexpected

# What a caller may choose as its request id: printable, short, and no way to break a log line.
_SANE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{5,63}")

_DOCUMENTATION = ("/docs", "/redoc")

log = get_logger("app.access")


def caller_of(scope: Scope) -> tuple[str | None, str | None]:
    """Who was authenticated on this request: (tenant's public id, key prefix), or nobody."""
    caller = scope.get("state", {}).get("caller")
    return caller if isinstance(caller, tuple) else (None, None)


class Edge:
    """Correlation id, body cap, security headers, one access line, metrics, and the last resort for
    errors."""

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self.app = app
        self._cap_bytes = settings.api_body_max_bytes
        self._https = settings.public_url.startswith("https://")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(scope)
        token = correlation_id.set(request_id)
        try:
            exchange = _Exchange(send, request_id, hook=scope["path"].startswith("/hooks/"))
            if exchange.hook:
                await self._guarded(scope, receive, exchange)
            else:
                await self._api(scope, receive, exchange)
        finally:
            correlation_id.reset(token)

    async def _api(self, scope: Scope, receive: Receive, exchange: "_Exchange") -> None:
        started = time.perf_counter()
        exchange.headers = self._security_headers(scope["path"])
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdigit() and int(declared) > self._cap_bytes:
            await render(self._too_large(), scope["path"])(scope, receive, exchange.send)
        else:
            await self._guarded(scope, self._capped(receive), exchange)
        _account(scope, exchange.status, time.perf_counter() - started)

    async def _guarded(self, scope: Scope, receive: Receive, exchange: "_Exchange") -> None:
        try:
            await self.app(scope, receive, exchange.send)
        except Exception as error:  # the outermost edge: nobody above could still answer the caller
            telemetry.HTTP_FAILURES.inc()
            log.error("request.failed_unexpectedly", path=scope["path"], exc_info=error)
            if exchange.status is None:
                await unexpected(scope["path"])(scope, receive, exchange.send)
            else:
                # The answer has begun; ending without its last message makes the server cut the connection,
                # which the caller can tell from a complete answer.
                raise

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The body is larger than {self._cap_bytes} bytes.", next_step="Send less at once.")

    def _capped(self, receive: Receive) -> Receive:
        seen = 0

        async def capped() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > self._cap_bytes:
                    # FastAPI lets this class through while it reads a body, and turns every other into a 400.
                    raise HTTPException(413, detail=self._too_large().detail)
            return message

        return capped

    def _security_headers(self, path: str) -> tuple[tuple[str, str], ...]:
        headers = [
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cache-Control", "no-store"),
        ]
        if not path.startswith(_DOCUMENTATION):
            headers.append(("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"))
        if self._https:
            headers.append(("Strict-Transport-Security", "max-age=31536000"))
        return tuple(headers)


class _Exchange:
    """The answer of one request on its way out."""

    __slots__ = ("_request_id", "_send", "headers", "hook", "status")

    def __init__(self, send: Send, request_id: str, *, hook: bool) -> None:
        self._send = send
        self._request_id = request_id
        self.hook = hook
        self.status: int | None = None
        self.headers: tuple[tuple[str, str], ...] = ()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self.hook:
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", self._request_id.encode()),
                ]
            else:
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = self._request_id
                for name, value in self.headers:
                    headers.setdefault(name, value)
        await self._send(message)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            with suppress(UnicodeDecodeError):
                text: str = value.decode("ascii")
                if _SANE_ID.fullmatch(text):
                    return text
            break
    return ids.new_id().hex


def _account(scope: Scope, status: int | None, seconds: float) -> None:
    """One line and one count for each request: the route's template, never the query or the body."""
    template: Any = getattr(scope.get("route"), "path", None) or "(no route)"
    method = scope["method"] if scope["method"] in _METHODS else "(other)"
    telemetry.HTTP_REQUESTS.labels(method, template, telemetry.status_class(status)).inc()
    telemetry.HTTP_SECONDS.labels(method, template).observe(seconds)
    tenant, key_prefix = caller_of(scope)
    level = log.debug if template.startswith(("/health", "/metrics")) else log.info
    level(
        "request.answered",
        method=method,
        route=template,
        status=status,
        duration_ms=round(seconds * 1000, 2),
        tenant=tenant,
        key_prefix=key_prefix,
    )


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
