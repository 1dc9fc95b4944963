"""Scripted faults on requests: what the client sees, and what was written all the same."""

import time
from typing import Any

import pytest

from app.core.http.client import HTTPError, TimeoutException
from app.sandbox.halopsa.faults import BadFault, parse_fault
from tests.sandbox.halopsa.calling import Tenant
from tests.support.waiting import wait_until

BODY = [{"tickettype_id": 1, "summary": "x"}]


async def script(acme: Tenant, effect: Any, times: int | None = 1, **match: Any) -> None:
    answer = await acme.control("POST", "/faults", {"match": match, "times": times, "effect": effect})
    assert answer.status_code == 201, answer.text


async def test_a_status_with_body_and_headers(acme: Tenant) -> None:
    await script(acme, {"status": 502, "body": "<h1>Bad gateway</h1>", "headers": {"content-type": "text/html"}})
    answer = await acme.get("/Tickets")
    assert (answer.status_code, answer.text, answer.headers["content-type"]) == (
        502,
        "<h1>Bad gateway</h1>",
        "text/html",
    )
    await script(acme, {"status": 429, "body": {"error": "slow"}, "headers": {"retry-after": "7"}})
    answer = await acme.get("/Tickets")
    assert (answer.status_code, answer.json(), answer.headers["retry-after"]) == (429, {"error": "slow"}, "7")
    await script(acme, {"status": 403})
    assert (await acme.get("/Tickets")).content == b""
    assert (await acme.get("/Tickets")).status_code == 200


async def test_the_write_is_done_and_nobody_is_told(acme: Tenant) -> None:
    await script(acme, "timeout_after_write", method="post", path="/tickets")
    with pytest.raises(HTTPError) as caught:
        await acme.post("/Tickets", BODY)
    assert not isinstance(caught.value, TimeoutException)
    assert len(acme.world.tickets.by_id) == 1
    assert (await acme.post("/Tickets", BODY)).json()["id"] == 2
    entries = acme.world.journal.entries(path="/Tickets")
    assert [(entry.status, entry.fault) for entry in entries] == [(0, "timeout_after_write"), (201, "")]


async def test_the_write_may_hang_until_the_client_gives_up(acme: Tenant) -> None:
    await script(acme, {"timeout_after_write": True, "hang_ms": 60000}, path="/Tickets")
    with pytest.raises(TimeoutException):
        await acme.client.post(f"{acme.base_url}/api/Tickets", json=BODY, timeout=0.3)
    await wait_until(lambda: len(acme.world.tickets.by_id) == 1)


async def test_the_connection_drops_before_anything_is_done(acme: Tenant) -> None:
    await script(acme, "drop_connection_before", path="/Tickets")
    with pytest.raises(HTTPError):
        await acme.post("/Tickets", BODY)
    assert acme.world.tickets.by_id == {}


async def test_the_first_elements_are_saved_and_then_400(acme: Tenant) -> None:
    await script(acme, {"partial_batch": 2})
    answer = await acme.post("/Tickets", BODY * 4)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("[2]")
    assert len(acme.world.tickets.by_id) == 2


async def test_html_with_200(acme: Tenant) -> None:
    await script(acme, "html_200", path="/auth/token")
    answer = await acme.token()
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")


async def test_a_delay(acme: Tenant) -> None:
    await script(acme, {"delay_ms": 150}, path="/Agent/me")
    started = time.perf_counter()
    assert (await acme.get("/Agent/me")).status_code == 200
    assert time.perf_counter() - started >= 0.15


async def test_nth_after_and_times(acme: Tenant) -> None:
    await script(acme, {"status": 500}, None, path="/Agent/me", nth=2)
    assert [(await acme.get("/Agent/me")).status_code for _ in range(4)] == [200, 500, 200, 200]
    await acme.control("DELETE", "/faults")
    await script(acme, {"status": 500}, 2, path="/Agent/me", after=1)
    assert [(await acme.get("/Agent/me")).status_code for _ in range(4)] == [200, 500, 500, 200]
    await script(acme, {"status": 500}, None)
    assert [(await acme.get("/Agent/me")).status_code for _ in range(3)] == [500] * 3
    assert len((await acme.control("GET", "/faults")).json()) == 2
    await acme.control("DELETE", "/faults")
    assert (await acme.get("/Agent/me")).status_code == 200


async def test_a_fault_on_a_template_spares_the_list(acme: Tenant) -> None:
    await acme.new_ticket()
    await script(acme, {"status": 500}, None, path="/Tickets/{id}")
    assert (await acme.get("/Tickets")).status_code == 200
    assert (await acme.get("/Tickets/1")).status_code == 500


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"effect": {}},
        {"effect": "explode"},
        {"effect": {"status": 500}, "when": 1},
        {"effect": {"status": 500}, "match": {"url": "x"}},
        {"webhook": "explode"},
        {"webhook": "delay_ms"},
        {"webhook": "drop", "sometimes": True},
    ],
)
async def test_a_fault_that_cannot_be_used_is_refused(acme: Tenant, wrong: dict[str, Any]) -> None:
    with pytest.raises(BadFault):
        parse_fault(wrong)
    answer = await acme.control("POST", "/faults", wrong)
    assert answer.status_code == 400
    assert answer.json()["error"]
