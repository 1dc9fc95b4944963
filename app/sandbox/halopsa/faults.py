"""Scripted faults: what goes wrong, with which request or delivery, how often. The same seed fails the same
way.
"""

import random
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

RequestKind = Literal[
    "delay_ms", "status", "drop_connection_before", "timeout_after_write", "html_200", "partial_batch"
]
WebhookKind = Literal["drop", "duplicate", "reorder", "delay_ms", "corrupt_signature"]
_REQUEST_KINDS: tuple[str, ...] = get_args(RequestKind)
_WEBHOOK_KINDS: tuple[str, ...] = get_args(WebhookKind)


class BadFault(ValueError):
    """The description of a fault cannot be used. The text says why."""


@dataclass(slots=True)
class Effect:
    """What a faulty request meets. Members combine: a delay may come before any other."""

    delay_ms: int = 0
    status: int = 0
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    drop_connection_before: bool = False
    timeout_after_write: bool = False
    hang_ms: int = 0
    html_200: bool = False
    partial_batch: int = -1


@dataclass(slots=True)
class RequestFault:
    """Matching requests meet ``effect``, ``times`` times (None: for ever)."""

    effect: Effect
    method: str = ""
    path: str = ""
    nth: int = 0
    after: int = 0
    times: int | None = 1
    seen: int = 0

    def takes(self, method: str, template: str) -> bool:
        """Whether this request fails; counts the requests that match."""
        if self.times == 0 or (self.method and self.method != method):
            return False
        if self.path and self.path != template.lower():
            return False
        self.seen += 1
        if (self.nth and self.seen != self.nth) or self.seen <= self.after:
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass(slots=True)
class WebhookFault:
    """Deliveries meet ``webhook``: with a probability, or every n-th, ``times`` times (None: for ever)."""

    webhook: WebhookKind
    probability: float = 1.0
    every: int = 0
    event: int = 0
    delay_ms: int = 0
    unlogged: bool = False
    times: int | None = None
    seed: int = 0
    seen: int = 0
    _random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def takes(self, event: int) -> bool:
        """Whether this delivery fails; counts the deliveries that match."""
        if self.times == 0 or (self.event and self.event != event):
            return False
        self.seen += 1
        hit = self.seen % self.every == 0 if self.every else self._random.random() < self.probability
        if hit and self.times is not None:
            self.times -= 1
        return hit


class Faults:
    """A tenant's script: the first fault that takes a request or a delivery decides."""

    def __init__(self) -> None:
        self.requests: list[RequestFault] = []
        self.deliveries: list[WebhookFault] = []

    def add(self, fault: "RequestFault | WebhookFault | dict[str, Any]") -> None:
        """Append a fault, given as an object or as the control API's JSON. Raises :class:`BadFault`."""
        parsed = parse_fault(fault) if isinstance(fault, dict) else fault
        if isinstance(parsed, WebhookFault):
            self.deliveries.append(parsed)
        else:
            self.requests.append(parsed)

    def clear(self) -> None:
        """No more faults."""
        self.requests.clear()
        self.deliveries.clear()

    def for_request(self, method: str, template: str) -> Effect | None:
        """The effect that this request meets, None for none."""
        for fault in self.requests:
            if fault.takes(method, template):
                return fault.effect
        return None

    def for_delivery(self, event: int) -> WebhookFault | None:
        """The fault that this delivery meets, None for none."""
        for fault in self.deliveries:
            if fault.takes(event):
                return fault
        return None

    def as_json(self) -> list[dict[str, Any]]:
        """What is still scripted."""
        return [
            {
                "match": {"method": fault.method, "path": fault.path, "nth": fault.nth, "after": fault.after},
                "times": fault.times,
                "seen": fault.seen,
                "effect": {name: getattr(fault.effect, name) for name in Effect.__slots__},
            }
            for fault in self.requests
        ] + [
            {
                "webhook": fault.webhook,
                "every": fault.every,
                "probability": fault.probability,
                "times": fault.times,
            }
            for fault in self.deliveries
        ]


_REQUEST_MEMBERS = frozenset({"match", "times", "effect"})
_MATCH_MEMBERS = frozenset({"method", "path", "nth", "after"})
_EFFECT_MEMBERS = frozenset(Effect.__slots__)
_WEBHOOK_MEMBERS = frozenset({"webhook", "probability", "every", "event", "delay_ms", "unlogged", "times", "seed"})


def parse_fault(given: dict[str, Any]) -> "RequestFault | WebhookFault":
    """A fault from the control API's JSON. Raises :class:`BadFault`; unknown members are refused, not
    ignored.
    """
    return _webhook_fault(given) if "webhook" in given else _request_fault(given)


def _refuse_unknown(given: dict[str, Any], known: frozenset[str], where: str) -> None:
    unknown = sorted(set(given) - known)
    if unknown:
        raise BadFault(f"{where} has no member {', '.join(unknown)}; it takes {', '.join(sorted(known))}")


def _webhook_fault(given: dict[str, Any]) -> WebhookFault:
    _refuse_unknown(given, _WEBHOOK_MEMBERS, "a webhook fault")
    if given["webhook"] not in _WEBHOOK_KINDS:
        raise BadFault(f"webhook is one of {', '.join(_WEBHOOK_KINDS)}, not {given['webhook']!r}")
    if given["webhook"] == "delay_ms" and not given.get("delay_ms"):
        raise BadFault("a delay needs delay_ms")
    return WebhookFault(**given)


def _request_fault(given: dict[str, Any]) -> RequestFault:
    _refuse_unknown(given, _REQUEST_MEMBERS, "a fault")
    match = given.get("match") or {}
    _refuse_unknown(match, _MATCH_MEMBERS, "match")
    effect = given.get("effect")
    if isinstance(effect, str):
        effect = {effect: True}
    if not isinstance(effect, dict) or not effect:
        raise BadFault(f"effect is one of {', '.join(_REQUEST_KINDS)}, with its value")
    _refuse_unknown(effect, _EFFECT_MEMBERS, "effect")
    return RequestFault(
        Effect(**effect),
        str(match.get("method") or "").upper(),
        str(match.get("path") or "").lower(),
        int(match.get("nth") or 0),
        int(match.get("after") or 0),
        given.get("times", 1),
    )
