"""The OpenAPI document: it is the file that clients are made from, so it is complete, valid and kept."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from app.core import contract
from app.operations import openapi_document
from app.schema import ROOT
from tests.support.application import body, problem

DOCUMENT: dict[str, Any] = json.loads(openapi_document())
METHODS = ("get", "put", "post", "patch", "delete")


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    spec: dict[str, Any]

    @property
    def name(self) -> str:
        """For reports."""
        return f"{self.method.upper()} {self.path}"


def operations() -> Iterator[Operation]:
    for path, item in DOCUMENT["paths"].items():
        for method in METHODS:
            if method in item:
                yield Operation(method, path, item[method])


OPERATIONS = list(operations())
every_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.name)
API = [one for one in OPERATIONS if one.path.startswith("/v1/")]
every_api_operation = pytest.mark.parametrize("operation", API, ids=lambda one: one.name)


def test_the_kept_document_is_the_present_one() -> None:
    """A change of the contract is seen in review because this file changes: `make openapi`."""
    kept = ROOT / "openapi" / "service.json"

    assert kept.is_file(), "run: make openapi"
    assert kept.read_text() == openapi_document(), "run: make openapi, and look at the difference"


def test_it_is_openapi_3_1() -> None:
    """Clients are generated from it, and a generator stops at the first schema that is none."""
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert DOCUMENT["info"]["title"] == "Parhelion"
    schemas = DOCUMENT["components"]["schemas"]
    for name, schema in schemas.items():
        Draft202012Validator.check_schema(schema)
        assert schema.get("title") or schema.get("enum") or schema.get("anyOf") or schema.get("type"), name


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for one in value.values():
            yield from _references(one)
    elif isinstance(value, list):
        for one in value:
            yield from _references(one)


def test_every_reference_leads_somewhere() -> None:
    """A dangling reference breaks every generator."""
    missing = []
    for reference in set(_references(DOCUMENT)):
        here: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            here = here.get(step, {}) if isinstance(here, dict) else {}
        if not here:
            missing.append(reference)
    assert missing == []


def test_operation_ids_are_unique_and_readable() -> None:
    """They become the function names of generated clients."""
    found = [one.spec["operationId"] for one in OPERATIONS]

    assert len(set(found)) == len(found)
    assert all(name.isidentifier() and name == name.lower() for name in found)


@every_operation
def test_says_what_it_does(operation: Operation) -> None:
    """Whoever reads the list of operations finds the one that is wanted."""
    assert operation.spec.get("summary")
    assert operation.spec.get("description"), operation.name
    assert operation.spec.get("tags")


def _examples(schema: dict[str, Any]) -> list[Any]:
    if "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]]
    found = list(schema.get("examples", []))
    if not found and "items" in schema.get("properties", {}):
        found = _examples(schema["properties"]["items"]["items"])
    if not found and schema.get("type") == "array":
        found = _examples(schema["items"])
    return found


@every_operation
def test_shows_its_answer(operation: Operation) -> None:
    """An answer without a shape cannot be used, one without an example is guessed at."""
    success = {code: one for code, one in operation.spec["responses"].items() if code.startswith("2")}

    assert success, "no 2xx is documented"
    for code, answer in success.items():
        if code == "204":
            continue
        for media, content in answer.get("content", {}).items():
            if media == "application/json" and operation.path.startswith(("/v1/", "/hooks")):
                shown = content.get("example") or content.get("examples") or _examples(content["schema"])
                assert shown, f"no example of the {code} of {operation.name}"


@every_operation
def test_shows_what_to_send(operation: Operation) -> None:
    """An example of the body is what people copy."""
    sent = operation.spec.get("requestBody")
    if sent is None:
        return
    for content in sent["content"].values():
        shown = content.get("example") or content.get("examples") or _examples(content["schema"])
        assert shown, operation.name


def _validator(schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": DOCUMENT["components"]})


@pytest.mark.parametrize("name", sorted(DOCUMENT["components"]["schemas"]))
def test_examples_fit_their_schema(name: str) -> None:
    """An example that the service itself would refuse teaches the wrong thing."""
    schema = DOCUMENT["components"]["schemas"][name]
    for example in schema.get("examples", []):
        if isinstance(example, dict) and set(example) & set(schema.get("properties", {})):
            errors = [error.message for error in _validator(schema).iter_errors(example)]
            assert errors == []


@every_api_operation
def test_promises_its_problems(operation: Operation) -> None:
    """Each failure that a route can answer with is in the contract, as a problem with its code."""
    responses = operation.spec["responses"]
    for code in ("401", "403", "422", "503"):
        assert code in responses, f"{operation.name} lacks {code}"
    if "{" in operation.path and not operation.path.endswith("{kind}"):
        assert "404" in responses
    needs_version = any(one["name"].lower() == "if-match" for one in operation.spec.get("parameters", []))
    if needs_version:
        assert {"412", "428"} <= set(responses)
    for code, answer in responses.items():
        if code.startswith(("4", "5")):
            [(media, content)] = answer["content"].items()
            assert media == "application/problem+json", f"{operation.name} {code}"
            for problem_code, example in content.get("examples", {}).items():
                assert example["value"]["code"] == problem_code
                assert example["value"]["status"] == int(code)


@every_api_operation
def test_needs_a_key(operation: Operation) -> None:
    """A route that forgot its security is open to everyone."""
    schemes = DOCUMENT["components"].get("securitySchemes", {})
    named = [name for one in operation.spec.get("security", DOCUMENT.get("security", [])) for name in one]

    assert named
    assert set(named) <= set(schemes)


@every_api_operation
async def test_answers_a_stranger_with_401(operation: Operation, client: httpx.AsyncClient) -> None:
    """The document says that a key is needed; the service says so, too, before it looks at anything else."""
    path = operation.path
    for parameter in operation.spec.get("parameters", []):
        if parameter["in"] == "path":
            path = path.replace("{" + parameter["name"] + "}", _some_id(parameter["schema"]))

    answer = await client.request(operation.method, path)

    problem(answer, 401, "unauthenticated")


def _some_id(schema: dict[str, Any]) -> str:
    pattern: str = schema.get("pattern", "^x")
    return pattern.lstrip("^").split("[")[0] + "0" * 32


class TestProblemPages:
    async def test_every_code_in_the_contract_has_a_page(self, client: httpx.AsyncClient) -> None:
        promised = {
            code
            for one in OPERATIONS
            for answer in one.spec["responses"].values()
            for code in answer.get("content", {}).get("application/problem+json", {}).get("examples", {})
        }
        assert len(promised) > 10
        for code in sorted(promised):
            page = body(await client.get(f"/problems/{code}"), 200)
            assert (page["code"], page["type"]) == (code, f"/problems/{code}")
            assert page["meaning"]
            assert page["what_to_do"]

    async def test_the_list_holds_every_kind(self, client: httpx.AsyncClient) -> None:
        listed = body(await client.get("/problems"), 200)

        assert [one["code"] for one in listed] == sorted(contract.kinds())

    async def test_a_browser_gets_a_page(self, client: httpx.AsyncClient) -> None:
        page = await client.get("/problems/not_found", headers={"accept": "text/html,*/*"})

        assert page.headers["content-type"].startswith("text/html")
        assert "<h1>Not found</h1>" in page.text

    async def test_an_unknown_code_is_said(self, client: httpx.AsyncClient) -> None:
        problem(await client.get("/problems/<script>"), 404, "unknown_problem")


async def test_the_service_serves_the_same_document(client: httpx.AsyncClient) -> None:
    """What runs and what is kept must not differ."""
    served = body(await client.get("/openapi.json"), 200)

    assert served == DOCUMENT
