"""What is reported and what it is measured against. Pure."""

import math
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Goal:
    """The target of one key."""

    key: str
    words: str
    limit: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        """Whether ``value`` reaches it."""
        return value >= self.limit if self.at_least else value < self.limit or math.isclose(value, self.limit)

    @property
    def shown(self) -> str:
        """The target as text."""
        return f"{'>=' if self.at_least else '<='} {self.limit:g}"


GOALS = (
    Goal("ingest_ratio", "durable ingest over a bare route", 0.8, at_least=True),
    Goal("flow_p95_ms", "webhook to partner write, 95th percentile, ms", 250.0),
    Goal("halo_calls_per_change", "HaloPSA calls per change in a burst", 0.1),
    Goal("rss_mib", "resident memory of api and worker, MiB", 300.0),
)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` per cent of ``values`` do not exceed (nearest rank). Raises ``ValueError`` for none."""
    if not values or not 0 < share <= 100:
        raise ValueError("a percentile needs values and a share above 0 and at most 100")
    return sorted(values)[math.ceil(len(values) * share / 100) - 1]


def facts(cores: int | None = None) -> dict[str, Any]:
    """The machine: processors that this process may use, Python, system."""
    return {
        "cores": cores or _usable_cores(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "load_before": round(os.getloadavg()[0], 2),
    }


def _usable_cores() -> int:
    usable: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable is not None else os.cpu_count() or 1


def compose(measured: Mapping[str, Any], failures: Mapping[str, str], machine: Mapping[str, Any]) -> dict[str, Any]:
    """The one object of ``--json``: every key, the machine, the targets, and whether each was met.

    ``met`` is ``null`` for what was not measured. ``failures`` are measurements that did not run, with the reason.
    """
    return {
        **measured,
        "machine": dict(machine),
        "targets": {goal.key: goal.shown for goal in GOALS},
        "met": {goal.key: goal.met(measured[goal.key]) if goal.key in measured else None for goal in GOALS},
        "failures": dict(failures),
    }


def lines(report: Mapping[str, Any]) -> list[str]:
    """The report for people."""
    verdicts = {True: "met", False: "MISSED", None: "not measured"}
    found = [
        f"{goal.words:<48} {_number(report.get(goal.key)):>10}  {goal.shown:>8}  {verdicts[report['met'][goal.key]]}"
        for goal in GOALS
    ]
    return found + [f"{name} did not run: {why}" for name, why in report["failures"].items()]


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else "-"
