"""Playing the day: people act, trouble comes, everything settles, both sides are compared."""

import asyncio
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from app.core import clock
from app.core.http.client import AsyncClient, open_client
from app.sandbox.demo import script, verdict
from app.sandbox.demo.desks import SandboxDesks, calls, writes
from app.sandbox.demo.hub import Hub
from app.sandbox.demo.script import Act, Trouble
from app.sandbox.demo.verdict import Verdict

# A slow machine makes smaller batches of the same day, and may spend HaloPSA's 300 calls: they are back within five
# minutes of their use. Usually this takes seconds.
SETTLE_SECONDS = 420.0
QUIET_SECONDS = 3.0
NAMES = ("acme", "globex")


class Machine(Protocol):
    """The service's processes, for the trouble: each call returns when it has happened."""

    @property
    def hub_url(self) -> str: ...
    @property
    def sandbox_url(self) -> str: ...
    @property
    def api_key(self) -> str: ...
    def kill_worker(self) -> None: ...
    def start_worker(self) -> None: ...
    def flush_redis(self) -> None: ...


@dataclass(slots=True)
class Day:
    """What has happened so far."""

    done: list[Act] = field(default_factory=list)
    said: dict[str, datetime] = field(default_factory=dict)
    ids: dict[tuple[str, int], int] = field(default_factory=dict)


class Story:
    """One run of the demo."""

    def __init__(self, machine: Machine, http: AsyncClient, people: Console, tickets: int) -> None:
        self.machine = machine
        self.people = people
        self.tickets = tickets
        self.hub = Hub(http, machine.hub_url, machine.api_key)
        self.desks = SandboxDesks(http, machine.sandbox_url)
        self.day = Day()
        self.relationship_id = ""

    async def connect(self) -> None:
        """Connect both organisations through the public API, as an integrator would."""
        connections = []
        for name in NAMES:
            told = await self.desks.describe(name)
            app = told["applications"][0]
            connections.append(
                await self.hub.connect(name.title(), told["base_url"], app["client_id"], app["client_secret"])
            )
        self.relationship_id = await self.hub.relate(connections[0], connections[1])

    async def play(self, bar: Progress, task: TaskID) -> None:
        """Let the day pass: acts and troubles, each at its moment."""
        started = time.monotonic()
        plan: list[Act | Trouble] = [*script.acts(self.tickets), *script.troubles()]
        pending: set[asyncio.Task[None]] = set()
        for entry in sorted(plan, key=lambda one: one.at_seconds):
            await asyncio.sleep(max(0.0, entry.at_seconds - (time.monotonic() - started)))
            if isinstance(entry, Trouble):
                bar.console.print(f"[yellow]{time.monotonic() - started:5.1f} s  {entry.words}[/]")
            work = self._trouble(entry) if isinstance(entry, Trouble) else self._act(entry, bar, task)
            running = asyncio.create_task(work)
            pending.add(running)
            running.add_done_callback(pending.discard)
        await asyncio.gather(*pending)

    async def _act(self, act: Act, bar: Progress, task: TaskID) -> None:
        ticket_id = await self._ticket_id(act)
        path, body = script.wire(act, ticket_id)
        saved = await self.desks.act(act.desk, path, body, agent=act.agent)
        if act.deed == "create":
            self.day.ids["acme", act.ticket] = int(saved["id"])
        self.day.said[act.nonce] = clock.now()
        self.day.done.append(act)
        bar.advance(task)

    async def _ticket_id(self, act: Act) -> int | None:
        """The ticket's id at the act's desk. A person at Globex has to wait until the ticket has appeared there."""
        if act.deed == "create":
            return None
        key = (act.desk, act.ticket)
        deadline = time.monotonic() + SETTLE_SECONDS
        while key not in self.day.ids:
            if act.desk == "globex" and ("acme", act.ticket) in self.day.ids:
                found = await self.hub.call(
                    "GET",
                    "/v1/ticket-links",
                    params={"ticket_id": str(self.day.ids["acme", act.ticket]), "state": "linked", "limit": 10},
                )
                for link in found["items"]:
                    if link["source_ticket_id"] == str(self.day.ids["acme", act.ticket]):
                        self.day.ids[key] = int(link["target_ticket_id"])
                        return self.day.ids[key]
            if time.monotonic() > deadline:
                raise RuntimeError(f"ticket {act.ticket} has not appeared at {act.desk}")
            await asyncio.sleep(0.25)
        return self.day.ids[key]

    async def _trouble(self, trouble: Trouble) -> None:
        match trouble.name:
            case "webhooks_fail":
                for seed, name in enumerate(NAMES):
                    await self.desks.fail(
                        name,
                        {"webhook": "drop", "probability": 0.2, "seed": seed},
                        {"webhook": "duplicate", "probability": 0.25, "seed": seed + 10},
                    )
            case "kill_worker":
                await asyncio.to_thread(self.machine.kill_worker)
                await asyncio.sleep(1.0)
                await asyncio.to_thread(self.machine.start_worker)
            case "flush_redis":
                await asyncio.to_thread(self.machine.flush_redis)
            case "refuse":
                limit = {"error": "Rate Limit Reached - 300 Requests per rolling 5 minute window."}
                effect = {"status": 429, "body": limit, "headers": {"Retry-After": "1"}}
                await self.desks.fail("globex", {"match": {"method": "POST"}, "times": 2, "effect": effect})
            case "time_out":
                for path in ("/Tickets", "/Actions"):
                    fault = {
                        "match": {"method": "POST", "path": path},
                        "times": 2,
                        "effect": {"timeout_after_write": True},
                    }
                    await self.desks.fail("globex", fault)
            case "calm":
                for name in NAMES:
                    await self.desks.calm(name)

    async def settle(self) -> None:
        """Wait until nothing is left to do, a poll after the last trouble included."""
        asked = await self.hub.call(
            "POST",
            "/v1/syncs",
            json={"relationship_id": self.relationship_id, "since": clock.rfc3339(min(self.day.said.values()))},
        )
        deadline = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline:
            run = await self.hub.call("GET", f"/v1/syncs/{asked['id']}")
            if run["state"] in ("done", "failed") and await self.hub.waiting(self.relationship_id) == 0:
                return
            await asyncio.sleep(0.2)

    async def judge(self) -> Verdict:
        """Compare what both organisations hold."""
        before = await writes(self.desks)
        await asyncio.sleep(QUIET_SECONDS)
        quiet_writes = await writes(self.desks) - before
        told = {name: await self.desks.describe(name) for name in NAMES}
        result = verdict.compare(
            self.day.done,
            await self.desks.export("acme"),
            await self.desks.export("globex"),
            our_agents={name: int(told[name]["applications"][0]["agent_id"]) for name in NAMES},
            quiet_writes=quiet_writes,
        )
        arrived = verdict.arrivals(await self.desks.journal("globex"))
        arrived |= {
            nonce: at for nonce, at in verdict.arrivals(await self.desks.journal("acme")).items() if nonce[0] != "T"
        }
        result.latency_p50_ms, result.latency_p95_ms = verdict.latencies_ms(self.day.said, arrived)
        result.halo_calls_per_change = round(await calls(self.desks) / max(1, len(self.day.done)), 3)
        for letter in await self.hub.dead_letters():
            result.notes.append(f"dead letter {letter['kind']}: {letter['error_detail']} {letter['next_step']}")
        return result


async def play(machine: Machine, people: Console, tickets: int) -> Verdict:
    """Run the whole story against running processes."""
    started = time.monotonic()
    async with open_client(allow_private=True, max_connections=50) as http:
        story = Story(machine, http, people, tickets)
        await story.connect()
        people.print(
            "Both organisations are connected and tested, their webhooks registered, all through the public API."
        )
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=people, transient=False) as bar:
            task = bar.add_task("what people did", total=len(script.acts(tickets)))
            await story.play(bar, task)
            bar.console.print("[dim]the day is over; waiting until everything has settled[/]")
            await story.settle()
        result = await story.judge()
    result.seconds = round(time.monotonic() - started, 1)
    result.ok = _holds(result)
    people.print(_table(result))
    for note in result.notes[:20]:
        people.print(f"[dim]{note}[/]", markup=True)
    return result


def _holds(result: Verdict) -> bool:
    return (
        result.tickets_mirrored == result.tickets_expected
        and result.comments_mirrored == result.comments_expected
        and not result.lost
        and not result.duplicated
        and not result.private_leaked
        and not result.echo_writes
        and not result.fields_differing
    )


def _table(result: Verdict) -> Table:
    table = Table(title="Acme and Globex, compared by reading both")
    table.add_column("what")
    table.add_column("count", justify="right")
    table.add_column("wanted", justify="right")
    rows: list[tuple[str, float, str]] = [
        ("tickets at both sides", result.tickets_mirrored, str(result.tickets_expected)),
        ("public comments at both sides", result.comments_mirrored, str(result.comments_expected)),
        ("lost", result.lost, "0"),
        ("there twice", result.duplicated, "0"),
        ("private notes seen by the other side", result.private_leaked, "0"),
        ("own writes that came back", result.echo_writes, "0"),
        ("fields that differ", result.fields_differing, "0"),
        ("HaloPSA calls for each change", result.halo_calls_per_change, ""),
        ("half of all changes crossed within (ms)", result.latency_p50_ms, ""),
        ("95 % crossed within (ms), trouble included", result.latency_p95_ms, ""),
        ("seconds", result.seconds, ""),
    ]
    for what, count, wanted in rows:
        good = not wanted or str(count) == wanted
        table.add_row(what, f"[{'green' if good else 'red'}]{count}[/]", wanted)
    table.add_row("everything holds", "[green]yes[/]" if result.ok else "[red]no[/]", "yes")
    return table
