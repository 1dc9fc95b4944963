"""Connections over HTTP."""

from typing import Any

import pytest

from tests.support.application import Api, MakeApi, activate, body, create_connection, problem
from tests.support.testdesk import remote

pytestmark = pytest.mark.usefixtures("testdesk")


class TestCreate:
    async def test_a_draft_with_its_address_and_a_secret_shown_once(self, api: Api) -> None:
        made = await create_connection(api)

        shown = await api.get(made.path)

        found = body(shown, 200)
        assert found["state"] == "draft"
        assert found["credentials_set"] is True
        assert found["hook_url"] == f"https://parhelion.test/hooks/{made.id}"
        assert found["health"] == {
            "overall": "unknown",
            "last_checked_at": None,
            "checks": [],
            "identity": None,
        }
        assert len(made.json["webhook_secret"]) >= 40
        assert made.json["webhook_secret"] not in shown.text
        assert shown.headers["etag"] == made.etag

    async def test_the_configuration_is_kept_with_its_defaults(self, api: Api) -> None:
        made = await create_connection(api, config={"base_url": "https://desk.test"})

        assert made.json["config"] == {"base_url": "https://desk.test", "page_size": 100}

    async def test_a_supplied_webhook_secret_is_not_repeated(self, api: Api) -> None:
        made = await create_connection(api, webhook_secret="chosen-by-the-partner")

        assert made.json["webhook_secret"] is None

    async def test_standard_webhooks_get_a_secret_in_their_form(self, api: Api) -> None:
        made = await create_connection(api, verifier={"kind": "standard_webhooks"})

        assert made.json["webhook_secret"].startswith("whsec_")

    async def test_no_verifier_means_no_secret(self, api: Api) -> None:
        made = await create_connection(api, verifier={"kind": "none"})

        assert made.json["webhook_secret"] is None

    @pytest.mark.parametrize(
        ("change", "pointer"),
        [
            ({"kind": "fax"}, "/kind"),
            ({"name": " "}, "/name"),
            ({"config": {}}, "/config/base_url"),
            ({"config": {"base_url": "https://a.test", "pages": 3}}, "/config/pages"),
            ({"config": {"base_url": "https://a.test", "page_size": 0}}, "/config/page_size"),
            ({"credentials": {"client_id": "x"}}, "/credentials/client_secret"),
            ({"credentials": {"client_id": "x", "client_secret": "abc"}}, "/credentials/client_secret"),
            ({"verifier": {"kind": "magic"}}, "/verifier"),
            ({"verifier": {"kind": "hmac_sha256"}}, "/verifier/header"),
            (
                {"verifier": {"kind": "standard_webhooks"}, "webhook_secret": "not base64 !"},
                "/webhook_secret",
            ),
            ({"webhook_secret": "short"}, "/webhook_secret"),
            ({"colour": "red"}, "/colour"),
        ],
    )
    async def test_bad_input_is_pointed_at(self, api: Api, change: dict[str, Any], pointer: str) -> None:
        wanted = {
            "kind": "testdesk",
            "name": "Desk",
            "config": {"base_url": "https://desk.test"},
            "credentials": {"client_id": "app", "client_secret": "a-long-secret"},
            **change,
        }

        found = body(await api.post("/v1/connections", json=wanted), 422)

        assert [error["pointer"] for error in found["errors"]] == [pointer]
        assert found["next_step"]

    async def test_a_secret_for_no_verifier_is_refused(self, api: Api) -> None:
        answer = await api.post(
            "/v1/connections",
            json={
                "kind": "testdesk",
                "name": "Desk",
                "config": {"base_url": "https://desk.test"},
                "credentials": {"client_id": "app", "client_secret": "a-long-secret"},
                "verifier": {"kind": "none"},
                "webhook_secret": "chosen-by-the-partner",
            },
        )

        problem(answer, 409, "secret_not_needed")

    async def test_a_name_is_unique_in_a_tenant_until_it_is_archived(self, api: Api, make_api: MakeApi) -> None:
        made = await create_connection(api, name="Acme")
        wanted = {"kind": "testdesk", "name": "Acme", "config": made.json["config"]}
        wanted["credentials"] = {"client_id": "app", "client_secret": "a-long-secret"}

        problem(await api.post("/v1/connections", json=wanted), 409, "connection_name_taken")
        body(await (await make_api()).post("/v1/connections", json=wanted), 201)
        body(await api.post(f"{made.path}/archive", headers={"If-Match": made.etag}), 200)
        body(await api.post("/v1/connections", json=wanted), 201)


class TestList:
    async def test_filters(self, api: Api) -> None:
        first = await create_connection(api, name="North 100%")
        second = await create_connection(api, name="South")
        await activate(api, second)

        async def names(**query: str) -> list[str]:
            return [item["name"] for item in body(await api.get("/v1/connections", params=query), 200)["items"]]

        assert await names(sort="name") == ["North 100%", "South"]
        assert await names() == ["South", "North 100%"]
        assert await names(state="active") == ["South"]
        assert await names(state="draft") == ["North 100%"]
        assert await names(name="nORTH") == ["North 100%"]
        assert await names(name="100%") == ["North 100%"]
        assert await names(name="%") == ["North 100%"]
        assert await names(kind="testdesk", sort="-name") == ["South", "North 100%"]
        assert await names(kind="halopsa") == []
        assert first.id != second.id

    @pytest.mark.parametrize("query", [{"stat": "active"}, {"limit": "0"}, {"limit": "201"}, {"sort": "config"}])
    async def test_a_parameter_that_is_not_understood_is_refused(self, api: Api, query: dict[str, str]) -> None:
        found = problem(await api.get("/v1/connections", params=query), 422, "invalid_input")

        assert [error["pointer"] for error in found["errors"]] == ["?" + next(iter(query))]

    async def test_the_kinds_say_what_they_need(self, api: Api) -> None:
        kinds = {item["name"]: item for item in body(await api.get("/v1/connection-kinds"), 200)}

        assert "base_url" in kinds["testdesk"]["config_schema"]["properties"]
        assert "client_secret" in kinds["testdesk"]["credentials_schema"]["properties"]


class TestConditionalReads:
    async def test_a_current_copy_is_not_sent_again(self, api: Api) -> None:
        made = await create_connection(api)

        same = await api.get(made.path, headers={"If-None-Match": made.etag})
        other = await api.get(made.path, headers={"If-None-Match": '"99"'})

        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", made.etag)
        assert other.status_code == 200


class TestUpdate:
    async def test_what_is_left_out_stays(self, api: Api) -> None:
        made = await create_connection(api)

        answer = await api.patch(made.path, json={"name": "Renamed"}, headers={"If-Match": made.etag})

        found = body(answer, 200)
        assert (found["name"], found["config"], found["webhook_secret"]) == (
            "Renamed",
            made.json["config"],
            None,
        )
        assert answer.headers["etag"] == '"2"'

    async def test_new_credentials_are_used_from_then_on(self, api: Api) -> None:
        made = await create_connection(api)
        await activate(api, made)
        change = {"credentials": {"client_id": "app", "client_secret": "the-new-secret"}}

        body(await api.patch(made.path, json=change, headers={"If-Match": "*"}), 200)
        await activate(api, made)

        opened = [secret for secret, _ in remote(made.json["config"]["base_url"]).opened]
        assert len(opened) == 2
        assert opened[1] == "the-new-secret"

    async def test_a_change_of_settings_forgets_what_was_known_of_the_other_side(self, api: Api) -> None:
        made = await create_connection(api)
        await activate(api, made)

        answer = await api.patch(
            made.path, json={"config": {"base_url": "https://moved.test"}}, headers={"If-Match": "*"}
        )

        assert body(answer, 200)["health"]["overall"] == "unknown"

    async def test_another_verifier_gets_a_secret_that_suits_it(self, api: Api) -> None:
        made = await create_connection(api, verifier={"kind": "none"})

        answer = await api.patch(
            made.path, json={"verifier": {"kind": "standard_webhooks"}}, headers={"If-Match": made.etag}
        )

        assert body(answer, 200)["webhook_secret"].startswith("whsec_")

    async def test_a_verifier_that_the_present_secret_suits_keeps_it(self, api: Api) -> None:
        made = await create_connection(api)

        answer = await api.patch(made.path, json={"verifier": {"kind": "bearer"}}, headers={"If-Match": made.etag})

        assert body(answer, 200)["webhook_secret"] is None

    @pytest.mark.parametrize("field", ["name", "config", "credentials", "verifier"])
    async def test_null_is_not_a_value(self, api: Api, field: str) -> None:
        made = await create_connection(api)

        answer = await api.patch(made.path, json={field: None}, headers={"If-Match": made.etag})

        assert problem(answer, 422, "invalid_input")["errors"][0]["pointer"] == f"/{field}"

    async def test_a_lost_race_is_told(self, api: Api) -> None:
        made = await create_connection(api)
        body(await api.patch(made.path, json={"name": "First"}, headers={"If-Match": made.etag}), 200)

        lost = await api.patch(made.path, json={"name": "Second"}, headers={"If-Match": made.etag})

        problem(lost, 412, "precondition_failed")
        assert lost.headers["etag"] == '"2"'
        assert body(await api.get(made.path), 200)["name"] == "First"

    @pytest.mark.parametrize("bad", ["3", "three", ""])
    async def test_if_match_has_to_be_an_etag(self, api: Api, bad: str) -> None:
        made = await create_connection(api)

        answer = await api.patch(made.path, json={"name": "Second"}, headers={"If-Match": bad})

        assert problem(answer, 422, "invalid_input")["errors"][0]["pointer"] == "header:If-Match"

    async def test_a_taken_name_is_refused(self, api: Api) -> None:
        await create_connection(api, name="Taken")
        made = await create_connection(api)

        answer = await api.patch(made.path, json={"name": "Taken"}, headers={"If-Match": made.etag})

        problem(answer, 409, "connection_name_taken")


class TestRotate:
    async def test_a_webhook_secret_is_shown_once_with_the_end_of_the_old_one(self, api: Api) -> None:
        made = await create_connection(api)

        answer = await api.post(
            f"{made.path}/rotate-secret",
            json={"purpose": "webhook", "grace_seconds": 60},
            headers={"If-Match": made.etag},
        )

        found = body(answer, 200)
        assert found["webhook_secret"] not in {None, made.json["webhook_secret"]}
        assert found["previous_valid_until"] is not None
        assert found["next_step"].startswith(f"POST {made.path}/webhooks")
        assert answer.headers["etag"] == '"2"'

    async def test_credentials(self, api: Api) -> None:
        made = await create_connection(api)
        await activate(api, made)
        wanted = {
            "purpose": "credentials",
            "credentials": {"client_id": "app", "client_secret": "rotated-secret"},
        }

        found = body(await api.post(f"{made.path}/rotate-secret", json=wanted, headers={"If-Match": "*"}), 200)
        body(await api.post(f"{made.path}/test"), 200)

        assert found["webhook_secret"] is None
        assert remote(made.json["config"]["base_url"]).opened[-1][0] == "rotated-secret"

    @pytest.mark.parametrize(
        "wanted",
        [
            {"purpose": "credentials"},
            {"purpose": "credentials", "webhook_secret": "a-long-secret", "credentials": {}},
            {"purpose": "webhook", "credentials": {}},
            {"purpose": "webhook", "grace_seconds": -1},
            {"purpose": "webhook", "grace_seconds": 604801},
            {"purpose": "everything"},
        ],
    )
    async def test_what_does_not_fit_is_refused(self, api: Api, wanted: dict[str, Any]) -> None:
        made = await create_connection(api)

        answer = await api.post(f"{made.path}/rotate-secret", json=wanted, headers={"If-Match": "*"})

        problem(answer, 422, "invalid_input")

    async def test_no_verifier_has_no_secret(self, api: Api) -> None:
        made = await create_connection(api, verifier={"kind": "none"})

        answer = await api.post(f"{made.path}/rotate-secret", json={"purpose": "webhook"}, headers={"If-Match": "*"})

        problem(answer, 409, "secret_not_needed")
