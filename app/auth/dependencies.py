"""What a route asks for: ``Annotated[Principal, require("connections:read")]``."""

from typing import Annotated, Any

from fastapi import Depends, Header, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.auth.schemas import Principal, Scope
from app.auth.service import Authenticator, missing_key
from app.core import idempotency, ids
from app.core.db.session import Session, database_of
from app.core.errors import Forbidden, Invalid, Pointer

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="ApiKey",
    bearerFormat="phk_…",
    description="An API key of your tenant: `Authorization: Bearer phk_…`. The first one is made by `parhelion init`.",
)


def authenticator_of(request: Request) -> Authenticator:
    """The authenticator of the running application, made on first use."""
    found = getattr(request.app.state, "authenticator", None)
    if not isinstance(found, Authenticator):
        found = Authenticator(database_of(request))
        request.app.state.authenticator = found
    return found


async def authenticate(
    request: Request, sent: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> Principal:
    """Who is calling. Raises :class:`~app.core.errors.Unauthenticated`."""
    if sent is None:
        raise missing_key()
    principal = await authenticator_of(request).principal(sent.credentials)
    # For the access line: core knows no rooms, so it gets plain text.
    request.state.caller = (ids.public("ten", principal.tenant_id), principal.key_prefix)
    return principal


def require(scope: Scope | str) -> Any:
    """A dependency that gives the principal and refuses keys without ``scope`` with 403."""
    needed = Scope(scope)

    def check(principal: Annotated[Principal, Depends(authenticate)]) -> Principal:
        if not principal.may(needed):
            raise Forbidden(
                f"The API key lacks the scope {needed}.",
                next_step=f"Use a key that has {needed}; a key with keys:write can make one.",
                needed_scope=str(needed),
            )
        return principal

    return Depends(check)


async def _idempotent(
    request: Request,
    principal: Annotated[Principal, Depends(authenticate)],
    session: Session,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            description="Any unique text of your choice. Sent again within 24 hours with the same request, "
            "the stored "
            "answer is given again and nothing is made twice.",
        ),
    ] = None,
) -> None:
    if idempotency_key is not None and not (idempotency_key.isascii() and idempotency_key.isprintable()):
        raise Invalid(
            "The Idempotency-Key has characters that it may not have.",
            next_step="Use a UUID.",
            pointers=(Pointer("header:Idempotency-Key", "must be printable ASCII"),),
        )
    caller = idempotency.Caller(principal.tenant_id, ids.public("key", principal.key_id))
    await idempotency.claim(request, session, caller, idempotency_key)


# In the signature of every POST that creates, after the principal: `_key: Idempotent`.
Idempotent = Annotated[None, Depends(_idempotent, scope="function")]
