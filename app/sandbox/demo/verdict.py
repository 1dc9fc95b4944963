"""Did both organisations end up the same? Read from what they hold, not from what the hub believes. Pure."""

import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from app.sandbox.demo.script import Act

_TICKET = re.compile(r"\[(T\d{4})\]")
_PUBLIC = re.compile(r"<([ACGO]\d{4}(?:-\d)?)>")
_PRIVATE = re.compile(r"\b(P\d{4})\b")
SPOKEN = ("comment", "close", "reopen")


@dataclass(slots=True)
class Verdict:
    """The counts. ``ok`` only when every one holds."""

    tickets_expected: int = 0
    tickets_mirrored: int = 0
    comments_expected: int = 0
    comments_mirrored: int = 0
    lost: int = 0
    duplicated: int = 0
    private_leaked: int = 0
    echo_writes: int = 0
    fields_differing: int = 0
    halo_calls_per_change: float = 0.0
    latency_p50_ms: float = 0.0
    latency_p95_ms: float = 0.0
    seconds: float = 0.0
    ok: bool = False
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For the last line of ``--json``."""
        return asdict(self)


def compare(
    done: Sequence[Act],
    acme: Mapping[str, Any],
    globex: Mapping[str, Any],
    *,
    our_agents: Mapping[str, int],
    quiet_writes: int,
) -> Verdict:
    """Compare two exports. ``done`` is what people did, ``our_agents`` who the hub is at each side, ``quiet_writes``
    how many writes the hub made after both sides had agreed (every one of them answers an echo)."""
    verdict = Verdict()
    desks = {"acme": acme, "globex": globex}
    tickets = {name: _by_nonce(export["tickets"]) for name, export in desks.items()}
    born = [act.nonce for act in done if act.deed == "create"]
    verdict.tickets_expected = len(born)
    for nonce in born:
        twins = tickets["globex"].get(nonce, [])
        verdict.tickets_mirrored += bool(twins)
        verdict.duplicated += max(0, len(twins) - 1) + max(0, len(tickets["acme"].get(nonce, [])) - 1)
        verdict.lost += not twins
        if twins:
            verdict.fields_differing += _differences(tickets["acme"][nonce][0], twins[0], verdict.notes)
    spoken = {name: _spoken(export["tickets"]) for name, export in desks.items()}
    for act in done:
        if act.deed in SPOKEN:
            verdict.comments_expected += 1
            other = "globex" if act.desk == "acme" else "acme"
            copies = spoken[other][act.nonce]
            verdict.comments_mirrored += copies >= 1
            verdict.lost += copies == 0
            verdict.duplicated += max(0, copies - 1)
            verdict.echo_writes += max(0, spoken[act.desk][act.nonce] - 1)
            if copies != 1:
                verdict.notes.append(f"{act.deed} {act.nonce} of {act.desk}: {copies} copies at {other}")
                verdict.notes.extend(_where(desks[other]["tickets"], act.nonce))
    verdict.private_leaked = _leaks(done, desks)
    verdict.echo_writes += quiet_writes + sum(_echoes(desks[name]["tickets"], our_agents[name]) for name in desks)
    return verdict


def _by_nonce(tickets: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for ticket in tickets:
        match = _TICKET.search(str(ticket.get("summary", "")))
        if match and not ticket["deleted"]:
            found.setdefault(match[1], []).append(ticket)
    return found


def _spoken(tickets: Iterable[Mapping[str, Any]]) -> Counter[str]:
    return Counter(
        nonce
        for ticket in tickets
        for action in ticket["actions"]
        if not action.get("hiddenfromuser")
        for nonce in set(_PUBLIC.findall(str(action.get("note", ""))))
    )


def _where(tickets: Iterable[Mapping[str, Any]], nonce: str) -> list[str]:
    return [
        f"  ticket {ticket['id']} action {action['id']} at {action.get('actiondatecreated')} by {action.get('who')}"
        for ticket in tickets
        for action in ticket["actions"]
        if f"<{nonce}>" in str(action.get("note", ""))
    ]


def _leaks(done: Sequence[Act], desks: Mapping[str, Mapping[str, Any]]) -> int:
    """Private notes that are to be seen anywhere but where they were written."""
    home = {act.nonce: act.desk for act in done if act.deed == "private"}
    return sum(
        home.get(nonce) != name
        for name, export in desks.items()
        for ticket in export["tickets"]
        for nonce in _PRIVATE.findall(str(ticket))
        if nonce in home
    )


def _echoes(tickets: Iterable[Mapping[str, Any]], our_agent: int) -> int:
    """Comments of ours that carry the header of another comment of ours: our own words came back."""
    return sum(
        str(action.get("note", "")).count(" · ") > 1
        for ticket in tickets
        for action in ticket["actions"]
        if action.get("who_agentid") == our_agent or action.get("actionby_agent_id") == our_agent
    )


def _differences(left: Mapping[str, Any], right: Mapping[str, Any], notes: list[str]) -> int:
    """How many of the synced fields differ."""
    count = 0
    for name in ("summary", "details", "status_id", "priority_id"):
        if left.get(name) != right.get(name):
            count += 1
            notes.append(f"{left['summary']}: {name} is {left.get(name)!r} at acme, {right.get(name)!r} at globex")
    return count


def latencies_ms(said: Mapping[str, datetime], arrived: Mapping[str, datetime]) -> tuple[float, float]:
    """(p50, p95) in milliseconds from a person's act to its arrival at the other side."""
    spans = sorted((arrived[nonce] - said[nonce]).total_seconds() * 1000 for nonce in said if nonce in arrived)
    if len(spans) < 2:
        return 0.0, 0.0
    cuts = statistics.quantiles(spans, n=20, method="inclusive")
    return round(statistics.median(spans), 1), round(cuts[18], 1)


def arrivals(entries: Iterable[Mapping[str, Any]]) -> dict[str, datetime]:
    """When each marked text first arrived in a write of the hub, from a sandbox's journal."""
    found: dict[str, datetime] = {}
    for entry in entries:
        if entry["method"] != "POST" or not isinstance(entry["body"], list):
            continue
        at = datetime.fromisoformat(entry["at"])
        for item in entry["body"]:
            text = f"{item.get('summary', '')} {item.get('note', '')}"
            for nonce in _TICKET.findall(text) + _PUBLIC.findall(text):
                found.setdefault(nonce, at)
    return found
