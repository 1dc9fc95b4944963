"""Failures as answers."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import pytest
import pytest_asyncio
from fastapi import Body, FastAPI, Header
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from sqlalchemy import text

from app.core import contract, problems
from app.core.config import Settings
from app.core.db.engine import create_engine
from app.core.db.session import Database, Session
from app.core.errors import AppError, Conflict, NotFound
from app.core.middleware import Edge
from app.core.problems import pointer_of
from app.core.strict import In, strict_router
from tests.support.application import body, problem
from tests.support.database import make_settings

router = strict_router("/v1/things", tags=["things"])


class Part(In):
    """A part of a thing."""

    size: int = Field(ge=1)


class Thing(In):
    """A thing."""

    name: str = Field(min_length=1)
    parts: list[Part] = Field(default_factory=list)
    by_name: dict[str, Part] = Field(default_factory=dict)


@router.post("", summary="Make a thing")
async def create_thing(thing: Thing) -> dict[str, str]:
    return {"name": thing.name}


@router.get("/{number}", summary="Look at a thing")
async def get_thing(number: int, limit: int = 5, x_mood: Annotated[int | None, Header()] = None) -> dict[str, int]:
    return {"number": number, "limit": limit}


@router.patch("/{number}", summary="Change a thing")
async def change_thing(number: int) -> dict[str, int]:
    return {"number": number}


@router.post("/fail/{how}", summary="Fail")
async def fail(how: str) -> None:
    failures: dict[str, Exception] = {
        "bug": RuntimeError("canary-internal-text"),
        "plain": AppError("canary-internal-text"),
        "named": Conflict("It is taken.", next_step="Choose another.", taken_by="con_1"),
        "os": OSError("canary-internal-text"),
    }
    raise failures[how]


@router.post("/sql/{how}", summary="Ask the database something it refuses")
async def refuse(how: str, session: Session, payload: Annotated[Any, Body()] = None) -> None:
    statements = {
        "slow": "SELECT pg_sleep(30)",
        "locked": "LOCK TABLE tenant IN ACCESS EXCLUSIVE MODE NOWAIT",
        "bug": "SELECT no_such_column FROM tenant",
        "nul": "SELECT cast(:value AS text)",
        "twice": "INSERT INTO tenant (id, name, created_at, version, updated_at) VALUES "
        "(:id, 'x', now(), 1, now()), (:id, 'x', now(), 1, now())",
        "killed": "SELECT pg_terminate_backend(pg_backend_pid())",
    }
    values = {"nul": {"value": "a\x00b"}, "twice": {"id": "00000000-0000-7000-8000-000000000001"}}.get(how, {})
    connection = await session.connection()
    await connection.execute(text(statements[how]), values)


def things_app(settings: Settings, database: Database) -> FastAPI:
    app = FastAPI()
    app.state.database = database
    app.include_router(router)
    problems.install(app)
    contract.install(app)
    app.add_middleware(Edge, settings=settings)
    return app


@pytest_asyncio.fixture
async def things(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    settings = make_settings(database_url, database_statement_timeout_seconds=1, api_body_max_bytes=2000)
    database = Database(create_engine(settings, application_name="tests"))
    transport = httpx.ASGITransport(app=things_app(settings, database))
    async with httpx.AsyncClient(transport=transport, base_url="http://parhelion.test") as client:
        yield client
    await database.aclose()


class TestInput:
    @pytest.mark.parametrize(
        ("sent", "pointers"),
        [
            ({}, ["/name"]),
            ({"name": "", "parts": [{"size": 1}, {"size": 0}]}, ["/name", "/parts/1/size"]),
            ({"name": "a", "parts": [{}]}, ["/parts/0/size"]),
            ({"name": "a", "colour": 1, "parts": [{"size": 1, "weight": 2}]}, ["/parts/0/weight", "/colour"]),
            ({"name": "a", "by_name": {"x/y~z": {"size": 0}}}, ["/by_name/x~1y~0z/size"]),
            ([], [""]),
        ],
    )
    async def test_every_place_is_pointed_at(self, things: httpx.AsyncClient, sent: Any, pointers: list[str]) -> None:
        found = problem(await things.post("/v1/things", json=sent), 422, "invalid_input")

        assert sorted(error["pointer"] for error in found["errors"]) == sorted(pointers)
        assert found["next_step"]

    async def test_path_query_and_header(self, things: httpx.AsyncClient) -> None:
        answer = await things.get("/v1/things/abc", params={"limit": "many"}, headers={"X-Mood": "good"})

        found = problem(answer, 422, "invalid_input")
        assert {error["pointer"] for error in found["errors"]} == {"path:number", "?limit", "header:x-mood"}

    async def test_an_unknown_parameter_is_refused_with_the_likely_one(self, things: httpx.AsyncClient) -> None:
        found = problem(await things.get("/v1/things/1", params={"limt": 3, "z": 1}), 422, "invalid_input")

        assert found["errors"] == [
            {"pointer": "?limt", "message": "is not a parameter of this route; did you mean 'limit'?"},
            {"pointer": "?z", "message": "is not a parameter of this route; known parameters: limit"},
        ]

    async def test_the_input_itself_is_not_repeated(self, things: httpx.AsyncClient) -> None:
        answer = await things.post("/v1/things", json={"name": 5, "canary-free": "canary-value", "parts": "canary-2"})

        assert "canary-value" not in answer.text
        assert "canary-2" not in answer.text

    @pytest.mark.parametrize("sent", [b"{", b"", b"\xff\xfe{}", b"[" * 100_0, b'{"name": "a"'])
    async def test_what_is_not_json(self, things: httpx.AsyncClient, sent: bytes) -> None:
        answer = await things.post("/v1/things", content=sent, headers={"Content-Type": "application/json"})

        assert answer.status_code == (422 if sent == b"" else 400), answer.text
        assert answer.headers["content-type"] == "application/problem+json"

    async def test_what_is_not_said_to_be_json(self, things: httpx.AsyncClient) -> None:
        answer = await things.post("/v1/things", content=b'{"name": "a"}', headers={"Content-Type": "text/plain"})

        problem(answer, 415, "unsupported_media_type")


class TestRoutes:
    async def test_no_such_path(self, things: httpx.AsyncClient) -> None:
        problem(await things.get("/v2/things"), 404, "no_such_route")

    async def test_no_such_method(self, things: httpx.AsyncClient) -> None:
        answer = await things.put("/v1/things/1")

        problem(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == "GET, PATCH", "every method of the path, not those of its first route"


class TestFailures:
    async def test_a_named_one_says_what_and_what_next(self, things: httpx.AsyncClient) -> None:
        found = problem(await things.post("/v1/things/fail/named"), 409, "conflict")

        assert found["detail"] == "It is taken."
        assert found["next_step"] == "Choose another."
        assert found["taken_by"] == "con_1"
        assert found["instance"] == "/v1/things/fail/named"

    @pytest.mark.parametrize("how", ["bug", "plain", "os"])
    async def test_an_unnamed_one_tells_only_where_to_look(self, things: httpx.AsyncClient, how: str) -> None:
        answer = await things.post(f"/v1/things/fail/{how}")

        found = problem(answer, 500, "internal_error")
        assert "detail" not in found
        assert "canary" not in answer.text


class TestDatabase:
    @pytest.mark.parametrize("how", ["slow", "killed"])
    async def test_what_passes_by_itself_is_unavailable(self, things: httpx.AsyncClient, how: str) -> None:
        answer = await things.post(f"/v1/things/sql/{how}")

        problem(answer, 503, "unavailable")
        assert answer.headers["retry-after"] == "5"

    async def test_a_lock_that_is_not_given(self, things: httpx.AsyncClient, database: Database) -> None:
        async with database.transaction() as session:
            await (await session.connection()).execute(text("LOCK TABLE tenant IN ACCESS SHARE MODE"))

            answer = await things.post("/v1/things/sql/locked")

        problem(answer, 503, "unavailable")

    async def test_a_race_for_the_same_thing_is_a_conflict(self, things: httpx.AsyncClient) -> None:
        problem(await things.post("/v1/things/sql/twice"), 409, "conflict")

    async def test_a_character_that_cannot_be_stored_is_the_callers(self, things: httpx.AsyncClient) -> None:
        problem(await things.post("/v1/things/sql/nul"), 422, "invalid_input")

    async def test_our_own_mistake_is_not_called_an_outage(self, things: httpx.AsyncClient) -> None:
        problem(await things.post("/v1/things/sql/bug"), 500, "internal_error")

    @pytest.mark.parametrize(
        "url", ["postgresql://nobody@127.0.0.1:1/none", "postgresql://nobody@/none?host=/nowhere/at/all"]
    )
    async def test_no_database_at_all(self, url: str) -> None:
        settings = make_settings(url)
        database = Database(create_engine(settings, application_name="tests"))
        transport = httpx.ASGITransport(app=things_app(settings, database))
        async with httpx.AsyncClient(transport=transport, base_url="http://parhelion.test") as client:
            answer = await client.post("/v1/things/sql/slow")
        await database.aclose()

        problem(answer, 503, "unavailable")


class TestBody:
    async def test_one_that_says_it_is_too_large(self, things: httpx.AsyncClient) -> None:
        answer = await things.post("/v1/things", json={"name": "x" * 2000})

        problem(answer, 413, "body_too_large")

    async def test_one_in_pieces_that_does_not_say(self, things: httpx.AsyncClient) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            yield b'{"name": "'
            for _ in range(30):
                yield b"x" * 100
            yield b'"}'

        answer = await things.post("/v1/things", content=pieces(), headers={"Content-Type": "application/json"})

        problem(answer, 413, "body_too_large")

    async def test_one_just_below_the_cap(self, things: httpx.AsyncClient) -> None:
        sent = b'{"name": "' + b"x" * (2000 - 12) + b'"}'
        assert len(sent) == 2000

        answer = await things.post("/v1/things", content=sent, headers={"Content-Type": "application/json"})

        body(answer, 200)


steps = st.one_of(st.text(), st.integers(-2, 5))


@given(
    location=st.lists(steps, max_size=5).map(lambda rest: ["body", *rest]),
    sent=st.recursive(
        st.none() | st.text() | st.integers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    ),
)
def test_a_pointer_is_always_a_json_pointer(location: list[Any], sent: Any) -> None:
    found = pointer_of(location, sent)

    assert found == "" or found.startswith("/")


class TestContract:
    async def test_every_kind_of_problem_is_explained(self, things: httpx.AsyncClient) -> None:
        kinds = body(await things.get("/problems"), 200)

        assert len(kinds) > 10
        for kind in kinds:
            assert body(await things.get(kind["type"]), 200) == kind
            assert len(kind["meaning"]) > 20, kind
            assert kind["what_to_do"]

    async def test_a_browser_gets_a_page(self, things: httpx.AsyncClient) -> None:
        answer = await things.get("/problems/not_found", headers={"Accept": "text/html,*/*"})

        assert answer.headers["content-type"].startswith("text/html")
        assert f"<h1>{NotFound.title}</h1>" in answer.text

    async def test_an_unknown_code_is_a_problem_too(self, things: httpx.AsyncClient) -> None:
        problem(await things.get("/problems/nothing"), 404, "unknown_problem")

    async def test_openapi_knows_the_problem_and_not_the_frameworks_own(self, things: httpx.AsyncClient) -> None:
        document = body(await things.get("/openapi.json"), 200)

        schemas = document["components"]["schemas"]
        assert "Problem" in schemas
        assert "FieldError" in schemas
        assert "HTTPValidationError" not in str(document)
        answers = document["paths"]["/v1/things"]["post"]["responses"]
        assert answers["422"]["content"]["application/problem+json"]["schema"] == {
            "$ref": "#/components/schemas/Problem"
        }
        assert (
            answers["401"]["content"]["application/problem+json"]["examples"]["unauthenticated"]["value"]["status"]
            == 401
        )
