"""What HaloPSA refuses, delays or does not have: each ticket of a batch keeps its own fate."""

from dataclasses import replace
from datetime import timedelta

import pytest

from app.connectors.canonical import DeskError, ErrorClass, Refused, TicketField, Written
from app.connectors.halopsa import HaloSideOptions, mapping
from app.core import clock
from app.sandbox.halopsa.seed import ApplicationSeed, Seed
from tests.connectors.halopsa.rig import (
    AGENT,
    LONG_AGO,
    RESOLVE,
    Rig,
    change,
    deferred,
    draft,
    refused,
    rigged,
    written,
)


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_a_server_error_after_a_write_is_in_doubt(rig: Rig, status: int) -> None:
    rig.world.faults.add({"match": {"method": "POST", "path": "/Tickets"}, "effect": {"status": status}})
    result = deferred((await rig.halo.desk.create_tickets([draft(1)]))[0])
    assert result.perhaps_done
    assert result.error is ErrorClass.UNAVAILABLE


async def test_a_429_defers_surely_undone_and_closes_the_budget(rig: Rig) -> None:
    rig.world.faults.add(
        {
            "match": {"method": "POST", "path": "/Tickets"},
            "effect": {"status": 429, "headers": {"Retry-After": "7"}},
        }
    )
    result = deferred((await rig.halo.desk.create_tickets([draft(1)]))[0])
    assert result.error is ErrorClass.RATE
    assert not result.perhaps_done
    assert result.retry_after_seconds is not None
    assert 6 < result.retry_after_seconds <= 7
    assert rig.halo.desk.pressure() == 1.0
    before = rig.total_calls()
    with pytest.raises(DeskError) as caught:
        await rig.halo.desk.read_tickets(["1"])
    assert caught.value.error is ErrorClass.RATE
    assert caught.value.retry_after_seconds is not None
    assert rig.total_calls() == before, "a closed budget must not be tried"


async def test_html_instead_of_json_is_a_wrong_address_not_an_empty_list(rig: Rig) -> None:
    rig.world.faults.add({"match": {"method": "GET", "path": "/Tickets"}, "effect": {"html_200": True}})
    with pytest.raises(DeskError) as caught:
        await rig.halo.desk.read_tickets(["1"])
    assert caught.value.error is ErrorClass.MISCONFIGURED
    assert "Halo API" in caught.value.next_step


async def test_reads_survive_two_broken_answers(rig: Rig) -> None:
    ticket_id = rig.human_ticket()
    rig.world.faults.add({"match": {"method": "GET", "path": "/Tickets"}, "effect": {"status": 502}, "times": 2})
    assert ticket_id in await rig.halo.desk.read_tickets([ticket_id])
    rig.world.faults.add({"match": {"method": "GET", "path": "/Tickets"}, "effect": {"status": 502}, "times": 3})
    with pytest.raises(DeskError) as caught:
        await rig.halo.desk.read_tickets([ticket_id])
    assert caught.value.error is ErrorClass.UNAVAILABLE


async def test_one_bad_field_does_not_keep_the_others_out(rig: Rig) -> None:
    ids = [rig.human_ticket() for _ in range(4)]
    changes = [change(n, one, summary="Better", priority="2") for n, one in enumerate(ids)]
    changes[2] = change(2, ids[2], summary="Better", priority="77", status="2")
    results = await rig.halo.desk.change_tickets(changes)
    assert [isinstance(one, Written) for one in results] == [True, True, False, True]
    no = refused(results[2])
    assert no.fields == (TicketField.PRIORITY,)
    assert no.ticket is not None
    assert no.ticket.values[TicketField.SUMMARY] == "Better"
    assert no.ticket.values[TicketField.STATUS] == "2"
    assert no.ticket.values[TicketField.PRIORITY] == "3"


async def test_a_blocked_resolution_says_so_and_keeps_the_other_fields(rig: Rig) -> None:
    ticket_id = rig.human_ticket(tickettype_id=3)  # its workflow's first step has no resolution
    blocked = replace(change(1, ticket_id, summary="Better", status="9"), closes=True, resolution=RESOLVE)
    no = refused((await rig.halo.desk.change_tickets([blocked]))[0])
    assert no.error is ErrorClass.WORKFLOW_BLOCKED
    assert no.fields == (TicketField.STATUS,)
    assert no.ticket is not None
    assert no.ticket.values[TicketField.SUMMARY] == "Better"
    assert not no.ticket.closed


async def test_closing_directly_where_an_outcome_is_demanded_is_a_refusal_with_advice() -> None:
    async with rigged(switches={"close_requires_outcome": True}) as rig:
        ticket_id = rig.human_ticket()
        no = refused((await rig.halo.desk.change_tickets([replace(change(1, ticket_id, status="9"), closes=True)]))[0])
        assert no.error is ErrorClass.WORKFLOW_BLOCKED
        assert "outcome" in no.next_step


async def test_many_closings_travel_together_and_a_half_saved_array_closes_nothing_twice(rig: Rig) -> None:
    ids = [rig.human_ticket() for _ in range(8)]
    read = await rig.halo.desk.read_tickets(ids)
    closings = [
        replace(
            change(n, one, context=dict(read[one].context), status="9"),
            closes=True,
            resolution=RESOLVE,
            resolution_note="Fixed.",
        )
        for n, one in enumerate(ids)
    ]
    rig.world.faults.add({"match": {"method": "POST", "path": "/Actions"}, "effect": {"partial_batch": 3}})
    results = written(await rig.halo.desk.change_tickets(closings))
    assert all(one.ticket is not None and one.ticket.closed for one in results)
    for one in ids:
        assert [action["note"] for action in rig.actions_of(one)] == ["Fixed."]
    assert all(action["hiddenfromuser"] for one in ids for action in rig.actions_of(one))


async def test_a_change_of_a_ticket_that_is_gone_is_not_found(rig: Rig) -> None:
    kept, gone = rig.human_ticket(), rig.human_ticket()
    rig.world.act("DELETE", f"/Tickets/{gone}", agent_id=3)
    results = await rig.halo.desk.change_tickets([change(1, gone, summary="x"), change(2, kept, summary="y")])
    assert refused(results[0]).error is ErrorClass.NOT_FOUND
    assert isinstance(results[1], Written)
    context = {"tickettype_id": "1", "client_id": "2"}
    again = await rig.halo.desk.change_tickets(
        [change(1, gone, context=context, summary="x"), change(2, kept, context=context, summary="z")]
    )
    assert refused(again[0]).error is ErrorClass.NOT_FOUND
    assert isinstance(again[1], Written)


async def test_a_deleted_ticket_is_shown_as_deleted_and_an_unknown_one_is_absent(rig: Rig) -> None:
    kept, gone = rig.human_ticket(), rig.human_ticket()
    rig.world.act("DELETE", f"/Tickets/{gone}", agent_id=3)
    read = await rig.halo.desk.read_tickets([kept, gone, "424242", "not a number"])
    assert set(read) == {kept, gone}
    assert read[gone].deleted
    assert not read[kept].deleted


async def test_could_not_ask_is_never_not_there(rig: Rig) -> None:
    ticket_id = rig.human_ticket()
    for effect in ({"status": 500}, {"status": 403}, {"status": 429}, {"drop_connection_before": True}):
        async with rigged() as other:
            other.world.faults.add({"match": {"path": "/Tickets"}, "effect": effect, "times": None})
            with pytest.raises(DeskError):
                await other.halo.desk.read_tickets([ticket_id])
            with pytest.raises(DeskError):
                await other.find_ticket("PHL-mark-0001", created_after=LONG_AGO)


async def test_changed_tickets_pages_through_all_and_leaves_older_ones_out() -> None:
    async with rigged(switches={"page_size_cap": 3}) as rig:
        with clock.shifted(timedelta(hours=-2)):
            rig.human_ticket()
        since = clock.now()
        ids = [rig.human_ticket() for _ in range(10)]
        pages = [page async for page in rig.halo.desk.changed_tickets(since)]
        assert [one.native_id for page in pages for one in page] == ids
        assert len(pages) == 4


async def test_a_ticket_of_another_integration_is_recognised(rig: Rig) -> None:
    ticket_id = rig.human_ticket(
        new_external_link={"third_party_id": "JIRA-7", "integration_name": "Jira", "module_id": 18}
    )
    row = rig.world.act("GET", f"/Tickets/{ticket_id}", agent_id=AGENT).body
    found = mapping.ticket(row, frozenset({9}))
    assert found.foreign_links == ("Jira",)
    assert found.markers == ()


async def test_an_empty_summary_still_becomes_a_ticket(rig: Rig) -> None:
    made = written(await rig.halo.desk.create_tickets([draft(1, summary="  ", description="")]))
    read = await rig.halo.desk.read_tickets([made[0].native_id])
    assert read[made[0].native_id].values[TicketField.SUMMARY] == "(no subject)"


async def test_a_missing_scope_refuses_the_whole_batch_with_one_call() -> None:
    application = ApplicationSeed("acme-app", "acme-app-secret", ("read:tickets", "read:customers"))
    async with rigged(seed=Seed(applications=(application,))) as rig:
        results = await rig.halo.desk.create_tickets([draft(n) for n in range(20)])
        assert all(isinstance(one, Refused) and one.error is ErrorClass.PERMISSION for one in results)
        assert "edit:tickets" in refused(results[0]).next_step
        assert "Permissions tab" in refused(results[0]).next_step
        assert rig.calls("POST /Tickets") == 1


async def test_defaults_reach_the_ticket(rig: Rig) -> None:
    options = HaloSideOptions(
        customer=3, team="2nd Line Support", ticket_type=2, category="Network", impact=2, urgency=1
    )
    made = written(await rig.halo.desk.create_tickets([draft(1, defaults=dict(options.created_ticket_defaults()))]))
    row = rig.tickets_marked("PHL-mark-0001")[0]
    assert str(row["id"]) == made[0].native_id
    wanted = {
        "client_id": 3,
        "team": "2nd Line Support",
        "tickettype_id": 2,
        "category_1": "Network",
        "impact": 2,
    }
    assert {name: row[name] for name in wanted} == wanted


async def test_a_ticket_that_a_person_deleted_is_found_as_deleted_and_does_not_come_back(rig: Rig) -> None:
    started = clock.now()
    made = written(await rig.halo.desk.create_tickets([draft(1)]))
    rig.world.act("DELETE", f"/Tickets/{made[0].native_id}", agent_id=AGENT)
    found = await rig.find_ticket("PHL-mark-0001", created_after=started)
    assert found is not None
    assert found.deleted


@pytest.mark.parametrize("links", ["on", "not_kept", "forbidden"])
async def test_fifty_tickets_in_doubt_are_found_with_one_call(links: str) -> None:
    async with rigged(switches={"external_links": links}) as rig:
        started = clock.now()
        rig.world.faults.add({"match": {"method": "POST", "path": "/Tickets"}, "effect": {"timeout_after_write": True}})
        await rig.halo.desk.create_tickets([draft(n) for n in range(50)])
        before = rig.total_calls()
        marks = [f"PHL-mark-{n:04d}" for n in range(50)]
        found = await rig.halo.desk.find_tickets(marks, created_after=started)
        assert set(found) == set(marks)
        assert rig.total_calls() - before == 1
        assert await rig.halo.desk.find_tickets(["PHL-none-1", "PHL-none-2"], created_after=started) == {}
