"""API keys over HTTP."""

from typing import Annotated, Literal

from fastapi import Depends, Query, Response, status

from app.auth import service
from app.auth.dependencies import Idempotent, require
from app.auth.errors import KeyRevoked, LastAdminKey, ScopeNotHeld
from app.auth.models import ApiKey
from app.auth.repository import ApiKeyRepository
from app.auth.schemas import ApiKeyCreated, ApiKeyIn, ApiKeyOut, Principal
from app.core import clock, ids
from app.core.db.session import Session
from app.core.errors import Forbidden, Invalid, NotFound, PreconditionFailed, PreconditionRequired
from app.core.idempotency import KeyInFlight, KeyReused
from app.core.pagination import Page, PageRequest, paging
from app.core.preconditions import ETAG_HEADER, IfMatch, IfNoneMatch, versioned
from app.core.problems import problems
from app.core.strict import strict_router

router = strict_router("/v1/api-keys", tags=["api keys"])

Reader = Annotated[Principal, require("keys:read")]
Writer = Annotated[Principal, require("keys:write")]


def _shown(row: ApiKey) -> dict[str, object]:
    return {
        **row.model_dump(exclude={"secret_hash", "tenant_id"}),
        "state": service.state_of(row, clock.now()),
    }


def _out(row: ApiKey) -> ApiKeyOut:
    return ApiKeyOut.model_validate(_shown(row))


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    summary="Make an API key",
    description="The key is shown in this answer and never again. A key cannot make keys with scopes it lacks.",
    responses={**problems(Forbidden, ScopeNotHeld, KeyInFlight, Invalid, KeyReused), 201: ETAG_HEADER},
)
async def create_api_key(
    principal: Writer, session: Session, _key: Idempotent, wanted: ApiKeyIn, response: Response
) -> ApiKeyCreated:
    """Make an API key and show it once."""
    issued = await service.issue_key(
        session,
        principal.tenant_id,
        name=wanted.name,
        scopes=frozenset(wanted.scopes),
        expires_at=wanted.expires_at,
        issuer=principal,
    )
    response.headers["Location"] = f"/v1/api-keys/{ids.public('key', issued.row.id)}"
    out = ApiKeyCreated.model_validate({**_shown(issued.row), "key": issued.text})
    versioned(response, issued.row, out)
    return out


@router.get("", summary="List the API keys of your tenant", responses=problems(Forbidden))
async def list_api_keys(
    principal: Reader,
    session: Session,
    page: Annotated[PageRequest, Depends(paging("created_at", "name"))],
    state: Annotated[
        Literal["active", "expired", "revoked"] | None, Query(description="Only keys in this state.")
    ] = None,
) -> Page[ApiKeyOut]:
    """The tenant's keys, without the keys themselves."""
    keys = ApiKeyRepository(session, principal.tenant_id)
    found = await keys.page(page, state=state, at=clock.now())
    return Page(items=[_out(row) for row in found.rows], next_cursor=found.next_cursor)


@router.get(
    "/{api_key_id}",
    summary="Look at one API key",
    response_model=ApiKeyOut,
    responses={
        **problems(Forbidden, NotFound),
        200: ETAG_HEADER,
        304: {"description": "Your copy is current"},
    },
)
async def get_api_key(
    principal: Reader,
    session: Session,
    api_key_id: ids.ApiKeyId,
    response: Response,
    if_none_match: IfNoneMatch = None,
) -> ApiKeyOut | Response:
    """One key, without the key itself."""
    row = await ApiKeyRepository(session, principal.tenant_id).get(api_key_id)
    return versioned(response, row, _out(row), if_none_match)


@router.delete(
    "/{api_key_id}",
    summary="Revoke an API key",
    description="The key stops at once in the process that answers, and within 10 seconds in every other. "
    "It stays in the list as revoked.",
    responses={
        **problems(Forbidden, NotFound, KeyRevoked, LastAdminKey, PreconditionFailed, PreconditionRequired),
        200: ETAG_HEADER,
    },
)
async def revoke_api_key(
    principal: Writer, session: Session, api_key_id: ids.ApiKeyId, expected: IfMatch, response: Response
) -> ApiKeyOut:
    """Stop a key for good."""
    row = await service.revoke_key(session, principal.tenant_id, api_key_id, expected)
    out = _out(row)
    versioned(response, row, out)
    return out
