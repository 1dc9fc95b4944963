"""The control API under ``/_sandbox/``: not part of HaloPSA, never metered, never in the journal."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson

from app.core import clock
from app.sandbox.halopsa.calls import Reply, Row
from app.sandbox.halopsa.deliveries import CannotResend
from app.sandbox.halopsa.faults import BadFault
from app.sandbox.halopsa.http_edge import Request
from app.sandbox.halopsa.render import dated
from app.sandbox.halopsa.seed import ApplicationSeed, Seed
from app.sandbox.halopsa.switches import Switches, UnknownSwitch
from app.sandbox.halopsa.world import TenantWorld, UnknownPerson

if TYPE_CHECKING:
    from app.sandbox.halopsa.server import Sandbox


class _Unusable(ValueError):
    """The control request cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A control request about one tenant: ``rest`` are the path's segments after the tenant."""

    world: TenantWorld
    request: Request
    rest: tuple[str, ...]
    body: Any

    def member(self, name: str, default: Any = None) -> Any:
        """A member of the JSON body."""
        if self.body is not None and not isinstance(self.body, dict):
            raise _Unusable("the body is a JSON object")
        return (self.body or {}).get(name, default)


def now() -> datetime:
    """The sandbox's own time, unskewed."""
    return clock.now()


def answer(sandbox: "Sandbox", request: Request, rest: str) -> Reply:
    """Answer a control request; 404 for an unknown path, 400 with a sentence for a wrong one."""
    segments = tuple(part for part in rest.split("/") if part)
    try:
        body = orjson.loads(request.body) if request.body else None
    except orjson.JSONDecodeError:
        return _problem(400, "the body is not valid JSON")
    if not segments or segments[0] != "tenants":
        return _problem(404, "control paths start with /_sandbox/tenants")
    try:
        if len(segments) == 1:
            return _tenants(sandbox, request, body)
        world = sandbox.tenants.get(segments[1].lower())
        if world is None:
            return _problem(404, f"there is no tenant {segments[1]!r}")
        if len(segments) == 2:
            return _one_tenant(sandbox, request, world)
        verb = _VERBS.get((request.method, segments[2]))
        if verb is None:
            return _problem(404, f"there is no {request.method} {segments[2]} for a tenant")
        return verb(_Asked(world, request, segments[3:], body))
    except (_Unusable, UnknownSwitch, UnknownPerson, BadFault, CannotResend, TypeError, ValueError) as error:
        return _problem(400, str(error))


def _problem(status: int, text: str) -> Reply:
    return Reply(status, {"error": text})


def _tenants(sandbox: "Sandbox", request: Request, body: Any) -> Reply:
    if request.method == "GET":
        return Reply(body=[describe(world, request.base_url) for world in sandbox.tenants.values()])
    if request.method != "POST" or not isinstance(body, dict) or not isinstance(body.get("name"), str):
        return _problem(400, "POST a JSON object with a name (and switches, seed)")
    switches = sandbox.settings.switches.changed(body.get("switches") or {})
    world = sandbox.add_tenant(body["name"], switches=switches, seed=_seed(body.get("seed") or {}))
    return Reply(201, describe(world, request.base_url))


def _seed(given: Row) -> Seed:
    applications = tuple(
        ApplicationSeed(
            item["client_id"],
            item["client_secret"],
            tuple(item.get("scopes", ("all",))),
            item.get("agent_name", "API Integration"),
        )
        for item in given.get("applications", ())
    )
    known = {"clients", "users_per_client", "tickets", "number"}
    unknown = sorted(set(given) - known - {"applications"})
    if unknown:
        raise _Unusable(f"seed has no member {', '.join(unknown)}")
    return Seed(**{name: int(value) for name, value in given.items() if name in known}, applications=applications)


def describe(world: TenantWorld, base_url: str) -> Row:
    """A tenant's addresses and its invented credentials."""
    base = f"{base_url}/{world.name}"
    return {
        "name": world.name,
        "base_url": base,
        "api_url": f"{base}/api",
        "token_url": f"{base}/auth/token",
        "applications": [
            {
                "client_id": application.seed.client_id,
                "client_secret": application.seed.client_secret,
                "scopes": list(application.seed.scopes),
                "agent_id": application.agent_id,
            }
            for application in world.tokens.applications.values()
        ],
        "switches": {item.name: getattr(world.switches, item.name) for item in fields(Switches)},
        "skew_seconds": world.skew_seconds,
        "tickets": len(world.tickets.by_id),
    }


def _one_tenant(sandbox: "Sandbox", request: Request, world: TenantWorld) -> Reply:
    if request.method == "GET":
        return Reply(body=describe(world, request.base_url))
    if request.method == "DELETE":
        sandbox.remove_tenant(world.name)
        return Reply(body={"name": world.name})
    return _problem(404, "GET or DELETE a tenant")


def _patch_switches(asked: _Asked) -> Reply:
    if not isinstance(asked.body, dict):
        raise _Unusable("the body is a JSON object of switches")
    asked.world.switches.apply(asked.body)
    return Reply(body=describe(asked.world, asked.request.base_url)["switches"])


def _act(asked: _Asked) -> Reply:
    acted = asked.world.act(
        str(asked.member("method", "POST")),
        str(asked.member("path", "")),
        agent_id=int(asked.member("agent_id", 0)),
        user_id=int(asked.member("user_id", 0)),
        params=asked.member("params"),
        body=asked.member("body"),
    )
    return Reply(body={"status": acted.status, "body": acted.body})


def _journal(asked: _Asked) -> Reply:
    params = asked.request.params
    limit = params.get("limit")
    found = asked.world.journal.entries(
        since=int(params.get("since") or 0),
        method=params.get("method", ""),
        path=params.get("path", ""),
        limit=int(limit) if limit else None,
    )
    return Reply(body={"last_seq": asked.world.journal.seq, "entries": [entry.as_json() for entry in found]})


def _journal_reset(asked: _Asked) -> Reply:
    if asked.rest != ("reset",):
        return _problem(404, "POST journal/reset")
    asked.world.journal.reset(counters=asked.request.params.get("counters", "").lower() == "true")
    return Reply(body={"last_seq": asked.world.journal.seq})


def _counters(asked: _Asked) -> Reply:
    world = asked.world
    return Reply(
        body={
            "requests": world.journal.counters,
            "total": sum(world.journal.counters.values()),
            "rate_limited": world.limiter.refused,
            "budget_used": world.limiter.used,
            "webhook_events_raised": world.deliveries.raised,
            "webhook_calls_sent": world.deliveries.sent,
            "webhook_events_outstanding": world.deliveries.outstanding,
        }
    )


def _add_faults(asked: _Asked) -> Reply:
    given = asked.body if isinstance(asked.body, list) else [asked.body]
    if not all(isinstance(item, dict) for item in given):
        raise _Unusable("POST a fault or a list of faults")
    for item in given:
        asked.world.faults.add(item)
    return Reply(201, asked.world.faults.as_json())


def _list_faults(asked: _Asked) -> Reply:
    return Reply(body=asked.world.faults.as_json())


def _clear_faults(asked: _Asked) -> Reply:
    asked.world.faults.clear()
    return Reply(body=[])


def _deliveries(asked: _Asked) -> Reply:
    rows = [dated(row, asked.world.switches) for row in asked.world.deliveries.rows()]
    return Reply(body={"outstanding": asked.world.deliveries.outstanding, "rows": rows})


def _resend(asked: _Asked) -> Reply:
    if len(asked.rest) != 2 or asked.rest[1] != "resend":
        return _problem(404, "POST deliveries/{id}/resend")
    return Reply(202, {"id": asked.world.deliveries.resend(asked.rest[0])})


def _export(asked: _Asked) -> Reply:
    return Reply(body=asked.world.export())


def _clock(asked: _Asked) -> Reply:
    asked.world.skew_seconds = float(asked.member("skew_seconds", 0))
    return Reply(body={"skew_seconds": asked.world.skew_seconds, "now": clock.rfc3339(asked.world.now())})


def _revoke_tokens(asked: _Asked) -> Reply:
    return Reply(body={"revoked": asked.world.tokens.revoke_all()})


_VERBS: dict[tuple[str, str], Callable[[_Asked], Reply]] = {
    ("PATCH", "switches"): _patch_switches,
    ("POST", "act"): _act,
    ("GET", "journal"): _journal,
    ("POST", "journal"): _journal_reset,
    ("GET", "counters"): _counters,
    ("GET", "faults"): _list_faults,
    ("POST", "faults"): _add_faults,
    ("DELETE", "faults"): _clear_faults,
    ("GET", "deliveries"): _deliveries,
    ("POST", "deliveries"): _resend,
    ("GET", "export"): _export,
    ("PATCH", "clock"): _clock,
    ("DELETE", "tokens"): _revoke_tokens,
}
