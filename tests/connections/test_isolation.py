"""Who may touch a connection: scopes and tenants on every route."""

from typing import Any

import pytest

from tests.support.application import Api, MakeApi, body, create_connection, problem

pytestmark = pytest.mark.usefixtures("testdesk")

NOBODY = "con_" + "0" * 32


class TestScopesAndTenants:
    ROUTES = (
        ("GET", "", None),
        ("PATCH", "", {"name": "mine now"}),
        ("POST", "/test", None),
        ("POST", "/rotate-secret", {"purpose": "webhook"}),
        ("POST", "/pause", {"reason": "x"}),
        ("POST", "/resume", None),
        ("POST", "/archive", None),
        ("POST", "/webhooks", None),
        ("GET", "/webhooks", None),
        ("DELETE", "/webhooks", None),
        ("GET", "/picklists", None),
    )

    @pytest.mark.parametrize(("method", "path", "sent"), ROUTES)
    async def test_another_tenants_connection_answers_exactly_like_none(
        self, api: Api, make_api: MakeApi, method: str, path: str, sent: dict[str, Any] | None
    ) -> None:
        theirs = await create_connection(await make_api())

        async def answer(connection: str) -> dict[str, Any]:
            response = await api.request(
                method, f"/v1/connections/{connection}{path}", json=sent, headers={"If-Match": "*"}
            )
            found = problem(response, 404, "not_found")
            return {key: value for key, value in found.items() if key not in {"instance", "correlation_id"}}

        assert await answer(theirs.id) == await answer(NOBODY)

    async def test_lists_show_our_own_only(self, api: Api, make_api: MakeApi) -> None:
        await create_connection(await make_api())
        mine = await create_connection(api)

        found = body(await api.get("/v1/connections", params={"limit": 200}), 200)

        assert [item["id"] for item in found["items"]] == [mine.id]

    @pytest.mark.parametrize(("method", "path", "sent"), [*ROUTES, ("POST", None, {})])
    async def test_a_key_without_the_scope_is_refused(
        self, api: Api, make_api: MakeApi, method: str, path: str | None, sent: dict[str, Any] | None
    ) -> None:
        made = await create_connection(api)
        other = await make_api("inbox:read", tenant_id=api.tenant_id)
        reader = await make_api("connections:read", tenant_id=api.tenant_id)
        address = "/v1/connections" if path is None else made.path + path

        refused = await other.request(method, address, json=sent, headers={"If-Match": "*"})
        reading = await reader.request(method, address, json=sent, headers={"If-Match": "*"})

        problem(refused, 403, "forbidden")
        if method == "GET":
            body(reading, 200)
        else:
            assert problem(reading, 403, "forbidden")["needed_scope"] == "connections:write"

    async def test_an_id_of_another_kind_is_told(self, api: Api) -> None:
        found = problem(await api.get("/v1/connections/key_" + "0" * 32), 422, "invalid_input")

        assert found["errors"] == [
            {
                "pointer": "path:connection_id",
                "message": "expected an id of the form con_ followed by 32 hexadecimal digits",
            }
        ]
