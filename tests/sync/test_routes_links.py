"""Ticket links over HTTP."""

from datetime import timedelta

import pytest

from app.core import clock, ids
from app.core.db.session import Database
from app.sync.models import LinkChange
from tests.support.application import Api, body, problem
from tests.sync.over_http import add_link, create

pytestmark = pytest.mark.usefixtures("testdesk")


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

        assert found["state"] == "new"
        assert found["waiting_since"] is not None

    @pytest.mark.parametrize("state", ["merged", "unlinked", "paused"])
    async def test_resync_of_a_link_that_ended_is_refused(self, api: Api, database: Database, state: str) -> None:
        made = await create(api)
        link_id = await add_link(database, api, made, source_ticket_id="42", state=state)

        answer = await api.post(f"/v1/ticket-links/{link_id}/resync")

        assert problem(answer, 409, "relationship_state")["next_step"]
