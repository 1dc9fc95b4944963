"""Syncs that people ask for, over HTTP."""

from datetime import timedelta

import pytest

from app.core import clock, ids
from app.core.db.session import Database
from tests.support.application import Api, body, problem
from tests.sync.over_http import add_link, add_run, create

pytestmark = pytest.mark.usefixtures("testdesk")


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
