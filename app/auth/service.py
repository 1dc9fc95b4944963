"""Issuing, checking and revoking API keys."""

import asyncio
import time
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from app.auth import keytext, repository
from app.auth.errors import KeyRevoked, LastAdminKey, ScopeNotHeld
from app.auth.models import ApiKey
from app.auth.repository import ApiKeyRepository
from app.auth.schemas import Principal, Scope, covered
from app.core import clock
from app.core.crypto import lookup_hash
from app.core.db.session import Database, after_commit
from app.core.errors import Pointer, Unauthenticated
from app.core.preconditions import Expected

# A revoked key works at most this much longer in a process that saw it just before; the process that revokes
# drops it at once.
CACHE_SECONDS = 10.0
_CACHE_SIZE = 10_000
# Keys nobody knows cost one indexed read each; this keeps a flood of them from taking every database
# connection.
_UNKNOWN_AT_ONCE = 4


@dataclass(frozen=True, slots=True, repr=False)
class Issued:
    """A key that was just made: the row, and the text that exists only here."""

    row: ApiKey
    text: str


async def issue_key(
    session: AsyncSession,
    tenant_id: UUID,
    *,
    name: str,
    scopes: frozenset[Scope],
    expires_at: datetime | None = None,
    issuer: Principal | None = None,
) -> Issued:
    """Make a key. Raises :class:`ScopeNotHeld` when ``issuer`` would give more than it has (``None``: the
    operator at the command line, who has everything)."""
    if issuer is not None and not covered(scopes) <= issuer.scopes:
        missing = sorted(covered(scopes) - issuer.scopes)
        raise ScopeNotHeld(
            f"The calling key lacks: {', '.join(missing)}.",
            next_step="Leave these scopes out, or call with a key that has them.",
            pointers=(Pointer("/scopes", f"cannot give {', '.join(missing)}"),),
        )
    made = keytext.generate()
    row = ApiKey(
        tenant_id=tenant_id,
        name=name,
        prefix=made.prefix,
        secret_hash=lookup_hash(made.text),
        scopes=sorted(scopes),
        expires_at=expires_at,
    )
    await ApiKeyRepository(session, tenant_id).add(row)
    return Issued(row, made.text)


def state_of(row: ApiKey, at: datetime) -> str:
    """``active``, ``expired`` or ``revoked``."""
    if row.revoked_at is not None:
        return "revoked"
    return "expired" if row.expires_at is not None and row.expires_at <= at else "active"


async def revoke_key(session: AsyncSession, tenant_id: UUID, key_id: UUID, expected: Expected) -> ApiKey:
    """Stop a key for good. Raises :class:`KeyRevoked`, :class:`LastAdminKey`, ``NotFound``,
    ``PreconditionFailed``."""
    keys = ApiKeyRepository(session, tenant_id)
    now = clock.now()
    admins = await keys.lock_admin_keys(now)
    row = await keys.get(key_id, lock=True)
    expected.check(row)
    if row.revoked_at is not None:
        raise KeyRevoked("This key is revoked already.", next_step="Nothing to do: it does not work any more.")
    if [admin.id for admin in admins] == [row.id]:
        raise LastAdminKey(
            "No other active key of this tenant has the admin scope.",
            next_step="Make another admin key first, then revoke this one with it.",
        )
    row.revoked_at = now
    row.touch()
    session.add(row)
    secret_hash = row.secret_hash
    after_commit(session, lambda: _forget_everywhere(secret_hash))
    return row


@dataclass(frozen=True, slots=True)
class _Cached:
    principal: Principal
    expires_at: datetime | None
    fresh_until: float  # on the monotonic clock


class Authenticator:
    """Turns the text of a key into a principal, remembering verified keys for :data:`CACHE_SECONDS`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cache: OrderedDict[str, _Cached] = OrderedDict()
        self._unknown = asyncio.Semaphore(_UNKNOWN_AT_ONCE)
        _authenticators.add(self)

    async def principal(self, text: str) -> Principal:
        """Who holds the key ``text``. Raises :class:`~app.core.errors.Unauthenticated`."""
        secret_hash = lookup_hash(text)
        cached = self._cache.get(secret_hash)
        if cached is not None and cached.fresh_until > time.monotonic():
            if cached.expires_at is None or cached.expires_at > clock.now():
                return cached.principal
            self.forget(secret_hash)
        if keytext.parse(text) is None:
            raise _refused("The API key is mistyped or incomplete: its checksum does not match.")
        async with self._unknown:
            return await self._look_up(secret_hash)

    async def _look_up(self, secret_hash: str) -> Principal:
        now = clock.now()
        async with self._database.transaction() as session:
            row = await repository.by_hash(session, secret_hash)
            if row is None or state_of(row, now) != "active":
                self.forget(secret_hash)
                # One sentence for a key that never was, is revoked or has expired.
                raise _refused("The API key is not valid, or not any more.")
            if row.last_used_at is None or row.last_used_at < now - timedelta(minutes=1):
                await repository.mark_used(session, row.id, now)
        principal = Principal(
            tenant_id=row.tenant_id,
            key_id=row.id,
            key_prefix=row.prefix,
            scopes=covered(frozenset(Scope(scope) for scope in row.scopes if scope in set(Scope))),
        )
        self._cache[secret_hash] = _Cached(principal, row.expires_at, time.monotonic() + CACHE_SECONDS)
        self._cache.move_to_end(secret_hash)
        while len(self._cache) > _CACHE_SIZE:
            self._cache.popitem(last=False)
        return principal

    def forget(self, secret_hash: str) -> None:
        """Drop a key from the cache."""
        self._cache.pop(secret_hash, None)


_authenticators: "weakref.WeakSet[Authenticator]" = weakref.WeakSet()


def _forget_everywhere(secret_hash: str) -> None:
    for authenticator in tuple(_authenticators):
        authenticator.forget(secret_hash)


def _refused(detail: str) -> Unauthenticated:
    return Unauthenticated(
        detail,
        next_step="Send a valid key: Authorization: Bearer phk_…",
        headers={"WWW-Authenticate": 'Bearer realm="parhelion"'},
    )


def missing_key() -> Unauthenticated:
    """The failure of a request that brings no key at all."""
    return _refused("The request carries no API key.")
