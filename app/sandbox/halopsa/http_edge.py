"""The HTTP edge: reading a request, writing an answer, and leaving a client without one."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl

from app.sandbox.halopsa import render
from app.sandbox.halopsa.calls import Reply
from app.sandbox.serving import ABORT_EXTENSION, Connection

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

# A client which never gives up must not pin a connection for ever.
LONGEST_HANG_SECONDS = 300.0
PAGE = b"<!DOCTYPE html><html><head><title>HaloPSA</title></head><body><div id='root'></div></body></html>"


@dataclass(frozen=True, slots=True)
class Request:
    """A request as read from the wire. Parameter names are in lower case."""

    method: str
    path: str
    params: dict[str, str]
    authorization: str
    content_type: str
    base_url: str
    body: bytes


async def read_request(scope: Scope, receive: Receive) -> Request:
    """Read the whole request."""
    authorization = content_type = host = ""
    for name, value in scope["headers"]:
        if name == b"authorization":
            authorization = value.decode("latin-1")
        elif name == b"content-type":
            content_type = value.decode("latin-1")
        elif name == b"host":
            host = value.decode("latin-1")
    query = scope["query_string"]
    params = (
        {name.lower(): value for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True)}
        if query
        else {}
    )
    body = await _read_body(receive)
    base = f"{scope.get('scheme', 'http')}://{host}"
    return Request(scope["method"], scope["path"], params, authorization, content_type, base, body)


async def _read_body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return body
    parts = [body]
    while message.get("more_body"):
        message = await receive()
        parts.append(message.get("body", b""))
    return b"".join(parts)


async def send_reply(send: Send, reply: Reply, now: datetime) -> None:
    """Write an answer with the tenant's date."""
    headers = [(name.encode(), value.encode("latin-1", "replace")) for name, value in reply.headers]
    if reply.raw is None:
        content = render.to_bytes(reply.body)
        headers.append((b"content-type", b"application/json; charset=utf-8"))
    else:
        content = reply.raw
    headers.append((b"content-length", str(len(content)).encode()))
    headers.append((b"date", format_datetime(now, usegmt=True).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def page() -> Reply:
    """What the web application answers to any path that it does not know: 200 and HTML."""
    return Reply(200, raw=PAGE, headers=(("content-type", "text/html; charset=utf-8"),))


def scripted(status: int, body: Any, headers: dict[str, str]) -> Reply:
    """The answer of a scripted fault: JSON, or text as it is, or nothing."""
    extra = tuple(headers.items())
    if body is None:
        return Reply(status, raw=b"", headers=extra)
    if isinstance(body, str):
        if not any(name.lower() == "content-type" for name in headers):
            extra += (("content-type", "text/plain; charset=utf-8"),)
        return Reply(status, raw=body.encode(), headers=extra)
    return Reply(status, body, headers=extra)


async def leave_without_answer(scope: Scope, receive: Receive, send: Send, hang_seconds: float) -> None:
    """Say nothing for ``hang_seconds`` (or until the client gives up), then cut the connection."""
    connection: Connection | None = (scope.get("extensions") or {}).get(ABORT_EXTENSION)
    if connection is not None:
        connection.hanging = True
    if hang_seconds > 0:
        try:
            await asyncio.wait_for(_gone(receive), min(hang_seconds, LONGEST_HANG_SECONDS))
        except TimeoutError:
            pass
        else:
            return
    if connection is not None:
        connection.abort()
        await _gone(receive)
        return
    # A server that cannot cut: promise a body and never send it, so the client sees the connection break.
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
