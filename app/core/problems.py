"""Failures as answers: RFC 9457 ``application/problem+json``, rendered here and nowhere else.

What went wrong, where in the input, what to do next, and the correlation id to quote. Nothing of a failure
nobody named is shown but that id.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.routing import Match

from app.core.errors import AppError, Conflict, Invalid, NotFound, Pointer, TooLarge, Unavailable
from app.core.logging import correlation_id, get_logger

MEDIA_TYPE = "application/problem+json"

log = get_logger(__name__)


class MalformedBody(AppError):
    """The body is not JSON."""

    status = 400
    code = "malformed_body"
    title = "The body is not valid JSON"


class UnsupportedMediaType(AppError):
    """The body is not declared as JSON by its Content-Type header."""

    status = 415
    code = "unsupported_media_type"
    title = "The body has to be JSON"


class NoSuchRoute(NotFound):
    """No route has this path."""

    code = "no_such_route"
    title = "There is no such path"


class MethodNotAllowed(AppError):
    """The path exists, but not with this method; the Allow header lists those it has."""

    status = 405
    code = "method_not_allowed"
    title = "The path does not have this method"


class FieldError(BaseModel):
    """One place in the input that is wrong."""

    pointer: str = Field(description="`/field/0` in the body, `?name` in the query, `path:name` or `header:name`.")
    message: str = Field(description="What is wrong with it.")


class Problem(BaseModel):
    """The body of every answer that is not a success (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "/problems/not_found",
                    "title": "Not found",
                    "status": 404,
                    "detail": "There is no such connection.",
                    "instance": "/v1/connections/con_019283f0a1b27c3d8e4f5a6b7c8d9e0f",
                    "code": "not_found",
                    "next_step": "List them to find the connection's id.",
                    "correlation_id": "019283f0a1b27c3d8e4f5a6b7c8d9e10",
                }
            ]
        },
        extra="allow",
    )

    type: str = Field(description="Where this kind of problem is explained.")
    title: str = Field(description="The kind of problem in a few words; the same for every occurrence.")
    status: int | None = Field(
        default=None, description="The HTTP status; absent where one body answers with two (refused deliveries)."
    )
    code: str = Field(description="The kind of problem for programs; stable.")
    detail: str | None = Field(default=None, description="What happened this time, and to what.")
    instance: str | None = Field(default=None, description="The path that was asked for.")
    errors: list[FieldError] | None = Field(default=None, description="Every place in the input that is wrong.")
    next_step: str | None = Field(default=None, description="What to do about it.")
    correlation_id: str | None = Field(default=None, description="Quote this when asking for help; it is in the logs.")


def problem_body(
    kind: type[AppError],
    *,
    detail: str | None,
    instance: str,
    next_step: str | None = None,
    pointers: Sequence[Pointer] = (),
    extras: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The members of a problem; those that are absent say nothing."""
    body: dict[str, Any] = {
        **(extras or {}),
        "type": f"/problems/{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "instance": instance,
        "code": kind.code,
        "errors": [{"pointer": item.pointer, "message": item.message} for item in pointers] or None,
        "next_step": next_step,
        "correlation_id": correlation_id.get(),
    }
    return {name: value for name, value in body.items() if value is not None}


def _answer(
    kind: type[AppError], instance: str, *, headers: Mapping[str, str] | None = None, **members: Any
) -> Response:
    body = problem_body(kind, instance=instance, **members)
    content = orjson.dumps(body, default=str, option=orjson.OPT_NON_STR_KEYS)
    return Response(content, status_code=kind.status, media_type=MEDIA_TYPE, headers=dict(headers or {}))


def render(error: AppError, instance: str) -> Response:
    """The answer for a named failure."""
    if error.status >= 500 and type(error) is AppError:
        return unexpected(instance)
    return _answer(
        type(error),
        instance,
        detail=error.detail,
        next_step=error.next_step,
        pointers=error.pointers,
        extras=error.extras,
        headers=error.headers,
    )


def unexpected(instance: str) -> Response:
    """The answer for a failure nobody named: no detail, only the id under which the logs tell more."""
    return _answer(
        AppError,
        instance,
        detail=None,
        next_step="Try again; if it stays, report it with the correlation id.",
    )


# --- input that does not validate


def _pointer(location: Sequence[Any], body: Any) -> str:
    """A JSON pointer into ``body``. Pydantic puts the tag of a union into the location; a step that the body
    does not have, and that is not the last (a missing field), is such a tag."""
    steps: list[str] = []
    here = body
    for position, step in enumerate(location):
        last = position == len(location) - 1
        if isinstance(here, dict):
            if step not in here and not last:
                continue
            here = here.get(step)
        elif isinstance(here, list) and isinstance(step, int):
            here = here[step] if 0 <= step < len(here) else None
        elif not last:
            continue
        steps.append(str(step).replace("~", "~0").replace("/", "~1"))
    return "/" + "/".join(steps) if steps else ""


_PREFIX = {"query": "?", "path": "path:", "header": "header:", "cookie": "cookie:"}


def pointer_of(location: Sequence[Any], body: Any = None) -> str:
    """Where in the request a validation error lies."""
    source, *rest = location or ("body",)
    if source in _PREFIX:
        return _PREFIX[source] + ".".join(map(str, rest))
    return _pointer(rest if source == "body" else location, body)


def _message(error: Mapping[str, Any]) -> str:
    match error["type"]:
        case "extra_forbidden":
            return "is not a known field"
        case "missing":
            return "is required"
        case _:
            return str(error["msg"]).removeprefix("Value error, ")


def pointers_of(errors: Iterable[Mapping[str, Any]], body: Any = None) -> tuple[Pointer, ...]:
    """Pydantic's errors as pointers. Input values are left out: they may be secrets."""
    return tuple(Pointer(pointer_of(error["loc"], body), _message(error)) for error in errors)


async def _on_validation(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    instance = request.url.path
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", "cannot be read")
        return render(
            MalformedBody(
                f"The body cannot be read as JSON: {reason} at character {first['loc'][-1]}.",
                next_step="Send valid JSON with Content-Type: application/json.",
            ),
            instance,
        )
    if isinstance(error.body, bytes) and tuple(first["loc"]) == ("body",):
        return render(
            UnsupportedMediaType(
                "The body's Content-Type header does not say JSON.",
                next_step="Send the header Content-Type: application/json.",
            ),
            instance,
        )
    pointers = pointers_of(error.errors(), error.body)
    places = ", ".join(item.pointer or "the body" for item in pointers[:5])
    return render(
        Invalid(
            f"The request is not valid: {places}.",
            next_step="Correct what is listed under errors and send it again.",
            pointers=pointers,
        ),
        instance,
    )


# --- what the framework and the database raise


def _methods_of(request: Request) -> str:
    """Every method that the path has: the framework names those of the first route that bears it."""
    found = []
    for method in ("DELETE", "GET", "PATCH", "POST", "PUT"):
        scope = {**request.scope, "method": method}
        if any(route.matches(dict(scope))[0] is Match.FULL for route in request.app.routes):
            found.append(method)
    return ", ".join(found)


async def _on_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    path = request.url.path
    match error.status_code:
        case 404:
            named: AppError = NoSuchRoute(f"There is nothing at {path}.", next_step="See /docs or /openapi.json.")
        case 405:
            allowed = _methods_of(request)
            named = MethodNotAllowed(
                f"{path} does not take {request.method}.",
                next_step=f"Use one of: {allowed}." if allowed else "See /openapi.json.",
                headers={"Allow": allowed} if allowed else {},
            )
        case 413:
            named = TooLarge(str(error.detail), next_step="Send less at once.")
        case 400:
            named = MalformedBody("The body cannot be read.", next_step="Send valid JSON in UTF-8.")
        case _:
            raise error
    return render(named, path)


async def _on_app_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, AppError):
        raise error
    return render(error, request.url.path)


# Reasons a statement is refused that pass by themselves:
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_PASSING_CLASSES = ("08", "53", "57P")
_PASSING_STATES = {"57014", "55P03", "40001", "40P01", "25P03"}
_UNSTORABLE_TEXT = {"22021", "22P05"}


def _named(error: DBAPIError) -> AppError | None:
    state = getattr(error.orig, "sqlstate", None)
    if state in _UNSTORABLE_TEXT:
        return Invalid(
            "The request holds a character that cannot be stored (the NUL character, as a rule).",
            next_step="Remove the character \\u0000 from the text.",
        )
    if state == "23505":
        return Conflict("Another request has just made the same thing.", next_step="Read it and try again.")
    # A lost connection has no state; neither has a value of a wrong type, which the driver refuses by itself
    # (our bug).
    lost = error.connection_invalidated or isinstance(error, InterfaceError)
    if lost or state in _PASSING_STATES or str(state).startswith(_PASSING_CLASSES):
        return _database_away()
    return None


def _database_away() -> AppError:
    return Unavailable(
        "The database does not answer at the moment. Nothing was changed.",
        next_step="Try again in a few seconds.",
        headers={"Retry-After": "5"},
    )


async def _on_database(request: Request, error: Exception) -> Response:
    named = _named(error) if isinstance(error, DBAPIError) else _database_away()
    if named is None:
        raise error
    log.warning(
        "database.refused",
        reason=type(error).__name__,
        state=getattr(getattr(error, "orig", None), "sqlstate", None),
    )
    return render(named, request.url.path)


async def _on_os_error(request: Request, error: Exception) -> Response:
    if not _raised_in(error, "asyncpg"):
        raise error
    return await _on_database(request, error)


def _raised_in(error: BaseException, package: str) -> bool:
    """Whether ``package`` has a frame in the traceback: asyncpg lets the socket's own errors through."""
    frame = error.__traceback__
    while frame is not None:
        if str(frame.tb_frame.f_globals.get("__name__", "")).split(".")[0] == package:
            return True
        frame = frame.tb_next
    return False


def install(app: FastAPI) -> None:
    """Make ``app`` answer every failure as a problem. Failures nobody named are answered by
    :class:`app.core.middleware.Edge`, which sees those of the middleware too."""
    app.add_exception_handler(AppError, _on_app_error)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(DBAPIError, _on_database)
    app.add_exception_handler(PoolTimeout, _on_database)
    app.add_exception_handler(OSError, _on_os_error)  # TimeoutError and ConnectionError are OSErrors


# --- in the contract


def problems(*kinds: type[AppError]) -> dict[int | str, dict[str, Any]]:
    """The ``responses=`` of a route for the problems it can answer with, one example each."""
    found: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        entry = found.setdefault(
            kind.status,
            {
                "description": kind.title,
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}},
            },
        )
        if kind.title not in entry["description"]:
            entry["description"] += f"; {kind.title}"
        entry["content"][MEDIA_TYPE]["examples"][kind.code] = {"summary": kind.title, "value": _example(kind)}
    return found


def _example(kind: type[AppError]) -> dict[str, Any]:
    example: dict[str, Any] = {
        "type": f"/problems/{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "code": kind.code,
        "correlation_id": "019283f0a1b27c3d8e4f5a6b7c8d9e10",
    }
    if kind.status == 422:
        example["errors"] = [{"pointer": "/name", "message": "is required"}]
    return example
