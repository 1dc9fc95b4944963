"""The delivery queue: each event becomes an HTTP call with bounded concurrency, at most once, and a row in
the log.

As in HaloPSA nothing is retried unless a switch says so, and with several workers the order is not
guaranteed.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.sandbox.halopsa import render
from app.sandbox.halopsa.calls import Row
from app.sandbox.halopsa.faults import WebhookFault
from app.sandbox.halopsa.posting import Outcome, post_delivery

if TYPE_CHECKING:
    from app.core.http.client import AsyncClient
    from app.sandbox.halopsa.world import TenantWorld

BATCH_EACH = 0
BATCH_SAME_RULE = 1
BATCH_SAME_EVENT = 2
# A delivery that a fault holds back is sent after the next one, or alone when no other comes.
REORDER_WAIT_SECONDS = 0.5
LOG_ROWS = 2000


class CannotResend(ValueError):
    """The delivery is unknown, or its body was not kept (lightweight logs, or the log has moved on)."""


@dataclass(slots=True)
class _Event:
    webhook_id: str
    rule_id: int
    number: int
    entity_id: int
    content: Row


@dataclass(slots=True)
class Delivery:
    """One HTTP call that is owed: one event, or a batch of them."""

    id: str
    webhook_id: str
    rule_id: int
    number: int
    entity_id: int
    contents: list[Row]
    batched: bool = False
    corrupt: bool = False
    # How many raised events it stands for; a fault's second copy stands for none.
    weight: int = 1


@dataclass(slots=True)
class _Batch:
    events: list[_Event] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None


class Deliveries:
    """A tenant's queue, its workers and its log."""

    def __init__(self, world: "TenantWorld") -> None:
        self._world = world
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: AsyncClient | None = None
        self._early: list[_Event] = []
        self._queue: deque[Delivery] = deque()
        self._held: list[Delivery] = []
        self._batches: dict[tuple[str, int], _Batch] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._outstanding = 0
        self._waiters: list[asyncio.Future[None]] = []
        self.log: OrderedDict[str, Row] = OrderedDict()
        self.raised = 0
        self.sent = 0

    # Life

    def start(self, loop: asyncio.AbstractEventLoop, client: "AsyncClient") -> None:
        """Deliver from now on, in ``loop`` with ``client``; events raised before are delivered first."""
        self._loop, self._client = loop, client
        early, self._early = self._early, []
        for event in early:
            self._accept(event)

    async def stop(self) -> None:
        """Cancel what is under way and forget what waits."""
        self._loop = self._client = None
        for timer in self._timers:
            timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._queue.clear()
        self._held.clear()
        self._batches.clear()
        self._settle(self._outstanding)

    @property
    def outstanding(self) -> int:
        """Events raised and not yet delivered, dropped or refused."""
        return self._outstanding

    async def settled(self, timeout_seconds: float = 10.0) -> None:
        """Return when nothing is outstanding. Raises ``TimeoutError``."""
        if self._outstanding == 0:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await asyncio.wait_for(waiter, timeout_seconds)

    def _settle(self, weight: int) -> None:
        self._outstanding -= weight
        if self._outstanding == 0:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    # From an event to the queue

    def raise_event(self, webhook_id: str, rule_id: int, number: int, entity_id: int, content: Row) -> None:
        """Owe one event to a webhook. Never blocks; may be called from any thread."""
        self._outstanding += 1
        self.raised += 1
        event = _Event(webhook_id, rule_id, number, entity_id, content)
        if self._loop is None:
            self._early.append(event)
        else:
            self._loop.call_soon_threadsafe(self._accept, event)

    def _accept(self, event: _Event) -> None:
        webhook = self._world.webhooks.webhooks.get(event.webhook_id)
        if webhook is None:
            self._settle(1)
        elif webhook["batch_method"] == BATCH_EACH:
            self._submit(self._delivery_of([event], batched=False))
        else:
            self._collect(event, webhook)

    def _collect(self, event: _Event, webhook: Row) -> None:
        """Add the event to its group: the same rule, the same kind of event, or any event."""
        group = {BATCH_SAME_RULE: event.rule_id, BATCH_SAME_EVENT: event.number}.get(webhook["batch_method"], 0)
        key = (event.webhook_id, group)
        batch = self._batches.setdefault(key, _Batch())
        batch.events.append(event)
        if webhook["batch_limit"] and len(batch.events) >= webhook["batch_limit"]:
            self._flush(key)
        elif batch.timer is None:
            batch.timer = self._later(webhook["batch_delay_seconds"], lambda: self._flush(key))

    def _flush(self, key: tuple[str, int]) -> None:
        batch = self._batches.pop(key, None)
        if batch is None:
            return
        if batch.timer is not None:
            batch.timer.cancel()
            self._timers.discard(batch.timer)
        self._submit(self._delivery_of(batch.events, batched=True))

    def _delivery_of(self, events: list[_Event], *, batched: bool) -> Delivery:
        first = events[0]
        ident = self._world.next_guid("batch") if batched else first.content.get("id")
        return Delivery(
            ident if isinstance(ident, str) and ident not in self.log else self._world.next_guid("row"),
            first.webhook_id,
            first.rule_id,
            first.number,
            first.entity_id,
            [event.content for event in events],
            batched,
            weight=len(events),
        )

    def _submit(self, delivery: Delivery) -> None:
        """Let the scripted faults have their say, then queue."""
        fault = self._world.faults.for_delivery(delivery.number)
        if fault is None:
            self._enqueue_after(self._world.switches.delivery_delay_ms / 1000, delivery)
        else:
            self._faulty(fault, delivery)

    def _faulty(self, fault: WebhookFault, delivery: Delivery) -> None:
        match fault.webhook:
            case "drop":
                if not fault.unlogged:
                    self._log(delivery, b"", {}, Outcome(0, "", "the delivery was lost on its way", 0.0))
                self._settle(delivery.weight)
            case "duplicate":
                self._enqueue(delivery)
                self._enqueue(self._copy(delivery))
            case "reorder":
                self._held.append(delivery)
                self._later(REORDER_WAIT_SECONDS, self._release)
            case "delay_ms":
                self._enqueue_after(fault.delay_ms / 1000, delivery)
            case _:
                delivery.corrupt = True
                self._enqueue(delivery)

    def _copy(self, delivery: Delivery) -> Delivery:
        ident = self._world.next_guid("row")
        return Delivery(
            ident,
            delivery.webhook_id,
            delivery.rule_id,
            delivery.number,
            delivery.entity_id,
            delivery.contents,
            delivery.batched,
            weight=0,
        )

    def _release(self) -> None:
        held, self._held = self._held, []
        for delivery in held:
            self._enqueue(delivery)

    def _later(self, seconds: float, then: Callable[[], None]) -> asyncio.TimerHandle:
        if self._loop is None:
            raise RuntimeError("deliveries are queued before the sandbox has started")

        def run() -> None:
            self._timers.discard(handle)
            then()

        handle = self._loop.call_later(seconds, run)
        self._timers.add(handle)
        return handle

    def _enqueue_after(self, seconds: float, delivery: Delivery) -> None:
        if seconds > 0:
            self._later(seconds, lambda: self._enqueue(delivery))
        else:
            self._enqueue(delivery)

    def _enqueue(self, delivery: Delivery) -> None:
        self._queue.append(delivery)
        self._pump()

    # From the queue to the receiver

    def _pump(self) -> None:
        """Start waiting deliveries up to the tenant's number of workers."""
        while self._loop is not None and self._queue and len(self._tasks) < self._world.switches.delivery_workers:
            task = self._loop.create_task(self._work(self._queue.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._worked)

    def _worked(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._held and self._loop is not None:
            self._release()
        self._pump()
        if not task.cancelled():
            # A defect of the sandbox itself must be seen, in the loop's exception handler, and stop nothing
            # else.
            task.result()

    async def _work(self, delivery: Delivery) -> None:
        try:
            webhook = self._world.webhooks.webhooks.get(delivery.webhook_id)
            if webhook is not None and not webhook["disabled"] and webhook["active"] and self._client is not None:
                await self._send(self._client, delivery, webhook)
        finally:
            self._settle(delivery.weight)

    async def _send(self, client: "AsyncClient", delivery: Delivery, webhook: Row) -> None:
        switches = self._world.switches
        body = render.to_bytes(delivery.contents if delivery.batched else delivery.contents[0])
        for attempt in range(1 + switches.delivery_retries):
            if attempt:
                await asyncio.sleep(switches.delivery_retry_delay_ms / 1000)
            headers, outcome = await post_delivery(client, webhook, body, switches, corrupt=delivery.corrupt)
            self.sent += 1
            self._log(delivery, body, headers, outcome)
            self._note_result(webhook, outcome)
            if outcome.delivered:
                return

    def _note_result(self, webhook: Row, outcome: Outcome) -> None:
        webhook["last_status"] = outcome.status
        failures = 0 if outcome.delivered else webhook.get("_failures", 0) + 1
        webhook["_failures"] = failures
        limit = self._world.switches.auto_disable_after or webhook["auto_disable_attempts"]
        if limit and failures >= limit:
            webhook["disabled"] = True
            webhook["last_auto_disable_date"] = self._world.now()

    # The log

    def _log(self, delivery: Delivery, body: bytes, headers: dict[str, str], outcome: Outcome) -> None:
        webhook = self._world.webhooks.webhooks.get(delivery.webhook_id) or {}
        light = webhook.get("use_lightweight_logs", False)
        self.log[delivery.id] = {
            "id": delivery.id,
            "webhook_id": delivery.webhook_id,
            "notification_id": delivery.rule_id,
            "timestamp": self._world.now(),
            "status": 1 if outcome.delivered else 2,
            "duration": outcome.duration_seconds,
            "requestheaders": "\n".join(f"{name}: {value}" for name, value in headers.items()),
            "requestbody": "" if light else body.decode(),
            "responsestatus": outcome.status,
            "responseheaders": outcome.headers,
            "responsebody": outcome.body,
            "entity_id": delivery.entity_id,
            "error": not outcome.delivered,
            "_delivery": None if light else delivery,
        }
        while len(self.log) > LOG_ROWS:
            self.log.popitem(last=False)

    def rows(self) -> list[Row]:
        """The log, newest first."""
        return list(reversed(self.log.values()))

    def resend(self, delivery_id: str) -> str:
        """Send a logged delivery again, as the button in HaloPSA does; the new row's id. Raises
        :class:`CannotResend`.
        """
        row = self.log.get(delivery_id)
        delivery: Delivery | None = row["_delivery"] if row else None
        if delivery is None or self._loop is None:
            raise CannotResend(
                f"the delivery {delivery_id} is not in the log with its body, so it cannot be sent again"
            )
        again = self._copy(delivery)
        again.weight = 1
        if not self._world.switches.resend_keeps_id:
            again.contents = [self._renamed(content) for content in delivery.contents]
        self._outstanding += 1
        self._loop.call_soon_threadsafe(self._enqueue, again)
        return again.id

    def _renamed(self, content: dict[str, Any]) -> Row:
        return content | {"id": self._world.next_guid("delivery")} if "id" in content else content
