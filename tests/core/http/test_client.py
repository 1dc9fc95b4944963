"""Answers end: in time, and below a size, whatever the other side sends."""

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from app.core.http import client as http
from app.core.http.client import AnswerTooLarge, open_client


async def pause(seconds: float) -> None:
    """The server's slowness, which is what is tested."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), seconds)


Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    """A server that says what it is told to, and hangs up."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            await answer(writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()


async def test_a_small_body_that_unpacks_to_a_huge_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "ANSWER_LIMIT_BYTES", 1_000_000)
    packed = gzip.compress(bytes(5_000_000))

    async def bomb(writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {len(packed)}\r\n\r\n"
        writer.write(head.encode() + packed)
        await writer.drain()

    async with serving(bomb) as url, open_client(allow_private=True) as client:
        with pytest.raises(AnswerTooLarge):
            await client.get(url)


async def test_an_answer_that_drips_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "TOTAL_TIMEOUTS", 2)

    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        for _ in range(100):
            writer.write(b"x")
            await writer.drain()
            await pause(0.05)

    async with serving(drip) as url, open_client(allow_private=True, timeout_seconds=0.2) as client:
        with pytest.raises(httpx.ReadTimeout, match="no whole answer"):
            await client.get(url)


async def test_a_packed_answer_is_read_whole() -> None:
    packed = gzip.compress(b'{"id": 1}')

    async def send(writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 201 Created\r\ncontent-encoding: gzip\r\ncontent-length: {len(packed)}\r\nx-a: b\r\n\r\n"
        writer.write(head.encode() + packed)
        await writer.drain()

    async with serving(send) as url, open_client(allow_private=True) as client:
        answer = await client.get(url)

    assert (answer.status_code, answer.json(), answer.headers["x-a"]) == (201, {"id": 1}, "b")
