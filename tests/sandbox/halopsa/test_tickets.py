"""Tickets: creating, changing, closing, reopening, deleting, and every switch that bends it."""

from datetime import timedelta
from typing import Any

import pytest

from app.core import clock
from app.sandbox.halopsa.seed_rows import CLOSED_STATUS_ID, NEW_STATUS_ID
from tests.sandbox.halopsa.calling import Tenant


async def test_the_least_that_n8n_sends_is_enough(acme: Tenant) -> None:
    answer = await acme.post("/tickets", [{"tickettype_id": 1, "summary": "  Help  ", "details": "It broke"}])
    ticket = answer.json()
    assert answer.status_code == 201
    assert ticket["summary"] == "Help"
    assert (ticket["client_id"], ticket["client_name"], ticket["user_name"]) == (1, "Unknown", "General User")
    assert (ticket["status_id"], ticket["priority_id"], ticket["agent_id"]) == (NEW_STATUS_ID, 3, 1)
    assert ticket["team"] == "1st Line Support"
    assert "lastupdate" in ticket
    assert "last_update" not in ticket
    read = (await acme.get(f"/Tickets/{ticket['id']}")).json()
    assert read["last_update"] == ticket["lastupdate"]
    assert len(read["last_update"]) == len("2026-01-01T00:00:00")
    assert read["dateclosed"] == "1900-01-01T00:00:00"


async def test_the_opening_text_is_the_first_action(acme: Tenant) -> None:
    ticket = await acme.new_ticket()
    actions = (await acme.get("/Actions", ticket_id=ticket["id"], excludesys="true")).json()
    assert [(item["id"], item["note"]) for item in actions["actions"]] == [(1, "Flames.")]


async def test_a_bare_object_is_refused(acme: Tenant) -> None:
    answer = await acme.post("/Tickets", {"summary": "x"})
    assert answer.status_code == 400
    assert "requires a JSON array" in answer.json()["error"]
    answer = await acme.client.post(f"{acme.base_url}/api/Tickets", content=b"{oops")
    assert answer.status_code == 400


async def test_an_update_changes_only_what_it_names(acme: Tenant) -> None:
    ticket = await acme.new_ticket(category_1="Hardware")
    answer = await acme.post("/Tickets", [{"id": str(ticket["id"]), "summary": "Printer is wet"}])
    changed = answer.json()
    assert (changed["summary"], changed["details"], changed["category_1"]) == ("Printer is wet", "Flames.", "Hardware")
    assert changed["categoryid_1"] == 1


async def test_ids_may_be_text_but_not_decimals(acme: Tenant) -> None:
    ticket = await acme.new_ticket()
    for wrong in (1.0, "1.0", "one"):
        answer = await acme.post("/Tickets", [{"id": wrong, "summary": "x"}])
        assert (answer.status_code, list(answer.json())) == (400, ["[0].id"])
    assert (await acme.post("/Tickets", [{"id": ticket["id"], "agent_id": "4"}])).json()["agent_id"] == 4


async def test_an_unknown_ticket_is_record_not_found(acme: Tenant) -> None:
    answer = await acme.post("/Tickets", [{"id": 4711, "summary": "x"}])
    assert (answer.status_code, answer.json()) == (400, {"error": "Record not found"})


async def test_strict_updates_need_type_and_client(acme: Tenant) -> None:
    ticket = await acme.new_ticket()
    acme.world.switches.strict_updates = True
    assert (await acme.post("/Tickets", [{"id": ticket["id"], "summary": "x"}])).json()["error"] == "Record not found"
    full = {"id": ticket["id"], "summary": "x", "tickettype_id": 1, "client_id": 2}
    assert (await acme.post("/Tickets", [full])).status_code == 201


async def test_many_elements_answer_the_last_or_all(acme: Tenant) -> None:
    bodies = [{"tickettype_id": 1, "summary": f"t{number}"} for number in range(3)]
    last = (await acme.post("/Tickets", bodies)).json()
    assert last["summary"] == "t2"
    every = (await acme.post("/Tickets", bodies, returnall="true")).json()
    assert [row["summary"] for row in every] == ["t0", "t1", "t2"]
    acme.world.switches.always_array = True
    assert [row["summary"] for row in (await acme.post("/Tickets", bodies[:1])).json()] == ["t0"]
    acme.world.switches.post_status = 200
    assert (await acme.post("/Tickets", bodies[:1])).status_code == 200


async def test_a_refused_element_refuses_the_whole_array(acme: Tenant) -> None:
    bodies = [{"summary": "good"}, {"summary": "bad", "client_id": 999}]
    answer = await acme.post("/Tickets", bodies)
    assert (answer.status_code, answer.json()["error"]) == (400, "[1]: Client 999 was not found")
    assert len(acme.world.tickets.by_id) == 0
    acme.world.switches.batch_atomic = False
    assert (await acme.post("/Tickets", bodies)).status_code == 400
    assert [ticket.values["summary"] for ticket in acme.world.tickets.by_id.values()] == ["good"]


async def test_the_team_is_written_by_name(acme: Tenant) -> None:
    ticket = await acme.new_ticket(team="security", team_id=1)
    assert (ticket["team"], ticket["team_id"]) == ("Security", 4)
    refused = await acme.post("/Tickets", [{"id": ticket["id"], "team": "Nobody"}])
    assert refused.status_code == 400
    acme.world.switches.uppercase_team = True
    moved = (await acme.post("/Tickets", [{"id": ticket["id"], "team": "Projects"}])).json()
    assert (moved["team"], moved["team_id"]) == ("PROJECTS", 5)


async def test_a_user_decides_site_and_client(acme: Tenant) -> None:
    user = (await acme.get("/Users", client_id=3, exclude_generaluser="true")).json()["users"][0]
    ticket = await acme.new_ticket(user_id=user["id"], client_id=2)
    assert (ticket["client_id"], ticket["site_id"]) == (3, int(user["site_id"]))
    assert ticket["user_email"] == user["emailaddress"]
    refused = await acme.post("/Tickets", [{"summary": "x", "user_id": user["id"], "site_id": 1}])
    assert refused.status_code == 400


@pytest.mark.parametrize(
    "wrong",
    [
        {"status_id": 22},
        {"status_id": 404},
        {"priority_id": 77},
        {"agent_id": 404},
        {"tickettype_id": 404},
        {"tickettype_id": 7, "status_id": 5},
        {"targetdate": "someday"},
        {"attachments": [{"filename": "a", "data_base64": "%%%"}]},
        {"customfields": "x"},
    ],
)
async def test_what_does_not_exist_is_refused(acme: Tenant, wrong: dict[str, Any]) -> None:
    answer = await acme.post("/Tickets", [{"summary": "x"} | wrong])
    assert answer.status_code == 400
    assert len(acme.world.tickets.by_id) == 0


async def test_mandatory_fields_and_approvals(acme: Tenant) -> None:
    answer = await acme.post("/Tickets", [{"tickettype_id": 5, "summary": "Alert"}])
    assert (answer.status_code, answer.json()["error"]) == (400, "Details and Category were required")
    answer = await acme.post("/Tickets", [{"tickettype_id": 5, "summary": "Alert", "details": "x"}])
    assert answer.json()["error"] == "Category was required"
    assert (await acme.post("/Tickets", [{"tickettype_id": 5, "summary": "A", "_novalidate": True}])).status_code == 201
    answer = await acme.post("/Tickets", [{"tickettype_id": 6, "summary": "New starter"}])
    assert answer.json()["error"].startswith("CODE:APP03/2")


async def test_closing_and_reopening(acme: Tenant) -> None:
    ticket = await acme.new_ticket()
    closed = (await acme.post("/Tickets", [{"id": ticket["id"], "status_id": 9, "closure_note": "done"}])).json()
    assert closed["hasbeenclosed"] is True
    assert not closed["dateclosed"].startswith("1900")
    assert closed["closure_note"] == "done"
    reopened = (await acme.post("/Tickets", [{"id": ticket["id"], "status_id": 2}])).json()
    assert reopened["hasbeenclosed"] is False
    assert reopened["dateclosed"].startswith("1900")
    trail = (await acme.get("/Actions", ticket_id=ticket["id"])).json()["actions"]
    assert [(item["old_status"], item["new_status"]) for item in trail] == [(9, 2), (1, 9), (1, 1)]
    assert [item["action_systemid"] > 0 for item in trail] == [True, True, False]


async def test_direct_closing_may_be_refused(acme: Tenant) -> None:
    ticket = await acme.new_ticket()
    acme.world.switches.close_requires_outcome = True
    answer = await acme.post("/Tickets", [{"id": ticket["id"], "status_id": CLOSED_STATUS_ID}])
    assert answer.status_code == 400
    await acme.note(ticket["id"], outcome_id=12)
    assert (await acme.get(f"/Tickets/{ticket['id']}")).json()["status_id"] == CLOSED_STATUS_ID


async def test_resolved_counts_as_closed_where_the_tenant_says_so(acme: Tenant) -> None:
    ticket = await acme.new_ticket()
    acme.world.switches.closed_status_ids = (8, 9)
    resolved = (await acme.post("/Tickets", [{"id": ticket["id"], "status_id": 8}])).json()
    assert resolved["hasbeenclosed"] is True


async def test_deleting_is_soft(acme: Tenant) -> None:
    ticket = await acme.new_ticket()
    deleted = await acme.delete(f"/Tickets/{ticket['id']}")
    assert (deleted.status_code, deleted.json()["id"]) == (200, ticket["id"])
    assert (await acme.get(f"/Tickets/{ticket['id']}")).status_code == 404
    assert (await acme.get("/Tickets")).json()["record_count"] == 0
    shown = (await acme.get("/Tickets", deleted="true")).json()["tickets"]
    assert [(row["id"], row["deleted"]) for row in shown] == [(ticket["id"], True)]
    assert (await acme.post("/Tickets", [{"id": ticket["id"], "summary": "x"}])).status_code == 400


@pytest.mark.parametrize(("switch", "status", "body"), [("404", 404, None), ("400", 400, None), ("200_empty", 200, {})])
async def test_a_missing_ticket_is_told_in_three_ways(
    acme: Tenant, switch: Any, status: int, body: dict[str, Any] | None
) -> None:
    acme.world.switches.missing_id = switch
    answer = await acme.get("/Tickets/404")
    assert answer.status_code == status
    if body is not None:
        assert answer.json() == body


async def test_a_path_id_that_is_no_number_is_a_model_state_error(acme: Tenant) -> None:
    answer = await acme.get("/Tickets/abc")
    assert (answer.status_code, list(answer.json())) == (400, ["id"])


async def test_custom_fields_by_id_and_by_name(acme: Tenant) -> None:
    ticket = await acme.new_ticket(
        customfields=[{"id": 101, "value": "P-1"}, {"name": "CFEnvironment", "value": 2}, {"id": 999, "value": 1}]
    )
    shown = {field["name"]: (field["value"], field["display"]) for field in ticket["customfields"]}
    assert shown["CFPartnerReference"] == ("P-1", "P-1")
    assert shown["CFEnvironment"] == (2, "Test")
    assert shown["CFGoLive"] == (None, "")
    row = (await acme.get("/Tickets", include_custom_fields="101")).json()["tickets"][0]
    assert [field["value"] for field in row["customfields"]] == ["P-1"]
    assert "customfields" not in (await acme.get("/Tickets")).json()["tickets"][0]


async def test_the_audit_tells_what_changed(acme: Tenant) -> None:
    ticket = await acme.new_ticket()
    await acme.post("/Tickets", [{"id": ticket["id"], "priority_id": 1, "summary": "Worse"}])
    assert "audit_log" not in (await acme.get(f"/Tickets/{ticket['id']}")).json()
    rows = (await acme.get(f"/Tickets/{ticket['id']}", include_auditing="true")).json()["audit_log"]
    assert [(row["value"], row["from"], row["to"]) for row in rows] == [
        ("summary", "Printer is on fire", "Worse"),
        ("priority_id", "3", "1"),
    ]
    assert rows[0]["agent_id"] == 90


async def test_a_save_moves_the_last_update(acme: Tenant) -> None:
    ticket = await acme.new_ticket()
    with clock.shifted(timedelta(minutes=5)):
        changed = (await acme.post("/Tickets", [{"id": ticket["id"]}])).json()
    assert changed["lastupdate"] > ticket["lastupdate"]


async def test_html_only_details_give_plain_details(acme: Tenant) -> None:
    answer = await acme.post("/Tickets", [{"summary": "x", "details_html": "<p>one &amp; two</p><p>three</p>"}])
    assert answer.json()["details"] == "one & two\nthree"


async def test_an_object_for_the_type_and_null_members_are_ignored(acme: Tenant) -> None:
    ticket = await acme.new_ticket(tickettype_id={"id": 2}, files=None, agent_id=None, attachments=[])
    assert ticket["tickettype_id"] == 1


async def test_text_is_kept_as_sent_without_trimming(acme: Tenant) -> None:
    acme.world.switches.trim_text = False
    assert (await acme.new_ticket(summary="  x "))["summary"] == "  x "


async def test_templates_overwrite_unless_told_not_to(acme: Tenant) -> None:
    acme.world.switches.apply_templates = True
    assert (await acme.new_ticket())["summary"] == "Incident template"
    assert (await acme.new_ticket(donotapplytemplateintheapi=True))["summary"] == "Printer is on fire"


async def test_an_agent_outside_the_team_may_need_a_yes(acme: Tenant) -> None:
    acme.world.switches.agent_team_prompt = True
    body = {"summary": "x", "team": "Security", "agent_id": 4}
    assert (await acme.post("/Tickets", [body])).status_code == 400
    assert (await acme.post("/Tickets", [body | {"_agent01_ok": True}])).status_code == 201
    assert (await acme.post("/Tickets", [body | {"_forcereassign": True}])).status_code == 201


async def test_value_quirks_can_be_switched_off(acme: Tenant) -> None:
    ticket = await acme.new_ticket()
    switches = acme.world.switches
    switches.null_dates, switches.date_style, switches.alias_fields = "null", "z", "none"
    read = (await acme.get(f"/Tickets/{ticket['id']}")).json()
    assert read["dateclosed"] is None
    assert read["last_update"].endswith("Z")
    assert "last_update" in (await acme.post("/Tickets", [{"id": ticket["id"]}])).json()
    switches.alias_fields = "all"
    written = (await acme.post("/Tickets", [{"id": ticket["id"]}])).json()
    assert {"lastupdate", "category1", "useremail"} <= set(written)


async def test_moving_to_another_client_moves_the_site(acme: Tenant) -> None:
    ticket = await acme.new_ticket()
    moved = (await acme.post("/Tickets", [{"id": ticket["id"], "client_id": 4}])).json()
    assert moved["client_id"] == 4
    assert acme.world.sites[moved["site_id"]]["client_id"] == 4


async def test_targets_follow_the_priority(acme: Tenant) -> None:
    slow = await acme.new_ticket(priority_id=4)
    fast = await acme.new_ticket(priority_id=1)
    assert fast["fixbydate"] < slow["fixbydate"]


async def test_a_child_counts_at_its_parent(acme: Tenant) -> None:
    parent = await acme.new_ticket()
    await acme.new_ticket(parent_id=parent["id"])
    assert (await acme.get(f"/Tickets/{parent['id']}")).json()["child_count"] == 1
    listed = (await acme.get("/Tickets", parent_id=parent["id"])).json()
    assert listed["record_count"] == 1
