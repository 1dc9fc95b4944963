"""Metrics."""

import pytest

from app.core import telemetry


@pytest.mark.parametrize(("status", "name"), [(200, "2xx"), (404, "4xx"), (599, "5xx"), (None, "none")])
def test_status_classes(status: int | None, name: str) -> None:
    assert telemetry.status_class(status) == name


def test_a_vendor_call_is_counted_and_timed() -> None:
    telemetry.observe_vendor_call("testvendor", "GET", "/Tickets/{id}", 200, 0.2)
    telemetry.observe_vendor_call("testvendor", "GET", "/Tickets/{id}", None, 20.0)

    text = telemetry.render().decode()

    series = (
        'parhelion_vendor_calls_total{kind="testvendor",method="GET",status_class="%s",template="/Tickets/{id}"} 1.0'
    )
    assert series % "2xx" in text
    assert series % "none" in text
    assert 'parhelion_vendor_call_seconds_count{kind="testvendor",template="/Tickets/{id}"} 2.0' in text


@pytest.mark.parametrize(
    "series",
    [
        *(f'parhelion_hook_deliveries_total{{outcome="{outcome}"}}' for outcome in telemetry.HOOK_OUTCOMES),
        *(f'parhelion_queue_backlog_rows{{queue="{queue}"}}' for queue in telemetry.QUEUES),
        *(f'parhelion_dead_letters_total{{queue="{queue}"}}' for queue in telemetry.QUEUES),
        'parhelion_sync_changes_total{source="webhook"}',
        'parhelion_sync_changes_total{source="poll"}',
        "parhelion_doorbell_failures_total",
        "parhelion_drift_found_total",
    ],
)
def test_what_an_alert_watches_is_there_before_it_ever_happens(series: str) -> None:
    assert series in telemetry.render().decode()


def test_no_label_can_name_a_tenant_or_a_row() -> None:
    for family in telemetry.REGISTRY.collect():
        for sample in family.samples:
            assert not {"tenant", "connection", "id", "path", "key"} & set(sample.labels), family.name
