"""Webhooks: registration, which events, payloads, and proofs that are checked without the sandbox's own code."""

import base64
import hashlib
import hmac
import json
import uuid
from typing import Any

import pytest

from app.sandbox.halopsa.events import (
    NEW_TICKET,
    STATUS_CHANGED,
    TICKET_CLOSED,
    TICKET_DELETED,
    TICKET_UPDATED,
    UPDATED_BY_USER,
)
from tests.sandbox.halopsa.calling import Receiver, Tenant

EVERY = (NEW_TICKET, UPDATED_BY_USER, TICKET_CLOSED, TICKET_UPDATED, STATUS_CHANGED, TICKET_DELETED)


async def subscribe(acme: Tenant, url: str, events: tuple[int, ...] = EVERY, **config: Any) -> str:
    """Register a webhook and its rules as a production integration does: numbers as text."""
    body = {
        "name": "Integration",
        "url": url,
        "active": True,
        "type": 0,
        "method": 0,
        "content_type": "application/json",
    } | config
    webhook = (await acme.post("/webhook", [body])).json()
    rules = [
        {
            "webhook_id": webhook["id"],
            "type": "-2",
            "delivery_method": "6",
            "name": f"rule {event}",
            "eventno": str(event),
            "agent_id": "0",
            "filter_type": "2",
            "conditions": [],
        }
        for event in events
    ]
    assert (await acme.post("/notification", rules)).status_code == 201
    ident: str = webhook["id"]
    return ident


async def arrived(acme: Tenant, receiver: Receiver) -> list[Any]:
    await acme.world.deliveries.settled()
    found = [json.loads(item.body) for item in receiver.received]
    receiver.received.clear()
    return found


async def test_the_standard_payload(acme: Tenant, receiver: Receiver) -> None:
    webhook_id = await subscribe(acme, receiver.url)
    ticket = await acme.new_ticket()
    (event,) = await arrived(acme, receiver)
    assert uuid.UUID(event["id"])
    assert uuid.UUID(event["escmsg_id"])
    assert event["webhook_id"] == webhook_id
    assert event["event"] == "new ticket logged"
    assert (event["object_id"], event["agent_id"], event["notification_id"]) == (ticket["id"], 90, 1)
    assert event["timestamp"].endswith("0Z")
    assert len(event["timestamp"]) == len("2026-09-25T06:41:08.7895915Z")
    assert event["ticket"] == ticket
    assert event["action"]["note"] == "Flames."


async def test_one_gesture_raises_several_events(acme: Tenant, receiver: Receiver) -> None:
    await acme.new_ticket()
    await subscribe(acme, receiver.url)
    await acme.post("/Tickets", [{"id": 1, "status_id": 9}])
    events = await arrived(acme, receiver)
    assert {event["event"] for event in events} == {"ticket status changed", "ticket closed", "ticket updated"}
    assert len({event["id"] for event in events}) == 3
    await acme.note(1, note="later")
    (event,) = await arrived(acme, receiver)
    assert (event["event"], event["action"]["note"]) == ("ticket updated", "later")
    await acme.delete("/Tickets/1")
    (event,) = await arrived(acme, receiver)
    assert (event["event"], event["ticket"]["deleted"]) == ("ticket deleted", True)


async def test_a_user_raises_updated_by_user_and_a_person_is_the_actor(acme: Tenant, receiver: Receiver) -> None:
    await acme.new_ticket()
    await subscribe(acme, receiver.url)
    acme.world.act("POST", "/Actions", user_id=2, body=[{"ticket_id": 1, "outcome": "User Update", "note": "?"}])
    assert {event["event"] for event in await arrived(acme, receiver)} == {"ticket updated by user", "ticket updated"}
    acme.world.act("POST", "/Tickets", agent_id=3, body=[{"id": 1, "priority_id": 1}])
    assert [event["agent_id"] for event in await arrived(acme, receiver)] == [3]


async def test_only_registered_events_are_sent(acme: Tenant, receiver: Receiver) -> None:
    await subscribe(acme, receiver.url, (STATUS_CHANGED,))
    await acme.new_ticket()
    await acme.note(1)
    await acme.note(1, new_status=2)
    assert [event["event"] for event in await arrived(acme, receiver)] == ["ticket status changed"]


async def test_conditions(acme: Tenant, receiver: Receiver) -> None:
    webhook = (await acme.post("/Webhook", [{"name": "c", "url": receiver.url}])).json()
    rule = {"webhook_id": webhook["id"], "eventno": NEW_TICKET}
    not_empty = {"tablename": "faults", "fieldname": "symptom", "type": 1, "value_string": '""'}
    is_client = {"tablename": "faults", "fieldname": "areaint", "type": 0, "value_type": "int", "value_int": 3}
    await acme.post("/Notification", [rule | {"conditions": [not_empty, is_client]}])
    await acme.new_ticket(client_id=2)
    await acme.new_ticket(client_id=3)
    assert [event["object_id"] for event in await arrived(acme, receiver)] == [2]
    unknown = rule | {"conditions": [{"fieldname": "x", "type": 9}]}
    assert (await acme.post("/Notification", [unknown])).status_code == 400


@pytest.mark.parametrize(
    ("config", "members"),
    [
        ({"payload_type": 1}, {"id", "summary", "status_id", "tickettype_id", "client_id", "team_id", "agent_id"}),
        ({"payload_type": 2}, None),
    ],
)
async def test_smaller_payloads(
    acme: Tenant, receiver: Receiver, config: dict[str, Any], members: set[str] | None
) -> None:
    await subscribe(acme, receiver.url, **config)
    await acme.new_ticket()
    (event,) = await arrived(acme, receiver)
    assert "action" not in event
    if members is None:
        assert "ticket" not in event
    else:
        assert members < set(event["ticket"])
        assert len(event["ticket"]) < 12
    acme.world.switches.payload = "full"
    await acme.new_ticket()
    assert len((await arrived(acme, receiver))[0]["ticket"]) > 60


async def test_a_custom_payload_has_only_its_own_keys(acme: Tenant, receiver: Receiver) -> None:
    mappings = [{"key": "number", "finame": "object_id"}, {"key": "title", "finame": "summary"}]
    await subscribe(acme, receiver.url, custom_payload=True, mappings=mappings)
    await acme.new_ticket()
    assert await arrived(acme, receiver) == [{"number": 1, "title": "Printer is on fire"}]


async def test_the_action_may_stand_elsewhere(acme: Tenant, receiver: Receiver) -> None:
    await subscribe(acme, receiver.url)
    acme.world.switches.action_key = "actions"
    await acme.new_ticket()
    (event,) = await arrived(acme, receiver)
    assert "action" not in event
    assert event["ticket"]["actions"][0]["id"] == 1
    acme.world.switches.action_key = "none"
    await acme.new_ticket()
    assert "actions" not in (await arrived(acme, receiver))[0]["ticket"]


async def test_quiet_flags_silence_only_with_the_switch(acme: Tenant, receiver: Receiver) -> None:
    await subscribe(acme, receiver.url)
    await acme.new_ticket(dont_do_rules=True)
    assert len(await arrived(acme, receiver)) == 1
    acme.world.switches.quiet_flags_silence_webhooks = True
    await acme.new_ticket(_dont_fire_automations=True)
    await acme.note(1, dont_do_rules=True)
    assert await arrived(acme, receiver) == []


async def test_no_authentication(acme: Tenant, receiver: Receiver) -> None:
    await subscribe(acme, receiver.url)
    await acme.new_ticket()
    await acme.world.deliveries.settled()
    assert "authorization" not in receiver.received[0].headers
    assert receiver.received[0].headers["content-type"] == "application/json"


async def test_basic_authentication(acme: Tenant, receiver: Receiver) -> None:
    await subscribe(acme, receiver.url, authentication_type=1, basic_username="hub", basic_password="p:a:ss")
    await acme.new_ticket()
    await acme.world.deliveries.settled()
    kind, _, value = receiver.received[0].headers["authorization"].partition(" ")
    assert (kind, base64.b64decode(value)) == ("Basic", b"hub:p:a:ss")


@pytest.mark.parametrize(
    ("config", "header", "prefix"),
    [
        ({"authentication_header": "Token"}, "token", ""),
        ({"authentication_header": "X-Sig", "signature_prefix": "sha256="}, "x-sig", "sha256= "),
        ({"digest": 1}, "x-halo-signature", ""),
    ],
)
async def test_hmac_authentication(
    acme: Tenant, receiver: Receiver, config: dict[str, Any], header: str, prefix: str
) -> None:
    await subscribe(acme, receiver.url, authentication_type="3", basic_password="s3cret", algorithm=0, **config)
    await acme.new_ticket()
    await acme.world.deliveries.settled()
    (delivery,) = receiver.received
    raw = hmac.new(b"s3cret", delivery.body, hashlib.sha256).digest()
    expected = raw.hex() if config.get("digest") else base64.b64encode(raw).decode()
    assert delivery.headers[header] == prefix + expected


async def test_the_space_after_the_prefix_is_a_switch(acme: Tenant, receiver: Receiver) -> None:
    acme.world.switches.hmac_space_after_prefix = False
    config: dict[str, Any] = {
        "authentication_type": 3,
        "basic_password": "s",
        "signature_prefix": "v1=",
        "authentication_header": "S",
    }
    await subscribe(acme, receiver.url, **config)
    await acme.new_ticket()
    await acme.world.deliveries.settled()
    assert receiver.received[0].headers["s"].startswith("v1=")
    assert " " not in receiver.received[0].headers["s"]


async def test_a_corrupted_signature_does_not_verify(acme: Tenant, receiver: Receiver) -> None:
    acme.world.faults.add({"webhook": "corrupt_signature", "times": 1})
    await subscribe(acme, receiver.url, authentication_type=3, basic_password="k", authentication_header="T")
    await acme.new_ticket()
    await acme.new_ticket()
    await acme.world.deliveries.settled()
    right = [
        base64.b64encode(hmac.new(b"k", item.body, hashlib.sha256).digest()).decode() == item.headers["t"]
        for item in receiver.received
    ]
    assert sorted(right) == [False, True]


async def test_the_registry_lists_changes_and_deletes(acme: Tenant, receiver: Receiver) -> None:
    ident = await subscribe(acme, receiver.url, (NEW_TICKET, TICKET_UPDATED), basic_password="hidden")
    (shown,) = (await acme.get("/Webhook", type=0)).json()
    assert shown["basic_password"] == ""
    assert [rule["eventno"] for rule in shown["events"]] == [NEW_TICKET, TICKET_UPDATED]
    assert (await acme.get("/Webhook", type=1)).json() == []
    rules = (await acme.get("/Notification", webhook_id=ident)).json()
    assert (await acme.get(f"/Notification/{rules[0]['id']}")).json()["name"] == "rule 3"
    await acme.post("/Notification", [{"id": rules[0]["id"], "eventno": TICKET_CLOSED}])
    await acme.post("/Webhook", [{"id": ident, "note": "changed"}])
    assert (await acme.get(f"/Webhook/{ident.upper()}")).json()["note"] == "changed"
    await acme.new_ticket()
    assert await arrived(acme, receiver) == []
    await acme.delete(f"/Notification/{rules[1]['id']}")
    assert len((await acme.get("/Notification")).json()) == 1
    assert (await acme.delete(f"/Webhook/{ident}")).json()["id"] == ident
    assert (await acme.get("/Notification")).json() == []
    assert (await acme.get(f"/Webhook/{ident}")).status_code == 404
    assert (await acme.get("/Webhook/nonsense")).status_code == 400


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "http://127.0.0.1:1/"},
        {"name": "x"},
        {"name": "x", "url": "ftp://x"},
        {"name": "x", "url": "http://no such host/"},
        {"name": "x", "url": "http://127.0.0.1:99999/"},
        {"name": "x", "url": "http://127.0.0.1:1/", "authentication_type": 2},
        {"name": "x", "url": "http://127.0.0.1:1/", "content_type": "text/xml"},
    ],
)
async def test_a_webhook_that_cannot_work_is_refused(acme: Tenant, wrong: dict[str, Any]) -> None:
    assert (await acme.post("/Webhook", [wrong])).status_code == 400
    assert (await acme.get("/Webhook")).json() == []


async def test_rules_inside_the_webhook(acme: Tenant, receiver: Receiver) -> None:
    body = {"name": "x", "url": receiver.url, "events": [{"eventno": 3, "name": "inside"}]}
    shown = (await acme.post("/Webhook", [body])).json()
    assert shown["events"][0]["webhook_id"] == shown["id"]
    await acme.new_ticket()
    assert len(await arrived(acme, receiver)) == 1


async def test_an_inactive_webhook_gets_nothing(acme: Tenant, receiver: Receiver) -> None:
    ident = await subscribe(acme, receiver.url)
    await acme.post("/Webhook", [{"id": ident, "active": False}])
    await acme.new_ticket()
    assert await arrived(acme, receiver) == []
