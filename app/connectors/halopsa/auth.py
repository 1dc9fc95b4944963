"""Tokens of the client credentials flow: fetched once for everyone who waits, renewed a minute before they
expire.

One fetch at a time: whether a new token revokes the earlier ones is not known (HaloPSA wire contract, 1.2),
so two at once could make each other invalid. A failed fetch is shared by those who waited for it, too:
twenty calls with a wrong secret are one failed log-in, not twenty."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import orjson

from app.connectors.canonical import ErrorClass
from app.connectors.halopsa import refusals, wire
from app.connectors.halopsa.config import HaloConfig, HaloCredentials
from app.connectors.halopsa.refusals import CallFailed
from app.core import clock
from app.core.http.client import AsyncClient, HTTPError, Response
from app.core.http.outcome import Kind, of_exception, of_status

RENEW_EARLY_SECONDS = 60.0
_DEFAULT_LIFETIME_SECONDS = 3600.0
_LOGIN_ADVICE = (
    "Check client id and client secret: the application must use the method 'Client ID and Secret "
    "(Services)', and its secret is shown only once."
)


class TokenSource:
    """The present access token of one API application."""

    def __init__(
        self,
        http: AsyncClient,
        config: HaloConfig,
        credentials: HaloCredentials,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._monotonic = monotonic
        self._http = http
        self._config = config
        self._credentials = credentials
        self._lock = asyncio.Lock()
        self.granted_scope: str | None = None
        self._token: str | None = None
        self._renew_at = 0.0
        self._finished = 0
        self._failure: CallFailed | None = None

    async def token(self) -> str:
        """A token that is good for a while yet. Raises :class:`CallFailed` when none is to be had."""
        if self._token is not None and self._monotonic() < self._renew_at:
            return self._token
        finished = self._finished
        async with self._lock:
            if self._token is not None and self._monotonic() < self._renew_at:
                return self._token
            if self._failure is not None and self._finished != finished:
                raise self._failure
            try:
                self._token, lifetime_seconds = await self._fetch()
            except CallFailed as failure:
                self._failure = failure
                raise
            finally:
                self._finished += 1
            self._failure = None
            # A token that lives shorter than the margin is used for half its life.
            self._renew_at = self._monotonic() + max(lifetime_seconds - RENEW_EARLY_SECONDS, lifetime_seconds / 2)
            return self._token

    def reject(self, token: str) -> None:
        """``token`` was refused: the next caller fetches a new one, unless somebody already has."""
        if self._token == token:
            self._token = None

    async def auth_info(self) -> dict[str, Any]:
        """What HaloPSA tells strangers about where to log in (``auth_url``, ``tenant_id``); empty
        when it does not."""
        try:
            response = await self._http.get(f"{self._config.api_url}/AuthInfo")
            found = orjson.loads(response.content) if response.status_code == 200 else {}
        except (HTTPError, OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    async def _fetch(self) -> tuple[str, float]:
        tenant = self._config.token_tenant
        form = {
            "grant_type": "client_credentials",
            "client_id": self._credentials.client_id,
            "client_secret": self._credentials.client_secret.get_secret_value(),
            "scope": self._config.scope,
        }
        params = {"tenant": tenant} if tenant else {}
        try:
            response = await self._http.post(self._config.token_url, params=params, data=form)
        except Exception as error:
            # A log-in changes nothing at the other side: whatever broke, it can simply be tried again.
            outcome = of_exception(error, writes=False)
            if outcome is None:
                raise
            raise refusals.lost(outcome, "POST", "/auth/token", error) from error
        if response.status_code != 200:
            raise await self._refused(response, tenant)
        token, lifetime_seconds, self.granted_scope = _token_in(response)
        return token, lifetime_seconds

    async def _refused(self, response: Response, tenant: str | None) -> CallFailed:
        secret = self._credentials.client_secret.get_secret_value()
        content = refusals.without(response.content.decode("utf-8", "replace"), secret).encode()
        said = refusals.explain(content)
        status = response.status_code
        named = f"tenant '{tenant}'" if tenant else "no tenant"
        outcome = of_status(status, writes=False, retry_after=response.headers.get("retry-after"), now=clock.now())
        if outcome.kind is Kind.RATE_LIMITED:
            return refusals.refused(outcome, "POST", "/auth/token", content)
        if status in (400, 401, 403):
            detail = f"HaloPSA refused the log-in ({said or f'status {status}'}); {named} was sent."
            step = f"{_LOGIN_ADVICE} A wrong tenant can look the same. {await self._where(tenant)}"
            return CallFailed(ErrorClass.AUTH, detail, next_step=step, status=status, said=said)
        if status == 404 or 300 <= status < 400:
            detail = f"There is no log-in at {self._config.token_url} (status {status})."
            return CallFailed(ErrorClass.MISCONFIGURED, detail, next_step=await self._where(tenant), status=status)
        if status == 500:
            # HaloPSA answers an unknown tenant like a crash (contract, 1.2), so this is the likely cause.
            detail = f"HaloPSA failed at the log-in (status 500); {named} was sent, perhaps a wrong one."
            return CallFailed(ErrorClass.MISCONFIGURED, detail, next_step=await self._where(tenant), status=status)
        return refusals.refused(outcome, "POST", "/auth/token", content)

    async def _where(self, tenant: str | None) -> str:
        """Advice from HaloPSA's own discovery, as far as it differs from what was sent."""
        info = await self.auth_info()
        own_tenant = wire.text(info.get("tenant_id")).strip()
        own_auth = wire.text(info.get("auth_url")).strip().rstrip("/")
        if own_tenant and own_tenant != (tenant or ""):
            return f"This HaloPSA says that its tenant is '{own_tenant}': set that as the tenant."
        if own_auth and f"{own_auth}/token".casefold() != self._config.token_url.casefold():
            return f"This HaloPSA says that its authorisation server is {own_auth}: set that as auth_url."
        return (
            "Compare tenant and authorisation server with those shown under Configuration > Integrations > "
            f"Halo API (or at {self._config.api_url}/AuthInfo)."
        )


def _token_in(response: Response) -> tuple[str, float, str | None]:
    """Token, lifetime in seconds and granted scope (``None`` where HaloPSA does not say)."""
    try:
        payload = orjson.loads(response.content)
    except ValueError:
        payload = None
    found = payload if isinstance(payload, dict) else {}
    token = found.get("access_token")
    if not isinstance(token, str) or not token:
        content_type = response.headers.get("content-type", "").partition(";")[0]
        raise refusals.not_json(response.status_code, "POST", "/auth/token", content_type)
    lifetime = wire.whole(found.get("expires_in"))
    scope = found.get("scope")
    return (
        token,
        float(lifetime) if lifetime and lifetime > 0 else _DEFAULT_LIFETIME_SECONDS,
        scope if isinstance(scope, str) and scope.strip() else None,
    )
