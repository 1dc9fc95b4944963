"""Reading, creating, changing and finding tickets, against a HaloPSA on a socket, under every switch."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

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
    connect,
    deferred,
    draft,
    refused,
    rigged,
    written,
)

# Every switch that touches how tickets and actions are read or written, at each of its other values.
SWITCHES: list[dict[str, Any]] = [
    {"post_status": 200},
    {"always_array": True},
    {"strict_updates": True},
    {"batch_atomic": False},
    {"match_third_party": True},
    {"trim_text": False},
    {"uppercase_team": True},
    {"apply_templates": True},
    {"keep_hidden_span": False},
    {"keep_hidden_span": False, "external_links": "not_kept"},
    {"action_dates": "ignored"},
    {"action_dates": "refused"},
    {"action_moves_last_update": False},
    {"external_links": "not_kept"},
    {"external_links": "forbidden"},
    {"default_list_size": 1},
    {"page_size_cap": 2},
    {"page_size_cap": 1000},
    {"actions_default_count": 1},
    {"actions_window_by": "created"},
    {"update_window": "exclusive"},
    {"agent_list_always_bare": True},
    {"missing_id": "400"},
    {"missing_id": "200_empty"},
    {"clean_ids": True},
    {"null_dates": "null"},
    {"date_style": "z"},
    {"alias_fields": "all"},
    {"alias_fields": "none"},
    {"error_shape": "rotating"},
    {"close_requires_outcome": True},
    {"new_token_revokes_old": True},
    {"token_lifetime_seconds": 2},
    {"auth_is_metered": True},
]


@pytest.mark.parametrize("switches", SWITCHES, ids=lambda s: ",".join(f"{k}={v}" for k, v in s.items()))
async def test_a_ticket_lives_its_whole_life_under_every_switch(switches: dict[str, Any]) -> None:
    async with rigged(switches=switches) as rig:
        desk = rig.halo.desk
        started = clock.now()
        made = written(await desk.create_tickets([draft(n) for n in range(1, 6)]))
        ids = [one.native_id for one in made]
        assert len(set(ids)) == 5

        read = await desk.read_tickets([*ids, "999999"])
        assert list(read) == ids
        assert [read[one].values[TicketField.SUMMARY] for one in ids] == [f"Case {n}" for n in range(1, 6)]
        assert [read[one].markers[-1] for one in ids] == [f"PHL-mark-{n:04d}" for n in range(1, 6)]
        assert read[ids[0]].created_at is not None
        assert read[ids[0]].context == {"tickettype_id": "1", "client_id": "2"}

        results = written(
            await desk.change_tickets([change(n, one, summary=f"New {one}", priority="2") for n, one in enumerate(ids)])
        )
        for result in results:
            assert result.ticket is not None
            assert result.ticket.values[TicketField.SUMMARY] == f"New {result.native_id}"
            assert result.ticket.values[TicketField.PRIORITY] == "2"

        closing = replace(
            change(9, ids[0], status="9", summary="Done"),
            closes=True,
            resolution=RESOLVE,
            resolution_note="Fixed.",
        )
        done = written(await desk.change_tickets([closing]))[0]
        assert done.ticket is not None
        assert done.ticket.closed
        assert done.ticket.values[TicketField.SUMMARY] == "Done"
        reopened = written(await desk.change_tickets([replace(change(10, ids[0], status="2"), reopens=True)]))[0]
        assert reopened.ticket is not None
        assert not reopened.ticket.closed

        seen = {one.native_id async for page in desk.changed_tickets(started) for one in page}
        assert seen == set(ids)
        for number, one in enumerate(ids, start=1):
            found = await rig.find_ticket(f"PHL-mark-{number:04d}", created_after=started)
            assert found is not None
            assert found.native_id == one
        assert await rig.find_ticket("PHL-mark-none", created_after=started) is None


async def test_a_hundred_tickets_are_read_with_one_call_and_written_with_few(rig: Rig) -> None:
    made = written(await rig.halo.desk.create_tickets([draft(n) for n in range(100)]))
    assert rig.calls("POST /Tickets") == 2
    before = rig.total_calls()
    read = await rig.halo.desk.read_tickets([one.native_id for one in made])
    assert len(read) == 100
    assert rig.total_calls() - before == 1
    contexts = {one.native_id: dict(read[one.native_id].context) for one in made}
    changes = [change(n, one.native_id, context=contexts[one.native_id], priority="1") for n, one in enumerate(made)]
    before = rig.total_calls()
    assert all(one.ticket is not None for one in written(await rig.halo.desk.change_tickets(changes)))
    assert rig.total_calls() - before == 2


async def test_results_come_in_the_order_of_the_drafts_with_a_bad_one_in_the_middle(rig: Rig) -> None:
    drafts = [draft(n) for n in range(20)]
    drafts[7] = draft(7, defaults={"tickettype_id": 777, "client_id": 2})
    drafts[11] = draft(11, status="Open")
    results = await rig.halo.desk.create_tickets(drafts)
    assert [one.key for one in results] == [one.key for one in drafts]
    assert refused(results[7]).error is ErrorClass.VALIDATION
    assert refused(results[11]).error is ErrorClass.UNMAPPED_VALUE
    assert sum(isinstance(one, Written) for one in results) == 18
    assert len(rig.world.export()["tickets"]) == 18


@pytest.mark.parametrize("kept", [0, 1, 5, 19])
@pytest.mark.parametrize("links", ["on", "not_kept", "forbidden"])
async def test_a_batch_that_is_half_saved_makes_no_second_ticket(kept: int, links: str) -> None:
    async with rigged(switches={"external_links": links}) as rig:
        rig.world.faults.add({"match": {"method": "POST", "path": "/Tickets"}, "effect": {"partial_batch": kept}})
        results = written(await rig.halo.desk.create_tickets([draft(n) for n in range(20)]))
        assert len({one.native_id for one in results}) == 20
        assert [len(rig.tickets_marked(f"PHL-mark-{n:04d}")) for n in range(20)] == [1] * 20


async def test_versions_that_keep_the_elements_before_a_bad_one_get_no_second_ticket() -> None:
    async with rigged(switches={"batch_atomic": False}) as rig:
        drafts = [draft(n) for n in range(20)]
        drafts[13] = draft(13, defaults={"tickettype_id": 5, "client_id": 2})  # demands a category
        results = await rig.halo.desk.create_tickets(drafts)
        no = refused(results[13])
        assert no.error is ErrorClass.REQUIRED_FIELD
        assert "ategory" in no.detail
        assert "defaults" in no.next_step
        assert [len(rig.tickets_marked(f"PHL-mark-{n:04d}")) for n in range(20)] == [int(n != 13) for n in range(20)]


@pytest.mark.parametrize("links", ["on", "not_kept", "forbidden"])
async def test_after_a_lost_answer_the_look_finds_what_was_created(links: str) -> None:
    async with rigged(switches={"external_links": links}) as rig:
        started = clock.now()
        rig.world.faults.add({"match": {"method": "POST", "path": "/Tickets"}, "effect": {"timeout_after_write": True}})
        results = [deferred(one) for one in await rig.halo.desk.create_tickets([draft(1), draft(2)])]
        assert all(one.perhaps_done for one in results)
        for number in (1, 2):
            found = await rig.find_ticket(f"PHL-mark-{number:04d}", created_after=started)
            assert found is not None
            assert len(rig.tickets_marked(f"PHL-mark-{number:04d}")) == 1
        assert rig.calls("POST /Tickets") == 1


async def test_a_connection_dropped_before_the_write_is_in_doubt_and_the_look_says_no(rig: Rig) -> None:
    await rig.halo.desk.identity()
    rig.world.faults.add({"match": {"path": "/Tickets", "method": "POST"}, "effect": {"drop_connection_before": True}})
    started = clock.now()
    assert deferred((await rig.halo.desk.create_tickets([draft(1)]))[0]).perhaps_done
    assert await rig.find_ticket("PHL-mark-0001", created_after=started) is None


async def test_nothing_listening_is_surely_not_done() -> None:
    async with rigged() as rig:
        url = rig.url
    halo = connect(url)
    try:
        result = deferred((await halo.desk.create_tickets([draft(1)]))[0])
        assert result.error is ErrorClass.UNAVAILABLE
        assert not result.perhaps_done
    finally:
        await halo.aclose()


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
