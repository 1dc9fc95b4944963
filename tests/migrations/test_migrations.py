"""The migrations against a real PostgreSQL: one line, forward, back, and two at once."""

import asyncio
import sys
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest_asyncio
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from app.core.config import environment, generate_key
from app.embedded.postgres import EmbeddedPostgres
from app.schema import ROOT, alembic_config, upgrade
from app.tables import metadata
from tests.support.database import address, administer

_numbers = count(1)


@pytest_asyncio.fixture
async def empty_url(postgres_server: EmbeddedPostgres) -> AsyncIterator[str]:
    """A database without a single table."""
    name = f"empty_{next(_numbers)}"
    await administer(postgres_server.url, f"CREATE DATABASE {name} TEMPLATE template0")
    try:
        yield address(postgres_server.url, name)
    finally:
        await administer(postgres_server.url, f"DROP DATABASE {name} WITH (FORCE)")


async def asked(url: str, question: Any) -> Any:
    """What ``question`` (a function of a synchronous connection) finds in the database."""
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(question)
    finally:
        await engine.dispose()


def tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())


def version(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def differences(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return list(compare_metadata(context, metadata))


def head(url: str) -> str:
    found = ScriptDirectory.from_config(alembic_config(url)).get_current_head()
    assert found is not None
    return found


def test_there_is_one_line_of_migrations() -> None:
    """Two branches that were merged without a look leave a service that cannot start."""
    scripts = ScriptDirectory.from_config(alembic_config("postgresql+asyncpg://nobody@localhost/none"))

    assert len(scripts.get_heads()) == 1
    assert len(scripts.get_bases()) == 1


async def test_an_empty_database_becomes_the_models(empty_url: str) -> None:
    await asyncio.to_thread(upgrade, empty_url)

    assert await asked(empty_url, version) == head(empty_url)
    assert await asked(empty_url, tables) == {*metadata.tables, "alembic_version"}
    assert await asked(empty_url, differences) == [], "run `alembic revision --autogenerate`"


async def test_back_to_nothing_and_forward_again(empty_url: str) -> None:
    await asyncio.to_thread(upgrade, empty_url)
    await asyncio.to_thread(command.downgrade, alembic_config(empty_url), "base")

    assert await asked(empty_url, tables) == {"alembic_version"}
    assert await asked(empty_url, version) is None
    await asyncio.to_thread(upgrade, empty_url)
    assert await asked(empty_url, differences) == []


async def test_every_step_can_be_taken_back(empty_url: str) -> None:
    """A deployment that goes wrong goes one step back, not to the beginning."""
    config = alembic_config(empty_url)
    revisions = [one.revision for one in ScriptDirectory.from_config(config).walk_revisions()]
    await asyncio.to_thread(upgrade, empty_url)

    for revision in revisions:
        assert await asked(empty_url, version) == revision
        await asyncio.to_thread(command.downgrade, config, "-1")

    assert await asked(empty_url, tables) == {"alembic_version"}


async def test_two_replicas_that_start_at_once_migrate_once(empty_url: str) -> None:
    """As an operator does it: `parhelion migrate` in two processes at the same moment."""
    settings = {
        **environment(),
        "PARHELION_DATABASE_URL": empty_url,
        "PARHELION_REDIS_URL": "redis://127.0.0.1:1/0",
        "PARHELION_SECRET_KEYS": generate_key(),
    }
    both = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "app.cli",
            "migrate",
            cwd=ROOT,
            env=settings,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        for _ in range(2)
    ]
    output = [(await one.communicate())[0].decode() for one in both]

    assert [one.returncode for one in both] == [0, 0], output
    assert await asked(empty_url, version) == head(empty_url)
    assert await asked(empty_url, differences) == []


async def test_a_database_that_is_up_to_date_is_left_alone(empty_url: str) -> None:
    await asyncio.to_thread(upgrade, empty_url)
    await asyncio.to_thread(upgrade, empty_url)

    assert await asked(empty_url, version) == head(empty_url)


def test_no_migration_waits_for_a_lock_without_end() -> None:
    """A migration that waits behind a long transaction makes every request wait behind it."""
    scripts = [ROOT / "migrations" / "script.py.mako", *(ROOT / "migrations" / "versions").glob("*.py")]

    without = [one.name for one in scripts if "SET LOCAL lock_timeout" not in _upgrade_of(one)]
    assert without == []


def _upgrade_of(script: Path) -> str:
    return script.read_text().split("def upgrade()")[1].split("def downgrade()")[0]
