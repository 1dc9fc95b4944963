"""Changes to connections, under the rules. Nothing here talks to the network: see ``probe`` and ``pool``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from pydantic import BaseModel, SecretStr
from sqlmodel.ext.asyncio.session import AsyncSession

from app.connections import repository, secrets, states
from app.connections.errors import IllegalMove, NameTaken, SecretNotNeeded
from app.connections.kinds import (
    checked_config,
    checked_credentials,
    default_verifier,
    kind_named,
    usable_secret,
)
from app.connections.models import Connection
from app.connections.pool import ConnectorPool, HookTarget, announce_change
from app.connections.repository import ConnectionRepository
from app.connections.schemas import ConnectionIn, ConnectionPatch, RotateIn
from app.connections.secrets import Purpose
from app.connections.states import State
from app.connections.uses import names_of_users
from app.connectors.canonical import Check, Party, Verdict
from app.core import clock
from app.core.crypto import Vault
from app.core.errors import Invalid, Pointer
from app.core.http.signing import NoVerifier, Verifier, verifier_adapter
from app.core.preconditions import Expected

__all__ = ["ConnectorPool", "HookTarget"]  # the other rooms' door to them


@dataclass(frozen=True, slots=True, repr=False)
class Changed:
    """A connection after a change, and the webhook secret when one was made: it is shown this once."""

    row: Connection
    webhook_secret: str | None


def plain(model: BaseModel) -> dict[str, Any]:
    """A model as JSON, with its secrets spelled out: only for what is sealed next."""

    def reveal(value: Any) -> Any:
        if isinstance(value, SecretStr):
            return value.get_secret_value()
        if isinstance(value, Mapping):
            return {str(key): reveal(item) for key, item in value.items()}
        return [reveal(item) for item in value] if isinstance(value, (list, tuple)) else value

    revealed: dict[str, Any] = reveal(model.model_dump())
    return revealed


async def create(session: AsyncSession, vault: Vault, tenant_id: UUID, wanted: ConnectionIn) -> Changed:
    """Make a connection in the state ``draft``. Raises ``UnknownKind``, ``Invalid``, ``NameTaken``."""
    kind = kind_named(wanted.kind)
    config = checked_config(kind, wanted.config)
    credentials = checked_credentials(kind, wanted.credentials)
    verifier = wanted.verifier or default_verifier(kind)
    connections = ConnectionRepository(session, tenant_id)
    await _refuse_taken_name(connections, wanted.name)
    row = await connections.add(
        Connection(
            tenant_id=tenant_id,
            kind=kind.name,
            name=wanted.name,
            config=config.model_dump(mode="json"),
            verifier=verifier.model_dump(mode="json"),
        )
    )
    await secrets.issue(session, vault, row, Purpose.CREDENTIALS, orjson.dumps(plain(credentials)).decode())
    text, made = _webhook_secret(verifier, wanted.webhook_secret)
    if text is not None:
        await secrets.issue(session, vault, row, Purpose.WEBHOOK, text)
    announce_change(session, row.id)
    return Changed(row, text if made else None)


def _webhook_secret(verifier: Verifier, supplied: SecretStr | None) -> tuple[str | None, bool]:
    """The secret to store and whether we made it. Raises ``Invalid`` for a supplied one that cannot work."""
    if supplied is None:
        return (None, False) if isinstance(verifier, NoVerifier) else (secrets.generate_webhook_secret(verifier), True)
    if isinstance(verifier, NoVerifier):
        raise SecretNotNeeded(
            "This connection does not verify its sender, so a webhook secret would do nothing.",
            next_step="Leave webhook_secret out, or set a verifier that uses one.",
        )
    if not usable_secret(verifier, supplied.get_secret_value()):
        raise Invalid(
            "The webhook secret does not have the form that the verifier needs.",
            next_step="For Standard Webhooks send whsec_ followed by base64, or leave it out.",
            pointers=(Pointer("/webhook_secret", "must be base64, with or without whsec_ in front"),),
        )
    return supplied.get_secret_value(), False


async def _refuse_taken_name(connections: ConnectionRepository, name: str, *, besides: UUID | None = None) -> None:
    if await connections.name_taken(name, besides=besides):
        raise NameTaken(
            f"There is already a connection called '{name}'.",
            next_step="Choose another name, or archive the other connection.",
            pointers=(Pointer("/name", "is taken by another connection"),),
        )


async def _locked(session: AsyncSession, tenant_id: UUID, connection_id: UUID, expected: Expected) -> Connection:
    row = await ConnectionRepository(session, tenant_id).get(connection_id, lock=True)
    expected.check(row)
    return row


def _refuse_archived(row: Connection) -> None:
    if row.state == State.ARCHIVED:
        raise IllegalMove(f"'{row.name}' is archived and cannot be changed.", next_step="Make a new connection.")


async def _changed(session: AsyncSession, row: Connection) -> Connection:
    row.touch()
    session.add(row)
    await session.flush()
    announce_change(session, row.id)
    return row


async def update(
    session: AsyncSession,
    vault: Vault,
    tenant_id: UUID,
    connection_id: UUID,
    *,
    patch: ConnectionPatch,
    expected: Expected,
) -> Changed:
    """Change what ``patch`` names. Raises ``NotFound``, ``PreconditionFailed``, ``IllegalMove``, ``Invalid``,
    ``NameTaken``."""
    row = await _locked(session, tenant_id, connection_id, expected)
    _refuse_archived(row)
    made: str | None = None
    if patch.name is not None:
        await _refuse_taken_name(ConnectionRepository(session, tenant_id), patch.name, besides=row.id)
        row.name = patch.name
    if patch.config is not None or patch.credentials is not None:
        kind = kind_named(row.kind)
        if patch.config is not None:
            row.config = checked_config(kind, patch.config).model_dump(mode="json")
        if patch.credentials is not None:
            await _replace_credentials(session, vault, row, checked_credentials(kind, patch.credentials))
        row.settings_version += 1
        # What was known of the other side was learnt with the old settings.
        row.health = {**row.health, "overall": Verdict.UNKNOWN.value}
    if patch.verifier is not None:
        row.verifier = patch.verifier.model_dump(mode="json")
        made = await _fitting_webhook_secret(session, vault, row, patch.verifier)
    return Changed(await _changed(session, row), made)


async def _replace_credentials(session: AsyncSession, vault: Vault, row: Connection, credentials: BaseModel) -> None:
    text = orjson.dumps(plain(credentials)).decode()
    # Only the newest credentials are ever used, so a grace time would keep the old ones for nothing.
    await secrets.rotate(session, vault, row, Purpose.CREDENTIALS, text, grace_seconds=0)


async def _fitting_webhook_secret(
    session: AsyncSession, vault: Vault, row: Connection, verifier: Verifier
) -> str | None:
    """A new webhook secret when no present one suits the new verifier."""
    if isinstance(verifier, NoVerifier):
        return None
    present = await secrets.active(session, vault, row.id, Purpose.WEBHOOK)
    if any(usable_secret(verifier, text) for text in present):
        return None
    made = secrets.generate_webhook_secret(verifier)
    await secrets.rotate(session, vault, row, Purpose.WEBHOOK, made, grace_seconds=0)
    return made


@dataclass(frozen=True, slots=True, repr=False)
class Rotated:
    """The result of a rotation; ``webhook_secret`` only when it was made here."""

    row: Connection
    webhook_secret: str | None
    previous_valid_until: datetime | None


async def rotate_secret(
    session: AsyncSession,
    vault: Vault,
    tenant_id: UUID,
    connection_id: UUID,
    *,
    wanted: RotateIn,
    expected: Expected,
) -> Rotated:
    """Replace the webhook secret (the old one verifies until its grace ends) or the credentials (at once)."""
    row = await _locked(session, tenant_id, connection_id, expected)
    _refuse_archived(row)
    if wanted.purpose is Purpose.CREDENTIALS:
        if wanted.credentials is None or wanted.webhook_secret is not None:
            raise _only("credentials", "webhook_secret")
        await _replace_credentials(session, vault, row, checked_credentials(kind_named(row.kind), wanted.credentials))
        row.settings_version += 1
        return Rotated(await _changed(session, row), None, None)
    if wanted.credentials is not None:
        raise _only("webhook_secret", "credentials")
    text, made = _webhook_secret(verifier_adapter.validate_python(row.verifier), wanted.webhook_secret)
    if text is None:
        raise SecretNotNeeded(
            "This connection does not verify its sender, so there is no webhook secret to replace.",
            next_step="Set a verifier with PATCH first.",
        )
    until = clock.now() + timedelta(seconds=wanted.grace_seconds)
    await secrets.rotate(session, vault, row, Purpose.WEBHOOK, text, grace_seconds=wanted.grace_seconds)
    return Rotated(await _changed(session, row), text if made else None, until)


def _only(field: str, other: str) -> Invalid:
    return Invalid(
        "The fields do not fit the purpose.",
        next_step=f"For this purpose send {field} and leave {other} out.",
        pointers=(
            Pointer(f"/{field}", "belongs to this purpose"),
            Pointer(f"/{other}", "does not belong to it"),
        ),
    )


def _move(row: Connection, after: State, doing: str) -> None:
    before = State(row.state)
    if not states.may_move(before, after):
        raise IllegalMove(
            f"'{row.name}' is {before} and cannot be {doing}.",
            next_step="Read the connection to see its state.",
            state=before.value,
        )
    row.state = after.value


async def pause(
    session: AsyncSession, tenant_id: UUID, connection_id: UUID, *, reason: str, expected: Expected
) -> Connection:
    """Stop work over an active or broken connection. Its webhooks are still kept."""
    row = await _locked(session, tenant_id, connection_id, expected)
    _move(row, State.PAUSED, "paused")
    row.paused_reason = reason
    return await _changed(session, row)


async def resume(session: AsyncSession, tenant_id: UUID, connection_id: UUID, *, expected: Expected) -> Connection:
    """End a pause; the state that follows depends on what was last known of the other side."""
    row = await _locked(session, tenant_id, connection_id, expected)
    if row.state != State.PAUSED:
        raise IllegalMove(f"'{row.name}' is {row.state}, not paused.", next_step="Nothing to resume.", state=row.state)
    _move(row, states.resumed(row.health), "resumed")
    row.paused_reason = None
    return await _changed(session, row)


async def archive(session: AsyncSession, tenant_id: UUID, connection_id: UUID, *, expected: Expected) -> Connection:
    """End a connection for good: its webhooks are refused and its secrets are removed."""
    row = await _locked(session, tenant_id, connection_id, expected)
    users = await names_of_users(session, row.id)
    if users:
        raise IllegalMove(
            f"'{row.name}' is used by '{users[0]}'.", next_step="Archive that relationship first, then the connection."
        )
    _move(row, State.ARCHIVED, "archived")
    await repository.forget_secrets(session, row.id)
    row.paused_reason = row.broken_reason = None
    row.settings_version += 1
    return await _changed(session, row)


async def store_checks(
    session: AsyncSession,
    connection_id: UUID,
    *,
    checks: Sequence[Check],
    identity: Party | None,
    settings_version: int,
) -> Connection:
    """Keep the result of a test and move the connection accordingly. Raises ``IllegalMove`` when the settings
    changed while they were tested: the result would speak of others."""
    row = await repository.find_any(session, connection_id, lock=True)
    if row is None or row.settings_version != settings_version:
        raise IllegalMove("The connection was changed while it was tested.", next_step="Test it again.")
    verdict = states.overall(checks)
    failed = [check for check in checks if check.verdict is Verdict.FAILED]
    after = states.after_check(State(row.state), verdict)
    row.state = after.value
    if after is State.BROKEN and failed:
        row.broken_reason = failed[0].detail
    elif after is State.ACTIVE:
        row.broken_reason = None
    row.health = {
        "overall": verdict.value,
        "last_checked_at": clock.rfc3339(clock.now()),
        "checks": [
            {"name": one.name, "verdict": one.verdict.value, "detail": one.detail, "advice": one.advice}
            for one in checks
        ],
        "identity": _identity(identity) if identity is not None else row.health.get("identity"),
    }
    return await _changed(session, row)


def _identity(party: Party) -> dict[str, Any]:
    return {"name": party.name, "native_id": party.native_id}


async def mark_broken(session: AsyncSession, connection_id: UUID, reason: str) -> bool:
    """The other side refuses us: stop work over an active connection. ``reason`` is a sentence for a person
    and is shown. Returns whether anything changed (a paused or archived connection is left alone)."""
    row = await repository.find_any(session, connection_id, lock=True)
    if row is None or row.state != State.ACTIVE:
        return False
    row.state = State.BROKEN.value
    row.broken_reason = reason
    row.health = {**row.health, "overall": Verdict.FAILED.value}
    await _changed(session, row)
    return True


async def record_identity(session: AsyncSession, connection_id: UUID, party: Party) -> None:
    """Remember who we are at the other side, when it is not what is known already."""
    row = await repository.find_any(session, connection_id, lock=True)
    if row is not None and row.health.get("identity") != _identity(party):
        row.health = {**row.health, "identity": _identity(party)}
        await _changed(session, row)


async def find_connection(session: AsyncSession, tenant_id: UUID, connection_id: UUID) -> Connection:
    """The tenant's connection. Raises ``NotFound``."""
    return await ConnectionRepository(session, tenant_id).get(connection_id)
