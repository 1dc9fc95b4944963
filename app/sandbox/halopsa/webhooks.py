"""/Webhook and /Notification: where deliveries go, and which rules raise them (HaloPSA wire contract,
webhooks).
"""

import re
import uuid
from collections import defaultdict
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from app.sandbox.halopsa import render
from app.sandbox.halopsa.batches import Commit, Shape, save_all
from app.sandbox.halopsa.calls import Call, Reply, Route, Row, whole
from app.sandbox.halopsa.refusals import Missing, Refused

if TYPE_CHECKING:
    from app.sandbox.halopsa.world import TenantWorld

AUTHENTICATION_NONE = 0
AUTHENTICATION_BASIC = 1
AUTHENTICATION_HMAC = 3
_AUTHENTICATIONS = (AUTHENTICATION_NONE, AUTHENTICATION_BASIC, AUTHENTICATION_HMAC)
PAYLOAD_FULL = 0
PAYLOAD_SMALL = 1
PAYLOAD_EVENT_ONLY = 2
CONDITION_IS = 0
CONDITION_IS_NOT = 1

_TEXTS = (
    "name",
    "url",
    "content_type",
    "authentication_header",
    "basic_username",
    "basic_password",
    "signature_prefix",
    "note",
    "systemuse",
    "version_number",
)
_NUMBERS = (
    "type",
    "method",
    "authentication_type",
    "certificate_id",
    "algorithm",
    "digest",
    "inbound_authentication_type",
    "payload_type",
    "runbook_start_type",
    "batch_method",
    "batch_delay_seconds",
    "batch_limit",
    "infinite_loop_threshold",
    "log_retention_policy_days",
    "major_version_number",
    "minor_version_number",
    "patch_version_number",
    "auto_disable_attempts",
)
_FLAGS = ("active", "disabled", "custom_payload", "notify_on_failure", "use_lightweight_logs")
_RULE_NUMBERS = (
    "type",
    "delivery_method",
    "eventno",
    "agent_id",
    "filter_type",
    "restriction_type",
    "useworkinghours",
)
_HOST = re.compile(r"[A-Za-z0-9._:-]+")


class Registry:
    """A tenant's webhooks and notification rules, with the rules of an event found directly."""

    def __init__(self) -> None:
        self.webhooks: dict[str, Row] = {}
        self.rules: dict[int, Row] = {}
        self.last_rule_id = 0
        self._by_event: dict[int, list[int]] = defaultdict(list)

    def put_rule(self, rule: Row) -> None:
        """Store a rule under its id."""
        self.drop_rule(rule["id"])
        self.rules[rule["id"]] = rule
        self.last_rule_id = max(self.last_rule_id, rule["id"])
        self._by_event[rule["eventno"]].append(rule["id"])

    def drop_rule(self, ident: int) -> Row | None:
        """Forget a rule; None when there is none."""
        rule = self.rules.pop(ident, None)
        if rule is not None:
            self._by_event[rule["eventno"]].remove(ident)
        return rule

    def rules_of(self, event: int) -> list[Row]:
        """The rules of an event whose webhook is active."""
        found = [self.rules[ident] for ident in self._by_event.get(event, ())]
        return [rule for rule in found if self.is_live(rule["webhook_id"])]

    def is_live(self, webhook_id: str) -> bool:
        """Whether deliveries go to that webhook at all."""
        webhook = self.webhooks.get(webhook_id)
        return webhook is not None and webhook["active"] and not webhook["disabled"]


def _webhook_shape(world: "TenantWorld", row: Row) -> Row:
    """The webhook without its password, with the rules that feed it."""
    shown = render.dated(row, world.switches) | {"basic_password": ""}
    shown["events"] = [dict(rule) for rule in world.webhooks.rules.values() if rule["webhook_id"] == row["id"]]
    return shown


def list_webhooks(world: "TenantWorld", call: Call) -> Reply:
    """Bare array; ``type`` filters."""
    kind = call.number("type")
    rows = [row for row in world.webhooks.webhooks.values() if kind is None or row["type"] == kind]
    return Reply(body=[_webhook_shape(world, row) for row in rows])


def get_webhook(world: "TenantWorld", call: Call) -> Reply:
    """One webhook."""
    return Reply(body=_webhook_shape(world, _known(world, call.key)))


def _known(world: "TenantWorld", text: str) -> Row:
    try:
        row = world.webhooks.webhooks.get(str(uuid.UUID(text)))
    except ValueError:
        raise Refused(400, f"The value '{text}' is not valid.", field="id") from None
    if row is None:
        raise Missing
    return row


def post_webhooks(world: "TenantWorld", call: Call) -> Reply:
    """Create or change webhooks; ``events`` inside creates their rules too."""
    return save_all(world, call, _plan_webhook)


def _plan_webhook(world: "TenantWorld", call: Call, element: Row) -> Commit:
    before = _known(world, str(element["id"])) if element.get("id") else None
    found: Row = {member: str(element[member]) for member in _TEXTS if element.get(member) is not None}
    found |= {member: whole(element[member], member) for member in _NUMBERS if element.get(member) not in (None, "")}
    found |= {member: bool(element[member]) for member in _FLAGS if element.get(member) is not None}
    if isinstance(element.get("mappings"), list):
        found["mappings"] = element["mappings"]
    _check_webhook(found, before)
    rules = [_rule(world, item, "") for item in element.get("events") or ()]

    def commit() -> Shape:
        row = before if before is not None else _fresh(world)
        row.update(found)
        world.webhooks.webhooks[row["id"]] = row
        for rule in rules:
            world.webhooks.put_rule(rule | {"id": world.webhooks.last_rule_id + 1, "webhook_id": row["id"]})
        return lambda: _webhook_shape(world, row)

    return commit


def _check_webhook(found: Row, before: Row | None) -> None:
    if before is None and not found.get("name"):
        raise Refused(400, "Webhook name was required")
    url: str = found.get("url") or ("" if before is None else before["url"])
    if not _is_address(url):
        raise Refused(400, "Payload URL was required")
    if found.get("authentication_type", 0) not in _AUTHENTICATIONS:
        raise Refused(400, f"Authentication type {found['authentication_type']} is not supported here: 0, 1 or 3")
    if found.get("content_type", "application/json") not in ("application/json", ""):
        raise Refused(400, "The content type is application/json")


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        return parts.scheme in ("http", "https") and _HOST.fullmatch(host) is not None and parts.port != 0
    except ValueError:
        return False


def _fresh(world: "TenantWorld") -> Row:
    world.webhook_count += 1
    row: Row = dict.fromkeys(_TEXTS, "") | dict.fromkeys(_NUMBERS, 0) | dict.fromkeys(_FLAGS, False)
    return row | {
        "id": world.guid("webhook", world.webhook_count),
        "content_type": "application/json",
        "active": True,
        "mappings": [],
        "last_status": 0,
    }


def delete_webhook(world: "TenantWorld", call: Call) -> Reply:
    """Delete a webhook and its rules."""
    row = _known(world, call.key)
    shown = _webhook_shape(world, row)
    for ident in [ident for ident, rule in world.webhooks.rules.items() if rule["webhook_id"] == row["id"]]:
        world.webhooks.drop_rule(ident)
    del world.webhooks.webhooks[row["id"]]
    return Reply(body=shown)


def list_rules(world: "TenantWorld", call: Call) -> Reply:
    """The notification rules, of one webhook with ``webhook_id``; bare array."""
    wanted = call.params.get("webhook_id", "").lower()
    kind = call.number("type")
    return Reply(
        body=[
            dict(rule)
            for rule in world.webhooks.rules.values()
            if (not wanted or rule["webhook_id"] == wanted) and (kind is None or rule["type"] == kind)
        ]
    )


def get_rule(world: "TenantWorld", call: Call) -> Reply:
    """One rule."""
    rule = world.webhooks.rules.get(call.id())
    if rule is None:
        raise Missing
    return Reply(body=dict(rule))


def post_rules(world: "TenantWorld", call: Call) -> Reply:
    """Create or change rules; numbers may come as text, as production integrations send them."""
    return save_all(world, call, _plan_rule)


def _plan_rule(world: "TenantWorld", call: Call, element: Row) -> Commit:
    ident = 0 if element.get("id") in (None, "") else whole(element["id"], "id")
    before = world.webhooks.rules.get(ident)
    if ident and before is None:
        raise Refused(400, "Record not found")
    webhook = _known(world, str(element.get("webhook_id") or (before or {}).get("webhook_id", "")))
    rule = _rule(world, (before or {}) | element, webhook["id"])

    def commit() -> Shape:
        saved = rule | {"id": ident or world.webhooks.last_rule_id + 1}
        world.webhooks.put_rule(saved)
        return lambda: dict(saved)

    return commit


def _rule(world: "TenantWorld", element: Row, webhook_id: str) -> Row:
    rule: Row = {
        "name": str(element.get("name") or ""),
        "webhook_id": webhook_id,
        "guid": world.guid("notification", world.webhooks.last_rule_id + 1),
        "interval": float(element.get("interval") or 0),
    }
    rule |= {member: whole(element.get(member) or 0, member) for member in _RULE_NUMBERS}
    if not rule["eventno"]:
        raise Refused(400, "An event must be chosen for this notification")
    conditions = element.get("conditions") or []
    if not isinstance(conditions, list) or not all(isinstance(item, dict) for item in conditions):
        raise Refused(400, "conditions requires a JSON array of objects.", field="conditions")
    for condition in conditions:
        if int(condition.get("type") or 0) not in (CONDITION_IS, CONDITION_IS_NOT):
            raise Refused(400, "Only the condition types 0 (is) and 1 (is not) are evaluated here")
    return rule | {"conditions": conditions, "condition_count": len(conditions)}


def delete_rule(world: "TenantWorld", call: Call) -> Reply:
    """Delete a rule."""
    rule = world.webhooks.drop_rule(call.id())
    if rule is None:
        raise Missing
    return Reply(body=rule)


# HaloPSA's conditions name database columns; these are the ones that are evaluated, with the API's own names.
_COLUMNS = {
    "symptom": "summary",
    "status": "status_id",
    "requesttypenew": "tickettype_id",
    "areaint": "client_id",
    "assignedtoint": "agent_id",
    "sectio_": "team",
    "seriousness": "priority_id",
    "category2": "category_1",
}


def conditions_hold(rule: Row, values: dict[str, Any]) -> bool:
    """Whether every condition of the rule is true of the ticket's stored values."""
    for condition in rule["conditions"]:
        name = str(condition.get("fieldname") or "").lower()
        actual = values.get(_COLUMNS.get(name, name), "")
        if str(condition.get("value_type") or "string").startswith("int"):
            wanted: Any = condition.get("value_int") or 0
        else:
            wanted = str(condition.get("value_string") or "").strip('"')
        same = str(actual).casefold() == str(wanted).casefold()
        if same is (int(condition.get("type") or 0) == CONDITION_IS_NOT):
            return False
    return True


_SCOPES = ("admin", "admin:webhooks")
ROUTES = (
    Route("GET", "/Webhook", _SCOPES, list_webhooks),
    Route("POST", "/Webhook", _SCOPES, post_webhooks),
    Route("GET", "/Webhook/{id}", _SCOPES, get_webhook),
    Route("DELETE", "/Webhook/{id}", _SCOPES, delete_webhook),
    Route("GET", "/Notification", _SCOPES, list_rules),
    Route("POST", "/Notification", _SCOPES, post_rules),
    Route("GET", "/Notification/{id}", _SCOPES, get_rule),
    Route("DELETE", "/Notification/{id}", _SCOPES, delete_rule),
)
