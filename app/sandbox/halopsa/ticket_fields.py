"""A ticket's writable members: how each is read from a body, and which references it must satisfy."""

import html
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from app.sandbox.halopsa.calls import Row, lenient_whole, parse_moment, whole
from app.sandbox.halopsa.refusals import Refused

if TYPE_CHECKING:
    from app.sandbox.halopsa.ticket_store import Ticket
    from app.sandbox.halopsa.world import TenantWorld

IDS = (
    "tickettype_id",
    "status_id",
    "priority_id",
    "sla_id",
    "client_id",
    "user_id",
    "agent_id",
    "impact",
    "urgency",
    "source",
    "parent_id",
    "merged_into_id",
    "third_party_id",
    "contract_id",
    "department_id",
    "organisation_id",
)
TEXTS = (
    "summary",
    "details",
    "details_html",
    "team",
    "category_1",
    "category_2",
    "category_3",
    "category_4",
    "third_party_id_string",
    "supplier_reference",
    "client_reference",
    "reportedby",
    "phonenumber",
    "emailcclist",
    "closure_note",
    "closure_note_html",
    "ticket_tags",
    "inventory_number",
)
DATES = ("startdate", "targetdate", "deadlinedate", "followupdate")
NUMBERS = ("estimate", "estimatedays", "cost")
FLAGS = ("flagged", "read", "excludefromsla", "inactive")
TRIMMED = frozenset({"summary", "details", "team", "category_1", "category_2", "category_3", "category_4"})

_TAG = re.compile(r"<[^>]*>")
_BREAK = re.compile(r"<\s*(?:br\s*/?|/p|/div|/li)\s*>", re.IGNORECASE)
_HIDDEN_SPAN = re.compile(r"<span\b[^>]*display\s*:\s*none[^>]*>.*?</span>", re.IGNORECASE | re.DOTALL)


def plain(markup: str) -> str:
    """The text of an HTML fragment: breaks become lines, tags go, entities are resolved."""
    return html.unescape(_TAG.sub("", _BREAK.sub("\n", markup))).strip()


def markup(text: str) -> str:
    """The HTML that HaloPSA shows for a plain text."""
    return html.escape(text, quote=False).replace("\n", "<br>")


def without_hidden_spans(text: str) -> str:
    """The HTML without spans that are not displayed, as a tenant's clean-up may leave it."""
    return _HIDDEN_SPAN.sub("", text)


def date_member(value: Any, member: str) -> datetime | None:
    """A date in a body: ISO text or null. Raises the conversion error."""
    if value in (None, ""):
        return None
    found = parse_moment(value) if isinstance(value, str) else None
    if found is None:
        raise Refused(400, f"Could not convert string to DateTime: {value}.", field=member)
    return None if found.year <= 1980 else found


def number_member(value: Any, member: str) -> float:
    """A decimal in a body. Raises the conversion error."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise Refused(400, f"Error converting value {value!r} to type 'System.Double'.", field=member) from None


def read_members(world: "TenantWorld", element: Row) -> Row:
    """The stored values that a body element asks for. Null members, objects for ids and unknown members are
    ignored.
    """
    found: Row = {}
    for member in IDS:
        value = element.get(member)
        if value is not None and not isinstance(value, (dict, list)):
            found[member] = whole(value, member)
    if element.get("site_id") is not None:
        found["site_id"] = lenient_whole(element["site_id"], "site_id")
    found |= _read_texts(element, trims=world.switches.trim_text)
    for member in DATES:
        if member in element:
            found[member] = date_member(element[member], member)
    for member in NUMBERS:
        if element.get(member) is not None:
            found[member] = number_member(element[member], member)
    found |= {member: bool(element[member]) for member in FLAGS if element.get(member) is not None}
    _pair_texts(found)
    return found


def _read_texts(element: Row, *, trims: bool) -> Row:
    given = {member: str(element[member]) for member in TEXTS if element.get(member) is not None}
    return {name: text.strip() if trims and name in TRIMMED else text for name, text in given.items()}


def _pair_texts(found: Row) -> None:
    """Keep plain and HTML details (and closure notes) saying the same."""
    for text, rich in (("details", "details_html"), ("closure_note", "closure_note_html")):
        if rich in found and text not in found:
            found[text] = plain(found[rich])
        elif text in found and rich not in found:
            found[rich] = markup(found[text])


def check_references(world: "TenantWorld", found: Row, ticket: "Ticket | None", element: Row) -> None:
    """Refuse (400) ids that do not exist, and combinations that HaloPSA does not take. Resolves the team's
    name.
    """
    config = world.configuration
    known = (
        ("tickettype_id", config.ticket_types, "Ticket type"),
        ("status_id", config.statuses, "Status"),
        ("sla_id", config.slas, "SLA"),
        ("client_id", world.clients, "Client"),
        ("site_id", world.sites, "Site"),
        ("user_id", world.users, "User"),
        ("agent_id", config.agents, "Agent"),
    )
    for member, rows, name in known:
        if member in found and found[member] > 0 and found[member] not in rows:
            raise Refused(400, f"{name} {found[member]} was not found")
    if found.get("team"):
        _resolve_team(world, found)
    _check_status(world, found, ticket)
    _check_priority(world, found, ticket)
    _check_site(world, found)
    if world.switches.agent_team_prompt:
        _check_agent_team(world, found, ticket, element)


def _resolve_team(world: "TenantWorld", found: Row) -> None:
    team = world.configuration.team_named(found["team"])
    if team is None:
        raise Refused(400, f"Team '{found['team']}' was not found")
    found["team"] = team["name"].upper() if world.switches.uppercase_team else team["name"]


def _type_of(world: "TenantWorld", found: Row, ticket: "Ticket | None") -> Row | None:
    ident = found.get("tickettype_id") or (ticket.values["tickettype_id"] if ticket else 1)
    return world.configuration.ticket_types.get(ident)


def _check_status(world: "TenantWorld", found: Row, ticket: "Ticket | None") -> None:
    status = found.get("status_id")
    if status is None:
        return
    row = world.configuration.statuses.get(status)
    if row is None or row["type"] != 0:
        raise Refused(400, f"Status {status} is not a ticket status")
    kind = _type_of(world, found, ticket)
    if kind and not kind["allowall_status"] and status not in {item["status_id"] for item in kind["allowed_status"]}:
        raise Refused(400, f"The status {row['name']} is not allowed for the ticket type {kind['name']}")


def _check_priority(world: "TenantWorld", found: Row, ticket: "Ticket | None") -> None:
    if "priority_id" not in found and "sla_id" not in found:
        return
    kind = _type_of(world, found, ticket)
    before = ticket.values if ticket else {}
    sla = found.get("sla_id") or before.get("sla_id") or (kind["default_sla"] if kind else 1)
    priority = found.get("priority_id") or before.get("priority_id") or (kind["default_priority"] if kind else 1)
    if (sla, priority) not in world.configuration.priorities:
        raise Refused(400, f"Priority {priority} is not valid for SLA {sla}")


def _check_site(world: "TenantWorld", found: Row) -> None:
    user, site = found.get("user_id", 0), found.get("site_id", 0)
    if user > 0 and site > 0 and world.users[user]["site_id"] != site:
        raise Refused(400, f"User {user} does not belong to site {site}")
    if site > 0 and found.get("client_id", 0) > 0 and world.sites[site]["client_id"] != found["client_id"]:
        raise Refused(400, f"Site {site} does not belong to client {found['client_id']}")


def _check_agent_team(world: "TenantWorld", found: Row, ticket: "Ticket | None", element: Row) -> None:
    agent = found.get("agent_id", 0)
    if agent <= 1 or element.get("_forcereassign") or element.get("_agent01_ok"):
        return
    team = found.get("team") or (ticket.values["team"] if ticket else "")
    names = {item["team_name"].casefold() for item in world.configuration.agents[agent]["teams"]}
    if team and team.casefold() not in names:
        raise Refused(400, f"Agent {agent} is not a member of the team {team}. Do you want to continue?")


def required_missing(kind: Row, values: Row) -> str:
    """The sentence about mandatory members that are empty, or an empty text."""
    labels = {"details": "Details", "category_1": "Category", "summary": "Summary"}
    missing = [labels[member] for member in kind["_mandatory"] if not values.get(member)]
    if not missing:
        return ""
    return f"{' and '.join(missing)} {'was' if len(missing) == 1 else 'were'} required"
