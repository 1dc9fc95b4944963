"""Actions: ids per ticket, outcomes, visibility, workflow, dates, time, and the windows that list them."""

from datetime import timedelta
from typing import Any

import pytest

from app.core import clock
from tests.sandbox.halopsa.calling import Tenant


async def notes(acme: Tenant, **params: Any) -> list[str]:
    answer = (await acme.get("/Actions", **params)).json()
    return [item["note"] for item in answer["actions"]]


async def test_ids_count_per_ticket(acme: Tenant) -> None:
    one, two = await acme.new_ticket(), await acme.new_ticket()
    assert [(await acme.note(one["id"]))["id"], (await acme.note(two["id"]))["id"]] == [2, 2]
    assert (await acme.delete("/Actions/2", ticket_id=one["id"])).json()["id"] == 2
    assert (await acme.note(one["id"]))["id"] == 3
    assert (await acme.get("/Actions/2", ticket_id=two["id"])).status_code == 200
    assert (await acme.get("/Actions/2", ticket_id=one["id"])).status_code == 404
    assert (await acme.get("/Actions/2")).status_code == 400
    assert (await acme.delete("/Actions/2")).status_code == 400


async def test_the_writer_is_the_application(acme: Tenant) -> None:
    ticket = await acme.new_ticket()
    written = await acme.note(ticket["id"])
    assert written["actionby_application_id"] == "acme-app"
    assert (written["who_agentid"], written["who_type"]) == (90, 1)


async def test_an_outcome_is_needed(acme: Tenant) -> None:
    ticket = await acme.new_ticket()
    answer = await acme.post("/Actions", [{"ticket_id": ticket["id"], "note": "x"}])
    assert (answer.status_code, answer.json()["error"]) == (400, "An Outcome must be entered for this Action")
    assert (await acme.post("/Actions", [{"outcome_id": 7, "note": "x"}])).status_code == 400
    assert (await acme.post("/Actions", [{"ticket_id": 404, "outcome_id": 7}])).status_code == 400
    assert (await acme.post("/Actions", [{"ticket_id": ticket["id"], "outcome_id": 404}])).status_code == 400


async def test_an_outcome_may_be_text(acme: Tenant) -> None:
    ticket = await acme.new_ticket()
    known = await acme.note(ticket["id"], outcome_id=None, outcome="internal note")
    assert (known["outcome_id"], known["hiddenfromuser"]) == (7, True)
    free = await acme.note(ticket["id"], outcome_id=None, outcome="Partner update")
    assert (free["outcome_id"], free["outcome"], free["hiddenfromuser"]) == (0, "Partner update", False)


async def test_visibility_is_the_outcomes_unless_given(acme: Tenant) -> None:
    ticket = await acme.new_ticket()
    assert (await acme.note(ticket["id"], outcome_id=10))["hiddenfromuser"] is False
    assert (await acme.note(ticket["id"], outcome_id=10, hiddenfromuser=True))["hiddenfromuser"] is True
    await acme.note(ticket["id"], outcome_id=7, hiddenfromuser=False, note="shown")
    assert await notes(acme, ticket_id=1, excludeprivate="true") == ["shown", "noted", "Flames."]


async def test_outcomes_move_the_status(acme: Tenant) -> None:
    ticket = await acme.new_ticket()
    closed = await acme.note(ticket["id"], outcome_id=12, note="fixed")
    assert (closed["old_status"], closed["new_status"], closed["new_status_name"]) == (1, 9, "Closed")
    assert (await acme.get("/Tickets/1")).json()["hasbeenclosed"] is True
    reopened = await acme.note(ticket["id"], outcome_id=13)
    assert (reopened["old_status"], reopened["new_status"]) == (9, 2)
    waiting = await acme.note(ticket["id"], new_status=4)
    assert waiting["new_status"] == 4
    assert (await acme.get("/Tickets/1")).json()["onhold"] is True
    assert (await acme.post("/Actions", [{"ticket_id": 1, "outcome_id": 7, "new_status": 22}])).status_code == 400


async def test_a_workflow_step_offers_only_its_outcomes(acme: Tenant) -> None:
    ticket = await acme.new_ticket(tickettype_id=3)
    blocked = await acme.post("/Actions", [{"ticket_id": ticket["id"], "outcome_id": 12}])
    assert (blocked.status_code, blocked.json()["error"]) == (
        403,
        "You do not have access to this Action at the moment",
    )
    await acme.note(ticket["id"], outcome_id=16)
    await acme.note(ticket["id"], outcome_id=12)
    assert (await acme.get("/Tickets/1")).json()["status_id"] == 9


async def test_a_type_may_restrict_its_outcomes(acme: Tenant) -> None:
    ticket = await acme.new_ticket(tickettype_id=7)
    assert (await acme.post("/Actions", [{"ticket_id": ticket["id"], "outcome_id": 11}])).status_code == 403
    offered = [row["id"] for row in (await acme.get("/Outcome", tickettype_id=7)).json()]
    assert offered == [7, 10, 12]


async def test_html_comes_only_when_asked_for(acme: Tenant) -> None:
    ticket = await acme.new_ticket()
    hidden = '<p>hi</p><span data-x="k" style="display: none">mark</span>'
    written = await acme.note(ticket["id"], note=None, note_html=hidden)
    assert written["note_html"] == hidden
    plain = (await acme.get("/Actions", ticket_id=1, count=1)).json()["actions"][0]
    assert "note_html" not in plain
    assert plain["note"].startswith("hi")
    rich = (await acme.get("/Actions", ticket_id=1, count=1, includehtmlnote="true")).json()["actions"][0]
    assert rich["note_html"] == hidden
    acme.world.switches.keep_hidden_span = False
    assert (await acme.note(ticket["id"], note_html=hidden))["note_html"] == "<p>hi</p>"


@pytest.mark.parametrize(("switch", "kept"), [("accepted", True), ("ignored", False)])
async def test_an_original_date(acme: Tenant, switch: Any, kept: bool) -> None:
    ticket = await acme.new_ticket()
    acme.world.switches.action_dates = switch
    written = await acme.note(ticket["id"], datetime="2026-01-02T03:04:05Z")
    assert (written["datetime"] == "2026-01-02T03:04:05") is kept
    assert not written["actiondatecreated"].startswith("2026-01-02")


async def test_an_original_date_may_be_refused(acme: Tenant) -> None:
    ticket = await acme.new_ticket()
    acme.world.switches.action_dates = "refused"
    body = {"ticket_id": ticket["id"], "outcome_id": 7, "datetime": "2026-01-02T03:04:05"}
    assert (await acme.post("/Actions", [body])).status_code == 400


async def test_who_names_the_author(acme: Tenant) -> None:
    ticket = await acme.new_ticket()
    assert (await acme.note(ticket["id"], who="Ada Brook"))["who_agentid"] == 3
    outsider = await acme.note(ticket["id"], who="Pat Partner")
    assert (outsider["who"], outsider["who_agentid"]) == ("Pat Partner", 0)
    acme.world.switches.accept_who = False
    assert (await acme.note(ticket["id"], who="Pat Partner"))["who"] == "API Integration"


async def test_time_adds_up_and_edits_correct_it(acme: Tenant) -> None:
    ticket = await acme.new_ticket()
    first = await acme.note(ticket["id"], timetaken=0.5)
    await acme.note(ticket["id"], timetaken="0.25")
    await acme.post("/Actions", [{"ticket_id": 1, "id": first["id"], "timetaken": 1}])
    assert (await acme.get("/Tickets/1")).json()["timetaken"] == 1.25
    assert await notes(acme, ticket_id=1, timeentriesonly="true") == ["noted", "noted"]


async def test_an_edit_keeps_id_and_last_update(acme: Tenant) -> None:
    ticket = await acme.new_ticket()
    action = await acme.note(ticket["id"])
    before = (await acme.get("/Tickets/1")).json()["last_update"]
    with clock.shifted(timedelta(hours=1)):
        edited = (await acme.post("/Actions", [{"ticket_id": 1, "id": action["id"], "note": "better"}])).json()
    assert (edited["id"], edited["note"], edited["guid"]) == (action["id"], "better", action["guid"])
    assert (await acme.get("/Tickets/1")).json()["last_update"] == before
    assert (await acme.post("/Actions", [{"ticket_id": 1, "id": 99, "note": "x"}])).status_code == 400


async def test_an_action_moves_the_last_update_unless_switched_off(acme: Tenant) -> None:
    ticket = await acme.new_ticket()
    with clock.shifted(timedelta(hours=1)):
        await acme.note(ticket["id"])
        moved = (await acme.get("/Tickets/1")).json()["last_update"]
    assert moved > ticket["lastupdate"]
    acme.world.switches.action_moves_last_update = False
    with clock.shifted(timedelta(hours=2)):
        await acme.note(ticket["id"])
    assert (await acme.get("/Tickets/1")).json()["last_update"] == moved


async def test_the_window_lists_every_ticket_for_about_a_day(acme: Tenant) -> None:
    one, two = await acme.new_ticket(), await acme.new_ticket()
    start = clock.now()
    await acme.note(one["id"], note="a")
    with clock.shifted(timedelta(hours=20)):
        await acme.note(two["id"], note="b")
    with clock.shifted(timedelta(hours=30)):
        await acme.note(two["id"], note="c")
    window = {"startdate": start.isoformat(), "enddate": (start + timedelta(hours=40)).isoformat()}
    assert await notes(acme, **window) == ["b", "a"]
    assert await notes(acme, startdate=start.isoformat()) == []
    assert await notes(acme) == []
    assert (await acme.get("/Actions", **window, count=1)).json()["record_count"] == 2
    assert await notes(acme, **window, count=1) == ["b"]


async def test_a_backdated_action_is_seen_by_creation_only_with_the_switch(acme: Tenant) -> None:
    ticket = await acme.new_ticket()
    start = clock.now()
    await acme.note(ticket["id"], note="old news", datetime="2025-05-05T05:05:05")
    window = {"startdate": start.isoformat(), "enddate": (start + timedelta(hours=1)).isoformat()}
    assert await notes(acme, **window) == []
    acme.world.switches.actions_window_by = "created"
    assert await notes(acme, **window) == ["old news"]


async def test_list_filters(acme: Tenant) -> None:
    ticket = await acme.new_ticket()
    acme.world.act("POST", "/Actions", user_id=2, body=[{"ticket_id": 1, "outcome": "User Update", "note": "from me"}])
    await acme.note(ticket["id"], note="secret")
    await acme.post("/Tickets", [{"id": 1, "status_id": 2}])
    assert await notes(acme, ticket_id=1, excludesys="true") == ["secret", "from me", "Flames."]
    assert await notes(acme, ticket_id=1, conversationonly="true") == ["from me", "Flames."]
    assert await notes(acme, ticket_id=1, agentonly="true", excludesys="true") == ["secret", "Flames."]
    assert await notes(acme, ticket_id=1, actoutcome="user update") == ["from me"]
    assert await notes(acme, ticket_id=1, actoutcomenum=7) == ["secret"]
    acme.world.switches.actions_default_count = 2
    assert len(await notes(acme, ticket_id=1)) == 2
    recent = await acme.get("/Actions/0", ticket_id=1, mostrecent="true", nonsystem="true")
    assert recent.json()["note"] == "secret"


async def test_a_user_writes_as_a_user(acme: Tenant) -> None:
    await acme.new_ticket()
    acted = acme.world.act(
        "POST", "/Actions", user_id=2, body=[{"ticket_id": 1, "outcome": "User Update", "note": "hello"}]
    )
    assert (acted.body["who_type"], acted.body["actionby_user_id"], acted.body["who_agentid"]) == (2, 2, 0)
    assert acted.body["actionby_application_id"] == ""


async def test_mail_is_recorded(acme: Tenant) -> None:
    user = next(row for row in acme.world.users.values() if row["emailaddress"])
    ticket = await acme.new_ticket(user_id=user["id"])
    sent = await acme.note(ticket["id"], outcome_id=11, sendemail=True, hiddenfromuser=False)
    assert (sent["emailto"], sent["emaildirection"]) == (user["emailaddress"], "O")


async def test_the_ticket_can_come_with_the_answer(acme: Tenant) -> None:
    ticket = await acme.new_ticket()
    written = await acme.note(ticket["id"], _includeticketinresponse=True, outcome_id=12)
    assert written["ticket"]["status_id"] == 9


async def test_batches_of_actions_are_atomic_by_default(acme: Tenant) -> None:
    await acme.new_ticket()
    bodies: list[dict[str, Any]] = [{"ticket_id": 1, "outcome_id": 7, "note": "a"}, {"ticket_id": 1, "note": "b"}]
    answer = await acme.post("/Actions", bodies)
    assert answer.json()["error"].startswith("[1]: An Outcome")
    assert await notes(acme, ticket_id=1) == ["Flames."]
    bodies[1]["outcome_id"] = 7
    every = (await acme.post("/Actions", bodies, returnall="true")).json()
    assert [item["id"] for item in every] == [2, 3]
