"""Saving many records with one call, and finding out the fate of each when HaloPSA refuses the call.

An array is refused as a whole; some versions save nothing then, others keep the elements before the bad one.
So a refused array is looked up before anything of it is sent again, and then sent in parts until the bad
element stands alone. An array whose fate is unknown is never sent again here."""

import re
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from app.connectors.canonical import Deferred, ErrorClass, Refused, TicketField
from app.connectors.halopsa import wire
from app.connectors.halopsa.client import HaloClient
from app.connectors.halopsa.refusals import CallFailed

# ASP.NET names the element at fault: "[3].id" (contract, errors).
_ELEMENT = re.compile(r"\[(\d{1,3})\]")

_LATER = frozenset(
    {
        ErrorClass.AUTH,
        ErrorClass.RATE,
        ErrorClass.TIMEOUT,
        ErrorClass.UNAVAILABLE,
        ErrorClass.MISCONFIGURED,
    }
)


class Item(Protocol):
    """One record to be saved."""

    @property
    def key(self) -> str:
        """Our key of the intent."""

    @property
    def queue(self) -> str | None:
        """Items of one queue are saved in order: after one that was not saved none follows.
        ``None``: no order."""

    @abstractmethod
    def body(self) -> Mapping[str, Any]:
        """The element of the array."""

    @abstractmethod
    def claims(self, row: wire.Row) -> bool:
        """Whether a saved object is surely this item."""

    @abstractmethod
    def fits(self, row: wire.Row) -> bool:
        """Whether a saved object at this item's place may be this item."""


ItemT = TypeVar("ItemT", bound=Item)
Fate = dict[str, Any] | CallFailed
Look = Callable[[Sequence[ItemT]], Awaitable[Mapping[str, dict[str, Any]]]]


@dataclass(slots=True)
class Batch(Generic[ItemT]):
    """One kind of write. ``learns`` is told every refusal and says whether the same items will now be sent
    differently. ``look`` answers, by key, the items that HaloPSA already holds; it raises
    :class:`CallFailed` when it cannot be asked. After :meth:`save`, ``fates`` holds a row or a failure
    by key."""

    client: HaloClient
    path: str
    look: Look[ItemT]
    size: int
    learns: Callable[[CallFailed], bool] = lambda failure: False
    fates: dict[str, Fate] = field(default_factory=dict)
    _stopped: dict[str, CallFailed] = field(default_factory=dict)

    async def save(self, items: Sequence[ItemT]) -> dict[str, Fate]:
        """Save the items, in order, ``size`` at a time."""
        for start in range(0, len(items), self.size):
            await self._send(items[start : start + self.size])
        return self.fates

    async def _send(self, items: Sequence[ItemT]) -> None:
        items = [item for item in items if not self._held_back(item)]
        if not items:
            return
        try:
            rows = await self.client.post(self.path, [item.body() for item in items])
        except CallFailed as failure:
            learnt = failure.is_content and self.learns(failure)
            if not failure.is_content or (len(items) == 1 and not learnt):
                self._fail(items, failure)
                return
            rest = await self._not_there_yet(items, failure)
            for part in [rest] if learnt else _parts(rest, items, failure):
                await self._send(part)
            return
        unknown = self._match(items, rows)
        if unknown:
            lost = CallFailed(
                ErrorClass.TIMEOUT,
                f"HaloPSA's answer to POST {self.path} does not show what became of this element.",
                next_step="Nothing to do: it is looked for before it is tried again.",
                perhaps_done=True,
            )
            self._fail(await self._not_there_yet(unknown, lost), lost)

    def _held_back(self, item: ItemT) -> bool:
        earlier = self._stopped.get(item.queue) if item.queue is not None else None
        if earlier is None:
            return False
        self.fates[item.key] = CallFailed(
            ErrorClass.UNAVAILABLE if earlier.error not in _LATER else earlier.error,
            "An earlier comment of this ticket was not written; this one waits, so that their order is kept.",
            retry_after_seconds=earlier.retry_after_seconds,
        )
        return True

    def _fail(self, items: Sequence[ItemT], failure: CallFailed) -> None:
        for item in items:
            if item.queue is not None and item.queue in self._stopped and not failure.perhaps_done:
                self._held_back(item)
                continue
            self.fates[item.key] = failure
            if item.queue is not None:
                self._stopped[item.queue] = failure

    async def _not_there_yet(self, items: Sequence[ItemT], failure: CallFailed) -> list[ItemT]:
        """Items that HaloPSA does not hold. When it cannot be asked, all of them are in doubt and
        none is returned."""
        try:
            found = await self.look(items)
        except CallFailed:
            doubt = CallFailed(
                failure.error if failure.error in _LATER else ErrorClass.TIMEOUT,
                f"{failure.detail} Whether a part of it was saved could not be asked.",
                next_step="Nothing to do: it is looked for before it is tried again.",
                perhaps_done=True,
            )
            self._fail(items, doubt)
            return []
        self.fates |= {item.key: found[item.key] for item in items if item.key in found}
        return [item for item in items if item.key not in found]

    def _match(self, items: Sequence[ItemT], rows: list[dict[str, Any]]) -> list[ItemT]:
        """Give each item its saved object; returns the items that have none."""
        by_place = len(rows) == len(items)
        left = list(rows)
        unknown: list[ItemT] = []
        for place, item in enumerate(items):
            row = next((one for one in left if item.claims(one)), None)
            if row is None and by_place and rows[place] in left and item.fits(rows[place]):
                row = rows[place]
            if row is None:
                unknown.append(item)
            else:
                left.remove(row)
                self.fates[item.key] = row
        return unknown


def _parts(rest: list[ItemT], sent: Sequence[ItemT], failure: CallFailed) -> list[list[ItemT]]:
    """How a refused array is taken apart: around the element HaloPSA names, else in halves."""
    named = _ELEMENT.search(failure.said)
    if named and int(named[1]) < len(sent):
        bad = sent[int(named[1])]
        if bad in rest and len(rest) > 1:
            place = rest.index(bad)
            return [part for part in (rest[:place], rest[place : place + 1], rest[place + 1 :]) if part]
    half = (len(rest) + 1) // 2
    return [part for part in (rest[:half], rest[half:]) if part]


def result(key: str, failure: CallFailed, fields: tuple[TicketField, ...] = ()) -> Refused | Deferred:
    """A failure as the result of one write: refused for good, or not done now (perhaps done)."""
    if failure.perhaps_done or failure.error in _LATER:
        return Deferred(
            key,
            failure.error,
            failure.detail,
            perhaps_done=failure.perhaps_done,
            retry_after_seconds=failure.retry_after_seconds,
        )
    return Refused(key, failure.error, failure.detail, failure.next_step, fields)
