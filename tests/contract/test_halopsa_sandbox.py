"""Everything that the sandbox serves exists in HaloPSA's own contract, or stands below with the reason why not."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from app.core.http.client import open_client
from app.sandbox.halopsa import ticket_fields
from app.sandbox.halopsa.calls import Actor, Call, Route
from app.sandbox.halopsa.refusals import Refused
from app.sandbox.halopsa.routes import ROUTES
from app.sandbox.halopsa.seed import Seed
from app.sandbox.halopsa.switches import Switches
from app.sandbox.halopsa.world import TenantWorld

CONTRACT: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[3] / "shared" / "vendor" / "halopsa-api.json").read_text()
)

# Real, and absent from the schema of 2025-04. Each with the reason why it is served all the same.
ALLOWED_PARAMS = {
    ("GET", "/Tickets", "include_custom_fields"): "the only way to custom fields in lists; two libraries use it",
    ("DELETE", "/Actions/{id}", "ticket_id"): "action ids repeat across tickets, so every client sends the ticket",
    ("GET", "/Agent", "pageinate"): "agents can be paged since about 2025-04",
    ("GET", "/Agent", "page_no"): "agents can be paged since about 2025-04",
    ("GET", "/Agent", "page_size"): "agents can be paged since about 2025-04",
    ("GET", "/Agent", "count"): "read with the paging parameters, of which the schema knows none here",
}
ALLOWED_MEMBERS = {
    ("Faults", "team_id"): "returned on live tenants and in recorded deliveries",
    ("Faults", "lastupdate"): "the name of last_update in answers to a POST and in deliveries",
    ("Faults", "lastnote_date"): "present in every sampled list row",
    ("Actions", "who"): "accepted and returned; production clients use it",
    ("Webhook", "use_lightweight_logs"): "added in 2026",
    ("Webhook", "auto_disable_attempts"): "added in 2026",
    ("Webhook", "last_auto_disable_date"): "added in 2026",
}
ENTITIES = {
    "/Tickets": "Faults",
    "/Actions": "Actions",
    "/Attachment": "Attachment",
    "/Client": "Area",
    "/Site": "Site",
    "/Users": "Users",
    "/Agent": "Uname",
    "/Team": "SectionDetail",
    "/TicketType": "RequestType",
    "/Status": "TStatus",
    "/Priority": "Policy",
    "/SLA": "SlaHead",
    "/Category": "CategoryDetail",
    "/Outcome": "TOutcome",
    "/Workflow": "FlowHeader",
    "/FieldInfo": "FieldInfo",
    "/Lookup": "Lookup",
    "/Asset": "Device",
    "/AssetType": "Xtype",
    "/Webhook": "Webhook",
    "/Notification": "UnameNotification",
    "/WebhookEvent": "WebhookEvent",
    "/ExternalLink": "ExternalLink_List",
}


class Watched(dict[str, str]):
    """Parameters that remember which names were asked for."""

    def __init__(self, given: dict[str, str]) -> None:
        super().__init__(given)
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        self.asked.add(str(name))
        return super().__contains__(name)


@pytest.fixture(scope="module")
def world() -> TenantWorld:
    """A tenant with one of everything."""
    found = TenantWorld("acme", Switches(alias_fields="none"), Seed(tickets=2))
    actions = [
        {"ticket_id": 1, "outcome_id": 11, "note": "n", "sendemail": True, "new_external_link": {"third_party_id": "a"}}
    ]
    webhooks = [{"name": "w", "url": "http://127.0.0.1:9/", "events": [{"eventno": 3}]}]
    files = [{"ticket_id": 1, "filename": "f", "data_base64": "aGk=", "new_external_link": {"third_party_id": "f"}}]
    for path, body in (
        ("/Actions", actions),
        ("/Attachment", files),
        ("/Webhook", webhooks),
        ("/Tickets", [{"id": 1, "status_id": 9}]),
        ("/Client", [{"id": 2, "new_external_link": {"third_party_id": "c"}}]),
    ):
        assert found.act("POST", path, agent_id=3, body=body).status == 201
    asyncio.run(_lose_one_delivery(found))
    return found


async def _lose_one_delivery(world: TenantWorld) -> None:
    """Leave one row in the delivery log."""
    world.faults.add({"webhook": "drop"})
    async with open_client() as client:
        world.deliveries.start(asyncio.get_running_loop(), client)
        world.act("POST", "/Tickets", agent_id=3, body=[{"summary": "x"}])
        await world.deliveries.settled()
        await world.deliveries.stop()


def ask(world: TenantWorld, route: Route, given: dict[str, str], key: str) -> tuple[set[str], Any]:
    """The parameters that the handler asked for, and its answer (None when refused)."""
    params = Watched(given)
    call = Call(route.method, route.template, Actor(3, 0, "Ada Brook"), params, key)
    try:
        return params.asked, route.handler(world, call).body
    except Refused:
        return params.asked, None


def first_key(world: TenantWorld, template: str) -> str:
    if template.startswith("/Webhook/"):
        return next(iter(world.webhooks.webhooks))
    if template.startswith("/WebhookEvent/"):
        return next(iter(world.deliveries.log))
    if template.startswith("/Priority"):
        ident: str = next(iter(world.configuration.priorities.values()))["id"]
        return ident
    return {"Agent": "3", "FieldInfo": "101"}.get(template.split("/")[1], "1")


READS = [route for route in ROUTES if route.method != "POST"]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.template}")
def test_the_path_exists(route: Route) -> None:
    assert route.method.lower() in CONTRACT["paths"][route.template]


@pytest.mark.parametrize("route", READS, ids=lambda route: f"{route.method} {route.template}")
def test_the_parameters_exist(world: TenantWorld, route: Route) -> None:
    # Nothing of the shared tenant is deleted: what is read before the look-up is what counts.
    key = "404" if route.method == "DELETE" else first_key(world, route.template)
    entry = CONTRACT["paths"][route.template][route.method.lower()]
    known = {part.split(":")[0].lower() for part in entry.get("params", [])}
    asked, _ = ask(world, route, {}, key)
    todo = set(asked)
    while todo:
        name = todo.pop()
        for value in ("1", "true", "2024-01-01", '[{"filter_name":"name","filter_type":2,"filter_value":"x"}]'):
            more, _ = ask(world, route, {name: value}, key)
            todo |= more - asked
            asked |= more
    allowed = {name for method, path, name in ALLOWED_PARAMS if (method, path) == (route.method, route.template)}
    assert asked - known - allowed == set()


def rows_of(body: Any) -> list[dict[str, Any]]:
    if isinstance(body, list):
        return body
    lists = [value for name, value in body.items() if isinstance(value, list) and "record_count" in body and value]
    return lists[0] if lists else [body]


@pytest.mark.parametrize("route", [route for route in READS if route.method == "GET"], ids=lambda route: route.template)
def test_the_members_exist(world: TenantWorld, route: Route) -> None:
    params = {"ticket_id": "1", "include_auditing": "true", "showpriorities": "true", "lookupid": "17"}
    params |= {"includehtmlnote": "true", "includeattachments": "true", "include_custom_fields": "101,102"}
    world.switches.attachment_content = "link"
    _, body = ask(world, route, params, first_key(world, route.template))
    name = ENTITIES["/" + route.template.split("/")[1]]
    rows = rows_of(body)
    assert rows
    for row in rows:
        assert strangers(name, row) == set()


def strangers(entity: str, row: dict[str, Any]) -> set[str]:
    """The members of a row, and of the rows inside it, which the contract does not know."""
    schema: dict[str, str] = dict(CONTRACT["schemas"][entity])
    if entity == "Faults":
        schema = CONTRACT["schemas"]["Faults_List"] | schema
    allowed = {member for name, member in ALLOWED_MEMBERS if name == entity}
    found = {f"{entity}.{member}" for member in row if member not in schema and member not in allowed}
    for member, value in row.items():
        inner = schema.get(member, "").strip("[]")
        if isinstance(value, list) and inner in CONTRACT["schemas"]:
            for item in value:
                found |= strangers(inner, item)
    return found


def test_the_members_that_are_written_exist() -> None:
    written = {*ticket_fields.IDS, *ticket_fields.TEXTS, *ticket_fields.DATES}
    written |= {*ticket_fields.NUMBERS, *ticket_fields.FLAGS}
    assert written - set(CONTRACT["schemas"]["Faults"]) == set()


def test_every_exception_is_needed() -> None:
    for method, path, name in ALLOWED_PARAMS:
        entry = CONTRACT["paths"][path][method.lower()]["params"]
        assert name not in {part.split(":")[0] for part in entry}
    for entity, member in ALLOWED_MEMBERS:
        assert member not in CONTRACT["schemas"][entity]
