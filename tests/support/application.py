"""The service as tests meet it: over HTTP, with a key, against real stores."""

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, cast
from uuid import UUID

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI

from app.auth import service as auth
from app.auth.schemas import Scope
from app.connectors import registry
from app.core import ids
from app.core.config import Settings
from app.core.db.session import Database, SilentDoorbell
from app.main import create_app
from app.sandbox.serving import serving
from app.tenants import service as tenants

_numbers = count(1)


@pytest.fixture
def testdesk(monkeypatch: pytest.MonkeyPatch) -> str:
    """Makes the kind ``testdesk`` known; gives its name."""
    monkeypatch.setitem(cast(MutableMapping[str, str], registry.KINDS), "testdesk", "tests.support.testdesk")
    return "testdesk"


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[FastAPI]:
    """The service's application with everything open, as a server would run it, without a socket."""
    app = create_app(settings, doorbell=SilentDoorbell())
    async with app.router.lifespan_context(app):
        yield app


@pytest_asyncio.fixture
async def application(settings: Settings) -> AsyncIterator[FastAPI]:
    """The application, open, on the test's database. Redis is away unless ``settings`` say otherwise."""
    async with running(settings) as app:
        yield app


@pytest_asyncio.fixture
async def live_url(settings: Settings) -> AsyncIterator[str]:
    """The service on a real socket: its base address. Webhooks and flows meet it there."""
    app = create_app(settings, doorbell=SilentDoorbell())
    async with serving(app) as url:
        yield url


@dataclass(frozen=True)
class Api:
    """A caller with a key. Methods give the answer; ``expect`` checks its status and gives its JSON."""

    client: httpx.AsyncClient
    tenant_id: UUID
    key: str

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request with the caller's key; ``headers`` are added to it."""
        headers = {"Authorization": f"Bearer {self.key}", **(options.pop("headers", None) or {})}
        return await self.client.request(method, path, headers=headers, **options)

    async def get(self, path: str, **options: Any) -> httpx.Response:
        """GET."""
        return await self.request("GET", path, **options)

    async def post(self, path: str, **options: Any) -> httpx.Response:
        """POST."""
        return await self.request("POST", path, **options)

    async def patch(self, path: str, **options: Any) -> httpx.Response:
        """PATCH."""
        return await self.request("PATCH", path, **options)

    async def delete(self, path: str, **options: Any) -> httpx.Response:
        """DELETE."""
        return await self.request("DELETE", path, **options)


def body(response: httpx.Response, status: int) -> Any:
    """The JSON of an answer that must have ``status``; the answer itself is shown when it has not."""
    assert response.status_code == status, f"{response.status_code}: {response.text}"
    return response.json()


def problem(response: httpx.Response, status: int, code: str) -> Any:
    """The problem in an answer that must be one with this status and code."""
    found = body(response, status)
    assert response.headers["content-type"] == "application/problem+json"
    assert found["code"] == code, found
    assert found["status"] == status
    assert found["type"] == f"/problems/{code}"
    assert found["correlation_id"] == response.headers["x-request-id"]
    return found


async def create_tenant(database: Database, name: str | None = None) -> tuple[UUID, str]:
    """A tenant and the text of its admin key."""
    async with database.transaction() as session:
        tenant, key = await tenants.create_first_tenant(session, name or f"Tenant {next(_numbers)}")
    return tenant.id, key


async def create_key(database: Database, tenant_id: UUID, *scopes: Scope | str) -> str:
    """The text of a key of the tenant with these scopes."""
    async with database.transaction() as session:
        issued = await auth.issue_key(
            session, tenant_id, name=f"key {next(_numbers)}", scopes=frozenset(Scope(one) for one in scopes)
        )
    return issued.text


MakeApi = Callable[..., Awaitable[Api]]


@pytest_asyncio.fixture
async def client(application: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the application, without a key and without a socket."""
    transport = httpx.ASGITransport(app=application)
    async with httpx.AsyncClient(transport=transport, base_url="http://parhelion.test") as found:
        yield found


@pytest_asyncio.fixture
async def make_api(client: httpx.AsyncClient, database: Database) -> MakeApi:
    """Makes callers: ``await make_api()`` is a new tenant's admin, ``await make_api("connections:read",
    tenant_id=…)`` a narrower key of an existing tenant."""

    async def make(*scopes: Scope | str, tenant_id: UUID | None = None) -> Api:
        if tenant_id is None:
            tenant_id, key = await create_tenant(database)
        if scopes:
            key = await create_key(database, tenant_id, *scopes)
        elif tenant_id is not None:
            key = await create_key(database, tenant_id, Scope.ADMIN)
        return Api(client, tenant_id, key)

    return make


@pytest_asyncio.fixture
async def api(make_api: MakeApi) -> Api:
    """The admin of a new tenant."""
    return await make_api()


@dataclass(frozen=True)
class Made:
    """A connection that a test made: the answer's JSON, its id, its ETag."""

    json: dict[str, Any]
    id: str
    etag: str

    @property
    def path(self) -> str:
        """Its address."""
        return f"/v1/connections/{self.id}"

    @property
    def uuid(self) -> UUID:
        """Its row's key."""
        return ids.parse("con", self.id)


async def create_connection(api: Api, **changes: Any) -> Made:
    """A connection of the kind ``testdesk``, made over HTTP. Ask for the fixture ``testdesk`` as well."""
    number = next(_numbers)
    wanted: dict[str, Any] = {
        "kind": "testdesk",
        "name": f"Desk {number}",
        "config": {"base_url": f"https://desk{number}.test"},
        "credentials": {"client_id": "app", "client_secret": f"client-secret-{number}"},
        **changes,
    }
    response = await api.post("/v1/connections", json=wanted)
    made = body(response, 201)
    return Made(made, made["id"], response.headers["etag"])


async def activate(api: Api, made: Made) -> str:
    """Test the connection so that it becomes active; gives its ETag."""
    assert body(await api.post(f"{made.path}/test"), 200)["state"] == "active"
    return (await api.get(made.path)).headers["etag"]
