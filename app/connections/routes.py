"""Connections over HTTP. Routes that talk to the other side take no ``Session``: none may be open
meanwhile."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Query, Request, Response, status

from app.auth.dependencies import Idempotent, require
from app.auth.schemas import Principal
from app.connections import errors, kinds, service
from app.connections.models import Connection
from app.connections.pool import ConnectorPool
from app.connections.probe import Prober
from app.connections.repository import ConnectionRepository
from app.connections.schemas import (
    CheckOut,
    ConnectionIn,
    ConnectionOut,
    ConnectionPatch,
    ConnectionWithSecret,
    HealthOut,
    IdentityOut,
    KindOut,
    PauseIn,
    PicklistsOut,
    RotateIn,
    RotateOut,
    StateFilter,
    TestOut,
    WebhookOut,
    WebhooksRemoved,
    hook_url_of,
    label_of,
)
from app.connections.secrets import Purpose
from app.connections.states import State
from app.connectors import registry
from app.connectors.canonical import HookState, Verdict
from app.core import ids
from app.core.config import Settings
from app.core.crypto import Vault
from app.core.db.session import Session, database_of
from app.core.errors import Forbidden, Invalid, NotFound, PreconditionFailed, PreconditionRequired
from app.core.idempotency import KeyInFlight, KeyReused
from app.core.pagination import Page, PageRequest, paging
from app.core.preconditions import ETAG_HEADER, IfMatch, IfNoneMatch, versioned
from app.core.problems import problems
from app.core.strict import strict_router

router = strict_router("/v1/connections", tags=["connections"])
kinds_router = strict_router("/v1/connection-kinds", tags=["connections"])

Reader = Annotated[Principal, require("connections:read")]
Writer = Annotated[Principal, require("connections:write")]

_REMOTE = problems(
    Forbidden,
    NotFound,
    errors.ConnectionPaused,
    errors.ConnectionBroken,
    errors.RemoteFailed,
    errors.RemoteTimedOut,
    errors.RemoteBusy,
)
_CHANGE = {
    **problems(Forbidden, NotFound, errors.IllegalMove, PreconditionFailed, PreconditionRequired),
    200: ETAG_HEADER,
}


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def _vault(request: Request) -> Vault:
    vault: Vault = request.app.state.vault
    return vault


def _prober(request: Request) -> Prober:
    pool: ConnectorPool = request.app.state.connectors
    return Prober(database_of(request), pool, _vault(request), _settings(request))


SettingsOf = Annotated[Settings, Depends(_settings)]
VaultOf = Annotated[Vault, Depends(_vault)]
ProberOf = Annotated[Prober, Depends(_prober)]


def _shown(row: Connection, settings: Settings) -> dict[str, object]:
    return {
        **row.model_dump(exclude={"tenant_id", "settings_version", "health"}),
        "credentials_set": row.state != State.ARCHIVED,
        "hook_url": hook_url_of(settings.public_url, row.id),
        "health": HealthOut.model_validate(
            {
                "overall": row.health.get("overall", Verdict.UNKNOWN),
                "last_checked_at": row.health.get("last_checked_at"),
                "checks": row.health.get("checks", []),
                "identity": row.health.get("identity"),
            }
        ),
    }


def _out(row: Connection, settings: Settings) -> ConnectionOut:
    return ConnectionOut.model_validate(_shown(row, settings))


@kinds_router.get("", summary="List the kinds of outside systems that can be connected", responses=problems(Forbidden))
async def list_connection_kinds(principal: Reader) -> list[KindOut]:
    """Every kind with the JSON Schemas of what it needs."""
    found = [registry.kind(name) for name in sorted(registry.KINDS)]
    return [
        KindOut(
            name=kind.name,
            title=kind.title,
            config_schema=kind.config.model_json_schema(),
            credentials_schema=kind.credentials.model_json_schema(),
            default_verifier=kinds.default_verifier(kind),
        )
        for kind in found
    ]


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    summary="Connect an outside system",
    description="Stores the settings and answers in the state `draft`; test it next. The webhook secret is "
    "shown in "
    "this answer and never again; credentials are never shown.",
    responses={
        **problems(Forbidden, errors.NameTaken, Invalid, errors.UnknownKind, KeyInFlight, KeyReused),
        201: ETAG_HEADER,
    },
)
async def create_connection(
    principal: Writer,
    session: Session,
    _key: Idempotent,
    settings: SettingsOf,
    vault: VaultOf,
    wanted: ConnectionIn,
    response: Response,
) -> ConnectionWithSecret:
    """Make a connection."""
    made = await service.create(session, vault, principal.tenant_id, wanted)
    response.headers["Location"] = f"/v1/connections/{ids.public('con', made.row.id)}"
    response.headers["ETag"] = f'"{made.row.version}"'
    return ConnectionWithSecret.model_validate({**_shown(made.row, settings), "webhook_secret": made.webhook_secret})


@router.get("", summary="List the connections of your tenant", responses=problems(Forbidden))
async def list_connections(
    principal: Reader,
    session: Session,
    settings: SettingsOf,
    page: Annotated[PageRequest, Depends(paging("created_at", "name", "updated_at"))],
    kind: Annotated[str | None, Query(max_length=60, description="Only this kind.")] = None,
    state: Annotated[StateFilter | None, Query(description="Only connections in this state.")] = None,
    name: Annotated[str | None, Query(max_length=200, description="Only names that contain this, any case.")] = None,
) -> Page[ConnectionOut]:
    """The tenant's connections."""
    connections = ConnectionRepository(session, principal.tenant_id)
    found = await connections.page(page, kind=kind, state=state, name=name)
    return Page(items=[_out(row, settings) for row in found.rows], next_cursor=found.next_cursor)


@router.get(
    "/{connection_id}",
    summary="Look at one connection",
    response_model=ConnectionOut,
    responses={
        **problems(Forbidden, NotFound),
        200: ETAG_HEADER,
        304: {"description": "Your copy is current"},
    },
)
async def get_connection(
    principal: Reader,
    session: Session,
    settings: SettingsOf,
    connection_id: ids.ConnectionId,
    response: Response,
    if_none_match: IfNoneMatch = None,
) -> ConnectionOut | Response:
    """One connection with its health and its webhook address."""
    row = await service.find_connection(session, principal.tenant_id, connection_id)
    return versioned(response, row, _out(row, settings), if_none_match)


@router.patch(
    "/{connection_id}",
    summary="Change a connection",
    description="What is left out stays. After a change of `config` or `credentials` test it again.",
    responses={**_CHANGE, **problems(Forbidden, NotFound, errors.IllegalMove, errors.NameTaken)},
)
async def update_connection(
    principal: Writer,
    session: Session,
    settings: SettingsOf,
    vault: VaultOf,
    connection_id: ids.ConnectionId,
    expected: IfMatch,
    patch: ConnectionPatch,
    response: Response,
) -> ConnectionWithSecret:
    """Change a connection's name, configuration, credentials or verifier."""
    changed = await service.update(session, vault, principal.tenant_id, connection_id, patch=patch, expected=expected)
    response.headers["ETag"] = f'"{changed.row.version}"'
    return ConnectionWithSecret.model_validate(
        {**_shown(changed.row, settings), "webhook_secret": changed.webhook_secret}
    )


@router.post(
    "/{connection_id}/rotate-secret",
    summary="Replace a secret of a connection",
    description="A new webhook secret is shown once; the old one still verifies until the grace time ends, "
    "so no "
    "delivery is lost while the other side changes over. New credentials are used at once.",
    responses={
        **_CHANGE,
        **problems(Forbidden, NotFound, errors.IllegalMove, errors.SecretNotNeeded, KeyInFlight, Invalid, KeyReused),
    },
)
async def rotate_connection_secret(
    principal: Writer,
    session: Session,
    _key: Idempotent,
    vault: VaultOf,
    connection_id: ids.ConnectionId,
    expected: IfMatch,
    wanted: RotateIn,
    response: Response,
) -> RotateOut:
    """Replace the webhook secret or the credentials."""
    rotated = await service.rotate_secret(
        session, vault, principal.tenant_id, connection_id, wanted=wanted, expected=expected
    )
    path = f"POST /v1/connections/{ids.public('con', connection_id)}"
    webhook = wanted.purpose is Purpose.WEBHOOK
    response.headers["ETag"] = f'"{rotated.row.version}"'
    return RotateOut(
        purpose=wanted.purpose,
        webhook_secret=rotated.webhook_secret,
        previous_valid_until=rotated.previous_valid_until,
        next_step=f"{path}/webhooks puts the new secret into the other side." if webhook else f"{path}/test tries it.",
        version=rotated.row.version,
    )


@router.post("/{connection_id}/pause", summary="Stop work over a connection for now", responses=_CHANGE)
async def pause_connection(
    principal: Writer,
    session: Session,
    settings: SettingsOf,
    connection_id: ids.ConnectionId,
    expected: IfMatch,
    wanted: PauseIn,
    response: Response,
) -> ConnectionOut:
    """Stop work; webhooks are still taken and kept for later."""
    row = await service.pause(session, principal.tenant_id, connection_id, reason=wanted.reason, expected=expected)
    response.headers["ETag"] = f'"{row.version}"'
    return _out(row, settings)


@router.post("/{connection_id}/resume", summary="End the pause of a connection", responses=_CHANGE)
async def resume_connection(
    principal: Writer,
    session: Session,
    settings: SettingsOf,
    connection_id: ids.ConnectionId,
    expected: IfMatch,
    response: Response,
) -> ConnectionOut:
    """Go on; what was kept meanwhile is worked off."""
    row = await service.resume(session, principal.tenant_id, connection_id, expected=expected)
    response.headers["ETag"] = f'"{row.version}"'
    return _out(row, settings)


@router.post(
    "/{connection_id}/archive",
    summary="End a connection for good",
    description="Webhooks to it are refused from now on and its secrets are removed. Remove its webhooks at "
    "the "
    "other side first. There is no way back.",
    responses=_CHANGE,
)
async def archive_connection(
    principal: Writer,
    session: Session,
    settings: SettingsOf,
    connection_id: ids.ConnectionId,
    expected: IfMatch,
    response: Response,
) -> ConnectionOut:
    """End a connection."""
    row = await service.archive(session, principal.tenant_id, connection_id, expected=expected)
    response.headers["ETag"] = f'"{row.version}"'
    return _out(row, settings)


@router.post(
    "/{connection_id}/test",
    summary="Test a connection now",
    description="Asks the other side and answers with one result for each check and what to do about it. A "
    "draft or "
    "broken connection becomes active when every needed check is good. The answer is 200 whatever the "
    "checks say.",
    responses=_REMOTE,
)
async def test_connection(principal: Writer, prober: ProberOf, connection_id: ids.ConnectionId) -> TestOut:
    """Run the connection test."""
    probed = await prober.test(principal.tenant_id, connection_id)
    return TestOut(
        overall=probed.verdict,
        state=State(probed.row.state),
        checks=[CheckOut.of(check) for check in probed.checks],
        identity=IdentityOut.model_validate(probed.identity) if probed.identity is not None else None,
        tested_at=probed.row.updated_at,
    )


@router.post(
    "/{connection_id}/webhooks",
    summary="Register or repair our webhook at the other side",
    description="Sent twice it changes nothing the second time.",
    responses={**_REMOTE, **problems(Forbidden, NotFound, errors.SecretNotNeeded, errors.ConnectionBroken)},
)
async def register_webhook(
    principal: Writer, prober: ProberOf, settings: SettingsOf, connection_id: ids.ConnectionId
) -> WebhookOut:
    """Register our webhook there, or repair what differs."""
    state = await prober.ensure_webhook(principal.tenant_id, connection_id)
    return _webhook(state, settings, connection_id)


@router.get("/{connection_id}/webhooks", summary="Look at our webhook as the other side holds it", responses=_REMOTE)
async def inspect_webhook(
    principal: Reader, prober: ProberOf, settings: SettingsOf, connection_id: ids.ConnectionId
) -> WebhookOut:
    """What is registered there, and what is wrong with it."""
    state = await prober.inspect_webhook(principal.tenant_id, connection_id)
    return _webhook(state, settings, connection_id)


def _webhook(state: HookState, settings: Settings, connection_id: UUID) -> WebhookOut:
    return WebhookOut.of(state, hook_url=hook_url_of(settings.public_url, connection_id), label=label_of(connection_id))


@router.delete("/{connection_id}/webhooks", summary="Remove our webhooks from the other side", responses=_REMOTE)
async def remove_webhooks(principal: Writer, prober: ProberOf, connection_id: ids.ConnectionId) -> WebhooksRemoved:
    """Remove every webhook of ours there."""
    return WebhooksRemoved(removed=await prober.remove_webhooks(principal.tenant_id, connection_id))


@router.get("/{connection_id}/picklists", summary="What the other side lets one choose from", responses=_REMOTE)
async def get_picklists(principal: Reader, prober: ProberOf, connection_id: ids.ConnectionId) -> PicklistsOut:
    """Statuses, priorities, ticket types, outcomes, teams and clients as they are there now."""
    return PicklistsOut.of(await prober.picklists(principal.tenant_id, connection_id))
