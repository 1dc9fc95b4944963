"""The control API and its twin in Python."""

from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from app.core import clock
from app.sandbox.halopsa.journal import KEPT_BODY_BYTES, Journal
from app.sandbox.halopsa.server import BadTenantName
from app.sandbox.halopsa.world import UnknownPerson
from tests.sandbox.halopsa.calling import Tenant


async def server(acme: Tenant, method: str, path: str, body: Any = None) -> Any:
    root = acme.base_url.rsplit("/", 1)[0]
    return await acme.client.request(method, f"{root}/_sandbox{path}", json=body)


async def test_tenants_come_and_go(acme: Tenant) -> None:
    body = {
        "name": "Globex",
        "switches": {"strict_updates": "true", "closed_status_ids": "8,9"},
        "seed": {
            "clients": 2,
            "tickets": 3,
            "applications": [{"client_id": "a", "client_secret": "b", "scopes": ["read:tickets"]}],
        },
    }
    made = await server(acme, "POST", "/tenants", body)
    assert made.status_code == 201
    shown = made.json()
    assert (shown["name"], shown["tickets"], shown["switches"]["strict_updates"]) == ("globex", 3, True)
    assert shown["applications"] == [
        {"client_id": "a", "client_secret": "b", "scopes": ["read:tickets"], "agent_id": 90}
    ]
    form = {"grant_type": "client_credentials", "client_id": "a", "client_secret": "b"}
    assert (await acme.client.post(shown["token_url"], data=form)).status_code == 200
    assert [row["name"] for row in (await server(acme, "GET", "/tenants")).json()] == ["acme", "globex"]
    assert (await server(acme, "GET", "/tenants/globex")).json()["base_url"] == shown["base_url"]
    assert (await server(acme, "DELETE", "/tenants/globex")).status_code == 200
    assert (await server(acme, "GET", "/tenants/globex")).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/tenants", {"name": "acme"}, 400),
        ("POST", "/tenants", {"name": "a/b"}, 400),
        ("POST", "/tenants", [], 400),
        ("POST", "/tenants", {"name": "x", "switches": {"nope": 1}}, 400),
        ("POST", "/tenants", {"name": "x", "seed": {"nope": 1}}, 400),
        ("PUT", "/tenants/acme", None, 404),
        ("GET", "/tenants/acme/nope", None, 404),
        ("GET", "/", None, 404),
        ("PATCH", "/tenants/acme/switches", {"rate_limit": "many"}, 400),
        ("PATCH", "/tenants/acme/switches", {"error_shape": "round"}, 400),
        ("PATCH", "/tenants/acme/switches", [1], 400),
        ("POST", "/tenants/acme/act", {"agent_id": 404, "path": "/Tickets"}, 400),
        ("POST", "/tenants/acme/act", {"user_id": 404, "path": "/Tickets"}, 400),
        ("POST", "/tenants/acme/act", [], 400),
        ("POST", "/tenants/acme/faults", 3, 400),
        ("POST", "/tenants/acme/journal/forget", None, 404),
        ("POST", "/tenants/acme/deliveries/x", None, 404),
    ],
)
async def test_a_wrong_control_request_says_why(acme: Tenant, method: str, path: str, body: Any, status: int) -> None:
    answer = await server(acme, method, path, body)
    assert answer.status_code == status
    assert answer.json()["error"]


async def test_switches_change_together_or_not_at_all(acme: Tenant) -> None:
    await acme.control("PATCH", "/switches", {"rate_limit": 5, "nope": 1})
    assert acme.world.switches.rate_limit == 300
    changed = await acme.control("PATCH", "/switches", {"rate_limit": 5, "clean_ids": True})
    assert (changed.json()["rate_limit"], acme.world.switches.clean_ids) == (5, True)


async def test_a_person_acts_unmetered_and_unjournaled(acme: Tenant) -> None:
    acme.world.switches.rate_limit = 0
    before = acme.world.journal.seq
    body = {"agent_id": 3, "method": "post", "path": "/tickets/", "body": [{"summary": "By hand"}]}
    acted = (await acme.control("POST", "/act", body)).json()
    assert (acted["status"], acted["body"]["created_by"]) == (201, "Ada Brook")
    read = (await acme.control("POST", "/act", {"agent_id": 3, "method": "GET", "path": "/Tickets/1"})).json()
    assert read["body"]["summary"] == "By hand"
    listed = {"agent_id": 3, "method": "GET", "path": "/Tickets", "params": {"open_only": True}}
    assert (await acme.control("POST", "/act", listed)).json()["body"]["record_count"] == 1
    assert (await acme.control("POST", "/act", {"agent_id": 3, "path": "/Nope"})).json()["status"] == 404
    assert acme.world.journal.seq == before
    action = acme.world.tickets.by_id[1].actions[1]
    assert action.values["actionby_application_id"] == ""
    with pytest.raises(UnknownPerson):
        acme.world.act("GET", "/Tickets", agent_id=404)


async def test_the_journal_tells_what_was_asked(acme: Tenant) -> None:
    await acme.new_ticket()
    await acme.get("/tickets/1", includedetails="true")
    entries = (await acme.control("GET", "/journal", path="/Tickets/{id}", method="get")).json()["entries"]
    (entry,) = entries
    assert (entry["path"], entry["template"]) == ("/api/tickets/1", "/Tickets/{id}")
    assert (entry["status"], entry["application"], entry["params"]) == (200, "acme-app", {"includedetails": "true"})
    assert entry["duration_ms"] > 0
    (posted,) = (await acme.control("GET", "/journal", path="/Tickets")).json()["entries"]
    assert posted["body"][0]["summary"] == "Printer is on fire"
    assert posted["body_bytes"] > 50
    since = (await acme.control("GET", "/journal", since=entry["seq"])).json()
    assert since == {"last_seq": entry["seq"], "entries": []}
    assert len((await acme.control("GET", "/journal", limit=1)).json()["entries"]) == 1


async def test_the_journal_keeps_no_secret(acme: Tenant) -> None:
    await acme.token()
    await acme.post("/Webhook", [{"name": "x", "url": "http://127.0.0.1:9/", "basic_password": "hunter2"}])
    text = (await acme.control("GET", "/journal")).text
    assert "hunter2" not in text
    assert "acme-app-secret" not in text


async def test_counters_survive_the_ring(acme: Tenant) -> None:
    await acme.get("/Agent/me")
    await acme.get("/nope")
    await acme.control("POST", "/journal/reset")
    assert (await acme.control("GET", "/journal")).json()["entries"] == []
    counters = (await acme.control("GET", "/counters")).json()
    assert counters["requests"] == {"POST /auth/token": 1, "GET /Agent/me": 1, "GET (unknown path)": 1}
    assert (counters["total"], counters["budget_used"]) == (3, 2)
    await acme.control("POST", "/journal/reset", counters="true")
    assert (await acme.control("GET", "/counters")).json()["total"] == 0


def test_the_ring_is_bounded_and_the_counters_exact() -> None:
    journal = Journal(ring=3)
    for number in range(10):
        journal.record(
            at=clock.now(),
            method="GET",
            path=f"/api/Tickets/{number}",
            template="/Tickets/{id}",
            params={},
            status=200,
            duration_ms=1,
            application="a",
            body_bytes=KEPT_BODY_BYTES + number,
            body=["kept only when small"],
        )
    assert [entry.seq for entry in journal.entries()] == [8, 9, 10]
    assert journal.count("GET", "/Tickets/{id}") == 10
    assert journal.entries()[0].body is None


async def test_the_clock_can_be_skewed(acme: Tenant) -> None:
    answer = await acme.control("PATCH", "/clock", {"skew_seconds": -600})
    assert answer.json()["skew_seconds"] == -600
    read = await acme.get("/Agent/me")
    behind = clock.now() - parsedate_to_datetime(read.headers["date"])
    assert timedelta(seconds=595) < behind < timedelta(seconds=610)
    ticket = await acme.new_ticket()
    assert ticket["lastupdate"] < (clock.now() - timedelta(seconds=590)).isoformat()


async def test_the_export_has_everything_in_plain_values(acme: Tenant) -> None:
    ticket = await acme.new_ticket(new_external_link={"third_party_id": "k"}, customfields=[{"id": 101, "value": "v"}])
    await acme.note(ticket["id"], attachments=[{"filename": "a", "data_base64": "aGk="}])
    await acme.delete(f"/Tickets/{ticket['id']}")
    found = (await acme.control("GET", "/export")).json()
    (exported,) = found["tickets"]
    assert (exported["deleted"], exported["client_id"], exported["customfields"]) == (True, 2, {"101": "v"})
    assert [action["id"] for action in exported["actions"]] == [1, 2]
    assert exported["last_update"].endswith("Z")
    assert exported["attachments"][0]["sha256"].startswith("8f434346648f6b96df89dda901c5176b10a6d83961dd3c1a")
    assert found["external_links"][0]["third_party_id"] == "k"
    assert found == acme.world.export()


def test_tenants_in_process(acme: Tenant) -> None:
    assert acme.sandbox.tenant("ACME") is acme.world
    with pytest.raises(BadTenantName):
        acme.sandbox.add_tenant("acme")
    with pytest.raises(KeyError):
        acme.sandbox.tenant("globex")


async def test_two_runs_with_one_seed_are_the_same(acme: Tenant) -> None:
    again = Tenant(acme.sandbox, acme.sandbox.add_tenant("twin"), "", acme.client)
    twin = {name: row["name"] for name, row in again.world.users.items()}
    assert twin == {name: row["name"] for name, row in acme.world.users.items()}
    assert again.world.guid("x", 1) != acme.world.guid("x", 1)
