"""Durable ingest: events per second that are verified and committed, over a bare route that stores nothing."""

import asyncio
import secrets
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import text

from app import schema
from app.core.config import Settings, generate_key
from app.core.db.engine import create_engine
from app.core.http.client import open_client
from app.embedded import EmbeddedStack
from app.embedded.dev import free_port
from app.embedded.processes import ServiceProcess
from app.operations import make_tenant
from benchmarks import bodies, load
from benchmarks.children import child, wait_listening
from benchmarks.load import Load, Round

WARM_UP_SECONDS = 1.0
# The ring is sized by the fastest rate seen, with this margin: an event must never be sent twice.
RING_MARGIN = 1.6


@dataclass(frozen=True, slots=True)
class Plan:
    """How often and how long: ``rounds`` pairs of bare and durable, in turn."""

    rounds: int = 5
    seconds: float = 3.0
    connections: int = 64


@dataclass(frozen=True, slots=True)
class Target:
    """Where events go, and the secret that signs them."""

    bare_url: str
    durable_url: str
    metrics_url: str
    secret: str


def measure(plan: Plan, say: Callable[[str], None]) -> dict[str, Any]:
    """Start PostgreSQL (with fsync), Redis, the api and the bare route; measure; stop. Raises what a start raises."""
    tool = load.chosen_tool()
    if tool != "wrk":
        say(f"{load.INSTALL_WRK}; a load generator in Python is used instead, which is slower than wrk")
    stack = EmbeddedStack(ephemeral=True)
    servers = stack.start()
    try:
        port, bare_port = free_port(), free_port()
        url, bare = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{bare_port}"
        environment = {
            "PARHELION_DATABASE_URL": servers.database_url,
            "PARHELION_REDIS_URL": servers.redis_url,
            "PARHELION_SECRET_KEYS": generate_key("bench"),
            "PARHELION_PUBLIC_URL": url,
            "PARHELION_ALLOW_PRIVATE_EGRESS": "true",
        }
        schema.upgrade(servers.database_url)
        api = ServiceProcess(
            "the api", ["serve", "--port", str(port)], environment=environment, log=stack.data_dir / "api.log"
        )
        api.start()
        try:
            api.wait_answering(f"{url}/health/ready")
            with child("benchmarks.bare", ["--port", str(bare_port)]) as bare_process:
                wait_listening(f"{bare}/", bare_process)
                found = Settings.model_validate(_settings_of(environment))
                secret = secrets.token_urlsafe(32)
                path = asyncio.run(_connect(found, url, secret))
                target = Target(bare + path, url + path, f"{url}/metrics", secret)
                return _rounds(plan, tool, target, found, say)
        finally:
            api.stop()
    finally:
        stack.stop()


def _settings_of(environment: dict[str, str]) -> dict[str, str]:
    return {name.removeprefix("PARHELION_").lower(): value for name, value in environment.items()}


async def _connect(settings: Settings, url: str, secret: str) -> str:
    """A tenant and a connection with a known webhook secret; returns the path of its hook."""
    _, key = await make_tenant(settings, "Bench")
    body = {
        "kind": "halopsa",
        "name": "bench",
        "config": {"base_url": "http://127.0.0.1:1"},
        "credentials": {"client_id": "bench", "client_secret": "bench-secret"},
        "webhook_secret": secret,
    }
    async with open_client(allow_private=True) as client:
        headers = {"authorization": f"Bearer {key}"}
        answer = await client.post(f"{url}/v1/connections", json=body, headers=headers)
        answer.raise_for_status()
        return f"/hooks/{answer.json()['id']}"


def _rounds(plan: Plan, tool: str, target: Target, settings: Settings, say: Callable[[str], None]) -> dict[str, Any]:
    template = bodies.sandbox_event()
    with tempfile.TemporaryDirectory(prefix="parhelion-bench-") as folder:
        ring, around = Path(folder) / "ring", Path(folder) / "template"
        bodies.write_template(around, template)
        bodies.write_ring(ring, template, target.secret, round(20_000 * WARM_UP_SECONDS))
        warm_up = Load(tool, plan.connections, WARM_UP_SECONDS)
        load.drive(warm_up, target.durable_url, ring, around)
        fastest = load.drive(warm_up, target.bare_url, ring, around).per_second
        before = asyncio.run(_stored(settings, target))
        full = Load(tool, plan.connections, plan.seconds)
        pairs: list[tuple[Round, Round]] = []
        for number in range(plan.rounds):
            bodies.write_ring(ring, template, target.secret, int(fastest * plan.seconds * RING_MARGIN))
            # Each pair in the other order: whoever goes second gains from a machine that has just got quicker.
            urls = [target.bare_url, target.durable_url]
            done = [load.drive(full, url, ring, around) for url in (urls if number % 2 else urls[::-1])]
            bare, durable = done if number % 2 else done[::-1]
            fastest = max(fastest, bare.per_second)
            pairs.append((bare, durable))
            say(f"round {number + 1}: bare {bare.per_second:,.0f}/s, durable {durable.per_second:,.0f}/s")
        after = asyncio.run(_stored(settings, target))
    return {"load_generator": tool, **summary(pairs, before, after, plan.connections)}


@dataclass(frozen=True, slots=True)
class Stored:
    """What the database holds and what the api says that it acknowledged."""

    rows: int
    acknowledged: int
    fsync: str


async def _stored(settings: Settings, target: Target) -> Stored:
    engine = create_engine(settings, application_name="bench")
    try:
        async with engine.connect() as connection:
            rows = (await connection.execute(text("SELECT count(*) FROM inbox_message"))).scalar_one()
            fsync = (await connection.execute(text("SHOW fsync"))).scalar_one()
    finally:
        await engine.dispose()
    async with open_client(allow_private=True) as client:
        page = (await client.get(target.metrics_url)).text
    wanted = 'parhelion_hook_deliveries_total{outcome="accepted"}'
    lines = [line for line in page.splitlines() if line.startswith(wanted)]
    return Stored(rows, int(float(lines[0].rsplit(" ", 1)[1])) if lines else 0, fsync)


def summary(pairs: Sequence[tuple[Round, Round]], before: Stored, after: Stored, connections: int) -> dict[str, Any]:
    """The ratio of medians, and whether what was stored is what was acknowledged.

    The generator cuts its connections at the end of a round, so up to ``connections`` events a round are stored
    and their answer is never read; the api's own count of its answers has no such loss.
    """
    bare = statistics.median(one.per_second for one, _ in pairs)
    durable = statistics.median(one.per_second for _, one in pairs)
    seen = sum(one.accepted for _, one in pairs)
    stored = after.rows - before.rows
    acknowledged = after.acknowledged - before.acknowledged
    return {
        "ingest_ratio": round(durable / bare, 3),
        "ingest_bare_per_second": round(bare),
        "ingest_durable_per_second": round(durable),
        "ingest_rounds": [round(two.per_second / one.per_second, 3) for one, two in pairs],
        "ingest_stored": stored,
        "ingest_acknowledged": acknowledged,
        "ingest_answers_read": seen,
        "ingest_refused": sum(one.refused + two.refused for one, two in pairs),
        "ingest_broken": sum(one.broken + two.broken for one, two in pairs),
        "ingest_fsync": after.fsync,
        "ingest_nothing_lost": stored == acknowledged and seen <= stored <= seen + connections * len(pairs),
    }
