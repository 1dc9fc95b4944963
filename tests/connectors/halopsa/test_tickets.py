"""Reading, creating, changing and finding tickets, against a HaloPSA on a socket, under every switch."""

from dataclasses import replace
from typing import Any

import pytest

from app.connectors.canonical import ErrorClass, TicketField, Written
from app.core import clock
from tests.connectors.halopsa.rig import (
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
