"""Relationships over HTTP."""

from datetime import datetime
from typing import Any

import pytest

from app.core import clock
from tests.support.application import Api, MakeApi, body, create_connection, problem
from tests.sync.over_http import MadeRelationship, create, wanted

pytestmark = pytest.mark.usefixtures("testdesk")


class TestCreate:
    async def test_it_works_at_once_from_now_on(self, api: Api) -> None:
        before = clock.now()
        asked = await wanted(api, settings={"source_label": "Acme", "status_map": [{"source": "1", "target": "2"}]})

        answer = await api.post("/v1/relationships", json=asked)

        made = body(answer, 201)
        assert answer.headers["location"] == f"/v1/relationships/{made['id']}"
        assert made["state"] == "active"
        assert made["settings"]["source_label"] == "Acme"
        assert before <= datetime.fromisoformat(made["settings"]["start_at"]) <= clock.now()
        assert made["links"] == {"waiting": 0}
        shown = await api.get(f"/v1/relationships/{made['id']}")
        assert body(shown, 200) == made
        assert shown.headers["etag"] == answer.headers["etag"]
        assert "marker" not in shown.text

    async def test_a_repeat_under_one_key_makes_one(self, api: Api) -> None:
        asked = await wanted(api)
        headers = {"Idempotency-Key": "a-key-of-the-caller"}

        first = await api.post("/v1/relationships", json=asked, headers=headers)
        again = await api.post("/v1/relationships", json=asked, headers=headers)
        other = await api.post("/v1/relationships", json={**asked, "name": "another"}, headers=headers)

        assert body(first, 201) == body(again, 201)
        assert again.headers["idempotent-replayed"] == "true"
        problem(other, 422, "idempotency_key_reused")
        assert len(body(await api.get("/v1/relationships"), 200)["items"]) == 1

    async def test_a_name_is_taken_once(self, api: Api) -> None:
        made = await create(api, name="Acme to Globex")

        answer = await api.post("/v1/relationships", json=await wanted(api, name="Acme to Globex"))

        found = problem(answer, 409, "relationship_name_taken")
        assert found["errors"][0]["pointer"] == "/name"
        assert made.json["name"] == "Acme to Globex"

    async def test_two_connections_are_needed(self, api: Api) -> None:
        asked = await wanted(api)
        asked["target_connection_id"] = asked["source_connection_id"]

        found = problem(await api.post("/v1/relationships", json=asked), 422, "invalid_input")

        assert found["errors"][0]["pointer"] == "/target_connection_id"

    @pytest.mark.parametrize("side", ["source_connection_id", "target_connection_id"])
    async def test_a_connection_of_another_tenant_does_not_exist(self, api: Api, make_api: MakeApi, side: str) -> None:
        asked = await wanted(api)
        asked[side] = (await create_connection(await make_api())).id

        problem(await api.post("/v1/relationships", json=asked), 404, "not_found")

    async def test_an_archived_connection_is_refused(self, api: Api) -> None:
        source, target = await create_connection(api), await create_connection(api)
        gone = await api.post(f"{target.path}/archive", headers={"If-Match": target.etag})
        body(gone, 200)

        answer = await api.post(
            "/v1/relationships",
            json={"name": "x", "source_connection_id": source.id, "target_connection_id": target.id},
        )

        found = problem(answer, 422, "bad_side_settings")
        assert [error["pointer"] for error in found["errors"]] == ["/target_connection_id"]

    @pytest.mark.parametrize(
        ("sides", "pointer"),
        [
            ({"source": {"colour": "red"}}, "/settings/source/colour"),
            ({"target": {"resolution": 7}}, "/settings/target/resolution"),
        ],
    )
    async def test_settings_of_a_side_fit_its_kind(self, api: Api, sides: dict[str, Any], pointer: str) -> None:
        answer = await api.post("/v1/relationships", json=await wanted(api, settings=sides))

        found = problem(answer, 422, "bad_side_settings")
        assert [error["pointer"] for error in found["errors"]] == [pointer]

    @pytest.mark.parametrize(
        ("change", "pointer"),
        [
            ({"colour": "red"}, "/colour"),
            ({"name": ""}, "/name"),
            ({"settings": {"colour": "red"}}, "/settings/colour"),
            ({"settings": {"start_at": "2026-01-01T00:00:00"}}, "/settings/start_at"),
            ({"source_connection_id": "rel_" + "0" * 32}, "/source_connection_id"),
        ],
    )
    async def test_bad_input_is_pointed_at(self, api: Api, change: dict[str, Any], pointer: str) -> None:
        answer = await api.post("/v1/relationships", json=await wanted(api, **change))

        assert [error["pointer"] for error in body(answer, 422)["errors"]] == [pointer]


class TestList:
    async def test_filters_sorts_and_pages(self, api: Api) -> None:
        made = [await create(api, name=name) for name in ("Beta", "Alpha", "Gamma")]
        await api.post(f"{made[2].path}/pause", json={"reason": "weekend"}, headers={"If-Match": made[2].etag})

        by_name = body(await api.get("/v1/relationships?sort=name&limit=2"), 200)
        rest = body(await api.get(f"/v1/relationships?sort=name&cursor={by_name['next_cursor']}"), 200)
        paused = body(await api.get("/v1/relationships?state=paused"), 200)
        named = body(await api.get("/v1/relationships?name=alph"), 200)

        assert [one["name"] for one in (*by_name["items"], *rest["items"])] == ["Alpha", "Beta", "Gamma"]
        assert [one["name"] for one in paused["items"]] == ["Gamma"]
        assert [one["name"] for one in named["items"]] == ["Alpha"]


class TestChange:
    async def test_what_is_left_out_stays(self, api: Api) -> None:
        made = await create(api, settings={"source_label": "Acme"})

        answer = await api.patch(made.path, json={"name": "New name"}, headers={"If-Match": made.etag})

        changed = body(answer, 200)
        assert changed["name"] == "New name"
        assert changed["settings"] == made.json["settings"]
        assert changed["version"] == made.json["version"] + 1
        assert answer.headers["etag"] != made.etag

    async def test_settings_are_replaced_as_a_whole_but_for_the_start(self, api: Api) -> None:
        made = await create(api, settings={"source_label": "Acme", "reverse": True})

        answer = await api.patch(
            made.path, json={"settings": {"target_label": "Globex"}}, headers={"If-Match": made.etag}
        )

        settings = body(answer, 200)["settings"]
        assert (settings["source_label"], settings["target_label"], settings["reverse"]) == ("", "Globex", False)
        assert settings["start_at"] == made.json["settings"]["start_at"]

    async def test_a_taken_name_and_a_bad_side_are_refused(self, api: Api) -> None:
        await create(api, name="Taken")
        made = await create(api)

        name = await api.patch(made.path, json={"name": "Taken"}, headers={"If-Match": made.etag})
        side = await api.patch(made.path, json={"settings": {"source": {"x": 1}}}, headers={"If-Match": made.etag})

        problem(name, 409, "relationship_name_taken")
        problem(side, 422, "bad_side_settings")

    @pytest.mark.parametrize(
        ("method", "action", "sent"),
        [
            ("PATCH", "", {"name": "x"}),
            ("POST", "/pause", {"reason": "x"}),
            ("POST", "/resume", None),
            ("POST", "/archive", None),
        ],
    )
    async def test_a_change_needs_the_version_it_changes(self, api: Api, method: str, action: str, sent: Any) -> None:
        made = await create(api)
        if action == "/resume":
            paused = await api.post(f"{made.path}/pause", json={"reason": "x"}, headers={"If-Match": made.etag})
            made = MadeRelationship(body(paused, 200), paused.headers["etag"])

        without = await api.request(method, made.path + action, json=sent)
        stale = await api.request(method, made.path + action, json=sent, headers={"If-Match": '"99"'})
        fine = await api.request(method, made.path + action, json=sent, headers={"If-Match": made.etag})
        lost = await api.request(method, made.path + action, json=sent, headers={"If-Match": made.etag})

        problem(without, 428, "precondition_required")
        assert problem(stale, 412, "precondition_failed")["next_step"]
        assert stale.headers["etag"] == made.etag
        body(fine, 200)
        problem(lost, 412, "precondition_failed")

    async def test_pause_and_resume_and_archive(self, api: Api) -> None:
        made = await create(api)

        async def move(action: str, status: int, **sent: Any) -> Any:
            return body(await api.post(f"{made.path}/{action}", headers={"If-Match": "*"}, **sent), status)

        paused = await move("pause", 200, json={"reason": "weekend"})
        assert (paused["state"], paused["paused_reason"]) == ("paused", "weekend")
        assert (await move("pause", 409, json={"reason": "again"}))["code"] == "relationship_state"
        resumed = await move("resume", 200)
        assert (resumed["state"], resumed["paused_reason"]) == ("active", None)
        assert (await move("resume", 409))["code"] == "relationship_state"
        assert (await move("archive", 200))["state"] == "archived"
        for action, sent in (("resume", {}), ("archive", {}), ("pause", {"json": {"reason": "x"}})):
            assert (await move(action, 409, **sent))["code"] == "relationship_state"
        changed = await api.patch(made.path, json={"name": "x"}, headers={"If-Match": "*"})
        problem(changed, 409, "relationship_state")

    async def test_an_unchanged_copy_needs_no_body(self, api: Api) -> None:
        made = await create(api)

        answer = await api.get(made.path, headers={"If-None-Match": made.etag})

        assert answer.status_code == 304
        assert answer.content == b""
        assert answer.headers["etag"] == made.etag


class TestTwice:
    async def test_the_same_two_desks_are_related_once(self, api: Api) -> None:
        """A second relationship over the same desks would make every ticket twice."""
        body = await wanted(api)
        assert (await api.post("/v1/relationships", json=body)).status_code == 201
        source, target = body["source_connection_id"], body["target_connection_id"]

        for ends in ((source, target), (target, source)):
            again = {**body, "name": "again", "source_connection_id": ends[0], "target_connection_id": ends[1]}
            told = problem(await api.post("/v1/relationships", json=again), 409, "already_related")

            assert "archive it first" in told["next_step"]
