"""Whose rows a route of sync shows and changes, and which scope it takes."""

from typing import Any

import pytest

from app.core.db.session import Database
from tests.support.application import Api, MakeApi, body, problem
from tests.sync.over_http import add_link, add_run, create

pytestmark = pytest.mark.usefixtures("testdesk")

ROUTES = [
    ("GET", "/v1/relationships/{relationship}", None, "relationships:read"),
    ("PATCH", "/v1/relationships/{relationship}", {"name": "x"}, "relationships:write"),
    ("POST", "/v1/relationships/{relationship}/pause", {"reason": "x"}, "relationships:write"),
    ("POST", "/v1/relationships/{relationship}/resume", None, "relationships:write"),
    ("POST", "/v1/relationships/{relationship}/archive", None, "relationships:write"),
    ("GET", "/v1/ticket-links/{link}", None, "tickets:read"),
    ("POST", "/v1/ticket-links/{link}/resync", None, "tickets:write"),
    ("GET", "/v1/syncs/{run}", None, "tickets:read"),
    (
        "POST",
        "/v1/syncs",
        {"relationship_id": "{relationship}", "since": "2026-01-01T00:00:00Z"},
        "tickets:write",
    ),
]
LISTS = [
    ("/v1/relationships", "relationships:read"),
    ("/v1/ticket-links", "tickets:read"),
    ("/v1/syncs", "tickets:read"),
]


class TestTenants:
    """Each route, with the ids of another tenant: the same answer as for ids that nobody has."""

    @pytest.mark.parametrize(("method", "path", "sent", "_scope"), ROUTES)
    async def test_another_tenants_rows_do_not_exist(
        self,
        api: Api,
        make_api: MakeApi,
        database: Database,
        method: str,
        path: str,
        sent: dict[str, str] | None,
        _scope: str,
    ) -> None:
        owner = await make_api()
        made = await create(owner)
        theirs = {
            "relationship": made.id,
            "link": await add_link(database, owner, made, source_ticket_id="42", state="ignored"),
            "run": await add_run(database, owner, made),
        }
        nobodys = {name: value[:4] + "0" * 32 for name, value in theirs.items()}

        async def ask(names: dict[str, str]) -> Any:
            json = {key: value.format(**names) for key, value in sent.items()} if sent else None
            answer = await api.request(method, path.format(**names), json=json, headers={"If-Match": "*"})
            found = problem(answer, 404, "not_found")
            return {key: found[key] for key in found if key not in ("correlation_id", "instance")}

        assert await ask(theirs) == await ask(nobodys)
        after = body(await owner.get(made.path), 200)
        assert (after["version"], after["state"]) == (1, "active"), "and nothing was changed"
        assert after["links"] == {"waiting": 0, "ignored": 1}

    @pytest.mark.parametrize(("path", "_scope"), LISTS)
    async def test_lists_hold_ones_own_rows(
        self, api: Api, make_api: MakeApi, database: Database, path: str, _scope: str
    ) -> None:
        owner = await make_api()
        made = await create(owner)
        await add_link(database, owner, made, source_ticket_id="42")
        await add_run(database, owner, made)

        assert len(body(await owner.get(path), 200)["items"]) == 1
        assert body(await api.get(path), 200) == {"items": [], "next_cursor": None}
        query = f"?relationship_id={made.id}" if path != "/v1/relationships" else f"?name={made.json['name']}"
        assert body(await api.get(path + query), 200)["items"] == []

    @pytest.mark.parametrize(
        ("method", "path", "scope"),
        [(method, path, scope) for method, path, _, scope in ROUTES]
        + [("GET", path, scope) for path, scope in LISTS]
        + [("POST", "/v1/relationships", "relationships:write")],
    )
    async def test_a_key_needs_the_scope(self, make_api: MakeApi, method: str, path: str, scope: str) -> None:
        nobodys = {"relationship": "rel_" + "0" * 32, "link": "tkl_" + "0" * 32, "run": "syn_" + "0" * 32}
        others = {
            "relationships:read": "tickets:write",
            "relationships:write": "relationships:read",
            "tickets:read": "relationships:write",
            "tickets:write": "tickets:read",
        }
        weak = await make_api(others[scope])

        answer = await weak.request(method, path.format(**nobodys), headers={"If-Match": "*"})

        assert problem(answer, 403, "forbidden")["needed_scope"] == scope

    @pytest.mark.parametrize("path", [path for path, _ in LISTS])
    async def test_an_unknown_parameter_is_refused(self, api: Api, path: str) -> None:
        found = problem(await api.get(f"{path}?relationshipid=1"), 422, "invalid_input")

        assert found["errors"][0]["pointer"] == "?relationshipid"
