"""What the sandbox's tests call it with: a client of one tenant, and a receiver for its webhooks."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from app.core.http.client import AsyncClient, Response
from app.sandbox.halopsa.server import Sandbox
from app.sandbox.halopsa.world import TenantWorld


@dataclass
class Tenant:
    """A tenant of a running sandbox and a client that holds a token for it."""

    sandbox: Sandbox
    world: TenantWorld
    base_url: str
    client: AsyncClient

    async def token(self, *, scope: str = "all", app: str = "", secret: str = "", **params: str) -> Response:
        """Ask for a token, as the default application unless told otherwise."""
        form = {
            "grant_type": "client_credentials",
            "client_id": app or f"{self.world.name}-app",
            "client_secret": secret or f"{self.world.name}-app-secret",
            "scope": scope,
        }
        return await self.client.post(f"{self.base_url}/auth/token", params=params, data=form)

    async def log_in(self, **options: str) -> None:
        """Take a token and use it from now on."""
        answer = await self.token(**options)
        assert answer.status_code == 200, answer.text
        self.client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    async def get(self, path: str, **params: Any) -> Response:
        """GET below /api."""
        return await self.client.get(f"{self.base_url}/api{path}", params=params)

    async def post(self, path: str, body: Any, **params: Any) -> Response:
        """POST below /api."""
        return await self.client.post(f"{self.base_url}/api{path}", json=body, params=params)

    async def delete(self, path: str, **params: Any) -> Response:
        """DELETE below /api."""
        return await self.client.delete(f"{self.base_url}/api{path}", params=params)

    async def control(self, method: str, path: str, body: Any = None, /, **params: Any) -> Response:
        """A control request about this tenant."""
        root = self.base_url.rsplit("/", 1)[0]
        url = f"{root}/_sandbox/tenants/{self.world.name}{path}"
        return await self.client.request(method, url, json=body, params=params)

    async def new_ticket(self, **members: Any) -> dict[str, Any]:
        """Create a ticket; its JSON."""
        body = {"tickettype_id": 1, "client_id": 2, "summary": "Printer is on fire", "details": "Flames."} | members
        answer = await self.post("/Tickets", [body])
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def note(self, ticket_id: int, **members: Any) -> dict[str, Any]:
        """Write an internal note; its JSON."""
        answer = await self.post("/Actions", [{"ticket_id": ticket_id, "outcome_id": 7, "note": "noted"} | members])
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found


@dataclass
class Received:
    """One delivery as it arrived."""

    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """An ASGI application that keeps what it is sent and answers ``status``."""

    status: int = 200
    received: list[Received] = field(default_factory=list)
    url: str = ""
    # While set, requests wait here: concurrency can be seen.
    gate: asyncio.Event | None = None
    waiting: int = 0
    most_waiting: int = 0

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        if self.gate is not None:
            await self.gate.wait()
        self.waiting -= 1
        self.received.append(Received(headers, body))
        await send({"type": "http.response.start", "status": self.status, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})
