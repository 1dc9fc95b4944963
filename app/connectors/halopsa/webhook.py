"""HaloPSA's webhooks: reading what they bring, and keeping ours registered.

A delivery is a hint (contract, 6.2): we need its id, its event and its ticket, and read the rest ourselves.
A webhook is two things in HaloPSA: the webhook, which says where to, and one notification rule for each
event that feeds it. There is no owner field, so ours are recognised by their name; the secret is never shown
again, so a fingerprint of it stands in the webhook's note."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any

from app.connectors.canonical import HookEvent, HookState
from app.connectors.halopsa import wire
from app.connectors.halopsa.client import HaloClient, Params
from app.connectors.halopsa.refusals import CallFailed
from app.connectors.registry import split_batch
from app.core.http.signing import HmacVerifier

SIGNATURE_HEADER = "X-Parhelion-Signature"
# No prefix: with one HaloPSA writes a blank after it. Either encoding: which of them `digest` selects is not
# known.
HALO_VERIFIER = HmacVerifier(header=SIGNATURE_HEADER, encoding="either")

# Notification rule numbers (contract, 6.3).
EVENTS: Mapping[int, str] = {
    3: "new ticket logged",
    19: "ticket updated by user",
    39: "ticket closed",
    61: "ticket updated",
    76: "ticket status changed",
    1072: "ticket deleted",
}
_HMAC = 3
_ABOUT_TICKETS = ("ticket", "action", "sla")
_LOOKED_AT = 50


def parse_hook(body: bytes) -> Sequence[HookEvent]:
    """The events of a body: one object, or several in a batch. Raises ``ValueError`` for anything else."""
    return tuple(_event(item, raw) for item, raw in split_batch(body))


def split_hook(body: bytes) -> Sequence[tuple[str, bytes]]:
    """(delivery id or nothing, bytes) of each event of a body. Raises ``ValueError`` as :func:`parse_hook` does."""
    return [(wire.text(item.get("id")).strip(), raw) for item, raw in split_batch(body)]


def _delivery_id(item: Mapping[str, Any], raw: bytes) -> str:
    return wire.text(item.get("id")).strip() or hashlib.sha256(raw).hexdigest()


def _event(item: Mapping[str, Any], raw: bytes) -> HookEvent:
    copy = item.get("ticket")
    ticket: Mapping[str, Any] = copy if isinstance(copy, dict) else {}
    actor = wire.identifier(item.get("agent_id"))
    ticket_id = _ticket_id(item, ticket)
    return HookEvent(
        external_id=_delivery_id(item, raw),
        name=wire.text(item.get("event")).strip().lower() or "event",
        raw=raw,
        ticket_id=str(ticket_id) if ticket_id is not None else None,
        at=wire.moment(item.get("timestamp")),
        actor_id=str(actor) if actor is not None else None,
        ticket_updated_at=wire.moment(wire.first(ticket, "last_update", "lastupdate")),
    )


def _ticket_id(item: Mapping[str, Any], ticket: Mapping[str, Any]) -> int | None:
    """The ticket an event is about. ``object_id`` is the id of whatever the event is about, so it counts
    only when the event speaks of tickets, or says nothing at all (payloads may be made of chosen
    fields)."""
    found = wire.identifier(ticket.get("id")) or wire.identifier(wire.first(item, "ticket_id", "faultid"))
    if found is not None:
        return found
    name = wire.text(item.get("event")).lower()
    if name and not any(word in name for word in _ABOUT_TICKETS):
        return None
    return wire.identifier(item.get("object_id"))


class HaloWebhooks:
    """Implements :class:`app.connectors.ports.WebhookSource`. Raises ``CallFailed``, a ``DeskError``."""

    def __init__(self, client: HaloClient) -> None:
        self._client = client

    def events(self, body: bytes) -> Sequence[HookEvent]:
        """The events of a body."""
        return parse_hook(body)

    async def ensure_webhook(self, *, url: str, secret: str, label: str) -> HookState:
        """Register or repair: address, secret, state and rules. Three calls when nothing is to be done."""
        ours = await self._ours(label)
        ours.sort(key=lambda row: row.get("url") != url)
        for surplus in ours[1:]:
            await self._delete(surplus)
        wanted = _wanted(url, secret, label)
        webhook = ours[0] if ours else None
        if webhook is None or _differs(webhook, wanted):
            body = wanted if webhook is None else {**wanted, "id": webhook["id"]}
            saved = await self._client.post("/Webhook", [body])
            webhook = next((row for row in saved if row.get("id")), None) or next(iter(await self._ours(label)), None)
        if webhook is None:
            return HookState(None, False, problems=("HaloPSA took the webhook but does not list it.",))
        webhook_id = wire.text(webhook.get("id"))
        missing = [number for number in EVENTS if number not in await self._rules(webhook_id)]
        if missing:
            await self._client.post("/Notification", [_rule(webhook_id, number, label) for number in missing])
        return await self.inspect_webhook(url=url, label=label)

    async def inspect_webhook(self, *, url: str, label: str) -> HookState:
        """What is registered, with a sentence for each thing that is wrong."""
        ours = await self._ours(label)
        if not ours:
            return HookState(None, False, problems=("No webhook of ours is registered in HaloPSA.",))
        webhook = next((row for row in ours if row.get("url") == url), ours[0])
        webhook_id = wire.text(webhook.get("id"))
        rules = await self._rules(webhook_id)
        active = _is_active(webhook)
        problems: list[str] = []
        if len(ours) > 1:
            problems.append(f"{len(ours)} webhooks of ours are registered; events arrive that many times.")
        if webhook.get("url") != url:
            problems.append("The webhook sends to another address than this service's.")
        if not active:
            problems.append("HaloPSA has switched the webhook off, as it does after repeated failures.")
        missing = [name for number, name in EVENTS.items() if number not in rules]
        if missing:
            problems.append(f"No notification rule for: {', '.join(missing)}.")
        problems.extend(await self._delivery_problems(webhook))
        events = tuple(EVENTS.get(number, f"event {number}") for number in sorted(rules))
        return HookState(webhook_id, active, events, tuple(problems))

    async def remove_webhook(self, *, label: str) -> int:
        """Remove every webhook whose name starts with ``label``; returns how many there were."""
        ours = await self._ours(label)
        for webhook in ours:
            await self._delete(webhook)
        return len(ours)

    async def _ours(self, label: str) -> list[dict[str, Any]]:
        payload = await self._client.get("/Webhook", {"type": 0})
        rows = self._client.rows(payload, "/Webhook", "webhooks")
        return [row for row in rows if row.get("id") and wire.text(row.get("name")).startswith(label)]

    async def _delete(self, webhook: wire.Row) -> None:
        webhook_id = wire.text(webhook.get("id"))
        await self._client.delete(f"/Webhook/{webhook_id}", template="/Webhook/{id}")

    async def _rules(self, webhook_id: str) -> frozenset[int]:
        payload = await self._client.get("/Notification", {"webhook_id": webhook_id, "showall": True})
        rows = self._client.rows(payload, "/Notification", "notifications")
        numbers = (
            wire.identifier(row.get("eventno"))
            for row in rows
            if wire.text(row.get("webhook_id")).lower() == webhook_id.lower()
        )
        return frozenset(number for number in numbers if number is not None)

    async def _delivery_problems(self, webhook: wire.Row) -> list[str]:
        """What HaloPSA's delivery log says; nothing when it cannot be read (its form is not documented)."""
        found: list[str] = []
        last = wire.identifier(webhook.get("last_status"))
        if last is not None and not 200 <= last < 300:
            found.append(f"HaloPSA's last delivery was answered with {last}.")
        params: Params = {
            "webhook_id": wire.text(webhook.get("id")),
            "pageinate": True,
            "page_size": _LOOKED_AT,
            "page_no": 1,
            "order": "timestamp",
            "orderdesc": True,
        }
        try:
            payload = await self._client.get("/WebhookEvent", params)
            rows = wire.rows(payload, "webhookevents", "events")
        except (CallFailed, wire.NotAnObject):
            return found
        failed = [row for row in rows if _failed(row)]
        if failed:
            found.append(f"{len(failed)} of the last {len(rows)} deliveries failed; the poll finds those changes.")
        return found


def _failed(row: wire.Row) -> bool:
    status = wire.identifier(row.get("responsestatus"))
    return bool(wire.flag(row.get("error"))) or (status is not None and not 200 <= status < 300)


def _is_active(webhook: wire.Row) -> bool:
    return wire.flag(webhook.get("active")) is not False and not wire.flag(webhook.get("disabled"))


def _wanted(url: str, secret: str, label: str) -> dict[str, Any]:
    """The webhook as production integrations register theirs (contract, 6.5)."""
    return {
        "name": label,
        "note": f"Managed by Parhelion, which repairs it. Key {_fingerprint(secret)}.",
        "url": url,
        "active": True,
        "disabled": False,
        "type": 0,
        "method": 0,
        "content_type": "application/json",
        "authentication_type": _HMAC,
        "authentication_header": SIGNATURE_HEADER,
        "basic_password": secret,
        "signature_prefix": "",
        "algorithm": 0,
        "certificate_id": 0,
        "inbound_authentication_type": 0,
        "runbook_start_type": 0,
        "systemuse": "",
        "version_number": "0.0.1",
        "major_version_number": 0,
        "minor_version_number": 0,
        "patch_version_number": 1,
    }


def _differs(webhook: wire.Row, wanted: Mapping[str, Any]) -> bool:
    """Whether a registered webhook needs to be written again. Members that HaloPSA does not show are
    left alone."""
    if not _is_active(webhook):
        return True
    if wire.whole(webhook.get("authentication_type")) != _HMAC:
        return True
    for member in ("name", "url", "note", "authentication_header"):
        if wire.text(webhook.get(member)) != wanted[member]:
            return True
    return bool(wire.text(webhook.get("signature_prefix")))


def _fingerprint(secret: str) -> str:
    """Tells one secret from another without telling anything of it: 48 bits of an HMAC keyed with it."""
    return hmac.new(secret.encode(), b"parhelion webhook key", hashlib.sha256).hexdigest()[:12]


def _rule(webhook_id: str, number: int, label: str) -> dict[str, Any]:
    """A notification rule whose delivery method is a webhook; numbers are sent as text, as they are in
    production."""
    return {
        "webhook_id": webhook_id,
        "type": "-2",
        "delivery_method": "6",
        "name": f"{label}: {EVENTS[number]}",
        "eventno": str(number),
        "agent_id": "0",
        "slack_id": "0",
        "teams_id": "0",
        "filter_type": "2",
        "restriction_type": "0",
        "interval": "0",
        "useworkinghours": "0",
        "emailtemplate_id": "32",
        "conditions": [],
    }
