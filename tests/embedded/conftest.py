"""What these tests share: a folder the servers' user can enter, a query, a patient look."""

import asyncio
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder below /tmp that every user may enter; pytest's own are closed to root's servers."""
    path = Path(tempfile.mkdtemp(prefix="phl-test-")).resolve()
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def ask(url: str, *statements: str) -> object:
    """Runs the statements in one transaction and returns the last one's first value."""

    async def run() -> object:
        engine = create_async_engine(url)
        try:
            async with engine.begin() as connection:
                results = [await connection.execute(sqlalchemy.text(statement)) for statement in statements]
                return results[-1].scalar() if results[-1].returns_rows else None
        finally:
            await engine.dispose()

    return asyncio.run(run())


def lives(pid: int) -> bool:
    """Whether the process runs; one that only waits to be buried by its parent does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def eventually(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Looks every 20 ms until the condition holds; fails with `what` when it never does."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:.0f} s: {what}")
        pause.wait(0.02)
