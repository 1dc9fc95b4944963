"""The whole service with two linked tenants: the stage of the flow, the burst and the memory measurement."""

import asyncio
import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil

from app.core.config import Settings
from app.core.http.client import AsyncClient, open_client
from app.embedded.dev import DevService, free_port
from app.operations import make_tenant
from benchmarks.children import child
from benchmarks.desks import SOURCE, TARGET

# While tickets are linked and the flow runs, the budget must not be what is measured. The window of a second makes
# the spent part of it leave at once when the real budget comes back.
RAISED = {"budget_limit": 100_000, "budget_window_seconds": 1.0}
REAL = {"budget_limit": 300, "budget_window_seconds": 300.0}
QUIET_LOOKS = 5
LOOK_SECONDS = 0.1


class StageFailed(RuntimeError):
    """Something did not come about in time; the text says what."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory in MiB."""

    api: float
    worker: float


class Stage:
    """The running service and its two desks."""

    def __init__(self, service: DevService, desks: "subprocess.Popen[str]", url: str, client: AsyncClient) -> None:
        self._service, self._desks, self._desks_url, self._client = service, desks, url, client
        self._connections: dict[str, str] = {}
        self._relationship = ""

    async def desks(self, verb: str, **given: Any) -> dict[str, Any]:
        """Tell the desks to do something; their answer."""
        return await asyncio.to_thread(ask, self._desks, {"do": verb, **given})

    async def _api(self, method: str, path: str, body: Any = None, etag: str = "") -> dict[str, Any]:
        headers = {"if-match": etag} if etag else {}
        answer = await self._client.request(method, self._service.url + path, json=body, headers=headers)
        if answer.status_code >= 400:
            raise StageFailed(f"{method} {path} was answered with {answer.status_code}: {answer.text[:300]}")
        found: dict[str, Any] = answer.json()
        return found | {"_etag": answer.headers.get("etag", "")}

    async def connect(self) -> None:
        """Both connections with their webhooks, and a relationship whose safety poll stays out of the way."""
        for name in (SOURCE, TARGET):
            made = await self._api(
                "POST",
                "/v1/connections",
                {
                    "kind": "halopsa",
                    "name": name,
                    "config": {"base_url": f"{self._desks_url}/{name}", **RAISED},
                    "credentials": {"client_id": f"{name}-app", "client_secret": f"{name}-app-secret"},
                },
            )
            self._connections[name] = made["id"]
            await self._api("POST", f"/v1/connections/{made['id']}/test")
            await self._api("POST", f"/v1/connections/{made['id']}/webhooks")
        made = await self._api(
            "POST",
            "/v1/relationships",
            {
                "name": "bench",
                "source_connection_id": self._connections[SOURCE],
                "target_connection_id": self._connections[TARGET],
                "settings": {"poll_interval_seconds": 3600},
            },
        )
        self._relationship = made["id"]

    async def budget(self, numbers: dict[str, float]) -> None:
        """Give both connections this call budget. The worker compares versions before each round, so it is in use
        with the next one."""
        for name, connection_id in self._connections.items():
            path = f"/v1/connections/{connection_id}"
            etag = (await self._api("GET", path))["_etag"]
            config = {"base_url": f"{self._desks_url}/{name}", **numbers}
            await self._api("PATCH", path, {"config": config}, etag)

    async def links(self) -> dict[str, int]:
        """Links by state, and how many wait."""
        found: dict[str, int] = (await self._api("GET", f"/v1/relationships/{self._relationship}"))["links"]
        return found

    async def _idle(self) -> bool:
        """Nothing on its way in either direction, and nothing left to look at."""
        looked = await self.desks("look")
        if looked["outstanding"] or not looked["agree"]:
            return False
        if (await self.links())["waiting"]:
            return False
        for path in ("/v1/outbox?status=pending&limit=1", "/v1/inbox?status=pending&limit=1"):
            if (await self._api("GET", path))["items"]:
                return False
        return True

    async def quiet(self, what: str, *, within_seconds: float) -> None:
        """Wait until nothing moves any more. Raises :class:`StageFailed`."""
        until = time.monotonic() + within_seconds
        calm = 0
        while calm < QUIET_LOOKS:
            calm = calm + 1 if await self._idle() else 0
            if time.monotonic() > until:
                raise StageFailed(f"{what} did not end within {within_seconds:.0f} s: {await self.links()}")
            await asyncio.sleep(LOOK_SECONDS)

    def memory(self) -> Memory:
        """Resident memory of the two processes of the service, now."""
        assert self._service.api is not None
        assert self._service.worker is not None
        api, worker = (
            psutil.Process(process.pid).memory_info().rss / 2**20
            for process in (self._service.api, self._service.worker)
        )
        return Memory(api, worker)


def ask(desks: "subprocess.Popen[str]", command: dict[str, Any]) -> dict[str, Any]:
    """One command to the desks' process. Raises :class:`StageFailed` when it ended."""
    assert desks.stdin is not None
    assert desks.stdout is not None
    try:
        desks.stdin.write(json.dumps(command) + "\n")
        desks.stdin.flush()
        line = desks.stdout.readline()
    except OSError:
        line = ""
    if not line:
        raise StageFailed(f"the sandbox process ended while asked to {command['do']}")
    found: dict[str, Any] = json.loads(line)
    return found


async def on_stage(work: Callable[[Stage], Any]) -> Any:
    """Start everything, run ``work`` with it, stop everything."""
    service = DevService(ephemeral=True, port=free_port())
    try:
        await asyncio.to_thread(service.start)
        with child("benchmarks.desks", [], talks=True) as desks:
            assert desks.stdout is not None
            url: str = json.loads(desks.stdout.readline())["url"]
            settings = Settings.model_validate(
                {name.removeprefix("PARHELION_").lower(): value for name, value in service.environment.items()}
            )
            _, key = await make_tenant(settings, "Bench")
            async with open_client(allow_private=True, timeout_seconds=60) as client:
                client.headers["authorization"] = f"Bearer {key}"
                stage = Stage(service, desks, url, client)
                await stage.connect()
                return await work(stage)
    finally:
        await asyncio.to_thread(service.stop)
