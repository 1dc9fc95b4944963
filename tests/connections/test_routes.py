"""Connections over HTTP."""

from typing import Any

import pytest

from app.connectors.canonical import Check, DeskError, ErrorClass, Verdict
from tests.support.application import Api, Made, MakeApi, body, create_connection, problem
from tests.support.testdesk import remote

pytestmark = pytest.mark.usefixtures("testdesk")

NOBODY = "con_" + "0" * 32


async def activate(api: Api, made: Made) -> str:
    """Test the connection so that it becomes active; gives its ETag."""
    assert body(await api.post(f"{made.path}/test"), 200)["state"] == "active"
    return (await api.get(made.path)).headers["etag"]


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

    async def test_a_name_is_unique_in_a_tenant_until_it_is_archived(
        self, api: Api, make_api: MakeApi
    ) -> None:
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
            return [
                item["name"] for item in body(await api.get("/v1/connections", params=query), 200)["items"]
            ]

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

    @pytest.mark.parametrize(
        "query", [{"stat": "active"}, {"limit": "0"}, {"limit": "201"}, {"sort": "config"}]
    )
    async def test_a_parameter_that_is_not_understood_is_refused(
        self, api: Api, query: dict[str, str]
    ) -> None:
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

        answer = await api.patch(
            made.path, json={"verifier": {"kind": "bearer"}}, headers={"If-Match": made.etag}
        )

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


class TestTest:
    async def test_good_checks_make_a_draft_active(self, api: Api) -> None:
        made = await create_connection(api)

        found = body(await api.post(f"{made.path}/test"), 200)

        assert (found["overall"], found["state"]) == ("ok", "active")
        assert [check["name"] for check in found["checks"]] == ["address", "token"]
        assert found["identity"] == {"name": "Parhelion agent", "native_id": "12"}
        health = body(await api.get(made.path), 200)["health"]
        assert health["identity"]["native_id"] == "12"
        assert health["last_checked_at"].endswith("Z")

    async def test_a_failed_check_says_what_to_do_and_breaks_an_active_connection(self, api: Api) -> None:
        made = await create_connection(api)
        await activate(api, made)
        remote(made.json["config"]["base_url"]).checks = (
            Check("token", Verdict.FAILED, "The secret was refused.", "Make a new secret."),
        )

        found = body(await api.post(f"{made.path}/test"), 200)

        assert (found["overall"], found["state"]) == ("failed", "broken")
        assert found["checks"][0]["advice"] == "Make a new secret."
        assert body(await api.get(made.path), 200)["broken_reason"] == "The secret was refused."

    async def test_a_repaired_connection_becomes_active_again(self, api: Api) -> None:
        made = await create_connection(api)
        await activate(api, made)
        other = remote(made.json["config"]["base_url"])
        good, other.checks = other.checks, (Check("token", Verdict.FAILED, "Refused."),)
        body(await api.post(f"{made.path}/test"), 200)
        other.checks = good

        assert body(await api.post(f"{made.path}/test"), 200)["state"] == "active"
        assert body(await api.get(made.path), 200)["broken_reason"] is None

    async def test_could_not_ask_changes_nothing(self, api: Api) -> None:
        made = await create_connection(api)
        await activate(api, made)
        remote(made.json["config"]["base_url"]).checks = (Check("address", Verdict.UNKNOWN, "No answer."),)

        found = body(await api.post(f"{made.path}/test"), 200)

        assert (found["overall"], found["state"]) == ("unknown", "active")

    async def test_settings_changed_meanwhile_make_the_result_worthless(self, api: Api) -> None:
        made = await create_connection(api)
        other = remote(made.json["config"]["base_url"])

        async def change_now() -> tuple[Check, ...]:
            change = {"config": {"base_url": "https://elsewhere.test"}}
            body(await api.patch(made.path, json=change, headers={"If-Match": "*"}), 200)
            return (Check("token", Verdict.OK, "fine"),)

        other.on_check = change_now

        problem(await api.post(f"{made.path}/test"), 409, "connection_state")
        assert body(await api.get(made.path), 200)["state"] == "draft"


class TestStates:
    async def test_pause_and_resume(self, api: Api) -> None:
        made = await create_connection(api)
        etag = await activate(api, made)

        paused = await api.post(f"{made.path}/pause", json={"reason": "upgrade"}, headers={"If-Match": etag})
        assert (body(paused, 200)["state"], body(paused, 200)["paused_reason"]) == ("paused", "upgrade")
        resumed = await api.post(f"{made.path}/resume", headers={"If-Match": paused.headers["etag"]})

        assert (body(resumed, 200)["state"], body(resumed, 200)["paused_reason"]) == ("active", None)

    async def test_a_draft_cannot_be_paused(self, api: Api) -> None:
        made = await create_connection(api)

        answer = await api.post(f"{made.path}/pause", json={"reason": "x"}, headers={"If-Match": made.etag})

        assert problem(answer, 409, "connection_state")["state"] == "draft"

    async def test_what_is_not_paused_cannot_be_resumed(self, api: Api) -> None:
        made = await create_connection(api)

        problem(
            await api.post(f"{made.path}/resume", headers={"If-Match": made.etag}), 409, "connection_state"
        )

    async def test_archived_is_the_end(self, api: Api) -> None:
        made = await create_connection(api)
        answer = await api.post(f"{made.path}/archive", headers={"If-Match": made.etag})
        assert (body(answer, 200)["state"], body(answer, 200)["credentials_set"]) == ("archived", False)

        match = {"If-Match": "*"}
        problem(await api.patch(made.path, json={"name": "x"}, headers=match), 409, "connection_state")
        problem(await api.post(f"{made.path}/archive", headers=match), 409, "connection_state")
        problem(await api.post(f"{made.path}/test"), 409, "connection_paused")
        problem(
            await api.post(f"{made.path}/rotate-secret", json={"purpose": "webhook"}, headers=match),
            409,
            "connection_state",
        )


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

        found = body(
            await api.post(f"{made.path}/rotate-secret", json=wanted, headers={"If-Match": "*"}), 200
        )
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

        answer = await api.post(
            f"{made.path}/rotate-secret", json={"purpose": "webhook"}, headers={"If-Match": "*"}
        )

        problem(answer, 409, "secret_not_needed")


class TestRemote:
    async def test_webhooks_are_registered_looked_at_and_removed(self, api: Api) -> None:
        made = await create_connection(api)
        other = remote(made.json["config"]["base_url"])

        before = body(await api.get(f"{made.path}/webhooks"), 200)
        registered = body(await api.post(f"{made.path}/webhooks"), 200)
        after = body(await api.get(f"{made.path}/webhooks"), 200)
        hooks = dict(other.hooks)
        removed = body(await api.delete(f"{made.path}/webhooks"), 200)

        assert (before["active"], before["problems"]) == (False, ["No webhook of ours is registered."])
        assert registered["hook_url"] == made.json["hook_url"]
        assert after["active"] is True
        assert hooks == {f"Parhelion {made.id}": (made.json["hook_url"], made.json["webhook_secret"])}
        assert removed == {"removed": 1}

    async def test_the_newest_secret_is_registered(self, api: Api) -> None:
        made = await create_connection(api)
        rotated = body(
            await api.post(
                f"{made.path}/rotate-secret", json={"purpose": "webhook"}, headers={"If-Match": "*"}
            ),
            200,
        )

        body(await api.post(f"{made.path}/webhooks"), 200)

        [(_, secret)] = remote(made.json["config"]["base_url"]).hooks.values()
        assert secret == rotated["webhook_secret"]

    async def test_without_a_secret_there_is_nothing_to_register(self, api: Api) -> None:
        made = await create_connection(api, verifier={"kind": "none"})

        problem(await api.post(f"{made.path}/webhooks"), 409, "secret_not_needed")

    async def test_picklists(self, api: Api) -> None:
        made = await create_connection(api)

        found = body(await api.get(f"{made.path}/picklists"), 200)

        assert found["statuses"] == [{"native_id": "9", "name": "Closed", "closes": True}]
        assert set(found) == {"statuses", "priorities", "ticket_types", "outcomes", "teams", "clients"}

    @pytest.mark.parametrize(
        ("error", "status", "code", "retry_after"),
        [
            (DeskError(ErrorClass.TIMEOUT, "No answer."), 504, "remote_timed_out", None),
            (DeskError(ErrorClass.RATE, "Used up.", retry_after_seconds=12.2), 503, "remote_busy", "13"),
            (DeskError(ErrorClass.RATE, "Used up."), 503, "remote_busy", "60"),
            (
                DeskError(ErrorClass.PERMISSION, "403.", next_step="Tick the scope."),
                502,
                "remote_failed",
                None,
            ),
        ],
    )
    async def test_a_failure_there_is_named(
        self, api: Api, error: DeskError, status: int, code: str, retry_after: str | None
    ) -> None:
        made = await create_connection(api)
        remote(made.json["config"]["base_url"]).failure = error

        for answer in (
            await api.get(f"{made.path}/picklists"),
            await api.get(f"{made.path}/webhooks"),
            await api.post(f"{made.path}/webhooks"),
            await api.delete(f"{made.path}/webhooks"),
        ):
            found = problem(answer, status, code)
            assert found["detail"] == error.detail
            assert found["next_step"]
            assert found["remote_error"] == error.error.value
            assert answer.headers.get("retry-after") == retry_after

    async def test_refused_credentials_break_the_connection(self, api: Api) -> None:
        made = await create_connection(api)
        await activate(api, made)
        remote(made.json["config"]["base_url"]).failure = DeskError(ErrorClass.AUTH, "The secret is refused.")

        problem(await api.get(f"{made.path}/picklists"), 502, "remote_failed")

        found = body(await api.get(made.path), 200)
        assert (found["state"], found["broken_reason"]) == ("broken", "The secret is refused.")


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
