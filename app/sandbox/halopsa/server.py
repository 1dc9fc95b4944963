"""The sandbox HaloPSA: an ASGI application with several tenants, each under its own base path.

``{server}/{tenant}/api/...`` is the API, ``{server}/{tenant}/auth/token`` the token end point,
``{server}/_sandbox/...`` the control API. Anything else answers 200 and HTML, as HaloPSA's single-page
application does.
"""

import asyncio
import re
import time
from dataclasses import dataclass, field
from typing import Any

import orjson

from app.core.http.client import open_client
from app.sandbox.halopsa import control
from app.sandbox.halopsa.attachments import FILES_PREFIX, file_by_guid
from app.sandbox.halopsa.calls import Actor, Call, Reply, Route
from app.sandbox.halopsa.faults import Effect
from app.sandbox.halopsa.http_edge import (
    Receive,
    Request,
    Scope,
    Send,
    leave_without_answer,
    page,
    read_request,
    scripted,
    send_reply,
)
from app.sandbox.halopsa.refusals import Missing, Refused
from app.sandbox.halopsa.routes import find
from app.sandbox.halopsa.seed import Seed
from app.sandbox.halopsa.switches import Switches
from app.sandbox.halopsa.tokens import is_allowed
from app.sandbox.halopsa.world import TenantWorld

TOKEN_TEMPLATE = "/auth/token"  # noqa: S105 - a path, not a password
AUTH_INFO_TEMPLATE = "/AuthInfo"
UNKNOWN_TEMPLATE = "(unknown path)"
CONTROL_SEGMENT = "_sandbox"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
# Deliveries of all tenants share one pool of kept-alive connections.
DELIVERY_CONNECTIONS = 64


class BadTenantName(ValueError):
    """The name is taken, or it is not lower-case letters, digits and hyphens."""


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """What a sandbox starts with."""

    tenants: tuple[str, ...] = ()
    switches: Switches = field(default_factory=Switches)


class Sandbox:
    """Several tenants and the application that serves them. ``app`` is the ASGI application."""

    def __init__(self, settings: SandboxSettings) -> None:
        self.settings = settings
        self.tenants: dict[str, TenantWorld] = {}
        self.app = SandboxApp(self)
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: set[asyncio.Task[None]] = set()
        for name in settings.tenants:
            self.add_tenant(name)

    def tenant(self, name: str) -> TenantWorld:
        """The tenant. Raises ``KeyError``."""
        return self.tenants[name.lower()]

    def add_tenant(self, name: str, *, switches: Switches | None = None, seed: Seed | None = None) -> TenantWorld:
        """A new tenant, served from now on. Raises :class:`BadTenantName`."""
        key = name.lower()
        if not _NAME.fullmatch(key) or key in self.tenants:
            raise BadTenantName(
                f"{name!r} cannot be a tenant: use a free name of lower-case letters, digits and hyphens"
            )
        world = TenantWorld(key, switches or self.settings.switches.changed({}), seed)
        self.tenants[key] = world
        if self._loop is not None:
            world.deliveries.start(self._loop, self._client)
        return world

    def remove_tenant(self, name: str) -> None:
        """Forget a tenant and what it still had to deliver. Raises ``KeyError``."""
        world = self.tenants.pop(name.lower())
        if self._loop is not None:
            task = self._loop.create_task(world.deliveries.stop())
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)

    async def start(self) -> None:
        """Start delivering webhooks, in the running event loop."""
        # The receivers of a sandbox live on loopback or on the private network of a test rig.
        self._client = open_client(allow_private=True, max_connections=DELIVERY_CONNECTIONS)
        self._loop = asyncio.get_running_loop()
        for world in self.tenants.values():
            world.deliveries.start(self._loop, self._client)

    async def stop(self) -> None:
        """Stop delivering."""
        self._loop = None
        await asyncio.gather(*(world.deliveries.stop() for world in self.tenants.values()), *self._stopping)
        if self._client is not None:
            await self._client.aclose()
            self._client = None


def create_sandbox(settings: SandboxSettings | None = None) -> Sandbox:
    """A sandbox with the tenants of ``settings``; more can be added at any time."""
    return Sandbox(settings or SandboxSettings())


@dataclass(slots=True)
class _Exchange:
    """One API request on its way: what the journal will say about it."""

    request: Request
    route: Route | None
    template: str
    key: str
    started: float
    actor: Actor | None = None
    body: Any = None
    fault: str = ""


class SandboxApp:
    """The ASGI application."""

    # The tenant's clock may be skewed, and the Date header with it.
    sets_date_header = True

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request, or the lifespan."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        request = await read_request(scope, receive)
        name, _, rest = request.path.lstrip("/").partition("/")
        world = self._sandbox.tenants.get(name.lower())
        if world is not None:
            await self._tenant(world, request, rest, scope, receive, send)
            return
        reply = control.answer(self._sandbox, request, rest) if name == CONTROL_SEGMENT else page()
        await send_reply(send, reply, control.now())

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self._sandbox.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self._sandbox.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _tenant(
        self, world: TenantWorld, request: Request, rest: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        area, _, below = rest.strip("/").partition("/")
        area = area.lower()
        if area == "api":
            route, key = find(request.method, below)
            template = route.template if route else UNKNOWN_TEMPLATE
            if below.lower() == "authinfo" and request.method == "GET":
                template = AUTH_INFO_TEMPLATE
        elif area == "auth" and below.lower() == "token" and request.method == "POST":
            route, key, template = None, "", TOKEN_TEMPLATE
        else:
            await send_reply(send, _outside(world, area, below), world.now())
            return
        exchange = _Exchange(request, route, template, key, time.perf_counter())
        await self._exchange(world, exchange, scope, receive, send)

    async def _exchange(
        self, world: TenantWorld, exchange: _Exchange, scope: Scope, receive: Receive, send: Send
    ) -> None:
        request = exchange.request
        effect = world.faults.for_request(request.method, exchange.template)
        if effect is not None:
            exchange.fault = _name_of(effect)
            if effect.delay_ms:
                await asyncio.sleep(effect.delay_ms / 1000)
            if effect.drop_connection_before:
                _record(world, exchange, 0)
                await leave_without_answer(scope, receive, send, effect.hang_ms / 1000)
                return
        reply = _reply(world, exchange, effect)
        if effect is not None and effect.timeout_after_write:
            _record(world, exchange, 0)
            await leave_without_answer(scope, receive, send, effect.hang_ms / 1000)
            return
        _record(world, exchange, reply.status)
        await send_reply(send, reply, world.now())


def _outside(world: TenantWorld, area: str, below: str) -> Reply:
    """Paths that are not the API: files behind a link, otherwise the web application's page."""
    if area == FILES_PREFIX:
        try:
            return file_by_guid(world, below)
        except Missing:
            return Reply(404, raw=b"")
    return page()


def _name_of(effect: Effect) -> str:
    if effect.status:
        return f"status {effect.status}"
    for name in ("drop_connection_before", "timeout_after_write", "html_200"):
        if getattr(effect, name):
            return name
    return "partial_batch" if effect.partial_batch >= 0 else "delay_ms"


def _record(world: TenantWorld, exchange: _Exchange, status: int) -> None:
    request = exchange.request
    world.journal.record(
        at=world.now(),
        method=request.method,
        path=request.path[len(world.name) + 1 :],
        template=exchange.template,
        params=request.params,
        status=status,
        duration_ms=round((time.perf_counter() - exchange.started) * 1000, 3),
        application=exchange.actor.application if exchange.actor else "",
        body_bytes=len(request.body),
        body=exchange.body,
        fault=exchange.fault,
    )


def _reply(world: TenantWorld, exchange: _Exchange, effect: Effect | None) -> Reply:
    request = exchange.request
    if exchange.template in (TOKEN_TEMPLATE, AUTH_INFO_TEMPLATE):
        return _open_reply(world, exchange, effect)
    exchange.actor = world.tokens.actor(request.authorization, world.now())
    if exchange.actor is None:
        return Reply(401, raw=b"", headers=(("www-authenticate", 'Bearer error="invalid_token"'),))
    refused = world.limiter.refuse(world.switches)
    if refused is not None:
        return refused
    answered = _scripted(effect)
    if answered is not None:
        return answered
    if exchange.route is None:
        return Reply(404, {"error": "No HTTP resource was found that matches the request."})
    if not is_allowed(exchange.actor.scopes, exchange.route.scopes):
        return Reply(403, raw=b"")
    return _handled(world, exchange, exchange.route, exchange.actor, effect)


def _open_reply(world: TenantWorld, exchange: _Exchange, effect: Effect | None) -> Reply:
    """The two end points that need no token."""
    request = exchange.request
    if world.switches.auth_is_metered:
        refused = world.limiter.refuse(world.switches)
        if refused is not None:
            return refused
    answered = _scripted(effect)
    if answered is not None:
        return answered
    if exchange.template == TOKEN_TEMPLATE:
        return world.tokens.grant(world, request.body, request.content_type, request.params)
    base = f"{request.base_url}/{world.name}"
    return Reply(200, {"auth_url": f"{base}/auth", "tenant_id": world.name})


def _scripted(effect: Effect | None) -> Reply | None:
    if effect is None:
        return None
    if effect.status:
        return scripted(effect.status, effect.body, effect.headers)
    return page() if effect.html_200 else None


def _handled(world: TenantWorld, exchange: _Exchange, route: Route, actor: Actor, effect: Effect | None) -> Reply:
    request = exchange.request
    if request.method == "POST":
        try:
            exchange.body = orjson.loads(request.body)
        except orjson.JSONDecodeError:
            return world.refusal(Refused(400, "The request body is not valid JSON."))
    body = exchange.body
    partial = effect.partial_batch if effect is not None else -1
    if partial >= 0 and isinstance(body, list):
        body = body[:partial]
    call = Call(request.method, route.template, actor, request.params, exchange.key, body, request.base_url)
    reply = world.run(call)
    if partial >= 0:
        return world.refusal(Refused(400, "The element could not be saved").at(partial, partial + 2))
    return reply
