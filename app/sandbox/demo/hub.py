"""Parhelion as an integrator meets it: its public API and nothing else."""

from typing import Any

from app.core.http.client import AsyncClient


class Hub:
    """A client of the public API."""

    def __init__(self, http: AsyncClient, url: str, api_key: str) -> None:
        self._http = http
        self.url = url
        self._headers = {"Authorization": f"Bearer {api_key}"}

    async def call(self, method: str, path: str, **options: Any) -> Any:
        """One request. Raises ``RuntimeError`` with the problem's own words."""
        answer = await self._http.request(method, self.url + path, headers=self._headers, **options)
        body = answer.json()
        if answer.status_code >= 400:
            raise RuntimeError(f"{method} {path}: {body.get('detail')} {body.get('next_step') or ''}")
        return body

    async def connect(self, name: str, base_url: str, client_id: str, client_secret: str) -> str:
        """Connect a HaloPSA, test it, register the webhook. Returns the connection's id."""
        made = await self.call(
            "POST",
            "/v1/connections",
            json={
                "kind": "halopsa",
                "name": name,
                "config": {"base_url": base_url},
                "credentials": {"client_id": client_id, "client_secret": client_secret},
            },
        )
        connection_id: str = made["id"]
        tested = await self.call("POST", f"/v1/connections/{connection_id}/test")
        failed = [check for check in tested["checks"] if check["verdict"] == "failed"]
        if failed:
            raise RuntimeError(f"{name}: {failed[0]['detail']} {failed[0]['advice']}")
        hooked = await self.call("POST", f"/v1/connections/{connection_id}/webhooks")
        if hooked["problems"]:
            raise RuntimeError(f"{name}: {hooked['problems'][0]}")
        return connection_id

    async def relate(self, source: str, target: str) -> str:
        """Keep two connections in step. Returns the relationship's id."""
        made = await self.call(
            "POST",
            "/v1/relationships",
            json={
                "name": "Acme and Globex",
                "source_connection_id": source,
                "target_connection_id": target,
                "settings": {
                    "source": {"resolution": "12"},
                    "target": {"resolution": "12", "customer": 2, "ticket_type": 1},
                    "source_label": "Acme",
                    "target_label": "Globex",
                    "poll_interval_seconds": 6,
                },
            },
        )
        relationship_id: str = made["id"]
        return relationship_id

    async def waiting(self, relationship_id: str) -> int:
        """How much is left to do: events not understood, links to look at, writes to send."""
        links = (await self.call("GET", f"/v1/relationships/{relationship_id}"))["links"]
        inbox = await self.call("GET", "/v1/inbox", params={"status": "pending", "limit": 200})
        outbox = await self.call("GET", "/v1/outbox", params={"status": "pending", "limit": 200})
        return int(links["waiting"]) + len(inbox["items"]) + len(outbox["items"])

    async def dead_letters(self) -> list[dict[str, Any]]:
        """Writes that were given up."""
        found: list[dict[str, Any]] = (await self.call("GET", "/v1/outbox", params={"status": "dead"}))["items"]
        return found
