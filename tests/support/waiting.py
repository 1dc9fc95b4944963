"""Waiting for something to become true, by asking again and again: tests never sleep for a fixed time."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")


@overload
async def wait_until(
    predicate: Callable[[], Awaitable[T]], timeout_seconds: float = 10.0, *, every_seconds: float = 0.01
) -> T: ...


@overload
async def wait_until(
    predicate: Callable[[], T], timeout_seconds: float = 10.0, *, every_seconds: float = 0.01
) -> T: ...


async def wait_until(
    predicate: Callable[[], T | Awaitable[T]], timeout_seconds: float = 10.0, *, every_seconds: float = 0.01
) -> T:
    """The first truthy answer of ``predicate`` (plain or async). Raises ``AssertionError`` with its last
    answer when none came in time."""
    deadline = time.monotonic() + timeout_seconds
    tick = asyncio.Event()
    while True:
        answer = predicate()
        value: T = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {timeout_seconds:g} s; last answer: {value!r}")
        try:
            await asyncio.wait_for(tick.wait(), every_seconds)
        except TimeoutError:
            continue
