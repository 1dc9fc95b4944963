"""External links: the correlation table, inline rows, the upsert switch, and tenants that do not keep them."""

import base64
from typing import Any

import pytest

from tests.sandbox.halopsa.calling import Tenant

KEY = {"third_party_id": "k-1", "module_id": 300}


async def links(acme: Tenant, **params: Any) -> list[tuple[int, int, int]]:
    rows = (await acme.get("/ExternalLink", **params)).json()
    return [(row["table_id"], row["halo_id"], row["halo_second_id"]) for row in rows]


async def test_rows_are_written_with_their_record(acme: Tenant) -> None:
    ticket = await acme.new_ticket(new_external_link=KEY)
    assert [row["third_party_id"] for row in ticket["external_links"]] == ["k-1"]
    action = await acme.note(1, new_external_link={"third_party_id": "k-2"})
    body = {"ticket_id": 1, "filename": "a", "data_base64": base64.b64encode(b"x").decode()}
    stored = (await acme.post("/Attachment", [body | {"new_external_link": {"third_party_id": "k-3"}}])).json()
    assert await links(acme, third_party_id="k-1") == [(1, 1, 0)]
    assert await links(acme, third_party_id="k-2") == [(2, 1, action["id"])]
    assert await links(acme, third_party_id="k-3") == [(3, 1, stored["id"])]
    assert await links(acme, halo_id=1, table_id=2) == [(2, 1, action["id"])]
    assert len(await links(acme, halo_id=1)) == 3
    assert await links(acme, third_party_id="k") == []
    assert await links(acme, third_party_id="k-1", module_id=4) == []
    assert len(await links(acme, search="K-")) == 3


async def test_the_same_key_on_the_same_record_is_one_row(acme: Tenant) -> None:
    ticket = await acme.new_ticket(new_external_link=KEY)
    await acme.post("/Tickets", [{"id": ticket["id"], "new_external_link": KEY | {"third_party_status": "open"}}])
    rows = (await acme.get("/ExternalLink")).json()
    assert [row["third_party_status"] for row in rows] == ["open"]


async def test_rows_are_created_changed_and_deleted_directly(acme: Tenant) -> None:
    await acme.new_ticket()
    body = {"table_id": 1, "halo_id": 1, "third_party_id": "abc", "third_party_secondary_id": "s"}
    row = (await acme.post("/ExternalLink", [body])).json()
    assert (await acme.get(f"/ExternalLink/{row['id']}")).json()["third_party_secondary_id"] == "s"
    changed = (await acme.post("/ExternalLink", [{"id": row["id"], "third_party_id": "xyz"}])).json()
    assert (changed["id"], changed["third_party_id"], changed["halo_id"]) == (row["id"], "xyz", 1)
    assert await links(acme, third_party_id="abc") == []
    assert await links(acme, third_party_secondary_id="s") == [(1, 1, 0)]
    assert (await acme.delete(f"/ExternalLink/{row['id']}")).json()["id"] == row["id"]
    assert (await acme.get(f"/ExternalLink/{row['id']}")).status_code == 404
    assert (await acme.delete(f"/ExternalLink/{row['id']}")).status_code == 404
    assert (await acme.post("/ExternalLink", [{"third_party_id": "x"}])).status_code == 400
    assert (await acme.post("/ExternalLink", [{"id": 99, "third_party_id": "x"}])).status_code == 400


async def test_paging_puts_the_rows_under_results(acme: Tenant) -> None:
    for number in range(3):
        await acme.new_ticket(new_external_link={"third_party_id": f"k-{number}"})
    page = (await acme.get("/ExternalLink", pageinate="true", page_no=2, page_size=2)).json()
    assert (page["record_count"], [row["third_party_id"] for row in page["results"]]) == (3, ["k-2"])


async def test_a_tenant_may_accept_and_drop_them(acme: Tenant) -> None:
    acme.world.switches.external_links = "not_kept"
    ticket = await acme.new_ticket(new_external_link=KEY)
    assert ticket["external_links"] == []
    answer = await acme.post("/ExternalLink", [{"table_id": 1, "halo_id": 1, "third_party_id": "x"}])
    assert answer.status_code == 201
    assert (await acme.get("/ExternalLink")).json() == []


async def test_a_tenant_may_forbid_them(acme: Tenant) -> None:
    acme.world.switches.external_links = "forbidden"
    assert (await acme.new_ticket(new_external_link=KEY))["external_links"] == []
    for answer in (
        await acme.get("/ExternalLink"),
        await acme.get("/ExternalLink/1"),
        await acme.post("/ExternalLink", [KEY]),
        await acme.delete("/ExternalLink/1"),
    ):
        assert (answer.status_code, answer.content) == (403, b"")


@pytest.mark.parametrize("on", [False, True])
async def test_match_thirdparty_id_updates_only_with_the_switch(acme: Tenant, on: bool) -> None:
    acme.world.switches.match_third_party = on
    await acme.new_ticket(new_external_link=KEY)
    again = await acme.new_ticket(_match_thirdparty_id="k-1", summary="again")
    assert again["id"] == (1 if on else 2)
    await acme.note(1, new_external_link={"third_party_id": "a-1"})
    note = await acme.note(1, _match_thirdparty_id="a-1", note="edited")
    assert note["id"] == (2 if on else 3)
    client = (await acme.post("/Client", [{"name": "Iris", "new_external_link": {"third_party_id": "c"}}])).json()
    same = (await acme.post("/Client", [{"name": "Iris Ltd", "_match_thirdparty_id": "c"}])).json()
    assert (same["id"] == client["id"]) is on
