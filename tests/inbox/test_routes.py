"""The inbox over HTTP: what came, dead letters, handling again."""

from datetime import timedelta
from typing import Any

import pytest

from app.core import clock, ids
from app.core.db.session import Database
from app.inbox import repository
from app.inbox.models import InboxMessage
from tests.support.application import Api, MakeApi, body, problem

NOBODY = "inm_" + "0" * 32


async def add(database: Database, api: Api, **columns: Any) -> InboxMessage:
    row = InboxMessage(
        **{
            "tenant_id": api.tenant_id,
            "connection_id": ids.new_id(),
            "external_id": ids.new_id().hex,
            "body": b'{"object_id":42}',
            "headers": {"content-type": "application/json"},
            **columns,
        }
    )
    async with database.transaction() as session:
        session.add(row)
    return row


def public(row: InboxMessage) -> str:
    return ids.public("inm", row.id)


async def listed(api: Api, query: str = "") -> list[str]:
    return [one["id"] for one in body(await api.get(f"/v1/inbox{query}"), 200)["items"]]


class TestList:
    async def test_filters_and_pages(self, api: Api, database: Database) -> None:
        pending = await add(database, api, external_id="a")
        dead = await add(database, api, external_id="b", status="dead", error="ValueError: no")
        done = await add(database, api, external_id="c", status="done", connection_id=pending.connection_id)

        assert await listed(api) == [public(done), public(dead), public(pending)]
        assert await listed(api, "?status=dead") == [public(dead)]
        assert await listed(api, "?external_id=c") == [public(done)]
        connection = ids.public("con", pending.connection_id)
        assert await listed(api, f"?connection_id={connection}") == [public(done), public(pending)]
        first = body(await api.get("/v1/inbox?limit=2"), 200)
        rest = body(await api.get(f"/v1/inbox?limit=2&cursor={first['next_cursor']}"), 200)
        assert [one["id"] for one in first["items"] + rest["items"]] == await listed(api)
        assert rest["next_cursor"] is None

    async def test_shows_the_size_and_not_the_content(self, api: Api, database: Database) -> None:
        row = await add(database, api, status="dead", error="ValueError: no", attempts=8, duplicates=2)

        [shown] = body(await api.get("/v1/inbox"), 200)["items"]

        assert shown["size_bytes"] == len(row.body)
        assert (shown["error"], shown["attempts"], shown["duplicates"]) == ("ValueError: no", 8, 2)
        assert "body" not in shown

    async def test_one_with_its_content(self, api: Api, database: Database) -> None:
        row = await add(database, api, body=b'{"text":"\xff"}')

        shown = body(await api.get(f"/v1/inbox/{public(row)}"), 200)

        assert shown["body"] == '{"text":"\ufffd"}'
        assert shown["headers"] == {"content-type": "application/json"}


class TestReplay:
    async def state(self, database: Database, api: Api, row: InboxMessage) -> str:
        async with database.transaction() as session:
            return (await repository.InboxRepository(session, api.tenant_id).get(row.id)).status

    @pytest.mark.parametrize(("status", "count"), [("dead", 1), ("done", 1), ("pending", 0)])
    async def test_one(self, api: Api, database: Database, status: str, count: int) -> None:
        row = await add(
            database,
            api,
            status=status,
            attempts=3,
            error="x",
            next_attempt_at=clock.now() + timedelta(hours=1),
        )

        answer = await api.post(f"/v1/inbox/{public(row)}/replay")

        assert body(answer, 200) == {"replayed": count}
        shown = body(await api.get(f"/v1/inbox/{public(row)}"), 200)
        assert shown["status"] == "pending"
        assert shown["attempts"] == (0 if count else 3)

    async def test_by_filter_only_dead_letters(self, api: Api, database: Database) -> None:
        old = await add(database, api, status="dead", created_at=clock.now() - timedelta(days=3))
        new = await add(database, api, status="dead")
        done = await add(database, api, status="done")

        async def replay(**wanted: str) -> int:
            return int(body(await api.post("/v1/inbox/replay", json=wanted), 200)["replayed"])

        yesterday = clock.rfc3339(clock.now() - timedelta(days=1))
        assert await replay(connection_id=ids.public("con", done.connection_id)) == 0
        assert await replay(received_to=yesterday) == 1
        assert await self.state(database, api, old) == "pending"
        assert await self.state(database, api, new) == "dead"
        assert await replay(received_from=yesterday, connection_id=ids.public("con", new.connection_id)) == 1
        assert await replay() == 0
        assert await self.state(database, api, done) == "done"

    async def test_is_bounded(self, api: Api, database: Database) -> None:
        for _ in range(3):
            await add(database, api, status="dead")
        async with database.transaction() as session:
            assert await repository.replay(session, api.tenant_id, limit=2) == 2
            assert await repository.replay(session, api.tenant_id, limit=2) == 1

    @pytest.mark.parametrize(
        "wanted", [{"colour": 1}, {"received_from": "2026-01-01T00:00:00"}, {"connection_id": "inm_1"}]
    )
    async def test_bad_input_is_refused(self, api: Api, wanted: dict[str, Any]) -> None:
        problem(await api.post("/v1/inbox/replay", json=wanted), 422, "invalid_input")


class TestTenants:
    async def test_another_tenants_events_do_not_exist(self, api: Api, make_api: MakeApi, database: Database) -> None:
        owner = await make_api()
        row = await add(database, owner, status="dead")

        for path in (f"/v1/inbox/{public(row)}", f"/v1/inbox/{NOBODY}"):
            problem(await api.get(path), 404, "not_found")
            problem(await api.post(f"{path}/replay"), 404, "not_found")
        assert await listed(api) == []
        assert body(await api.post("/v1/inbox/replay", json={}), 200) == {"replayed": 0}
        assert await listed(owner, "?status=dead") == [public(row)]

    @pytest.mark.parametrize(
        ("method", "path", "scope"),
        [
            ("GET", "/v1/inbox", "inbox:read"),
            ("GET", f"/v1/inbox/{NOBODY}", "inbox:read"),
            ("POST", f"/v1/inbox/{NOBODY}/replay", "inbox:write"),
            ("POST", "/v1/inbox/replay", "inbox:write"),
        ],
    )
    async def test_a_key_needs_the_scope(self, make_api: MakeApi, method: str, path: str, scope: str) -> None:
        weak = await make_api("tickets:write" if scope == "inbox:read" else "inbox:read")

        found = problem(await weak.request(method, path), 403, "forbidden")

        assert found["needed_scope"] == scope


class TestRetention:
    async def test_handled_events_go_and_dead_letters_stay(self, api: Api, database: Database) -> None:
        old = clock.now() - timedelta(days=40)
        kept = [
            await add(database, api, status="dead", created_at=old),
            await add(database, api, status="pending", created_at=old),
            await add(database, api, status="done"),
        ]
        for _ in range(3):
            await add(database, api, status="done", created_at=old)

        async with database.transaction() as session:
            before = clock.now() - timedelta(days=30)
            assert await repository.prune(session, before=before, limit=2) == 2
            assert await repository.prune(session, before=before, limit=2) == 1

        assert set(await listed(api)) == {public(row) for row in kept}
