"""Error shapes and the rate limit."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.sandbox.halopsa.calling import Tenant
from tests.support.waiting import wait_until

TEXT = "An Outcome must be entered for this Action"


@pytest.mark.parametrize(
    ("shape", "body"),
    [
        ("object", {"error": TEXT}),
        ("text", TEXT),
        ("nested", {"error": {"error_description": TEXT}}),
        ("exception", {"ClassName": "System.Exception", "Message": TEXT}),
        ("message", {"Message": TEXT}),
        ("result", {"resultCode": 400, "errorMessage": TEXT}),
    ],
)
async def test_an_error_has_the_shape_of_the_switch(acme: Tenant, shape: Any, body: Any) -> None:
    await acme.new_ticket()
    acme.world.switches.error_shape = shape
    answer = await acme.post("/Actions", [{"ticket_id": 1, "note": "x"}])
    assert (answer.status_code, answer.json()) == (400, body)


async def test_shapes_rotate(acme: Tenant) -> None:
    acme.world.switches.error_shape = "rotating"
    shapes = {str((await acme.get("/Tickets/9")).json()) for _ in range(12)}
    assert len(shapes) == 6


async def test_the_budget_is_300_in_300_seconds_by_default(acme: Tenant) -> None:
    for _ in range(300):
        assert (await acme.get("/Agent/me")).status_code == 200
    refused = await acme.get("/Agent/me")
    assert refused.status_code == 429
    assert refused.json() == {"error": "Rate Limit Reached - 300 Requests per rolling 5 minute window."}
    assert "retry-after" not in refused.headers
    assert (await acme.token()).status_code == 200
    acted = acme.world.act("GET", "/Agent/me", agent_id=3)
    assert acted.status == 200
    assert (await acme.control("GET", "/counters")).json()["rate_limited"] == 1


async def test_the_window_rolls_and_the_header_is_a_switch(acme: Tenant) -> None:
    switches = acme.world.switches
    switches.rate_limit, switches.rate_window_seconds, switches.rate_limit_header = 2, 1.0, True
    assert [(await acme.get("/Agent/me")).status_code for _ in range(3)] == [200, 200, 429]
    assert int((await acme.get("/Agent/me")).headers["retry-after"]) == 1

    async def served() -> bool:
        return (await acme.get("/Agent/me")).status_code == 200

    probe: Callable[[], bool | Awaitable[bool]] = served
    await wait_until(probe)
    switches.rate_limit_off = True
    assert [(await acme.get("/Agent/me")).status_code for _ in range(5)] == [200] * 5


async def test_the_token_end_point_is_metered_only_with_the_switch(acme: Tenant) -> None:
    acme.world.switches.rate_limit = 0
    assert (await acme.token()).status_code == 200
    acme.world.switches.auth_is_metered = True
    assert (await acme.token()).status_code == 429
    assert (await acme.get("/AuthInfo")).status_code == 429


async def test_the_budget_is_the_tenants_own(acme: Tenant) -> None:
    acme.world.switches.rate_limit = 0
    world = acme.sandbox.add_tenant("globex")
    globex = Tenant(acme.sandbox, world, acme.base_url.replace("/acme", "/globex"), acme.client)
    assert (await acme.get("/Agent/me")).status_code == 429
    await globex.log_in()
    assert (await globex.get("/Agent/me")).status_code == 200
