"""The outbox over HTTP: what is owed, what failed and why, trying again."""

from dataclasses import dataclass
from typing import Any

import pytest

from app.core import ids
from app.core.db.session import Database
from app.outbox import repository
from app.outbox.commands import NewCommand
from app.outbox.models import OutboundAttempt
from tests.support.application import Api, MakeApi, body, problem
from tests.support.rows import Pair, add_link, add_pair, command_for, read_command

NOBODY = "cmd_" + "0" * 32


@dataclass(frozen=True)
class Owner:
    """A tenant with a pair of connections, and its admin."""

    api: Api
    pair: Pair


@pytest.fixture
async def owner(make_api: MakeApi, database: Database) -> Owner:
    pair = await add_pair(database)
    return Owner(await make_api("admin", tenant_id=pair.tenant_id), pair)


async def add(database: Database, pair: Pair, *, status: str = "pending", **changes: Any) -> NewCommand:
    command = command_for(pair, await add_link(database, pair), **changes)
    async with database.transaction() as session:
        await repository.enqueue(session, [command])
    row = await read_command(database, command.key)
    async with database.transaction() as session:
        if status == "dead":
            await repository.bury(
                session,
                row.id,
                error_class="workflow_blocked",
                error_detail="not at this step",
                next_step="Allow the outcome.",
                in_doubt=False,
            )
            attempt = OutboundAttempt(tenant_id=pair.tenant_id, command_id=row.id, outcome="refused")
            await repository.record_attempts(session, [attempt])
        if status == "done":
            await repository.finish_many(session, {row.id: "77"})
    return command


async def public(database: Database, command: NewCommand) -> str:
    return ids.public("cmd", (await read_command(database, command.key)).id)


class TestList:
    async def test_filters_and_pages(self, owner: Owner, database: Database) -> None:
        pending = await add(database, owner.pair)
        dead = await add(database, owner.pair, status="dead", connection_id=owner.pair.source_id)
        done = await add(database, owner.pair, status="done", kind="ticket.change")
        names = {await public(database, one): one for one in (pending, dead, done)}

        async def listed(query: str = "") -> list[str]:
            items = body(await owner.api.get(f"/v1/outbox{query}"), 200)["items"]
            return [names[one["id"]].key for one in items]

        assert await listed() == [done.key, dead.key, pending.key]
        assert await listed("?status=dead") == [dead.key]
        assert await listed("?kind=ticket.change") == [done.key]
        assert await listed(f"?connection_id={ids.public('con', owner.pair.source_id)}") == [dead.key]
        assert await listed(f"?ticket_link_id={ids.public('tkl', pending.subject_id)}") == [pending.key]
        first = body(await owner.api.get("/v1/outbox?limit=2&sort=created_at"), 200)
        rest = body(await owner.api.get(f"/v1/outbox?sort=created_at&cursor={first['next_cursor']}"), 200)
        assert [names[one["id"]].key for one in (*first["items"], *rest["items"])] == [
            pending.key,
            dead.key,
            done.key,
        ]

    async def test_one_with_its_content_and_its_history(self, owner: Owner, database: Database) -> None:
        dead = await add(database, owner.pair, status="dead")

        shown = body(await owner.api.get(f"/v1/outbox/{await public(database, dead)}"), 200)

        assert shown["body"] == dead.body
        assert shown["next_step"] == "Allow the outcome."
        assert shown["in_doubt"] is False
        assert [one["outcome"] for one in shown["history"]] == ["refused"]


class TestReplay:
    async def test_a_dead_letter_is_due_again(self, owner: Owner, database: Database) -> None:
        dead = await add(database, owner.pair, status="dead")

        answer = await owner.api.post(f"/v1/outbox/{await public(database, dead)}/replay")

        shown = body(answer, 200)
        assert (shown["status"], shown["attempts"], shown["in_doubt"]) == ("pending", 0, True)

    @pytest.mark.parametrize("status", ["pending", "done"])
    async def test_what_is_not_dead_is_left_alone(self, owner: Owner, database: Database, status: str) -> None:
        command = await add(database, owner.pair, status=status)

        answer = await owner.api.post(f"/v1/outbox/{await public(database, command)}/replay")

        problem(answer, 409, "not_a_dead_letter")
        assert (await read_command(database, command.key)).status == status

    async def test_by_filter(self, owner: Owner, database: Database) -> None:
        for _ in range(3):
            await add(database, owner.pair, status="dead")

        async def replay(**wanted: str) -> int:
            return int(body(await owner.api.post("/v1/outbox/replay", json=wanted), 200)["replayed"])

        assert await replay(error_class="rate") == 0
        assert await replay(connection_id=ids.public("con", owner.pair.source_id)) == 0
        assert await replay(error_class="workflow_blocked") == 3
        assert await replay() == 0


class TestTenants:
    async def test_another_tenants_writes_do_not_exist(self, api: Api, owner: Owner, database: Database) -> None:
        dead = await add(database, owner.pair, status="dead")

        for path in (f"/v1/outbox/{await public(database, dead)}", f"/v1/outbox/{NOBODY}"):
            problem(await api.get(path), 404, "not_found")
            problem(await api.post(f"{path}/replay"), 404, "not_found")
        assert body(await api.get("/v1/outbox"), 200)["items"] == []
        assert body(await api.post("/v1/outbox/replay", json={}), 200) == {"replayed": 0}
        assert (await read_command(database, dead.key)).status == "dead"

    @pytest.mark.parametrize(
        ("method", "path", "scope"),
        [
            ("GET", "/v1/outbox", "tickets:read"),
            ("GET", f"/v1/outbox/{NOBODY}", "tickets:read"),
            ("POST", f"/v1/outbox/{NOBODY}/replay", "tickets:write"),
            ("POST", "/v1/outbox/replay", "tickets:write"),
        ],
    )
    async def test_a_key_needs_the_scope(self, make_api: MakeApi, method: str, path: str, scope: str) -> None:
        weak = await make_api("inbox:write" if scope == "tickets:read" else "tickets:read")

        found = problem(await weak.request(method, path), 403, "forbidden")

        assert found["needed_scope"] == scope
