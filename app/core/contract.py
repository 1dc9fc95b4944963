"""What the service says about its own failures: the Problem schema in OpenAPI and a page for each problem
type."""

import html
import inspect
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, Field

from app.core.errors import AppError, NotFound, TooLarge
from app.core.problems import MEDIA_TYPE, MalformedBody, Problem, UnsupportedMediaType, problems
from app.core.strict import Out

_BY_STATUS = {
    400: "Correct the request and send it again; the same request will be refused again.",
    401: "Send an API key that is valid now: Authorization: Bearer phk_…",
    403: "Use an API key that has the scope the answer names.",
    404: "Check the id and the path. Rows of another tenant answer the same way as rows that do not exist.",
    405: "Use one of the methods in the Allow header.",
    409: "Read the resource as it is now, then decide whether the request still makes sense.",
    412: "Read the resource again, apply the change to it, and send the new ETag in If-Match.",
    413: "Send less at once.",
    415: "Send JSON with the header Content-Type: application/json.",
    422: "Correct every place listed under errors and send the request again.",
    428: "Read the resource and send its ETag in the If-Match header.",
    429: "Wait as long as the Retry-After header says.",
    502: "The outside system refused or failed. Follow the next_step; nothing is lost on our side.",
    503: "Wait as long as the Retry-After header says and send the same request again.",
    504: "The outside system took too long. Try again; look there first if something was being created.",
}


class ProblemType(BaseModel):
    """One kind of problem, explained."""

    code: str = Field(description="The `code` member of the problem.")
    type: str = Field(description="The `type` member of the problem.")
    title: str
    status: int
    meaning: str = Field(description="When this happens.")
    what_to_do: str


def kinds() -> dict[str, type[AppError]]:
    """Every named failure that is loaded, by code. Raises ``ValueError`` when two share a code but not a
    status."""
    found: dict[str, type[AppError]] = {}
    for kind in _with_subclasses(AppError):
        first = found.setdefault(kind.code, kind)
        if first.status != kind.status:
            raise ValueError(f"{first.__qualname__} and {kind.__qualname__} share the code {kind.code}")
    return found


def _with_subclasses(kind: type[AppError]) -> Iterator[type[AppError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _with_subclasses(child)


def explain(kind: type[AppError]) -> ProblemType:
    """A kind of problem in words for a person: its docstring says when it happens."""
    meaning = " ".join((inspect.getdoc(kind) or kind.title).replace("``", "").split())
    if kind is AppError:
        meaning = "A failure that nobody foresaw. Its cause stands in the logs under the correlation id."
    advice = _BY_STATUS.get(kind.status, "Try again; if it stays, report it with the correlation id.")
    return ProblemType(
        code=kind.code,
        type=f"/problems/{kind.code}",
        title=kind.title,
        status=kind.status,
        meaning=meaning,
        what_to_do=advice,
    )


def _page(shown: ProblemType) -> str:
    def text(value: object) -> str:
        return html.escape(str(value))

    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        f"<title>{text(shown.title)}</title><main><h1>{text(shown.title)}</h1>"
        f"<p><code>{text(shown.code)}</code>, HTTP {text(shown.status)}</p>"
        f"<p>{text(shown.meaning)}</p><p>{text(shown.what_to_do)}</p></main>"
    )


class UnknownProblem(NotFound):
    """No kind of problem has this code."""

    code = "unknown_problem"
    title = "There is no such problem type"


router = APIRouter(tags=["problems"], generate_unique_id_function=lambda route: route.name)


@router.get(
    "/problems/{code}",
    summary="Explain one kind of problem",
    description="The `type` member of every problem points here. JSON, or a page when a browser asks.",
    response_model=ProblemType,
    responses=problems(UnknownProblem),
)
async def explain_problem(code: str, request: Request) -> Response:
    """What a problem's code means and what to do about it."""
    kind = kinds().get(code)
    if kind is None:
        raise UnknownProblem(f"No problem has the code '{code[:60]}'.", next_step="See GET /problems for all codes.")
    shown = explain(kind)
    if "text/html" in request.headers.get("accept", ""):
        return HTMLResponse(_page(shown))
    return JSONResponse(shown.model_dump())


@router.get("/problems", summary="List every kind of problem", response_model=list[ProblemType])
async def list_problems() -> list[ProblemType]:
    """Every kind of problem that this service answers with, by code."""
    return [explain(kind) for _code, kind in sorted(kinds().items())]


def install(app: FastAPI) -> None:
    """Serve the problem pages and put the Problem schema into the app's OpenAPI document."""
    app.include_router(router)
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        fresh = app.openapi_schema is None
        document = generate()
        if fresh:
            _with_problems(document)
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # the way FastAPI documents for extending the schema


def _restore_nulls(schemas: dict[str, Any]) -> None:
    """FastAPI leaves nulls out of the document, and an example without its null fields does not fit its schema."""
    for kind in _with_descendants(Out):
        extra = kind.model_config.get("json_schema_extra")
        if kind.__name__ in schemas and isinstance(extra, dict) and "examples" in extra:
            schemas[kind.__name__]["examples"] = extra["examples"]


def _with_descendants(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _with_descendants(child)


def _with_problems(document: dict[str, Any]) -> None:
    schemas: dict[str, Any] = document.setdefault("components", {}).setdefault("schemas", {})
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs", {}))
    schemas["Problem"] = problem
    _restore_nulls(schemas)
    # FastAPI's own 422 appears on routes outside /v1; what is really answered there is a Problem, too.
    answered = {
        "description": "Some of the input is not valid",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for path in document.get("paths", {}).values():
        for operation in path.values():
            if "requestBody" in operation:
                _add_missing(operation, problems(MalformedBody, TooLarge, UnsupportedMediaType))
            if "HTTPValidationError" in str(operation.get("responses", {}).get("422", "")):
                operation["responses"]["422"] = answered
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)


def _add_missing(operation: dict[str, Any], answers: dict[int | str, dict[str, Any]]) -> None:
    """Every route with a body can refuse the body itself; no route has to say so by hand."""
    for status, answer in answers.items():
        operation["responses"].setdefault(str(status), answer)
