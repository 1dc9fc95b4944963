"""GET /Tickets: the filters."""

from datetime import timedelta
from typing import Any

import pytest

from app.core import clock
from tests.sandbox.halopsa.calling import Tenant


async def listed(acme: Tenant, **params: Any) -> set[int]:
    answer = await acme.get("/Tickets", pageinate="true", page_no=1, page_size=100, **params)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["record_count"] == len(found["tickets"])
    return {row["id"] for row in found["tickets"]}


@pytest.fixture
async def desk(acme: Tenant) -> Tenant:
    """Ticket 1: client 2, type 1. Ticket 2: client 3, type 2, Security, agent 6. Ticket 3: closed."""
    await acme.new_ticket(summary="Alpha", details="first", reportedby="Zoe", supplier_reference="SUP-9")
    await acme.new_ticket(summary="Beta", client_id=3, tickettype_id=2, team="Security", agent_id=6)
    await acme.new_ticket(summary="Gamma", client_id=4)
    await acme.post("/Tickets", [{"id": 3, "status_id": 9}])
    return acme


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, {1, 2, 3}),
        ({"ticketids": "1,3,99"}, {1, 3}),
        ({"open_only": "true"}, {1, 2}),
        ({"closed_only": "true"}, {3}),
        ({"requesttype_id": "2"}, {2}),
        ({"requesttype": "1,2"}, {1, 2, 3}),
        ({"client_id": "3"}, {2}),
        ({"client_ids": "3,4"}, {2, 3}),
        ({"status": "9"}, {3}),
        ({"status_id": "1"}, {1, 2}),
        ({"team": "4"}, {2}),
        ({"agent": "1"}, {1, 3}),
        ({"agent_id": "6"}, {2}),
        ({"search": "alpha"}, {1}),
        ({"search": "2"}, {2}),
        ({"search_summary": "amm"}, {3}),
        ({"search_details": "first"}, {1}),
        ({"search_reportedby": "zoe"}, {1}),
        ({"search_supplier_reference": "sup-"}, {1}),
        ({"search_user_name": "general"}, {1, 2, 3}),
        ({"search_id": "2"}, {2}),
        ({"excludethese": "1,2"}, {3}),
        ({"datesearch": "datecleared", "startdate": "2000-01-01"}, {3}),
        ({"datesearch": "dateoccured", "startdate": "2000-01-01", "enddate": "2001-01-01"}, set()),
        ({"TICKETIDS": "2"}, {2}),
    ],
)
async def test_a_filter_lets_through_what_it_says(desk: Tenant, params: dict[str, str], expected: set[int]) -> None:
    assert await listed(desk, **params) == expected


async def test_mine_is_what_the_acting_agent_has(desk: Tenant) -> None:
    await desk.post("/Tickets", [{"id": 1, "agent_id": 90}])
    assert await listed(desk, mine="true") == {1}


async def test_the_update_window_is_inclusive_or_exclusive(acme: Tenant) -> None:
    await acme.new_ticket()
    with clock.shifted(timedelta(minutes=10)):
        second = await acme.new_ticket()
    stamp = second["lastupdate"]
    assert await listed(acme, lastupdatefromdate=stamp) == {2}
    assert await listed(acme, lastupdatetodate=stamp) == {1, 2}
    assert await listed(acme, lastupdatefromdate=stamp + "Z") == {2}
    assert await listed(acme, lastupdatefromdate=stamp + ".0000000Z") == {2}
    assert await listed(acme, lastupdatefromdate="2020-01-01") == {1, 2}
    acme.world.switches.update_window = "exclusive"
    assert await listed(acme, lastupdatefromdate=stamp) == set()
    assert await listed(acme, lastupdatetodate=stamp) == {1}


async def test_a_broken_date_is_refused(acme: Tenant) -> None:
    answer = await acme.get("/Tickets", lastupdatefromdate="yesterday")
    assert (answer.status_code, list(answer.json())) == (400, ["lastupdatefromdate"])


async def test_incremental_lists_stay_right_when_the_clock_goes_back(acme: Tenant) -> None:
    acme.world.skew_seconds = 3600
    ahead = await acme.new_ticket()
    acme.world.skew_seconds = 0
    await acme.new_ticket()
    assert await listed(acme, lastupdatefromdate=ahead["lastupdate"]) == {1}
    assert await listed(acme, lastupdatefromdate="2020-01-01") == {1, 2}


async def test_an_incremental_list_reads_only_what_changed(acme: Tenant) -> None:
    for _ in range(5):
        await acme.new_ticket()
    with clock.shifted(timedelta(hours=1)):
        since = clock.now()
        acme.world.tickets.touch(acme.world.tickets.by_id[2], since)
        found = [ticket.id for ticket in acme.world.tickets.updated_since(since.replace(microsecond=0))]
    assert found == [2]
