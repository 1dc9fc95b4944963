"""The two sandbox organisations as the demo sees them: people who act, faults, and what they hold in the end."""

from collections.abc import Mapping
from typing import Any

from app.core.http.client import AsyncClient


class SandboxDesks:
    """The control API of a sandbox server with the tenants ``acme`` and ``globex``."""

    def __init__(self, http: AsyncClient, url: str) -> None:
        self._http = http
        self.url = url

    async def _call(self, method: str, path: str, **options: Any) -> Any:
        answer = await self._http.request(method, f"{self.url}/_sandbox/tenants/{path}", **options)
        if answer.status_code >= 400:
            raise RuntimeError(f"the sandbox refused {method} {path}: {answer.text[:300]}")
        return answer.json()

    async def describe(self, name: str) -> dict[str, Any]:
        """Addresses and credentials of a tenant."""
        found: dict[str, Any] = await self._call("GET", name)
        return found

    async def act(self, name: str, path: str, body: Mapping[str, Any], *, agent: int) -> dict[str, Any]:
        """A person does something in HaloPSA's own user interface."""
        order = {"agent_id": agent, "method": "POST", "path": path, "body": [body]}
        done = await self._call("POST", f"{name}/act", json=order)
        if done["status"] >= 400:
            raise RuntimeError(f"{name} refused {path} of a person: {done['body']}")
        found: dict[str, Any] = done["body"]
        return found

    async def fail(self, name: str, *faults: Mapping[str, Any]) -> None:
        """Script faults."""
        await self._call("POST", f"{name}/faults", json=list(faults))

    async def calm(self, name: str) -> None:
        """No more faults."""
        await self._call("DELETE", f"{name}/faults")

    async def export(self, name: str) -> dict[str, Any]:
        """Everything the tenant holds."""
        found: dict[str, Any] = await self._call("GET", f"{name}/export")
        return found

    async def counters(self, name: str) -> dict[str, Any]:
        """How often each path was asked, ever."""
        found: dict[str, Any] = await self._call("GET", f"{name}/counters")
        return found

    async def journal(self, name: str) -> list[dict[str, Any]]:
        """What the hub wrote there."""
        found = await self._call("GET", f"{name}/journal", params={"method": "POST"})
        entries: list[dict[str, Any]] = found["entries"]
        return entries


async def writes(desks: SandboxDesks) -> int:
    """Writes of the hub at both desks so far."""
    total = 0
    for name in ("acme", "globex"):
        requests = (await desks.counters(name))["requests"]
        total += requests.get("POST /Tickets", 0) + requests.get("POST /Actions", 0)
    return total


async def calls(desks: SandboxDesks) -> int:
    """Calls of the hub at both desks so far, of every kind."""
    total = 0
    for name in ("acme", "globex"):
        total += sum((await desks.counters(name))["requests"].values())
    return total
