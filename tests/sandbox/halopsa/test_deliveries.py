"""Deliveries: the queue, batches, faults, the log, resending."""

import asyncio
import json
from typing import Any

import pytest

from app.sandbox.halopsa.events import NEW_TICKET, TICKET_UPDATED
from app.sandbox.halopsa.server import SandboxSettings, create_sandbox
from app.sandbox.serving import serving
from tests.sandbox.halopsa.calling import Receiver, Tenant
from tests.sandbox.halopsa.test_webhooks import arrived, subscribe
from tests.support.waiting import wait_until


def ids(receiver: Receiver) -> list[str]:
    return [json.loads(item.body)["id"] for item in receiver.received]


async def log(acme: Tenant, **params: Any) -> list[dict[str, Any]]:
    found = (await acme.get("/WebhookEvent", pageinate="true", page_no=1, page_size=100, **params)).json()
    rows: list[dict[str, Any]] = found["results"]
    assert found["record_count"] == len(rows)
    return rows


async def test_concurrency_is_bounded(acme: Tenant, receiver: Receiver) -> None:
    acme.world.switches.delivery_workers = 3
    await subscribe(acme, receiver.url, (NEW_TICKET,))
    receiver.gate = asyncio.Event()
    for _ in range(7):
        await acme.new_ticket()
    await wait_until(lambda: receiver.waiting == 3)
    assert acme.world.deliveries.outstanding == 7
    receiver.gate.set()
    await acme.world.deliveries.settled()
    assert (len(receiver.received), receiver.most_waiting) == (7, 3)


async def test_one_worker_keeps_the_order(acme: Tenant, receiver: Receiver) -> None:
    acme.world.switches.delivery_workers = 1
    await subscribe(acme, receiver.url, (NEW_TICKET,))
    await acme.post("/Tickets", [{"summary": f"t{number}"} for number in range(10)])
    assert [event["object_id"] for event in await arrived(acme, receiver)] == list(range(1, 11))


async def test_events_raised_before_the_start_are_delivered_after_it(receiver: Receiver) -> None:
    sandbox = create_sandbox(SandboxSettings(tenants=("early",)))
    world = sandbox.tenant("early")
    body = [{"name": "x", "url": receiver.url, "events": [{"eventno": 3}]}]
    assert world.act("POST", "/Webhook", agent_id=3, body=body).status == 201
    world.act("POST", "/Tickets", agent_id=3, body=[{"summary": "x"}])
    assert world.deliveries.outstanding == 1
    async with serving(sandbox.app):
        await world.deliveries.settled()
        assert len(receiver.received) == 1


@pytest.mark.parametrize(("method", "expected"), [(1, [1, 1, 2]), (2, [2, 2]), (3, [4])])
async def test_batches(acme: Tenant, receiver: Receiver, method: int, expected: list[int]) -> None:
    await subscribe(
        acme, receiver.url, (NEW_TICKET, NEW_TICKET, TICKET_UPDATED), batch_method=method, batch_delay_seconds=1
    )
    acme.world.act("POST", "/Tickets", agent_id=3, body=[{"summary": "x"}])
    for _ in range(2):
        acme.world.act("POST", "/Actions", agent_id=3, body=[{"ticket_id": 1, "outcome_id": 7}])
    bodies = await arrived(acme, receiver)
    assert all(isinstance(body, list) for body in bodies)
    assert sorted(len(body) for body in bodies) == expected


async def test_a_batch_is_sent_when_it_is_full(acme: Tenant, receiver: Receiver) -> None:
    await subscribe(acme, receiver.url, (NEW_TICKET,), batch_method=3, batch_delay_seconds=3600, batch_limit=2)
    await acme.new_ticket()
    await acme.new_ticket()
    (body,) = await arrived(acme, receiver)
    assert [event["object_id"] for event in body] == [1, 2]


async def test_a_dropped_delivery_is_in_the_log_as_an_error(acme: Tenant, receiver: Receiver) -> None:
    ident = await subscribe(acme, receiver.url, (NEW_TICKET,))
    await acme.control("POST", "/faults", {"webhook": "drop", "every": 2})
    for _ in range(4):
        await acme.new_ticket()
    assert sorted(event["object_id"] for event in await arrived(acme, receiver)) == [1, 3]
    lost = [row["entity_id"] for row in await log(acme, webhook_id=ident) if row["error"]]
    assert sorted(lost) == [2, 4]
    await acme.control("DELETE", "/faults")
    await acme.control("POST", "/faults", {"webhook": "drop", "unlogged": True, "times": 1})
    await acme.new_ticket()
    assert await arrived(acme, receiver) == []
    assert len(await log(acme)) == 4


async def test_a_duplicate_has_the_same_id(acme: Tenant, receiver: Receiver) -> None:
    await subscribe(acme, receiver.url, (NEW_TICKET,))
    acme.world.faults.add({"webhook": "duplicate", "times": 1})
    await acme.new_ticket()
    await wait_until(lambda: len(receiver.received) == 2)
    assert len(set(ids(receiver))) == 1
    assert len(await log(acme)) == 2


async def test_a_reordered_delivery_comes_after_the_next(acme: Tenant, receiver: Receiver) -> None:
    await subscribe(acme, receiver.url, (NEW_TICKET,))
    acme.world.faults.add({"webhook": "reorder", "times": 1})
    await acme.post("/Tickets", [{"summary": "a"}, {"summary": "b"}])
    assert [event["object_id"] for event in await arrived(acme, receiver)] == [2, 1]


async def test_a_held_delivery_comes_alone_when_there_is_no_other(acme: Tenant, receiver: Receiver) -> None:
    await subscribe(acme, receiver.url, (NEW_TICKET,))
    acme.world.faults.add({"webhook": "reorder", "times": 1})
    await acme.new_ticket()
    assert len(await arrived(acme, receiver)) == 1


async def test_a_delayed_delivery(acme: Tenant, receiver: Receiver) -> None:
    await subscribe(acme, receiver.url, (NEW_TICKET,))
    acme.world.faults.add({"webhook": "delay_ms", "delay_ms": 200, "event": NEW_TICKET, "times": 1})
    await acme.post("/Tickets", [{"summary": "a"}, {"summary": "b"}])
    assert [event["object_id"] for event in await arrived(acme, receiver)] == [2, 1]
    acme.world.switches.delivery_delay_ms = 50
    await acme.new_ticket()
    assert acme.world.deliveries.outstanding == 1
    assert len(await arrived(acme, receiver)) == 1


async def test_probability_depends_on_the_seed_only(acme: Tenant, receiver: Receiver) -> None:
    await subscribe(acme, receiver.url, (NEW_TICKET,))
    seen = []
    for _ in range(2):
        acme.world.faults.clear()
        acme.world.faults.add({"webhook": "drop", "probability": 0.5, "seed": 7})
        first = acme.world.tickets.last_id
        await acme.post("/Tickets", [{"summary": "x"}] * 20)
        seen.append(sorted(event["object_id"] - first for event in await arrived(acme, receiver)))
    assert seen[0] == seen[1]
    assert 0 < len(seen[0]) < 20


async def test_the_log_shows_request_and_answer_but_no_secret(acme: Tenant, receiver: Receiver) -> None:
    ident = await subscribe(
        acme, receiver.url, (NEW_TICKET,), authentication_type=1, basic_username="u", basic_password="pw"
    )
    await acme.new_ticket()
    await acme.world.deliveries.settled()
    (row,) = await log(acme, webhook_id=ident)
    assert (row["responsestatus"], row["responsebody"], row["error"], row["entity_id"]) == (200, "ok", False, 1)
    assert json.loads(row["requestbody"])["id"] == row["id"]
    assert "Authorization: (not shown)" in row["requestheaders"]
    assert (await acme.get(f"/WebhookEvent/{row['id']}")).json()["duration"] > 0
    assert (await acme.get("/WebhookEvent/none")).status_code == 404
    assert await log(acme, webhook_id="00000000-0000-0000-0000-000000000000") == []


async def test_no_retry_by_default_and_retries_by_switch(acme: Tenant, receiver: Receiver) -> None:
    receiver.status = 500
    await subscribe(acme, receiver.url, (NEW_TICKET,))
    await acme.new_ticket()
    assert len(await arrived(acme, receiver)) == 1
    acme.world.switches.delivery_retries, acme.world.switches.delivery_retry_delay_ms = 2, 1
    await acme.new_ticket()
    assert len(await arrived(acme, receiver)) == 3


async def test_a_receiver_that_is_not_there_is_an_error_row(acme: Tenant) -> None:
    ident = await subscribe(acme, "http://127.0.0.1:9/", (NEW_TICKET,))
    await acme.new_ticket()
    await acme.world.deliveries.settled()
    (row,) = await log(acme, webhook_id=ident)
    assert (row["responsestatus"], row["error"]) == (0, True)
    assert "ConnectError" in row["responsebody"]


async def test_a_slow_receiver_times_out(acme: Tenant, receiver: Receiver) -> None:
    acme.world.switches.delivery_timeout_seconds = 0.1
    receiver.gate = asyncio.Event()
    await subscribe(acme, receiver.url, (NEW_TICKET,))
    await acme.new_ticket()
    await acme.world.deliveries.settled()
    receiver.gate.set()
    assert "Timeout" in (await log(acme))[0]["responsebody"]


async def test_failures_may_disable_the_webhook(acme: Tenant, receiver: Receiver) -> None:
    receiver.status = 503
    acme.world.switches.auto_disable_after = 2
    acme.world.switches.delivery_workers = 1
    ident = await subscribe(acme, receiver.url, (NEW_TICKET,))
    for _ in range(3):
        await acme.new_ticket()
        await acme.world.deliveries.settled()
    assert len(receiver.received) == 2
    shown = (await acme.get(f"/Webhook/{ident}")).json()
    assert (shown["disabled"], shown["last_status"]) == (True, 503)


@pytest.mark.parametrize("keeps", [True, False])
async def test_resending(acme: Tenant, receiver: Receiver, keeps: bool) -> None:
    acme.world.switches.resend_keeps_id = keeps
    await subscribe(acme, receiver.url, (NEW_TICKET,))
    await acme.new_ticket()
    await acme.world.deliveries.settled()
    (row,) = await log(acme)
    again = await acme.control("POST", f"/deliveries/{row['id']}/resend")
    assert again.status_code == 202
    await acme.world.deliveries.settled()
    first, second = ids(receiver)
    assert (first == second) is keeps
    assert {item["id"] for item in await log(acme)} == {row["id"], again.json()["id"]}


async def test_what_cannot_be_resent(acme: Tenant, receiver: Receiver) -> None:
    await subscribe(acme, receiver.url, (NEW_TICKET,), use_lightweight_logs=True)
    await acme.new_ticket()
    await acme.world.deliveries.settled()
    (row,) = await log(acme)
    assert row["requestbody"] == ""
    assert (await acme.control("POST", f"/deliveries/{row['id']}/resend")).status_code == 400
    assert (await acme.control("POST", "/deliveries/none/resend")).status_code == 400


async def test_a_get_webhook_sends_no_body(acme: Tenant, receiver: Receiver) -> None:
    await subscribe(acme, receiver.url, (NEW_TICKET,), method=1)
    await acme.new_ticket()
    await acme.world.deliveries.settled()
    assert receiver.received[0].body == b""
