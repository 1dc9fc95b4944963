"""Clients, sites, users and assets."""

import json
from typing import Any

import pytest

from tests.sandbox.halopsa.calling import Tenant


async def test_a_new_client_comes_with_a_site_and_its_general_user(acme: Tenant) -> None:
    client = (await acme.post("/Client", [{"name": " Juniper ", "is_vip": True}])).json()
    assert (client["name"], client["is_vip"], client["main_site_name"]) == ("Juniper", True, "Main")
    users = (await acme.get("/Users", client_id=client["id"])).json()["users"]
    assert [user["name"] for user in users] == ["General User"]
    ticket = await acme.new_ticket(client_id=client["id"])
    assert ticket["site_id"] == client["main_site_id"]


async def test_some_ids_are_decimals_unless_switched_off(acme: Tenant) -> None:
    assert '"client_id":2.0' in (await acme.get("/Site", client_id=2)).text
    assert '"site_id":1.0' in (await acme.get("/Users", client_id=1)).text
    assert '"priorityid":"1"' in (await acme.get("/Priority")).text
    acme.world.switches.clean_ids = True
    assert '"client_id":2,' in (await acme.get("/Site", client_id=2)).text
    assert '"priorityid":1,' in (await acme.get("/Priority")).text


async def test_sites_and_users_are_created_and_changed(acme: Tenant) -> None:
    site = (await acme.post("/Site", [{"name": "Attic", "client_id": "2"}])).json()
    assert site["clientsite_name"].endswith("/Attic")
    user = (
        await acme.post("/Users", [{"name": "Una Vale", "site_id": site["id"], "emailaddress": "u@v.example"}])
    ).json()
    assert (user["client_id"], user["site_name"], user["surname"]) == (2, "Attic", "Vale")
    moved = (await acme.post("/Users", [{"id": str(user["id"]), "site_id": 1.0}])).json()
    assert (moved["client_id"], moved["name"]) == (1, "Una Vale")
    assert (await acme.get("/Users", search="u@v")).json()["record_count"] == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/Client", {}),
        ("/Client", {"id": 404, "name": "x"}),
        ("/Site", {"name": "x"}),
        ("/Site", {"name": "x", "client_id": 404}),
        ("/Users", {"name": "x"}),
        ("/Users", {"site_id": 1}),
        ("/Asset", {"id": 404}),
        ("/Asset", {"client_id": 404}),
    ],
)
async def test_what_does_not_fit_is_refused(acme: Tenant, path: str, body: dict[str, Any]) -> None:
    assert (await acme.post(path, [body])).status_code == 400


async def test_activity_filters(acme: Tenant) -> None:
    await acme.post("/Client", [{"id": 2, "inactive": True}])
    total = (await acme.get("/Client")).json()["record_count"]
    both = (await acme.get("/Client", includeactive="true", includeinactive="true")).json()["record_count"]
    only = (await acme.get("/Client", includeactive="false", includeinactive="true")).json()["clients"]
    assert both == total + 1
    assert [row["id"] for row in only] == [2]
    assert (await acme.get("/Client", activeinactive="false,true")).json()["record_count"] == 1


async def test_an_exact_address_by_advanced_search(acme: Tenant) -> None:
    user = next(row for row in acme.world.users.values() if row["emailaddress"])
    wanted = [{"filter_name": "emailaddress", "filter_type": 2, "filter_value": user["emailaddress"].upper()}]
    found = (await acme.get("/Users", advanced_search=json.dumps(wanted))).json()
    assert [row["id"] for row in found["users"]] == [user["id"]]
    for broken in ("[", "{}", '[{"filter_type": 9}]'):
        answer = await acme.get("/Users", advanced_search=broken)
        assert answer.json() == {"error": "Invalid advanced search parameter"}


async def test_changed_since(acme: Tenant) -> None:
    assert (await acme.get("/Client", lastupdatefromdate="2025-01-01")).json()["record_count"] == 0
    await acme.post("/Client", [{"id": 3, "notes": "changed"}])
    found = (await acme.get("/Client", lastupdatefromdate="2025-01-01")).json()["clients"]
    assert [row["id"] for row in found] == [3]


async def test_delete_answers_the_object_and_refuses_what_is_in_use(acme: Tenant) -> None:
    client = (await acme.post("/Client", [{"name": "Brief"}])).json()
    assert (await acme.delete(f"/client/{client['id']}")).json()["id"] == client["id"]
    assert (await acme.get(f"/client/{client['id']}")).status_code == 404
    assert (await acme.delete(f"/client/{client['id']}")).status_code == 404
    assert (await acme.delete("/client/2")).status_code == 400


async def test_assets(acme: Tenant) -> None:
    found = (await acme.get("/Asset", client_id=2, inventory_number="srv-002")).json()["assets"]
    assert [(row["assettype_name"], row["client_id"]) for row in found] == [("Server", 2)]
    made = (await acme.post("/Asset", [{"inventory_number": "X1", "client_id": 3, "assettype_id": 3}])).json()
    assert (made["assettype_name"], acme.world.sites[made["site_id"]]["client_id"]) == ("Firewall", 3)
    moved = (await acme.post("/Asset", [{"id": made["id"], "client_id": 4}])).json()
    assert acme.world.sites[moved["site_id"]]["client_id"] == 4
    assert (await acme.get(f"/Asset/{made['id']}")).json()["inventory_number"] == "X1"
    assert (await acme.delete(f"/Asset/{made['id']}")).json()["id"] == made["id"]
    assert (await acme.get(f"/Asset/{made['id']}")).status_code == 404
