"""A change on its way, a burst of changes, and the memory that is left behind: one story on one stage."""

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from benchmarks.report import percentile
from benchmarks.service import RAISED, REAL, Stage, StageFailed, on_stage

LINKING_SECONDS = 90.0
BURST_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class Plan:
    """The sizes of the story."""

    tickets: int = 1000
    rate: float = 100.0
    seconds: float = 20.0
    warm_up_seconds: float = 3.0


def measure(plan: Plan, wanted: Collection[str], say: Callable[[str], None]) -> dict[str, Any]:
    """The measurements of ``wanted`` (``flow``, ``burst``, ``memory``). Raises what a start raises."""

    async def story(stage: Stage) -> dict[str, Any]:
        await stage.desks("meter", on=False)
        began = time.monotonic()
        await stage.desks("open_tickets", count=plan.tickets)
        await stage.quiet("linking the tickets", within_seconds=LINKING_SECONDS)
        say(f"{plan.tickets} tickets linked in {time.monotonic() - began:.1f} s")
        found: dict[str, Any] = {}
        if "flow" in wanted:
            found |= await _flow(stage, plan, say)
        if "burst" in wanted or "memory" in wanted:
            found |= await _burst(stage, plan, say)
            memory = stage.memory()
            found |= {
                "rss_mib": round(memory.api + memory.worker, 1),
                "rss_api_mib": round(memory.api, 1),
                "rss_worker_mib": round(memory.worker, 1),
            }
        return found

    found: dict[str, Any] = asyncio.run(on_stage(story))
    return found


async def _flow(stage: Stage, plan: Plan, say: Callable[[str], None]) -> dict[str, Any]:
    """Steady edits with a budget that does not bind."""
    await stage.budget(RAISED)
    seen = await stage.desks("steady", rate=plan.rate, seconds=plan.seconds, warm_up_seconds=plan.warm_up_seconds)
    ours, whole = seen["beyond_ms"], seen["total_ms"]
    if not ours:
        raise StageFailed("no change of the steady flow arrived")
    arrived = len(ours)
    missing = [seen["gave_up_ms"]] * (seen["edits"] - arrived)
    ours, whole = ours + missing, whole + missing
    say(f"{arrived} of {seen['edits']} changes arrived, {seen['rate']:.0f} a second")
    await stage.quiet("the steady flow", within_seconds=BURST_SECONDS)
    return {
        "flow_p50_ms": round(percentile(ours, 50), 1),
        "flow_p95_ms": round(percentile(ours, 95), 1),
        "flow_p99_ms": round(percentile(ours, 99), 1),
        "flow_with_remote_p50_ms": round(percentile(whole, 50), 1),
        "flow_with_remote_p95_ms": round(percentile(whole, 95), 1),
        "flow_changes": seen["edits"],
        "flow_changes_arrived": arrived,
        "flow_rate_per_second": round(seen["rate"], 1),
    }


async def _burst(stage: Stage, plan: Plan, say: Callable[[str], None]) -> dict[str, Any]:
    """Every ticket changed at once, under HaloPSA's real budget."""
    await stage.budget(REAL)
    await stage.desks("meter", on=True)
    before = await stage.desks("look")
    began = time.monotonic()
    changes = (await stage.desks("bulk_edit"))["changes"]
    agreed = await _agreed(stage)
    spent = time.monotonic() - began
    await stage.quiet("the burst", within_seconds=BURST_SECONDS)
    after = await stage.desks("look")
    calls = after["calls"] - before["calls"]
    say(f"{changes} changed tickets agree after {spent:.1f} s, {calls} calls")
    return {
        "halo_calls_per_change": round(calls / changes, 4),
        "halo_calls": calls,
        "halo_calls_until_agreed": agreed["calls"] - before["calls"],
        "halo_calls_by_kind": _difference(before["counters"], after["counters"]),
        "halo_rate_limited": after["rate_limited"] - before["rate_limited"],
        "burst_changes": changes,
        "burst_seconds": round(spent, 1),
    }


async def _agreed(stage: Stage) -> dict[str, Any]:
    until = time.monotonic() + BURST_SECONDS
    while True:
        seen = await stage.desks("look")
        if seen["agree"]:
            return seen
        if time.monotonic() > until:
            raise StageFailed(f"the burst did not arrive within {BURST_SECONDS:.0f} s")
        await asyncio.sleep(0.05)


def _difference(before: dict[str, dict[str, int]], after: dict[str, dict[str, int]]) -> dict[str, int]:
    """New calls by "tenant METHOD /path"."""
    return {
        f"{tenant} {call}": count - before[tenant].get(call, 0)
        for tenant, counters in after.items()
        for call, count in sorted(counters.items())
        if count > before[tenant].get(call, 0)
    }
