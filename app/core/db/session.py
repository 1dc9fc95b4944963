"""Units of work. The only module that commits.

One request or one task step is one transaction. The request's session is committed *before* the answer leaves:
FastAPI's default dependency scope commits after the 2xx is on the wire, and a commit that fails then is a lost
write the caller believes in, hence ``scope="function"``.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any, Protocol, TypeVar

from fastapi import Depends, Request
from sqlalchemy import CursorResult, TextClause
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlmodel.ext.asyncio.session import AsyncSession

T = TypeVar("T")
DEADLOCK_TRIES = 5
# deadlock_detected, serialization_failure, and unique_violation: a row that came between our look and our write is
# seen by the second run.
_BROKEN_BY_POSTGRES = frozenset({"40P01", "40001", "23505"})


class Doorbell(Protocol):
    """Wakes a drain after a commit. Must never raise and never block: a lost ring costs one sweep."""

    def ring(self, name: str) -> None: ...


class SilentDoorbell:
    """A doorbell nobody hears: commands and tests that drain by hand."""

    def ring(self, name: str) -> None:
        """Do nothing."""


class Database:
    """The engine, its sessions and the doorbell that is rung after each commit."""

    def __init__(self, engine: AsyncEngine, doorbell: Doorbell | None = None) -> None:
        self.engine = engine
        self.doorbell: Doorbell = doorbell or SilentDoorbell()
        self._sessions = async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False, autoflush=False)
        self._readers = async_sessionmaker(
            engine.execution_options(isolation_level="AUTOCOMMIT"),
            class_=AsyncSession,
            expire_on_commit=False,
            autoflush=False,
        )

    @asynccontextmanager
    async def autocommit(self) -> AsyncIterator[AsyncSession]:
        """A session for reads that need not agree with each other: each statement is a transaction of its own, so
        BEGIN and COMMIT, two round trips and 0.5 ms of Python, are saved. Writing through it commits at once."""
        async with self._readers() as session:
            yield session

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A session whose work is committed when the body ends and rolled back when it raises."""
        async with self._sessions() as session:
            try:
                yield session
                await session.commit()
            except BaseException:
                await session.rollback()
                raise
        for name in session.info.get("rings", ()):
            self.doorbell.ring(name)
        after: list[Callable[[], Any]] = session.info.get("after_commit", [])
        for action in after:
            action()

    async def run(self, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
        """Run ``work`` in a transaction, again from the start when another transaction came in between.

        For work that must not be lost to such an accident: what a remote answered. ``work`` may only use its session.
        """
        for attempt in range(DEADLOCK_TRIES):
            try:
                async with self.transaction() as session:
                    return await work(session)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) not in _BROKEN_BY_POSTGRES or attempt == DEADLOCK_TRIES - 1:
                    raise
        raise AssertionError("the loop above returns or raises")

    async def aclose(self) -> None:
        """Close every connection."""
        await self.engine.dispose()


async def raw(
    session: AsyncSession, statement: TextClause, values: Mapping[str, Any]
) -> CursorResult[*tuple[Any, ...]]:
    """Run a statement that is written out, with arrays for whole batches: SQLModel's ``exec`` has no form for it."""
    connection = await session.connection()
    return await connection.execute(statement, values)


def ring_after_commit(session: AsyncSession, name: str) -> None:
    """Wake the drain called ``name`` once this transaction is committed; nothing happens when it rolls back."""
    rings: dict[str, None] = session.info.setdefault("rings", {})
    rings[name] = None


def after_commit(session: AsyncSession, action: Callable[[], Any]) -> None:
    """Run ``action`` (quick, in memory) once this transaction is committed, as for dropping a cached row."""
    session.info.setdefault("after_commit", []).append(action)


def database_of(request: Request) -> Database:
    """The database of the running application."""
    database = request.app.state.database
    assert isinstance(database, Database)
    return database


async def _request_session(request: Request) -> AsyncIterator[AsyncSession]:
    async with database_of(request).transaction() as session:
        yield session


Session = Annotated[AsyncSession, Depends(_request_session, scope="function")]
