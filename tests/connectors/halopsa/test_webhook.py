"""HaloPSA's webhooks: what a body says, and that ours are registered, repaired and removed."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.connectors.canonical import DeskError, ErrorClass
from app.connectors.halopsa import HALO_VERIFIER, KIND
from app.connectors.halopsa.webhook import EVENTS, parse_hook
from app.connectors.registry import kind
from app.core import clock
from app.core.http.signing import verify
from app.sandbox.halopsa.seed import ApplicationSeed, Seed
from app.sandbox.serving import serving
from tests.connectors.halopsa.rig import Rig, rigged
from tests.support.waiting import wait_until

URL = "https://hub.example/hooks/con_1"
# Shaped like a delivery of a ticket status event (HaloPSA wire contract, standard payload); values invented.
DELIVERY: dict[str, Any] = {
    "id": "6f1c0a52-93f0-4a5e-8a0d-1f6b0f4f2f10",
    "webhook_id": "0d9df8a0-1f42-4b6e-9a39-7d1f7f2f1a11",
    "notification_id": 12,
    "event": "Ticket Status Changed",
    "message": "The status has been changed for Ticket ID: 0000311.",
    "object_id": 311,
    "agent_id": 4,
    "timestamp": "2026-11-03T08:15:30.1234567Z",
    "ticket": {"id": 311.0, "status_id": 9, "lastupdate": "2026-11-03T08:15:29"},
}


def test_a_delivery_becomes_one_event() -> None:
    body = orjson.dumps(DELIVERY)
    (event,) = parse_hook(body)
    assert event.external_id == DELIVERY["id"]
    assert event.name == "ticket status changed"
    assert event.ticket_id == "311"
    assert event.actor_id == "4"
    assert event.raw == body
    assert event.at is not None
    assert event.at.isoformat() == "2026-11-03T08:15:30.123456+00:00"
    assert event.ticket_updated_at is not None
    assert event.ticket_updated_at.isoformat() == "2026-11-03T08:15:29+00:00"


def test_a_batch_becomes_its_events_each_with_its_own_bytes() -> None:
    second = {name: value for name, value in DELIVERY.items() if name not in ("id", "ticket")}
    events = parse_hook(orjson.dumps([DELIVERY, second]))
    assert [event.ticket_id for event in events] == ["311", "311"]
    assert orjson.loads(events[1].raw) == second
    assert len(events[1].external_id) == 64, "without an id the bytes identify a delivery"


@pytest.mark.parametrize(
    ("payload", "ticket_id"),
    [
        ({"event": "client updated", "object_id": 7}, None),
        ({"event": "ticket deleted", "object_id": 7}, "7"),
        ({"object_id": 7}, "7"),
        ({"ticket_id": "8", "event": "anything"}, "8"),
        ({"event": "sla warning", "object_id": "9"}, "9"),
        ({"event": "new ticket logged"}, None),
        ({"event": "new ticket logged", "ticket": "none", "object_id": 0}, None),
        ({}, None),
    ],
)
def test_only_a_ticket_event_names_a_ticket(payload: dict[str, Any], ticket_id: str | None) -> None:
    assert parse_hook(orjson.dumps(payload))[0].ticket_id == ticket_id


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"7", b'"x"', b"[1]", b"{", b"\xff\xfe", b"<html>"])
def test_other_bodies_are_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_hook(body)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*DELIVERY, "ticket_id"]), json_values))
def test_no_object_of_any_form_breaks_the_reader(payload: dict[str, Any]) -> None:
    (event,) = parse_hook(orjson.dumps(payload))
    assert event.external_id
    assert event.name


def test_the_kind_is_the_registry_s() -> None:
    assert kind("halopsa") is KIND
    assert KIND.parse_hook is parse_hook


async def test_registering_twice_changes_nothing(rig: Rig) -> None:
    first = await rig.halo.webhooks.ensure_webhook(url=URL, secret="s3cr3t", label="Parhelion ten_1")
    assert first.active
    assert first.problems == ()
    assert set(first.events) == set(EVENTS.values())
    posts = rig.calls("POST /Webhook") + rig.calls("POST /Notification")
    assert posts == 2
    second = await rig.halo.webhooks.ensure_webhook(url=URL, secret="s3cr3t", label="Parhelion ten_1")
    assert second == first
    assert rig.calls("POST /Webhook") + rig.calls("POST /Notification") == posts
    assert await rig.halo.webhooks.inspect_webhook(url=URL, label="Parhelion ten_1") == first


@pytest.mark.parametrize("switches", [{}, {"always_array": True}, {"post_status": 200}, {"error_shape": "rotating"}])
async def test_what_differs_is_repaired(switches: dict[str, Any]) -> None:
    async with rigged(switches=switches) as rig:
        hooks = rig.halo.webhooks
        state = await hooks.ensure_webhook(url=URL, secret="s3cr3t", label="Parhelion")
        webhook = rig.world.webhooks.webhooks[str(state.remote_id)]
        webhook["disabled"] = True
        webhook["url"] = "https://elsewhere.example/"
        rig.world.webhooks.drop_rule(next(iter(rig.world.webhooks.rules)))
        seen = await hooks.inspect_webhook(url=URL, label="Parhelion")
        assert not seen.active
        assert len(seen.problems) == 3
        repaired = await hooks.ensure_webhook(url=URL, secret="rotated", label="Parhelion")
        assert repaired.problems == ()
        assert repaired.remote_id == state.remote_id
        assert (webhook["url"], webhook["disabled"], webhook["basic_password"]) == (URL, False, "rotated")
        assert "rotated" not in webhook["note"]


async def test_a_second_webhook_of_ours_is_removed_and_others_are_left_alone(rig: Rig) -> None:
    foreign = {"name": "Someone else", "url": "https://other.example/"}
    twin = {"name": "Parhelion old", "url": "https://old.example/"}
    for body in (foreign, twin):
        rig.world.act("POST", "/Webhook", agent_id=3, body=[body])
    hooks = rig.halo.webhooks
    await hooks.ensure_webhook(url=URL, secret="s3cr3t", label="Parhelion")
    rig.world.act("POST", "/Webhook", agent_id=3, body=[twin])
    assert "2 webhooks" in (await hooks.inspect_webhook(url=URL, label="Parhelion")).problems[0]
    await hooks.ensure_webhook(url=URL, secret="s3cr3t", label="Parhelion")
    assert sorted(row["name"] for row in rig.world.webhooks.webhooks.values()) == [
        "Parhelion",
        "Someone else",
    ]
    assert await hooks.remove_webhook(label="Parhelion") == 1
    assert await hooks.remove_webhook(label="Parhelion") == 0
    assert [row["name"] for row in rig.world.webhooks.webhooks.values()] == ["Someone else"]
    gone = await hooks.inspect_webhook(url=URL, label="Parhelion")
    assert gone.remote_id is None
    assert not gone.active
    assert gone.problems


async def test_without_the_scope_the_advice_names_it() -> None:
    application = ApplicationSeed("acme-app", "acme-app-secret", ("edit:tickets",))
    async with rigged(seed=Seed(applications=(application,))) as rig:
        with pytest.raises(DeskError) as caught:
            await rig.halo.webhooks.ensure_webhook(url=URL, secret="s3cr3t", label="Parhelion")
        assert caught.value.error is ErrorClass.PERMISSION
        assert "admin:webhooks" in caught.value.next_step


class _Receiver:
    """An ASGI application that keeps what it is sent and answers with ``status``."""

    def __init__(self, status: int = 204) -> None:
        self.status = status
        self.received: asyncio.Queue[tuple[dict[str, str], bytes]] = asyncio.Queue()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self.received.put_nowait((headers, body))
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def _receiving(receiver: _Receiver) -> AsyncIterator[str]:
    async with serving(receiver) as url:
        yield f"{url}/hooks/con_1"


async def test_real_deliveries_are_verified_with_the_exported_verifier(rig: Rig) -> None:
    receiver = _Receiver()
    async with _receiving(receiver) as url:
        await rig.halo.webhooks.ensure_webhook(url=url, secret="s3cr3t", label="Parhelion")
        ticket_id = rig.human_ticket()
        headers, body = await asyncio.wait_for(receiver.received.get(), 10)
        assert verify(HALO_VERIFIER, ["other", "s3cr3t"], headers, body, clock.now())
        assert not verify(HALO_VERIFIER, ["other"], headers, body, clock.now())
        assert not verify(HALO_VERIFIER, ["s3cr3t"], headers, body + b" ", clock.now())
        (event,) = rig.halo.webhooks.events(body)
        assert event.ticket_id == ticket_id
        assert event.name == "new ticket logged"
        assert event.actor_id == "3"
        await rig.halo.webhooks.remove_webhook(label="Parhelion")


async def test_failing_deliveries_are_noticed(rig: Rig) -> None:
    receiver = _Receiver(status=500)
    async with _receiving(receiver) as url:
        await rig.halo.webhooks.ensure_webhook(url=url, secret="s3cr3t", label="Parhelion")
        rig.human_ticket()
        await asyncio.wait_for(receiver.received.get(), 10)

        async def problems_seen() -> Sequence[str]:
            return (await rig.halo.webhooks.inspect_webhook(url=url, label="Parhelion")).problems

        problems: Sequence[str] = await wait_until(problems_seen)
        assert any("deliveries failed" in one or "answered with 500" in one for one in problems)
        await rig.halo.webhooks.remove_webhook(label="Parhelion")
