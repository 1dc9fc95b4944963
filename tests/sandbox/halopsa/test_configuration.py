"""The configuration lists, and the unchanged requests of n8n's HaloPSA node."""

import pytest

from tests.sandbox.halopsa.calling import Tenant


@pytest.mark.parametrize(
    "path",
    [
        "/Team",
        "/TicketType",
        "/Status",
        "/Priority",
        "/Category",
        "/Outcome",
        "/SLA",
        "/FieldInfo",
        "/AssetType",
        "/Workflow",
    ],
)
async def test_configuration_is_a_bare_array_and_found_by_id(acme: Tenant, path: str) -> None:
    rows = (await acme.get(path)).json()
    assert isinstance(rows, list)
    assert rows
    one = (await acme.get(f"{path}/{rows[0]['id']}")).json()
    assert one["id"] == rows[0]["id"]
    missing = "00000000-0000-0000-0000-000000000000" if path == "/Priority" else "99999"
    assert (await acme.get(f"{path}/{missing}")).status_code == 404
    assert not [name for row in rows for name in row if name.startswith("_")]


async def test_paths_have_no_case_and_may_end_in_a_slash(acme: Tenant) -> None:
    for path in ("/tickettype", "/TICKETTYPE/", "/TicketType/1/", "/agent/ME"):
        assert (await acme.get(path)).status_code == 200


async def test_the_status_list_holds_other_kinds_whatever_the_filter(acme: Tenant) -> None:
    kinds = {row["type"] for row in (await acme.get("/Status", type="0")).json()}
    assert kinds > {0}
    open_ids = {row["id"] for row in (await acme.get("/Status", excludeclosed="true")).json()}
    assert 9 not in open_ids
    assert {row["id"] for row in (await acme.get("/Status", tickettype_id=7)).json()} == {1, 2, 6, 9}


async def test_priorities_are_rows_per_sla(acme: Tenant) -> None:
    rows = (await acme.get("/Priority")).json()
    assert len(rows) == 8
    assert len({row["id"] for row in rows}) == 8
    assert {row["slaid"] for row in (await acme.get("/Priority", slaid=2)).json()} == {2}
    assert len((await acme.get("/SLA", showpriorities="true")).json()[0]["priorities"]) == 4
    assert "priorities" not in (await acme.get("/SLA")).json()[0]


async def test_agents_hide_unassigned_and_api_agents(acme: Tenant) -> None:
    plain = {row["id"] for row in (await acme.get("/Agent")).json()}
    assert not plain & {1, 90}
    every = {row["id"] for row in (await acme.get("/Agent", includeunassigned="true", includeapiagents="true")).json()}
    assert every == plain | {1, 90}
    assert {row["id"] for row in (await acme.get("/Agent", team_id=4)).json()} == {6, 7}
    assert (await acme.get("/Agent/me")).json()["id"] == 90


async def test_details_of_workflow_and_team(acme: Tenant) -> None:
    assert "steps" not in (await acme.get("/Workflow")).json()[0]
    steps = (await acme.get("/Workflow/1", includedetails="true")).json()["steps"]
    assert [len(step["actions"]) for step in steps] == [3, 3]
    offered = [row["id"] for row in (await acme.get("/Outcome", workflow_id=1, workflow_step=1)).json()]
    assert offered == [7, 10, 16]
    agents = (await acme.get("/Team", includeagentsforteams="true")).json()[0]["agents"]
    assert {item["agent_id"] for item in agents} >= {3, 4}


async def test_other_lists(acme: Tenant) -> None:
    assert (await acme.get("/Lookup", lookupid=17)).json()[0]["name"] == "Non-chargeable"
    assert (await acme.get("/Lookup", lookupid=4)).json() == []
    fields = (await acme.get("/FieldInfo", includevalues="true")).json()
    assert [value["name"] for value in fields[1]["values"]] == ["Production", "Test", "Development"]
    assert "values" not in (await acme.get("/FieldInfo")).json()[0]
    assert {row["type_id"] for row in (await acme.get("/Category", type_id=2)).json()} == {2}
    assert [row["id"] for row in (await acme.get("/TicketType", itil_type=2)).json()] == [3]


async def test_what_is_not_served_is_404_and_what_is_no_api_is_a_page(acme: Tenant) -> None:
    assert (await acme.get("/Invoice")).status_code == 404
    assert (await acme.get("/Tickets/1/Nonsense")).status_code == 404
    root = acme.base_url.rsplit("/", 1)[0]
    for url in (f"{root}/", f"{root}/nobody/api/Tickets", f"{acme.base_url}/", f"{acme.base_url}/apidoc"):
        answer = await acme.client.get(url)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")


async def test_auth_info_needs_no_token(acme: Tenant) -> None:
    del acme.client.headers["Authorization"]
    found = (await acme.get("/AuthInfo")).json()
    assert found == {"auth_url": f"{acme.base_url}/auth", "tenant_id": "acme"}


async def test_n8n_ticket_operations(acme: Tenant) -> None:
    await acme.log_in(scope="admin edit:tickets edit:customers", tenant="")
    acme.client.headers["Content-Type"] = "application/json"
    made = (await acme.post("/tickets", [{"tickettype_id": 1, "summary": "s", "details": "d"}])).json()
    changed = (await acme.post("/tickets", [{"id": str(made["id"]), "summary": "s2", "agent_id": 3}])).json()
    assert (changed["summary"], changed["agent_id"]) == ("s2", 3)
    assert (await acme.get(f"/tickets/{made['id']}")).json()["summary"] == "s2"
    page = (await acme.get("/tickets", page_size=100, page_no=1, pageinate="true", activeStatus="all")).json()
    assert (page["record_count"], len(page["tickets"])) == (1, 1)
    assert (await acme.delete(f"/tickets/{made['id']}")).json()["id"]


@pytest.mark.parametrize(
    ("path", "key", "body", "change"),
    [
        ("/client", "clients", {"name": "N8N"}, {"notes": "x", "is_vip": True, "website": "w"}),
        ("/site", "sites", {"name": "N8N", "client_id": "2"}, {"phonenumber": "1", "maincontact_name": "m"}),
        ("/users", "users", {"name": "N8N", "site_id": 2, "surname": "s"}, {"emailaddress": "a@b.example"}),
    ],
)
async def test_n8n_other_operations(
    acme: Tenant, path: str, key: str, body: dict[str, object], change: dict[str, object]
) -> None:
    await acme.log_in(scope="admin edit:tickets edit:customers", tenant="")
    made = (await acme.post(path, [body])).json()
    changed = (await acme.post(path, [{"id": str(made["id"])} | change])).json()
    assert {name: changed[name] for name in change} == change
    listed = (await acme.get(path, count=50, includeactive="true", includeinactive="true", search="n8n")).json()
    assert [row["id"] for row in listed[key]] == [made["id"]]
    assert (await acme.get(f"{path}/{made['id']}")).json()["name"] == "N8N"
    assert (await acme.delete(f"{path}/{made['id']}")).json()["id"] == made["id"]


async def test_n8n_drop_downs_have_no_empty_names(acme: Tenant) -> None:
    for path in ("/TicketType", "/agent"):
        assert all(row["name"] for row in (await acme.get(path)).json())
    sites = (await acme.get("/site", page_size=100, page_no=1, pageinate="true")).json()["sites"]
    assert all(row["clientsite_name"] for row in sites)
