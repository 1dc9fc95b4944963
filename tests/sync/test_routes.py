"""Relationships, ticket links and syncs over HTTP."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from app.core import clock, ids
from app.core.db.session import Database
from app.sync.models import LinkChange, SyncRun, TicketLink
from tests.support.application import Api, MakeApi, body, create_connection, problem

pytestmark = pytest.mark.usefixtures("testdesk")


@dataclass(frozen=True)
class MadeRelationship:
    json: dict[str, Any]
    etag: str

    @property
    def id(self) -> str:
        return str(self.json["id"])

    @property
    def path(self) -> str:
        return f"/v1/relationships/{self.id}"

    @property
    def uuid(self) -> UUID:
        return ids.parse("rel", self.id)


async def wanted(api: Api, **changes: Any) -> dict[str, Any]:
    source, target = await create_connection(api), await create_connection(api)
    return {
        "name": f"Between {source.id[-6:]} and {target.id[-6:]}",
        "source_connection_id": source.id,
        "target_connection_id": target.id,
        **changes,
    }


async def create(api: Api, **changes: Any) -> MadeRelationship:
    answer = await api.post("/v1/relationships", json=await wanted(api, **changes))
    return MadeRelationship(body(answer, 201), answer.headers["etag"])


async def add_link(database: Database, api: Api, made: MadeRelationship, **columns: Any) -> str:
    row = TicketLink(tenant_id=api.tenant_id, relationship_id=made.uuid, **columns)
    async with database.transaction() as session:
        session.add(row)
    return ids.public("tkl", row.id)


async def add_run(database: Database, api: Api, made: MadeRelationship, **columns: Any) -> str:
    row = SyncRun(tenant_id=api.tenant_id, relationship_id=made.uuid, since=clock.now(), **columns)
    async with database.transaction() as session:
        session.add(row)
    return ids.public("syn", row.id)


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


class TestTicketLinks:
    async def test_filters(self, api: Api, database: Database) -> None:
        made, other = await create(api), await create(api)
        linked = await add_link(database, api, made, source_ticket_id="42", target_ticket_id="977", state="linked")
        waiting = await add_link(database, api, made, source_ticket_id="43", dirty_since=clock.now())
        failed = await add_link(database, api, other, source_ticket_id="977", state="failed", reason="no")

        async def listed(query: str) -> set[str]:
            found = body(await api.get(f"/v1/ticket-links?{query}"), 200)["items"]
            return {one["id"] for one in found}

        assert await listed("") == {linked, waiting, failed}
        assert await listed(f"relationship_id={made.id}") == {linked, waiting}
        assert await listed("state=failed") == {failed}
        assert await listed("ticket_id=977") == {linked, failed}
        assert await listed("ticket_id=43") == {waiting}
        assert await listed("waiting=true") == {waiting}
        assert await listed("waiting=false") == {linked, failed}
        assert await listed(f"relationship_id={made.id}&ticket_id=977&waiting=false") == {linked}
        counts = body(await api.get(made.path), 200)["links"]
        assert counts == {"waiting": 1, "linked": 1, "new": 1}

    async def test_pages_by_the_last_change(self, api: Api, database: Database) -> None:
        made = await create(api)
        now = clock.now()
        wanted_order = [
            await add_link(database, api, made, source_ticket_id=f"{n}", updated_at=now - timedelta(minutes=n))
            for n in range(5)
        ]

        seen: list[str] = []
        path = "/v1/ticket-links?sort=-updated_at&limit=2"
        cursor = ""
        while True:
            page = body(await api.get(path + cursor), 200)
            seen += [one["id"] for one in page["items"]]
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"

        assert seen == wanted_order

    async def test_one_with_its_history(self, api: Api, database: Database) -> None:
        made = await create(api)
        link_id = await add_link(
            database, api, made, source_ticket_id="42", shadow={"status": {"source": "1", "target": "2"}}
        )
        async with database.transaction() as session:
            for operation in ("created", "updated"):
                session.add(
                    LinkChange(
                        tenant_id=api.tenant_id,
                        link_id=ids.parse("tkl", link_id),
                        side="target",
                        operation=operation,
                        detail={"values": {"status": "2"}},
                    )
                )
                await session.flush()

        found = body(await api.get(f"/v1/ticket-links/{link_id}"), 200)

        assert found["shadow"] == {"status": {"source": "1", "target": "2"}}
        assert [change["operation"] for change in found["changes"]] == ["updated", "created"]

    async def test_resync_makes_a_link_wait(self, api: Api, database: Database) -> None:
        made = await create(api)
        link_id = await add_link(database, api, made, source_ticket_id="42", target_ticket_id="977", state="linked")

        found = body(await api.post(f"/v1/ticket-links/{link_id}/resync"), 202)

        assert found["state"] == "linked"
        assert found["waiting_since"] is not None

    async def test_resync_looks_at_an_ignored_link_afresh(self, api: Api, database: Database) -> None:
        made = await create(api)
        link_id = await add_link(database, api, made, source_ticket_id="42", state="ignored", reason="too old")

        found = body(await api.post(f"/v1/ticket-links/{link_id}/resync"), 202)

        assert (found["state"], found["reason"]) == ("new", None)
        assert found["waiting_since"] is not None

    @pytest.mark.parametrize("state", ["merged", "unlinked", "paused"])
    async def test_resync_of_a_link_that_ended_is_refused(self, api: Api, database: Database, state: str) -> None:
        made = await create(api)
        link_id = await add_link(database, api, made, source_ticket_id="42", state=state)

        answer = await api.post(f"/v1/ticket-links/{link_id}/resync")

        assert problem(answer, 409, "relationship_state")["next_step"]


class TestSyncs:
    async def test_asked_for_and_followed(self, api: Api, database: Database) -> None:
        made = await create(api)
        since = clock.rfc3339(clock.now() - timedelta(days=30))

        answer = await api.post("/v1/syncs", json={"relationship_id": made.id, "since": since})

        run = body(answer, 202)
        assert answer.headers["location"] == f"/v1/syncs/{run['id']}"
        assert (run["state"], run["done"], run["total"], run["eta_seconds"]) == ("queued", 0, 0, None)
        assert body(await api.get(f"/v1/syncs/{run['id']}"), 200) == run
        relationship = body(await api.get(made.path), 200)
        assert relationship["settings"]["start_at"] == since, "older tickets belong to it now"
        assert relationship["version"] == made.json["version"] + 1

    async def test_a_later_date_does_not_move_the_start(self, api: Api) -> None:
        made = await create(api)
        since = clock.rfc3339(clock.now() + timedelta(seconds=1))

        body(await api.post("/v1/syncs", json={"relationship_id": made.id, "since": since}), 202)

        assert body(await api.get(made.path), 200) == made.json

    async def test_progress_counts_its_links(self, api: Api, database: Database) -> None:
        made = await create(api)
        run_id = await add_run(
            database,
            api,
            made,
            state="converging",
            read=4,
            started_at=clock.now() - timedelta(seconds=20),
        )
        uuid = ids.parse("syn", run_id)
        for number in range(4):
            await add_link(
                database,
                api,
                made,
                source_ticket_id=f"{number}",
                sync_id=uuid,
                dirty_since=clock.now() if number else None,
            )

        found = body(await api.get(f"/v1/syncs/{run_id}"), 200)

        assert (found["done"], found["total"], found["read"]) == (1, 4, 4)
        assert 55 <= found["eta_seconds"] <= 70

    async def test_a_repeat_under_one_key_makes_one(self, api: Api) -> None:
        made = await create(api)
        asked = {"relationship_id": made.id, "since": "2026-01-01T00:00:00Z"}

        first = await api.post("/v1/syncs", json=asked, headers={"Idempotency-Key": "once"})
        again = await api.post("/v1/syncs", json=asked, headers={"Idempotency-Key": "once"})

        assert body(first, 202) == body(again, 202)
        assert len(body(await api.get("/v1/syncs"), 200)["items"]) == 1

    async def test_not_while_the_relationship_is_paused(self, api: Api) -> None:
        made = await create(api)
        await api.post(f"{made.path}/pause", json={"reason": "x"}, headers={"If-Match": "*"})

        answer = await api.post("/v1/syncs", json={"relationship_id": made.id, "since": "2026-01-01T00:00:00Z"})

        problem(answer, 409, "relationship_state")

    async def test_filters(self, api: Api, database: Database) -> None:
        made, other = await create(api), await create(api)
        queued = await add_run(database, api, made)
        failed = await add_run(database, api, other, state="failed", error="no")

        async def listed(query: str) -> list[str]:
            return [one["id"] for one in body(await api.get(f"/v1/syncs{query}"), 200)["items"]]

        assert await listed("") == [failed, queued]
        assert await listed(f"?relationship_id={made.id}") == [queued]
        assert await listed("?state=failed") == [failed]


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
