"""What the OpenAPI document promises about every route of /v1."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute

from app import api
from app.core import contract
from app.core.config import Settings
from app.core.strict import StrictRoute
from app.main import create_app
from tests.support.database import make_settings

SETTINGS: Settings = make_settings("postgresql://nobody@127.0.0.1:1/none")
DOCUMENT: dict[str, Any] = create_app(SETTINGS).openapi()


def operations() -> Iterator[Any]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield pytest.param(path, method, operation, id=f"{method.upper()} {path}")


ALL = list(operations())
V1 = [one for one in ALL if str(one.values[0]).startswith("/v1/")]


@pytest.mark.parametrize(("path", "method", "operation"), ALL)
def test_every_route_says_what_it_does(path: str, method: str, operation: dict[str, Any]) -> None:
    assert len(operation["summary"].split()) >= 2
    assert operation["operationId"].isidentifier()
    assert "Successful Response" not in operation["summary"]


@pytest.mark.parametrize(("path", "method", "operation"), V1)
def test_every_route_lists_its_problems(path: str, method: str, operation: dict[str, Any]) -> None:
    answers = operation["responses"]

    assert {"401", "403", "422", "503"} <= set(answers)
    if "{" in path:
        assert "404" in answers
    if "requestBody" in operation:
        assert {"400", "413", "415"} <= set(answers)
    for status, answer in answers.items():
        if int(status) >= 400:
            assert list(answer["content"]) == ["application/problem+json"], status
            for example in answer["content"]["application/problem+json"]["examples"].values():
                assert example["value"]["status"] == int(status)


@pytest.mark.parametrize(("path", "method", "operation"), V1)
def test_every_body_and_every_answer_has_an_example(path: str, method: str, operation: dict[str, Any]) -> None:
    def schema_of(content: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = content["application/json"]["schema"]
        while "$ref" in found:
            found = DOCUMENT["components"]["schemas"][found["$ref"].rsplit("/", 1)[-1]]
        if found.get("type") == "array":
            return schema_of({"application/json": {"schema": found["items"]}})
        if "items" in found.get("properties", {}):
            return schema_of({"application/json": {"schema": found["properties"]["items"]["items"]}})
        return found

    if "requestBody" in operation:
        assert schema_of(operation["requestBody"]["content"]).get("examples"), "the request body"
    for status, answer in operation["responses"].items():
        if int(status) < 300 and "content" in answer:
            assert schema_of(answer["content"]).get("examples"), f"the answer {status}"


@pytest.mark.parametrize(("path", "method", "operation"), V1)
def test_changes_take_if_match(path: str, method: str, operation: dict[str, Any]) -> None:
    headers = {one["name"].lower() for one in operation.get("parameters", []) if one["in"] == "header"}

    if "if-match" in headers:
        assert {"412", "428"} <= set(operation["responses"])
    if "idempotency-key" in headers:
        assert "idempotency_key_reused" in str(operation["responses"]["422"])
        assert "idempotency_key_in_flight" in str(operation["responses"]["409"])


def test_operation_ids_are_unique() -> None:
    found = [operation["operationId"] for methods in DOCUMENT["paths"].values() for operation in methods.values()]

    assert len(found) == len(set(found))


def test_every_route_of_v1_refuses_what_it_does_not_know() -> None:
    for router in api.ROUTERS:
        for route in router.routes:
            if isinstance(route, APIRoute) and route.path.startswith("/v1/"):
                assert isinstance(route, StrictRoute), route.path


def test_no_two_failures_share_a_code_but_not_a_status() -> None:
    kinds = contract.kinds()

    assert len(kinds) > 20
    assert all(code.replace("_", "").isalnum() and code.islower() for code in kinds)


def test_answers_have_every_field() -> None:
    """Output schemas have no defaults: a reader never has to guess what an absent field means."""
    schemas = DOCUMENT["components"]["schemas"]
    for name, schema in schemas.items():
        if name.endswith("Out"):
            assert set(schema.get("required", [])) == set(schema["properties"]), name
