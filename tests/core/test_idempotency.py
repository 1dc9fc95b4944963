"""``Idempotency-Key`` on creating requests."""

import asyncio
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import event
from sqlmodel import select

from app.auth.models import ApiKey
from app.core import clock
from app.core.config import generate_key, parse_keys
from app.core.crypto import Vault
from app.core.db import idempotency as store
from app.core.db.idempotency import IdempotencyRecord
from app.core.db.session import Database
from tests.support.application import Api, MakeApi, body, problem

WANTED = {"name": "made once", "scopes": ["keys:read"]}


async def create(api: Api, key: str | None, wanted: dict[str, Any] | None = None) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key is not None else {}
    return await api.post("/v1/api-keys", json=wanted or WANTED, headers=headers)


async def made(database: Database) -> int:
    async with database.transaction() as session:
        return len((await session.exec(select(ApiKey).where(ApiKey.name == "made once"))).all())


async def test_sent_again_it_gives_the_same_answer_and_makes_nothing(api: Api, database: Database) -> None:
    first = await create(api, "k-1")
    again = await create(api, "k-1")

    assert body(again, 201) == body(first, 201)
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    for header in ("etag", "location", "content-type"):
        assert again.headers[header] == first.headers[header]
    assert await made(database) == 1


async def test_without_a_key_every_request_makes_one(api: Api, database: Database) -> None:
    await create(api, None)
    await create(api, None)

    assert await made(database) == 2


async def test_another_body_under_the_same_key_is_refused(api: Api, database: Database) -> None:
    body(await create(api, "k-1"), 201)

    found = problem(await create(api, "k-1", {**WANTED, "name": "other"}), 422, "idempotency_key_reused")

    assert found["errors"][0]["pointer"] == "header:Idempotency-Key"
    assert await made(database) == 1


async def test_a_refused_request_uses_nothing_up(api: Api, database: Database) -> None:
    problem(await create(api, "k-1", {"name": "", "scopes": []}), 422, "invalid_input")

    body(await create(api, "k-1"), 201)

    assert await made(database) == 1


async def test_keys_of_other_callers_and_other_paths_are_other_keys(
    api: Api, make_api: MakeApi, database: Database
) -> None:
    colleague = await make_api("keys:write", tenant_id=api.tenant_id)
    stranger = await make_api()

    for caller in (api, colleague, stranger):
        answer = body(await create(caller, "k-1"), 201)
        assert answer["name"] == "made once"
    assert await made(database) == 3


async def test_many_at_once_make_one(api: Api, database: Database) -> None:
    answers = await asyncio.gather(*(create(api, "k-1") for _ in range(8)))

    statuses = sorted(answer.status_code for answer in answers)
    assert set(statuses) <= {201, 409}
    assert 201 in statuses
    assert await made(database) == 1
    created = {answer.json()["id"] for answer in answers if answer.status_code == 201}
    assert len(created) == 1


async def test_while_the_first_is_being_worked_on_the_second_is_told(api: Api, database: Database) -> None:
    async with database.transaction() as session:
        async with database.transaction() as reading:
            [caller] = (await reading.exec(select(ApiKey.id).where(ApiKey.prefix == api.key.split("_")[1]))).all()
        name = f"idempotency:{api.tenant_id}:key_{caller.hex}:POST /v1/api-keys:k-1"
        assert await store.try_lock(session, name)

        answer = await create(api, "k-1")

    problem(answer, 409, "idempotency_key_in_flight")
    assert answer.headers["retry-after"] == "1"
    body(await create(api, "k-1"), 201)


async def test_a_commit_that_fails_leaves_neither_effect_nor_answer(
    api: Api, application: FastAPI, database: Database
) -> None:
    def fail(_connection: Any) -> None:
        raise ConnectionError("the commit fails")

    body(await api.get("/v1/api-keys"), 200)  # the caller's key is remembered, so only the creation commits
    engine = application.state.database.engine.sync_engine
    event.listen(engine, "commit", fail)
    try:
        broken = await create(api, "k-1")
    finally:
        event.remove(engine, "commit", fail)

    assert broken.status_code >= 500
    assert await made(database) == 0
    answer = await create(api, "k-1")
    assert body(answer, 201)["name"] == "made once"
    assert "idempotent-replayed" not in answer.headers


async def test_after_a_day_the_key_is_free_and_the_record_goes(api: Api, database: Database) -> None:
    body(await create(api, "k-1"), 201)
    body(await create(api, "k-2"), 201)

    with clock.shifted(timedelta(hours=24, seconds=1)):
        answer = await create(api, "k-1")
        async with database.transaction() as session:
            pruned = await store.prune_expired(session)

    assert "idempotent-replayed" not in answer.headers
    assert pruned == 1
    async with database.transaction() as session:
        assert [row.key for row in (await session.exec(select(IdempotencyRecord))).all()] == ["k-1"]


async def test_an_answer_sealed_under_a_lost_key_is_told(api: Api, application: FastAPI) -> None:
    body(await create(api, "k-1"), 201)
    application.state.vault = Vault(parse_keys(generate_key("k9")))

    problem(await create(api, "k-1"), 409, "idempotent_answer_unreadable")


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\tinside"])
async def test_a_key_has_to_be_one(api: Api, key: str) -> None:
    found = problem(await create(api, key), 422, "invalid_input")

    assert found["errors"][0]["pointer"].lower() == "header:idempotency-key"
