"""``python -m benchmarks [--json] [--only NAME ...] [--quick]``: measure and compare with the targets.

Exit code 0 whatever the numbers say, 1 when a measurement could not run.
"""

import argparse
import json
import sys
from collections.abc import Callable, Collection
from typing import Any

from benchmarks import flow, ingest
from benchmarks.report import compose, facts, lines

NAMES = ("ingest", "flow", "burst", "memory")
_QUICK_INGEST = ingest.Plan(rounds=2, seconds=1.0, connections=16)
_QUICK_FLOW = flow.Plan(tickets=60, rate=20.0, seconds=2.0, warm_up_seconds=0.5)


def run(wanted: Collection[str], *, quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """The report of the ``wanted`` measurements. ``quick`` is a miniature: it shows that they run, not how fast."""
    machine = facts()
    measured: dict[str, Any] = {}
    failures: dict[str, str] = {}
    story = [name for name in NAMES[1:] if name in wanted]

    def attempt(name: str, measure: Callable[[], dict[str, Any]]) -> None:
        say(f"measuring {name}")
        try:
            measured.update(measure())
        except Exception as error:  # noqa: BLE001  one measurement that cannot run must not hide the others
            failures[name] = f"{type(error).__name__}: {error}"

    if "ingest" in wanted:
        plan = _QUICK_INGEST if quick else ingest.Plan()
        attempt("ingest", lambda: ingest.measure(plan, say))
    if story:
        flow_plan = _QUICK_FLOW if quick else flow.Plan()
        attempt(", ".join(story), lambda: flow.measure(flow_plan, story, say))
    return compose(measured, failures, machine)


def main() -> int:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line on stdout")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES), metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--quick", action="store_true", help="a miniature that only shows that everything runs")
    given = parser.parse_args()
    out = sys.stderr if given.json else sys.stdout

    def say(text: str) -> None:
        out.write(text + "\n")
        out.flush()

    report = run(given.only, quick=given.quick, say=say)
    for line in lines(report):
        say(line)
    if given.json:
        sys.stdout.write(json.dumps(report) + "\n")
    return 1 if report["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
