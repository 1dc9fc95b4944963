"""From what the sandbox wrote down to one latency for each change. Pure.

All moments are seconds on the sandbox's own clock (its journal, its delivery log and its edits are in one process),
so no two clocks are compared.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Edit:
    """A person's change of a ticket: ``value`` is new and unique."""

    ticket_id: int
    value: str
    at: float


@dataclass(frozen=True, slots=True)
class Sent:
    """A webhook about a ticket, at the moment it left."""

    ticket_id: int
    at: float


@dataclass(frozen=True, slots=True)
class ApiCall:
    """An API call as the journal holds it. ``began`` is its arrival, ``seconds`` what the sandbox needed for it,
    ``tickets`` the ids it asks for (empty: a window over all) and ``writes`` (ticket id, new value) pairs."""

    side: str
    method: str
    path: str
    began: float
    seconds: float
    tickets: frozenset[int] = frozenset()
    writes: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Latency:
    """One change: from its webhook to the arrival of the partner's write, and the remote's own part of that."""

    total: float
    remote: float

    @property
    def beyond_remote(self) -> float:
        """What is ours."""
        return max(0.0, self.total - self.remote)


def latencies(edits: Sequence[Edit], sent: Sequence[Sent], calls: Sequence[ApiCall]) -> list[Latency]:
    """A latency for each edit that arrived. An edit without a webhook or without a write is left out."""
    webhooks = _by_ticket(sent)
    writes: dict[str, tuple[int, float]] = {}
    for call in sorted(calls, key=lambda one: one.began):
        if call.side == "target":
            for ticket_id, value in call.writes:
                writes.setdefault(value, (ticket_id, call.began))
    sources, targets = _reads(calls, "source"), _reads(calls, "target")
    found: list[Latency] = []
    for edit in edits:
        moments = webhooks.get(edit.ticket_id, ())
        place = bisect_left(moments, edit.at)
        if edit.value not in writes or place == len(moments):
            continue
        left, (twin_id, arrived) = moments[place], writes[edit.value]
        remote = max(_own_time(sources, edit.ticket_id, left, arrived), _own_time(targets, twin_id, left, arrived))
        found.append(Latency(arrived - left, remote))
    return found


def _reads(calls: Sequence[ApiCall], side: str) -> list[ApiCall]:
    return sorted((c for c in calls if c.side == side and c.method == "GET"), key=lambda c: c.began)


def _by_ticket(sent: Sequence[Sent]) -> Mapping[int, list[float]]:
    found: dict[int, list[float]] = {}
    for one in sorted(sent, key=lambda webhook: webhook.at):
        found.setdefault(one.ticket_id, []).append(one.at)
    return found


def _own_time(reads: Sequence[ApiCall], ticket_id: int, after: float, before: float) -> float:
    """What one side needed for the last look at the ticket between two moments: the read that names it, and the
    reads that follow it until the write and name this ticket or none (comments). The two sides are read at the same
    time, so the caller takes the longer."""
    first = bisect_left([read.began for read in reads], after)
    window = [read for read in reads[first:] if read.began < before]
    naming = [place for place, read in enumerate(window) if ticket_id in read.tickets]
    if not naming:
        return 0.0
    return sum(read.seconds for read in window[naming[-1] :] if not read.tickets or ticket_id in read.tickets)
