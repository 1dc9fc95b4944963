"""The engine: one for each process."""

from typing import Any

import orjson
from sqlalchemy import NullPool
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.core.config import Settings


def _dumps(value: Any) -> str:
    return orjson.dumps(value).decode()


def _pool(settings: Settings) -> dict[str, Any]:
    # Last in, first out: few warm connections instead of all ten in turn, whose statements and pages are cached.
    sizes = {"pool_size": settings.database_pool_size, "max_overflow": 0, "pool_use_lifo": True}
    return {**sizes, "pool_recycle": 600, "pool_timeout": 10}


def create_engine(settings: Settings, *, application_name: str, pooled: bool = True) -> AsyncEngine:
    """An engine whose every wait is bounded: connecting 10 s, statements and locks by the settings.

    Without ``pooled`` a connection that is closed is really closed, and with it what its session holds.
    ``application_name`` shows in ``pg_stat_activity``, so an operator sees who holds what.
    """
    return create_async_engine(
        settings.database_url.get_secret_value(),
        **(_pool(settings) if pooled else {"poolclass": NullPool}),
        hide_parameters=True,  # an error text must never carry ticket text or secrets into a log
        json_serializer=_dumps,
        json_deserializer=orjson.loads,
        connect_args={
            "timeout": 10,
            "command_timeout": settings.database_statement_timeout_seconds + 5,
            "server_settings": {
                "application_name": application_name,
                "jit": "off",
                "statement_timeout": str(settings.database_statement_timeout_seconds * 1000),
                "lock_timeout": str(settings.database_lock_timeout_seconds * 1000),
                "idle_in_transaction_session_timeout": "60000",
            },
        },
    )
