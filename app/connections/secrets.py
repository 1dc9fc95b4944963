"""Secrets of a connection: issue, rotate with grace, list those that count, seal again under a new key."""

import base64
import secrets as randomness
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import orjson
from sqlmodel.ext.asyncio.session import AsyncSession

from app.connections import repository
from app.connections.models import Connection, ConnectionSecret
from app.core import clock
from app.core.crypto import Vault
from app.core.db.session import Database
from app.core.http.signing import StandardVerifier, Verifier

DEFAULT_GRACE_SECONDS = 86_400
MAX_GRACE_SECONDS = 604_800
_RESEAL_BATCH = 200


class Purpose(StrEnum):
    """What a secret is for: credentials we call with, or what proves a webhook's sender."""

    CREDENTIALS = "credentials"
    WEBHOOK = "webhook"


def generate_webhook_secret(verifier: Verifier) -> str:
    """A fresh secret of 256 bits in the form that ``verifier`` expects."""
    if isinstance(verifier, StandardVerifier):
        return "whsec_" + base64.b64encode(randomness.token_bytes(32)).decode()
    return randomness.token_urlsafe(32)


async def issue(
    session: AsyncSession, vault: Vault, connection: Connection, purpose: Purpose, text: str
) -> ConnectionSecret:
    """Store ``text`` sealed; it counts from now on, beside those that already do."""
    row = ConnectionSecret(
        tenant_id=connection.tenant_id, connection_id=connection.id, purpose=purpose.value, sealed=""
    )
    row.sealed = vault.seal(text, place=row.place)
    session.add(row)
    await session.flush()
    return row


async def rotate(
    session: AsyncSession,
    vault: Vault,
    connection: Connection,
    purpose: Purpose,
    text: str,
    *,
    grace_seconds: int,
) -> ConnectionSecret:
    """Issue ``text`` and let the present secrets end after ``grace_seconds``. A shorter grace of an earlier
    rotation is kept. Hold a lock on the connection."""
    now = clock.now()
    ends = now + timedelta(seconds=grace_seconds)
    for old in await repository.active_secrets(session, connection.id, purpose.value, now):
        old.expires_at = ends if old.expires_at is None else min(old.expires_at, ends)
        session.add(old)
    await session.flush()
    await repository.forget_expired_secrets(session, connection.id, now)
    return await issue(session, vault, connection, purpose, text)


async def active(session: AsyncSession, vault: Vault, connection_id: UUID, purpose: Purpose) -> tuple[str, ...]:
    """The secrets that count now, opened, newest first. Raises ``UndecipherableError``."""
    rows = await repository.active_secrets(session, connection_id, purpose.value, clock.now())
    return tuple(vault.open(row.sealed, place=row.place) for row in rows)


async def credentials(session: AsyncSession, vault: Vault, connection_id: UUID) -> dict[str, Any] | None:
    """The newest credentials as the kind's JSON, or ``None`` when there are none."""
    found = await active(session, vault, connection_id, Purpose.CREDENTIALS)
    return orjson.loads(found[0]) if found else None


async def reseal_all(
    database: Database, vault: Vault, progress: Callable[[int], None] = lambda _done: None
) -> tuple[int, int]:
    """Seal every secret of every tenant under the newest key; returns (looked at, sealed again).

    Works in batches of one transaction each, so it may be stopped and started again, and the service may run
    meanwhile. ``progress`` gets the number looked at after each batch. Raises ``UndecipherableError`` for a
    secret that no key opens; batches before it stay done.
    """
    seen = changed = 0
    last: UUID | None = None
    while True:
        async with database.transaction() as session:
            rows = await repository.secrets_after(session, last, limit=_RESEAL_BATCH)
            for row in rows:
                if not vault.is_current(row.sealed):
                    row.sealed = vault.seal(vault.open(row.sealed, place=row.place), place=row.place)
                    session.add(row)
                    changed += 1
        if not rows:
            return seen, changed
        seen += len(rows)
        last = rows[-1].id
        progress(seen)
