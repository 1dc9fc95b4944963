"""Input that is taken literally: what is not understood is refused, never ignored.

HaloPSA drops unknown parameters silently, so that a misspelt filter answers with every row. Here an unknown
body field (``In``) or query parameter (``StrictRoute``) is a 422 that names it.
"""

from collections.abc import Callable, Coroutine, Sequence
from difflib import get_close_matches
from enum import Enum
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict

from app.core import idempotency
from app.core.errors import Invalid, Pointer, Unauthenticated, Unavailable
from app.core.problems import problems


class In(BaseModel):
    """Base of request bodies: unknown fields are refused, text is trimmed."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class Out(BaseModel):
    """Base of answers. Fields have no defaults, so every answer carries every field."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


class StrictRoute(APIRoute):
    """A route that refuses unknown query parameters and replays answers kept under an ``Idempotency-Key``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler with both habits around it."""
        handler = super().get_route_handler()
        known = query_names(self.dependant)

        async def strict(request: Request) -> Response:
            if request.scope["query_string"]:
                _refuse_unknown(request, known)
            return await idempotency.answer(request, handler)

        return strict


def query_names(dependant: Dependant) -> frozenset[str]:
    """The query parameters that a route and its dependencies declare, by the name callers use."""
    names: set[str] = set()
    pending = [dependant]
    while pending:
        current = pending.pop()
        for field in current.query_params:
            annotation = field.field_info.annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                names.update(inner.alias or name for name, inner in annotation.model_fields.items())
            else:
                names.add(field.alias)
        pending.extend(current.dependencies)
    return frozenset(names)


def _refuse_unknown(request: Request, known: frozenset[str]) -> None:
    pointers = []
    for name in dict.fromkeys(request.query_params.keys()):
        if name in known:
            continue
        close = get_close_matches(name, known, n=1)
        allowed = ", ".join(sorted(known)) or "none"
        hint = f"did you mean '{close[0]}'?" if close else f"known parameters: {allowed}"
        pointers.append(Pointer(f"?{name}", f"is not a parameter of this route; {hint}"))
    if pointers:
        raise Invalid(
            "The request has query parameters that this route does not know.",
            next_step="Remove or correct the parameters listed under errors.",
            pointers=tuple(pointers),
        )


def strict_router(prefix: str, *, tags: Sequence[str | Enum]) -> APIRouter:
    """A router of ``/v1``: strict routes, and the problems that every one of them can answer with.
    The operation id is the endpoint function's name, so it has to be unique and readable."""
    return APIRouter(
        prefix=prefix,
        tags=list(tags),
        route_class=StrictRoute,
        responses=problems(Unauthenticated, Invalid, Unavailable),
        generate_unique_id_function=lambda route: route.name,
    )
