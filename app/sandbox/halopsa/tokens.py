"""/auth/token: client credentials, expiry, revocation; and the scopes that a request needs."""

import hmac
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from app.sandbox.halopsa.calls import Actor, Reply
from app.sandbox.halopsa.seed import ApplicationSeed

if TYPE_CHECKING:
    from app.sandbox.halopsa.world import TenantWorld


@dataclass(slots=True)
class Application:
    """A registered API application and the tokens it holds."""

    seed: ApplicationSeed
    agent_id: int
    tokens: set[str] = field(default_factory=set)


class TokenOffice:
    """A tenant's API applications and the tokens they were given."""

    def __init__(self, applications: tuple[ApplicationSeed, ...], first_agent_id: int) -> None:
        self.applications = {
            seed.client_id: Application(seed, first_agent_id + place) for place, seed in enumerate(applications)
        }
        # token -> (who, until)
        self._granted: dict[str, tuple[Actor, datetime]] = {}

    def grant(self, world: "TenantWorld", body: bytes, content_type: str, params: dict[str, str]) -> Reply:
        """Answer a token request: 200 with the token, or 400/401 as OAuth names them, or 500 for a wrong
        tenant.
        """
        if "application/x-www-form-urlencoded" not in content_type.lower():
            return Reply(400, {"error": "invalid_request", "error_description": "The request must be a form."})
        form = {name: values[-1] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
        tenant = params.get("tenant") or form.get("tenant") or ""
        if world.switches.bad_tenant_is_500 and tenant.lower() not in ("", world.name.lower()):
            return Reply(500, {"ClassName": "System.Exception", "Message": "The tenant could not be found."})
        if form.get("grant_type") != "client_credentials":
            return Reply(400, {"error": "unsupported_grant_type", "error_description": "Use client_credentials."})
        application = self.applications.get(form.get("client_id", ""))
        secret = application.seed.client_secret if application else ""
        right = hmac.compare_digest(secret.encode(), form.get("client_secret", "").encode())
        if application is None or not right:
            text = "The specified client credentials are invalid."
            return Reply(401, {"error": "invalid_client", "error_description": text})
        return self._granted_to(world, application, form.get("scope", ""))

    def _granted_to(self, world: "TenantWorld", application: Application, asked: str) -> Reply:
        switches = world.switches
        scopes = _effective(frozenset(application.seed.scopes), frozenset(asked.split()))
        agent = world.configuration.agents[application.agent_id]
        token = f"{world.next_guid('token')}.{world.next_guid('token')}".replace("-", "")
        if switches.new_token_revokes_old:
            for old in application.tokens:
                self._granted.pop(old, None)
            application.tokens.clear()
        actor = Actor(application.agent_id, 0, agent["name"], application.seed.client_id, scopes)
        self._granted[token] = (actor, world.now() + timedelta(seconds=switches.token_lifetime_seconds))
        application.tokens.add(token)
        return Reply(
            200,
            {
                "access_token": token,
                "token_type": "Bearer",
                "expires_in": switches.token_lifetime_seconds,
                "scope": " ".join(sorted(scopes)),
            },
        )

    def actor(self, authorization: str, now: datetime) -> Actor | None:
        """Who sends this Authorization header; None when its token is unknown, expired or revoked."""
        scheme, _, token = authorization.partition(" ")
        found = self._granted.get(token.strip()) if scheme.lower() == "bearer" else None
        if found is None:
            return None
        actor, until = found
        if until <= now:
            del self._granted[token.strip()]
            return None
        return actor

    def revoke_all(self) -> int:
        """Forget every token, as a restart of the auth server does; how many there were."""
        count = len(self._granted)
        self._granted.clear()
        for application in self.applications.values():
            application.tokens.clear()
        return count


def _effective(held: frozenset[str], asked: frozenset[str]) -> frozenset[str]:
    """The scopes of a token: those asked for which the application holds; all it holds when "all" or none is
    asked.
    """
    if not asked or "all" in asked:
        return held
    if "all" in held:
        return asked
    return frozenset(scope for scope in asked if is_allowed(held, (scope,)))


def is_allowed(scopes: frozenset[str], needed: tuple[str, ...]) -> bool:
    """Whether one of ``needed`` is covered: by itself, by ``all``, by its family, or by the edit right of a
    read right.

    No scope needed means that any token does.
    """
    if not needed or "all" in scopes:
        return True
    return any(_covers(scopes, scope) for scope in needed)


def _covers(scopes: frozenset[str], scope: str) -> bool:
    if scope in scopes:
        return True
    if scope.startswith("admin"):
        return "admin" in scopes
    if "all:standard" in scopes:
        return True
    return scope.startswith("read:") and f"edit:{scope[5:]}" in scopes
