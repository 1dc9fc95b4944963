"""The connection test: every condition of working together, named, with what to do about the ones that fail.

Three answers: yes, no, and "could not ask". When the address does not answer, everything after it is
unknown, not broken. Nothing is written, so rights to write are judged from the token's scopes and the agent,
as far as they show."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from app.connectors.canonical import Check, ErrorClass, Verdict
from app.connectors.halopsa import refusals, wire
from app.connectors.halopsa.client import HaloClient, Params
from app.connectors.halopsa.refusals import CallFailed
from app.core import clock
from app.core.http.client import HTTPError

_TOLERATED_SKEW_SECONDS = 300.0
_NOT_ASKED = "Not asked, because an earlier check failed."


@dataclass(slots=True)
class _Findings:
    """The checks so far."""

    checks: list[Check] = field(default_factory=list)

    def ok(self, name: str, detail: str) -> None:
        self.checks.append(Check(name, Verdict.OK, detail))

    def failed(self, name: str, detail: str, advice: str) -> None:
        self.checks.append(Check(name, Verdict.FAILED, detail, advice or None))

    def unknown(self, name: str, detail: str, advice: str | None = None) -> None:
        self.checks.append(Check(name, Verdict.UNKNOWN, detail, advice))

    def by(self, name: str, failure: CallFailed) -> None:
        """A failure as a check: a refusal is a no, silence and throttling are "could not ask"."""
        if failure.error in (ErrorClass.RATE, ErrorClass.TIMEOUT, ErrorClass.UNAVAILABLE):
            self.unknown(name, failure.detail, failure.next_step or None)
        else:
            self.failed(name, failure.detail, failure.next_step)


async def run(client: HaloClient) -> Sequence[Check]:
    """All checks in order. Never raises for what HaloPSA or the network does."""
    found = _Findings()
    later = [
        ("identity", _identity),
        ("read tickets", _reads("/Tickets", {"pageinate": True, "page_size": 1, "page_no": 1}, "tickets")),
        ("read actions", _read_actions),
        ("edit tickets", _edits),
        ("outcomes", _outcomes),
        ("external links", _external_links),
        ("webhooks", _reads("/Webhook", {"type": 0}, "webhooks")),
        ("clock", _clock),
        ("call budget", _budget),
    ]
    if not await _address(client, found) or not await _token(client, found):
        for name, _ in later:
            found.unknown(name, _NOT_ASKED)
        return tuple(found.checks)
    for name, ask in later:
        try:
            await ask(client, found, name)
        except CallFailed as failure:
            found.by(name, failure)
    return tuple(found.checks)


Ask = Callable[[HaloClient, _Findings, str], Awaitable[None]]


async def _address(client: HaloClient, found: _Findings) -> bool:
    """Is there an HTTP server, and does HaloPSA's API answer on it? AuthInfo needs no log-in."""
    url = f"{client.config.api_url}/AuthInfo"
    try:
        response = await client.http.get(url)
    except (HTTPError, OSError) as error:
        found.failed("address", f"{client.config.base_url} cannot be reached.", refusals.unreachable_advice(error))
        found.unknown("api", _NOT_ASKED)
        found.unknown("token", _NOT_ASKED)
        return False
    found.ok("address", f"{client.config.base_url} answers.")
    content_type = response.headers.get("content-type", "").partition(";")[0].strip()
    if 300 <= response.status_code < 400:
        where = response.headers.get("location", "elsewhere")
        found.failed("api", f"The address redirects to {where[:200]}.", "Use the address it redirects to.")
        found.unknown("token", _NOT_ASKED)
        return False
    if response.status_code == 200 and content_type == "text/html":
        failure = refusals.not_json(200, "GET", "/AuthInfo", content_type)
        found.failed("api", failure.detail, failure.next_step)
        found.unknown("token", _NOT_ASKED)
        return False
    found.ok("api", f"HaloPSA's API answers at {client.config.api_url}.")
    return True


async def _token(client: HaloClient, found: _Findings) -> bool:
    tenant = client.config.token_tenant
    try:
        await client.tokens.token()
    except CallFailed as failure:
        found.by("token", failure)
        return False
    named = f"tenant '{tenant}'" if tenant else "no tenant"
    own = wire.text((await client.tokens.auth_info()).get("tenant_id")).strip()
    if client.config.tenant and own and own.casefold() != client.config.tenant.casefold():
        # Some installations do not look at the name; the next version of one may, and then every token fails.
        found.unknown(
            "token",
            f"Client id and secret are accepted, but {named} was sent and this HaloPSA says that it is '{own}'.",
            f"Set the tenant to '{own}', unless you know better.",
        )
        return True
    found.ok("token", f"Client id and secret are accepted ({named} was sent).")
    return True


async def _identity(client: HaloClient, found: _Findings, name: str) -> None:
    row = await client.get("/Agent/me")
    if not isinstance(row, dict) or wire.identifier(row.get("id")) is None:
        found.unknown(name, "HaloPSA does not say which agent the application logs in as.")
        return
    who = f"{wire.text(row.get('name'))} (agent {wire.identifier(row.get('id'))})"
    if wire.flag(row.get("isdisabled")):
        found.failed(name, f"We act as {who}, who is disabled.", "Enable this agent or choose another one.")
    elif wire.flag(row.get("isapiagent")) is False:
        found.unknown(
            name,
            f"We act as {who}, who is a person's account.",
            "Use an API-only agent: what Parhelion writes is then never mistaken for that person's work.",
        )
    else:
        found.ok(name, f"We act as {who}.")


def _reads(path: str, params: Params, key: str) -> Ask:
    async def ask(client: HaloClient, found: _Findings, name: str) -> None:
        rows = client.rows(await client.get(path, params), path, key)
        if path == "/Tickets" and not rows:
            found.unknown(
                name,
                "HaloPSA shows no ticket at all.",
                "Unless it is empty: put the API's agent in every team and allow it all clients.",
            )
            return
        found.ok(name, f"GET {path} is allowed.")

    return ask


async def _external_links(client: HaloClient, found: _Findings, name: str) -> None:
    """They make finding our own copies cheaper; without them the copies are found by their own fields."""
    ask = _reads("/ExternalLink", {"third_party_id": "parhelion-connection-test", "count": 1}, "links")
    try:
        await ask(client, found, name)
    except CallFailed as failure:
        if failure.error is not ErrorClass.PERMISSION:
            raise
        found.unknown(
            name,
            "The agent may not read external links. Nothing needs them; some looks take a call more.",
            "To allow it, give the API application's agent the right to integrations in HaloPSA.",
        )


async def _read_actions(client: HaloClient, found: _Findings, name: str) -> None:
    end = clock.now()
    params: Params = {"startdate": wire.sent(end - timedelta(hours=1)), "enddate": wire.sent(end), "count": 1}
    client.rows(await client.get("/Actions", params), "/Actions", "actions")
    found.ok(name, "GET /Actions is allowed.")


async def _edits(client: HaloClient, found: _Findings, name: str) -> None:
    """Writing is not tried, so this is read off the token's scopes, where HaloPSA states them."""
    scopes = frozenset((client.tokens.granted_scope or "").split())
    if not scopes:
        found.unknown(
            name,
            "Whether tickets may be changed shows only when something is written.",
            refusals.permission_advice("POST", "/Tickets"),
        )
    elif scopes & {"all", "all:standard", "edit:tickets"}:
        found.ok(name, "The token holds the scope to change tickets; the agent's own rights come on top.")
    else:
        found.failed(
            name,
            "The token holds no scope to change tickets.",
            refusals.permission_advice("POST", "/Tickets"),
        )


async def _outcomes(client: HaloClient, found: _Findings, name: str) -> None:
    rows = client.rows(await client.get("/Outcome"), "/Outcome", "outcomes")
    if rows:
        found.ok(name, f"{len(rows)} action outcomes can be read.")
    else:
        found.failed(
            name,
            "HaloPSA shows no action outcome, and takes no comment without one.",
            "Give the API's agent a role that may use the outcomes for notes and for the resolution.",
        )


async def _clock(client: HaloClient, found: _Findings, name: str) -> None:
    ahead = client.learnt.clock_ahead_seconds
    if ahead is None:
        found.unknown(name, "HaloPSA's answers carry no Date header, so its clock is not known.")
    elif abs(ahead) > _TOLERATED_SKEW_SECONDS:
        found.failed(
            name,
            f"HaloPSA's clock differs from ours by {ahead:.0f} s.",
            "Set this machine's clock by NTP; while they differ by five minutes no poll advances.",
        )
    else:
        found.ok(name, f"HaloPSA's clock differs from ours by {abs(ahead):.0f} s.")


async def _budget(client: HaloClient, found: _Findings, name: str) -> None:
    spent = client.budget.pressure()
    limit, window = client.config.budget_limit, client.config.budget_window_seconds
    detail = f"{spent:.0%} of {limit} calls in {window:.0f} s are spent."
    if spent >= 1.0:
        found.unknown(name, detail, "Other integrations share this limit; wait, or lower what they use.")
    else:
        found.ok(name, detail)
