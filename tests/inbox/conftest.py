"""The receiving service on a real socket, and connections that senders deliver to."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
import pytest_asyncio
from fastapi import FastAPI
from sqlmodel import col, select

from app.core import ids
from app.core.config import Settings
from app.core.db.session import Database, SilentDoorbell
from app.inbox.models import InboxMessage
from app.main import create_app
from app.sandbox.serving import serving
from tests.support.application import Api, create_connection, create_tenant


@dataclass
class Bell:
    """Remembers what was rung."""

    rung: list[str] = field(default_factory=list)

    def ring(self, name: str) -> None:
        self.rung.append(name)


@dataclass(frozen=True)
class Hooks:
    """The service as a sender meets it, and what it stored."""

    url: str
    app: FastAPI
    client: httpx.AsyncClient
    api: Api
    database: Database

    async def deliver(
        self, connection_id: str, body: bytes | Any, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """One delivery; anything but bytes is sent as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"content-type": "application/json", **(headers or {})}
        return await self.client.post(f"/hooks/{connection_id}", content=content, headers=sent)

    async def stored(self, connection_id: str | None = None) -> list[InboxMessage]:
        """What is in the inbox, in the order of arrival."""
        statement = select(InboxMessage).order_by(col(InboxMessage.id))
        if connection_id is not None:
            statement = statement.where(col(InboxMessage.connection_id) == ids.parse("con", connection_id))
        async with self.database.transaction() as session:
            return list((await session.exec(statement)).all())


@pytest_asyncio.fixture
async def hooks(settings: Settings, database: Database, testdesk: str) -> AsyncIterator[Hooks]:
    """The service on a socket with one tenant's admin."""
    app = create_app(settings, doorbell=SilentDoorbell())
    async with serving(app) as url, httpx.AsyncClient(base_url=url, timeout=20) as client:
        tenant_id, key = await create_tenant(database)
        yield Hooks(url, app, client, Api(client, tenant_id, key), database)


SECRET = "an-invented-webhook-secret"
MakeSender = Callable[..., Awaitable[str]]


@pytest_asyncio.fixture
async def make_sender(hooks: Hooks) -> MakeSender:
    """Makes connections: ``await make_sender({"kind": "none"})`` gives the public id."""

    async def make(verifier: dict[str, Any] | None = None, secret: str = SECRET, **changes: Any) -> str:
        wanted: dict[str, Any] = {"verifier": verifier or {"kind": "none"}, **changes}
        if wanted["verifier"]["kind"] != "none":
            wanted["webhook_secret"] = secret
        return (await create_connection(hooks.api, **wanted)).id

    return make


@pytest_asyncio.fixture
async def open_sender(make_sender: MakeSender) -> str:
    """A connection that does not verify its sender."""
    return await make_sender()


def uuid_of(connection_id: str) -> UUID:
    """The key behind a connection's public id."""
    return ids.parse("con", connection_id)
