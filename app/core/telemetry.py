"""Every metric, declared once. Labels come from small fixed sets: never an id, never a tenant.

An id as a label makes one time series per customer, which costs memory without end and shows one tenant's
numbers to everyone who may scrape.
"""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, start_http_server
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Spans an in-memory answer (1 ms) to a call that met the 20 s HTTP timeout.
_LATENCY_BUCKETS_SECONDS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    20.0,
)

HOOK_OUTCOMES = (
    "accepted",
    "duplicate",
    "bad_signature",
    "unknown_connection",
    "malformed",
    "too_large",
    "unavailable",
)
QUEUES = ("inbox_message", "outbound_command", "ticket_link")
SYNC_SOURCES = ("webhook", "poll")


def _counter(name: str, text: str, labels: Iterable[str] = ()) -> Counter:
    return Counter(name, text, tuple(labels), namespace="parhelion", registry=REGISTRY)


def _gauge(name: str, text: str, labels: Iterable[str] = ()) -> Gauge:
    return Gauge(name, text, tuple(labels), namespace="parhelion", registry=REGISTRY)


def _seconds(name: str, text: str, labels: Iterable[str] = ()) -> Histogram:
    return Histogram(
        name, text, tuple(labels), namespace="parhelion", registry=REGISTRY, buckets=_LATENCY_BUCKETS_SECONDS
    )


HTTP_REQUESTS = _counter("http_requests", "API requests answered.", ("method", "route", "status_class"))
HTTP_SECONDS = _seconds("http_request_seconds", "Time to answer an API request.", ("method", "route"))
HTTP_FAILURES = _counter("http_unexpected_errors", "Requests that ended in an error nobody named.")

HOOK_DELIVERIES = _counter("hook_deliveries", "Webhook deliveries by what became of them.", ("outcome",))
HOOK_SECONDS = _seconds("hook_request_seconds", "Time from a webhook's arrival to its answer.")

QUEUE_BACKLOG = _gauge("queue_backlog_rows", "Rows that are due and not done.", ("queue",))
QUEUE_OLDEST = _gauge("queue_oldest_seconds", "Age of the oldest row that is due.", ("queue",))
ATTEMPTS = _counter("attempts", "Attempts at a queued row by outcome.", ("queue", "outcome"))
OUTBOX_ATTEMPTS = _counter("outbox_attempts", "Attempts at a remote write by kind of command.", ("kind", "outcome"))
DEAD_LETTERS = _counter("dead_letters", "Rows that were given up and wait for a person.", ("queue",))
LEASES_LOST = _counter("leases_lost", "Rows whose lease ended before their worker was done.", ("queue",))
STAGE_ERRORS = _counter("stage_errors", "Rounds of a drain that ended in an error nobody named.", ("stage",))

VENDOR_CALLS = _counter("vendor_calls", "Calls to outside systems.", ("kind", "method", "template", "status_class"))
VENDOR_SECONDS = _seconds("vendor_call_seconds", "Time an outside system took to answer.", ("kind", "template"))
BUDGET_PRESSURE = _gauge("budget_pressure_ratio", "Highest share of any call budget that is spent.", ("kind",))

DOORBELL_FAILURES = _counter("doorbell_failures", "Wake-ups that could not be sent; the sweep makes up for them.")
SYNC_CHANGES = _counter("sync_changes", "Changes carried over, by how we learnt of them.", ("source",))
DRIFT = _counter("drift_found", "Differences a reconciling poll found that no webhook had announced.")

# A label that was never used has no series, and an alert on it never fires: the fixed ones start at zero.
for _outcome in HOOK_OUTCOMES:
    HOOK_DELIVERIES.labels(_outcome)
for _queue in QUEUES:
    QUEUE_BACKLOG.labels(_queue)
    QUEUE_OLDEST.labels(_queue)
    DEAD_LETTERS.labels(_queue)
for _source in SYNC_SOURCES:
    SYNC_CHANGES.labels(_source)


def status_class(status: int | None) -> str:
    """``2xx`` for 200 and so on; ``none`` when there was no answer."""
    return "none" if status is None else f"{status // 100}xx"


def observe_vendor_call(kind: str, method: str, template: str, status: int | None, seconds: float) -> None:
    """Count one call to an outside system. ``template`` is the path with ids replaced; ``status`` is ``None``
    when no answer came."""
    VENDOR_CALLS.labels(kind, method, template, status_class(status)).inc()
    VENDOR_SECONDS.labels(kind, template).observe(seconds)


def serve(port: int) -> None:
    """Serve this process's metrics over HTTP in a thread of their own, for a process that has no routes."""
    start_http_server(port, registry=REGISTRY)


def render() -> bytes:
    """This process's metrics in the Prometheus text format."""
    return generate_latest(REGISTRY)
