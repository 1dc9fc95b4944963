"""Two sandbox HaloPSA tenants in a process of their own, with the people who work in them.

Talks JSON lines: a command on stdin, one answer on stdout. The people's edits go through the sandbox's ``act``, the
same as ``POST /_sandbox/tenants/{tenant}/act`` without the HTTP in front of it: they are not metered and not in the
journal.
"""

import asyncio
import itertools
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from app.core import clock
from app.sandbox.halopsa.journal import Entry
from app.sandbox.halopsa.server import create_sandbox
from app.sandbox.halopsa.world import TenantWorld
from app.sandbox.serving import serving
from benchmarks.matching import ApiCall, Edit, Sent, latencies

SOURCE, TARGET = "acme", "globex"
PER_GESTURE = 100
COLLECT_SECONDS = 0.2
ARRIVE_SECONDS = 15.0


class DeskFailed(RuntimeError):
    """The sandbox refused a person's gesture."""


class Desks:
    """Both tenants: what is done in them and what is read off them."""

    def __init__(self) -> None:
        self.sandbox = create_sandbox()
        self.source, self.target = self.sandbox.add_tenant(SOURCE), self.sandbox.add_tenant(TARGET)
        self._summaries: dict[int, str] = {}
        self._runs = itertools.count(1)
        self._agent = next(iter(self.source.configuration.agents))

    def _act(self, path: str, body: list[dict[str, Any]]) -> list[dict[str, Any]]:
        done = self.source.act("POST", path, agent_id=self._agent, params={"returnall": True}, body=body)
        if done.status >= 300:
            raise DeskFailed(f"{path} was answered with {done.status}: {done.body}")
        saved: list[dict[str, Any]] = done.body if isinstance(done.body, list) else [done.body]
        return saved

    async def open_tickets(self, count: int) -> dict[str, Any]:
        """Log ``count`` tickets at the source, a hundred a gesture."""
        for start in range(0, count, PER_GESTURE):
            new = [
                {"summary": f"Ticket {number}", "details": f"Trouble {number}", "tickettype_id": 1, "client_id": 2}
                for number in range(start, min(start + PER_GESTURE, count))
            ]
            self._summaries |= {row["id"]: row["summary"] for row in self._act("/Tickets", new)}
            await asyncio.sleep(0)
        return {"tickets": len(self._summaries)}

    async def bulk_edit(self) -> dict[str, Any]:
        """Change every ticket at the source, a hundred a gesture."""
        run = next(self._runs)
        self._summaries = {ticket: f"Bulk {run} of {ticket}" for ticket in self._summaries}
        edits = [{"id": ticket, "summary": summary} for ticket, summary in self._summaries.items()]
        for start in range(0, len(edits), PER_GESTURE):
            self._act("/Tickets", edits[start : start + PER_GESTURE])
            await asyncio.sleep(0)
        return {"changes": len(edits)}

    async def look(self) -> dict[str, Any]:
        """Whether the target holds what the source was given, the API calls so far, and webhooks under way."""
        worlds = (self.source, self.target)
        counted = {world.name: dict(world.journal.counters) for world in worlds}
        return {
            "agree": self._agree(),
            "calls": sum(sum(counters.values()) for counters in counted.values()),
            "counters": counted,
            "rate_limited": sum(world.limiter.refused for world in worlds),
            "outstanding": sum(world.deliveries.outstanding for world in worlds),
        }

    def _agree(self) -> bool:
        """Whether the target holds every summary as it is at the source now. Summaries are unique."""
        held = {ticket.values["summary"] for ticket in self.target.tickets.by_id.values()}
        return held.issuperset(self._summaries.values())

    async def meter(self, *, on: bool) -> dict[str, Any]:
        """Switch the 300 calls per 5 minutes of both tenants on or off."""
        for world in (self.source, self.target):
            world.switches.apply({"rate_limit_off": not on})
        return {}

    async def steady(self, rate: float, seconds: float, warm_up_seconds: float) -> dict[str, Any]:
        """Edit one ticket after the other, ``rate`` a second; the latency of each edit after the warm-up, in ms."""
        seen = _Collected(self.source, self.target)
        collecting = asyncio.create_task(seen.collect())
        try:
            edits = await self._edit(rate, seconds + warm_up_seconds)
            await self._arrived()
        finally:
            collecting.cancel()
            await asyncio.gather(collecting, return_exceptions=True)
        seen.take()
        counted = [edit for edit in edits if edit.at >= edits[0].at + warm_up_seconds]
        found = latencies(counted, seen.sent, seen.calls)
        spent = counted[-1].at - counted[0].at
        return {
            "edits": len(counted),
            "gave_up_ms": ARRIVE_SECONDS * 1000,
            "rate": (len(counted) - 1) / spent,
            "beyond_ms": [one.beyond_remote * 1000 for one in found],
            "total_ms": [one.total * 1000 for one in found],
        }

    async def _edit(self, rate: float, seconds: float) -> list[Edit]:
        run, loop, tickets = next(self._runs), asyncio.get_running_loop(), list(self._summaries)
        began = loop.time()
        edits: list[Edit] = []
        for number in range(round(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - loop.time()))
            ticket = tickets[number % len(tickets)]
            edit = Edit(ticket, f"Edit {run}.{number}", clock.now().timestamp())
            self._act("/Tickets", [{"id": ticket, "summary": edit.value}])
            self._summaries[ticket] = edit.value
            edits.append(edit)
        return edits

    async def _arrived(self) -> None:
        """Wait until the target holds everything, for a while: what does not come is reported as missing."""
        loop = asyncio.get_running_loop()
        until = loop.time() + ARRIVE_SECONDS
        while True:
            if self._agree() or loop.time() > until:
                return
            await asyncio.sleep(0.1)


class _Collected:
    """The journals and the delivery log, copied before their rings turn over."""

    def __init__(self, source: TenantWorld, target: TenantWorld) -> None:
        self._worlds = {"source": source, "target": target}
        self._journal = {side: world.journal.seq for side, world in self._worlds.items()}
        self._logged = source.deliveries.sent
        self.sent: list[Sent] = []
        self.calls: list[ApiCall] = []

    async def collect(self) -> None:
        """Copy every now and then until cancelled."""
        while True:
            self.take()
            await asyncio.sleep(COLLECT_SECONDS)

    def take(self) -> None:
        """Copy what is new."""
        deliveries = self._worlds["source"].deliveries
        fresh, self._logged = deliveries.sent - self._logged, deliveries.sent
        for row in itertools.islice(reversed(deliveries.log.values()), fresh):
            self.sent.append(Sent(row["entity_id"], row["timestamp"].timestamp() - row["duration"]))
        for side, world in self._worlds.items():
            for entry in world.journal.entries(since=self._journal[side]):
                self.calls.append(_call(side, entry))
            self._journal[side] = world.journal.seq


def _call(side: str, entry: Entry) -> ApiCall:
    named = entry.params.get("ticketids") or entry.params.get("ticket_id") or ""
    rows = entry.body if isinstance(entry.body, list) else []
    return ApiCall(
        side=side,
        method=entry.method,
        path=entry.template,
        began=entry.at.timestamp() - entry.duration_ms / 1000,
        seconds=entry.duration_ms / 1000,
        tickets=frozenset(int(part) for part in named.split(",") if part),
        writes=tuple((int(row["id"]), str(row["summary"])) for row in rows if "id" in row and "summary" in row),
    )


async def _talk(desks: Desks, commands: asyncio.StreamReader) -> None:
    verbs: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
        "open_tickets": desks.open_tickets,
        "bulk_edit": desks.bulk_edit,
        "look": desks.look,
        "meter": desks.meter,
        "steady": desks.steady,
    }
    while line := await commands.readline():
        command = json.loads(line)
        _say(await verbs[command.pop("do")](**command))


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def _main() -> None:
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    desks = Desks()
    async with serving(desks.sandbox.app) as url:
        _say({"url": url})
        await _talk(desks, commands)


if __name__ == "__main__":
    try:
        import uvloop
    except ImportError:
        asyncio.run(_main())
    else:
        uvloop.run(_main())
