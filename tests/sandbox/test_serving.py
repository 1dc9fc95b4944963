"""Serving an application on a real socket: start, stop, failure, and no trace left."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.core.http.client import ConnectError, open_client
from app.sandbox.serving import ABORT_EXTENSION, Connection, ServingFailed, serving

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Hello:
    """Answers ``hello`` and notes what its lifespan saw."""

    def __init__(self, *, fails: bool = False, sets_date_header: bool = False) -> None:
        self.fails = fails
        self.sets_date_header = sets_date_header
        self.seen: list[str] = []
        self.no_delay: list[bool] = []

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                self.seen.append((await receive())["type"])
                outcome = "failed" if self.fails else "complete"
                await send({"type": f"lifespan.{kind}.{outcome}"})
            return
        connection: Connection = scope["extensions"][ABORT_EXTENSION]
        self.no_delay.append(connection.has_no_delay())
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"hello"})


async def test_it_serves_and_leaves_nothing_behind() -> None:
    app = Hello()
    before = asyncio.all_tasks()
    async with serving(app) as url, open_client(allow_private=True) as client:
        answer = await client.get(url)
        assert (answer.text, "date" in answer.headers) == ("hello", True)
        assert app.seen == ["lifespan.startup"]
    assert app.seen == ["lifespan.startup", "lifespan.shutdown"]
    assert asyncio.all_tasks() == before
    async with open_client(allow_private=True) as client:
        with pytest.raises(ConnectError):
            await client.get(url)


async def test_answers_do_not_wait_for_delayed_acknowledgements() -> None:
    app = Hello()
    async with serving(app) as url, open_client(allow_private=True) as client:
        await client.get(url)
    # With Nagle's algorithm on, every answer took 40 ms.
    assert app.no_delay == [True]


async def test_an_application_may_write_its_own_date() -> None:
    async with serving(Hello(sets_date_header=True)) as url, open_client(allow_private=True) as client:
        assert "date" not in (await client.get(url)).headers


async def test_a_body_that_fails_stops_the_server_too() -> None:
    app = Hello()
    with pytest.raises(RuntimeError, match="inside"):
        async with serving(app):
            raise RuntimeError("inside")
    assert app.seen == ["lifespan.startup", "lifespan.shutdown"]


async def test_a_lifespan_that_fails_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ServingFailed):
        async with serving(Hello(fails=True)):
            raise AssertionError("must not be reached")


async def test_a_taken_port_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        async with serving(Hello(), port=taken.getsockname()[1]):
            raise AssertionError("must not be reached")


async def test_the_port_can_be_chosen_and_is_free_again() -> None:
    async with serving(Hello()) as url:
        port = urlsplit(url).port
        assert port is not None
    async with serving(Hello(), port=port) as again:
        assert again == url


def test_it_serves_from_a_thread() -> None:
    found: list[str] = []

    async def once() -> None:
        async with serving(Hello()) as url, open_client(allow_private=True) as client:
            found.append((await client.get(url)).text)

    thread = threading.Thread(target=lambda: asyncio.run(once()))
    thread.start()
    thread.join(20)
    assert found == ["hello"]
