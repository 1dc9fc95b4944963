"""API keys over HTTP, and what every route does with keys."""

from datetime import timedelta

import httpx
import pytest

from app.auth import service
from app.auth.schemas import Scope
from app.core import clock
from app.core.db.session import Database
from tests.support.application import Api, MakeApi, body, problem


async def make_key(api: Api, **changes: object) -> tuple[dict[str, object], str]:
    response = await api.post("/v1/api-keys", json={"name": "dashboard", "scopes": ["connections:read"], **changes})
    return body(response, 201), response.headers["etag"]


class TestAuthentication:
    async def test_a_request_without_a_key_is_refused_and_told_how(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/v1/api-keys")

        assert problem(answer, 401, "unauthenticated")["next_step"].startswith("Send a valid key")
        assert answer.headers["www-authenticate"].startswith("Bearer")

    @pytest.mark.parametrize("header", ["Basic YTpi", "Bearer", "Bearer nonsense", "phk_abc"])
    async def test_what_is_not_a_key_is_refused(self, client: httpx.AsyncClient, header: str) -> None:
        answer = await client.get("/v1/api-keys", headers={"Authorization": header})

        problem(answer, 401, "unauthenticated")

    async def test_a_typo_is_told_from_a_wrong_key(self, api: Api, client: httpx.AsyncClient) -> None:
        swapped = api.key[:-8] + ("a" if api.key[-8] != "a" else "b") + api.key[-7:]

        answer = await client.get("/v1/api-keys", headers={"Authorization": f"Bearer {swapped}"})

        assert "mistyped" in problem(answer, 401, "unauthenticated")["detail"]

    async def test_a_well_formed_key_that_nobody_has_is_refused(self, client: httpx.AsyncClient, api: Api) -> None:
        from app.auth import keytext

        answer = await client.get("/v1/api-keys", headers={"Authorization": f"Bearer {keytext.generate().text}"})

        assert "not valid" in problem(answer, 401, "unauthenticated")["detail"]

    async def test_an_expired_key_stops_also_when_it_is_remembered(self, api: Api) -> None:
        expires = clock.rfc3339(clock.now() + timedelta(seconds=5))
        made, _ = await make_key(api, scopes=["keys:read"], expires_at=expires)
        key = Api(api.client, api.tenant_id, str(made["key"]))
        body(await key.get("/v1/api-keys"), 200)

        with clock.shifted(timedelta(seconds=6)):
            problem(await key.get("/v1/api-keys"), 401, "unauthenticated")

    async def test_a_key_without_the_scope_is_told_which_it_needs(self, make_api: MakeApi) -> None:
        reader = await make_api("connections:read")

        found = problem(await reader.get("/v1/api-keys"), 403, "forbidden")

        assert found["needed_scope"] == "keys:read"

    async def test_a_write_scope_includes_reading(self, make_api: MakeApi) -> None:
        writer = await make_api("keys:write")

        body(await writer.get("/v1/api-keys"), 200)

    async def test_the_use_of_a_key_is_remembered_once_a_minute(self, api: Api, database: Database) -> None:
        made, _ = await make_key(api, scopes=["keys:read"])
        text = str(made["key"])

        used = []
        for later in (0, 30, 90):
            with clock.shifted(timedelta(seconds=later)):
                await service.Authenticator(database).principal(text)
                seen = body(await api.get(f"/v1/api-keys/{made['id']}"), 200)
                used.append(seen["last_used_at"])

        assert used[0] is not None
        assert used[1] == used[0]
        assert used[2] > used[0]

    async def test_a_revoked_key_is_still_remembered_elsewhere_for_ten_seconds_at_most(self) -> None:
        assert service.CACHE_SECONDS <= 10


class TestCreate:
    async def test_the_key_works_and_is_shown_this_once(self, api: Api) -> None:
        made, _ = await make_key(api)

        shown = body(await api.get(f"/v1/api-keys/{made['id']}"), 200)
        listed = body(await api.get("/v1/api-keys"), 200)

        assert str(made["key"]).startswith(f"phk_{made['prefix']}_")
        assert "key" not in shown
        assert str(made["key"]) not in str(listed)
        assert shown["scopes"] == ["connections:read"]

    async def test_a_key_cannot_give_what_it_does_not_have(self, make_api: MakeApi) -> None:
        writer = await make_api("keys:write", "connections:read")

        refused = await writer.post("/v1/api-keys", json={"name": "more", "scopes": ["connections:write"]})
        fine = await writer.post("/v1/api-keys", json={"name": "same", "scopes": ["connections:read", "keys:read"]})

        assert problem(refused, 403, "scope_not_held")["errors"][0]["pointer"] == "/scopes"
        body(fine, 201)

    async def test_only_admin_gives_admin(self, make_api: MakeApi) -> None:
        everything = [scope for scope in Scope if scope is not Scope.ADMIN]
        almost = await make_api(*everything)

        answer = await almost.post("/v1/api-keys", json={"name": "more", "scopes": ["admin"]})

        problem(answer, 403, "scope_not_held")

    @pytest.mark.parametrize(
        ("change", "pointer"),
        [
            ({"name": ""}, "/name"),
            ({"name": "   "}, "/name"),
            ({"scopes": []}, "/scopes"),
            ({"scopes": ["everything"]}, "/scopes/0"),
            ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
            ({"expires_at": "2999-01-01T00:00:00"}, "/expires_at"),
            ({"colour": "red"}, "/colour"),
        ],
    )
    async def test_bad_input_is_pointed_at(self, api: Api, change: dict[str, object], pointer: str) -> None:
        wanted = {"name": "dashboard", "scopes": ["connections:read"], **change}

        found = problem(await api.post("/v1/api-keys", json=wanted), 422, "invalid_input")

        assert [error["pointer"] for error in found["errors"]] == [pointer]


class TestList:
    async def test_pages_and_sorting(self, api: Api) -> None:
        for name in ("delta", "alpha", "charlie", "bravo"):
            await make_key(api, name=name)

        seen: list[str] = []
        cursor: str | None = None
        for _ in range(5):
            query = {"limit": 2, "sort": "name", **({"cursor": cursor} if cursor else {})}
            page = body(await api.get("/v1/api-keys", params=query), 200)
            seen += [item["name"] for item in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break

        assert [name for name in seen if name in {"alpha", "bravo", "charlie", "delta"}] == [
            "alpha",
            "bravo",
            "charlie",
            "delta",
        ]
        assert len(seen) == len(set(seen))

    async def test_filter_by_state(self, api: Api) -> None:
        made, etag = await make_key(api, name="gone")
        body(await api.delete(f"/v1/api-keys/{made['id']}", headers={"If-Match": etag}), 200)

        revoked = body(await api.get("/v1/api-keys", params={"state": "revoked"}), 200)["items"]
        active = body(await api.get("/v1/api-keys", params={"state": "active"}), 200)["items"]
        expired = body(await api.get("/v1/api-keys", params={"state": "expired"}), 200)["items"]

        assert [item["id"] for item in revoked] == [made["id"]]
        assert made["id"] not in [item["id"] for item in active]
        assert len(active) > 0
        assert expired == []


class TestRevoke:
    async def test_the_key_stops_at_once_here(self, api: Api) -> None:
        made, etag = await make_key(api, scopes=["keys:read"])
        key = Api(api.client, api.tenant_id, str(made["key"]))
        body(await key.get("/v1/api-keys"), 200)

        revoked = body(await api.delete(f"/v1/api-keys/{made['id']}", headers={"If-Match": etag}), 200)

        assert revoked["state"] == "revoked"
        problem(await key.get("/v1/api-keys"), 401, "unauthenticated")

    async def test_twice_is_a_conflict(self, api: Api) -> None:
        made, etag = await make_key(api)
        first = await api.delete(f"/v1/api-keys/{made['id']}", headers={"If-Match": etag})

        again = await api.delete(f"/v1/api-keys/{made['id']}", headers={"If-Match": first.headers["etag"]})

        problem(again, 409, "key_revoked")

    async def test_the_last_admin_key_stays(self, make_api: MakeApi, database: Database) -> None:
        from tests.support.application import create_tenant

        tenant_id, key = await create_tenant(database)
        only = Api((await make_api()).client, tenant_id, key)
        [item] = body(await only.get("/v1/api-keys"), 200)["items"]

        answer = await only.delete(f"/v1/api-keys/{item['id']}", headers={"If-Match": "*"})

        problem(answer, 409, "last_admin_key")

    async def test_needs_the_version(self, api: Api) -> None:
        made, _ = await make_key(api)
        path = f"/v1/api-keys/{made['id']}"

        problem(await api.delete(path), 428, "precondition_required")
        problem(await api.delete(path, headers={"If-Match": '"9"'}), 412, "precondition_failed")


class TestOtherTenants:
    async def test_their_keys_answer_exactly_like_none(self, api: Api, make_api: MakeApi) -> None:
        stranger = await make_api()
        theirs, _ = await make_key(stranger)
        nobody = "key_" + "0" * 32
        match = {"If-Match": "*"}

        for method in ("GET", "DELETE"):
            there = await api.request(method, f"/v1/api-keys/{theirs['id']}", headers=match)
            nowhere = await api.request(method, f"/v1/api-keys/{nobody}", headers=match)
            drop = {"instance", "correlation_id"}
            assert {k: v for k, v in problem(there, 404, "not_found").items() if k not in drop} == {
                k: v for k, v in problem(nowhere, 404, "not_found").items() if k not in drop
            }
        assert str(theirs["id"]) not in str(body(await api.get("/v1/api-keys", params={"limit": 200}), 200))
