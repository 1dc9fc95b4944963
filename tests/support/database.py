"""Databases for tests: a real PostgreSQL for each test process, a fresh copy of a migrated template for each
test."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import count

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from app.core.config import Settings, generate_key
from app.core.db.engine import create_engine
from app.core.db.session import Database
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.redis import EmbeddedRedis
from app.schema import upgrade

TEMPLATE = "template_parhelion"
_numbers = count(1)


def address(server_url: str, database: str) -> str:
    """The server's address with another database's name."""
    return make_url(server_url).set(database=database).render_as_string(hide_password=False)


async def administer(server_url: str, *statements: str) -> None:
    """Run statements that cannot run in a transaction (making and dropping databases)."""
    engine = create_async_engine(server_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            for statement in statements:
                await connection.execute(text(statement))
    finally:
        await engine.dispose()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    """The PostgreSQL of this test process, running."""
    server = EmbeddedPostgres(ephemeral=True, fast=True)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def template_url(postgres_server: EmbeddedPostgres) -> str:
    """The server's address, once the template database is built the way operators build theirs: by
    migrating."""
    asyncio.run(administer(postgres_server.url, f"CREATE DATABASE {TEMPLATE}"))
    upgrade(address(postgres_server.url, TEMPLATE))
    return postgres_server.url


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedRedis]:
    """The Redis of this test process, running."""
    server = EmbeddedRedis()
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def process_database_url(template_url: str) -> str:
    """This test process's own copy of the template."""
    name = "tests"
    asyncio.run(administer(template_url, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY FILE_COPY"))
    return address(template_url, name)


# Whoever a test left behind (a killed worker's connection) goes first, or its locks would stop the cleaning.
# Deleting takes 4 ms for 40 tables, truncating 80 ms, a fresh copy of the template 150 ms.
_CLEAN = """
DO $$
DECLARE one record; filled boolean;
BEGIN
  PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid();
  SET LOCAL session_replication_role = replica;
  FOR one IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'
  LOOP
    EXECUTE format('SELECT EXISTS (SELECT FROM %I)', one.tablename) INTO filled;
    IF filled THEN EXECUTE format('DELETE FROM %I', one.tablename); END IF;
  END LOOP;
END $$
"""


@pytest_asyncio.fixture
async def redis_url(redis_server: EmbeddedRedis) -> AsyncIterator[str]:
    """An empty Redis: for ``make_settings(database_url, redis_url)``."""
    client = Redis.from_url(redis_server.url)
    await client.flushall()
    await client.aclose()
    yield redis_server.url


@pytest_asyncio.fixture
async def database_url(process_database_url: str) -> AsyncIterator[str]:
    """A database with all tables and no rows; commits are real and are gone after the test."""
    try:
        yield process_database_url
    finally:
        await administer(process_database_url, _CLEAN)


@pytest_asyncio.fixture
async def fresh_database_url(template_url: str) -> AsyncIterator[str]:
    """A database that no other test sees, made for this one (150 ms): for tests that change tables."""
    name = f"test_{next(_numbers)}"
    await administer(template_url, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY FILE_COPY")
    try:
        yield address(template_url, name)
    finally:
        await administer(template_url, f"DROP DATABASE {name} WITH (FORCE)")


def make_settings(database_url: str, redis_url: str = "redis://127.0.0.1:1/0", **changes: object) -> Settings:
    """Settings for tests; nothing is read from the environment but what the test leaves open."""
    values: dict[str, object] = {
        "database_url": database_url,
        "redis_url": redis_url,
        "secret_keys": generate_key(),
        "public_url": "https://parhelion.test",
        "allow_private_egress": True,
        "database_pool_size": 5,
        **changes,
    }
    return Settings.model_validate(values)


@pytest.fixture
def settings(database_url: str) -> Settings:
    """Settings that point at the test's database; Redis is a closed door unless a test opens one."""
    return make_settings(database_url)


@pytest_asyncio.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    """The test's database with real commits."""
    found = Database(create_engine(settings, application_name="tests"))
    try:
        yield found
    finally:
        await found.aclose()
