"""How a ticket looks on the wire: a list row, the full object, a webhook's small object, the written one."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from app.sandbox.halopsa import render
from app.sandbox.halopsa.attachments import attachments_of
from app.sandbox.halopsa.calls import Row
from app.sandbox.halopsa.custom_fields import custom_rows
from app.sandbox.halopsa.external_links import TICKET_TABLE, links_of
from app.sandbox.halopsa.ticket_store import Ticket

if TYPE_CHECKING:
    from app.sandbox.halopsa.world import TenantWorld

Shape = Callable[[], Row]

_DATES = (
    "dateoccurred",
    "datecreated",
    "dateassigned",
    "dateclosed",
    "lastactiondate",
    "respondbydate",
    "responsedate",
    "fixbydate",
    "startdate",
    "targetdate",
    "deadlinedate",
    "followupdate",
    "lastnote_date",
)
_TEXTS = (
    "summary",
    "details",
    "category_1",
    "category_2",
    "category_3",
    "category_4",
    "third_party_id_string",
    "supplier_reference",
    "client_reference",
    "reportedby",
    "inventory_number",
    "lastnote",
)
_NUMBERS = (
    "impact",
    "urgency",
    "source",
    "estimate",
    "estimatedays",
    "timetaken",
    "parent_id",
    "merged_into_id",
    "third_party_id",
    "department_id",
    "organisation_id",
    "contract_id",
    "child_count",
)
_FULL_TEXTS = (
    "details_html",
    "closure_note",
    "closure_note_html",
    "phonenumber",
    "emailcclist",
    "ticket_tags",
    "created_by",
)


def list_row(world: "TenantWorld", ticket: Ticket) -> Row:
    """A row of GET /Tickets."""
    values, switches, config = ticket.values, world.switches, world.configuration
    status = config.statuses[values["status_id"]]
    kind = config.ticket_types[values["tickettype_id"]]
    team = config.team_named(values["team"]) if values["team"] else None
    agent = config.agents.get(values["agent_id"])
    user = world.users.get(values["user_id"])
    row: Row = {
        "id": ticket.id,
        "guid": values["guid"],
        "tickettype_id": kind["id"],
        "tickettype_name": kind["name"],
        "itil_requesttype_id": kind["itilrequesttype"],
        "status_id": status["id"],
        "status_name": status["name"],
        "priority_id": values["priority_id"],
        "priority_name": config.priorities[values["sla_id"], values["priority_id"]]["name"],
        "sla_id": values["sla_id"],
        "client_id": values["client_id"],
        "client_name": world.clients[values["client_id"]]["name"],
        "site_id": values["site_id"],
        "site_name": world.sites[values["site_id"]]["name"],
        "user_id": values["user_id"],
        "user_name": user["name"] if user else "",
        "user_email": user["emailaddress"] if user else "",
        "team": values["team"],
        "team_id": team["id"] if team else 0,
        "agent_id": values["agent_id"],
        "agent_name": agent["name"] if agent else "",
        "flagged": values.get("flagged", False),
        "read": values.get("read", True),
        "excludefromsla": values.get("excludefromsla", False),
        "inactive": values.get("inactive", False),
        "hasbeenclosed": values.get("hasbeenclosed", False),
        "onhold": status["slaaction"] == "H",
        "slaholdtime": 0.0,
        "enduserstatus": 0,
        "use": "ticket",
        "deleted": ticket.deleted,
        "attachment_count": world.attachments.count_of(ticket.id),
        "last_update": render.date(ticket.updated, switches),
    }
    for member in _TEXTS:
        row[member] = values.get(member, "")
    for member in _NUMBERS:
        row[member] = values.get(member, 0)
    for member in _DATES:
        row[member] = render.date(values.get(member), switches)
    return row


def full(world: "TenantWorld", ticket: Ticket, *, audit: bool = False) -> Row:
    """The full object of GET /Tickets/{id}."""
    values = ticket.values
    row = list_row(world, ticket)
    for member in _FULL_TEXTS:
        row[member] = values.get(member, "")
    by_value = {item["value"]: item["id"] for item in world.configuration.categories.values()}
    for level in (1, 2, 3, 4):
        row[f"categoryid_{level}"] = by_value.get(values.get(f"category_{level}", ""), 0)
    row["sla_name"] = world.configuration.slas[values["sla_id"]]["name"]
    row["closure_agent_id"] = values.get("closure_agent_id", 0)
    row["cost"] = values.get("cost", 0)
    row["web_url"] = f"/tickets?id={ticket.id}"
    row["customfields"] = custom_rows(world, ticket.custom)
    row["attachments"] = attachments_of(world, ticket.id)
    row["external_links"] = links_of(world, TICKET_TABLE, ticket.id, 0)
    if audit:
        row["audit_log"] = [render.dated(entry, world.switches) for entry in ticket.audit]
    return row


def small(world: "TenantWorld", ticket: Ticket) -> Row:
    """The key fields that the small webhook object carries."""
    row = list_row(world, ticket)
    members = (
        "id",
        "summary",
        "status_id",
        "tickettype_id",
        "client_id",
        "team_id",
        "agent_id",
        "hasbeenclosed",
    )
    return {member: row[member] for member in members} | {"customfields": []}


def shape_of(world: "TenantWorld", ticket: Ticket) -> Shape:
    """The written object, made only when it is answered."""
    return lambda: render.written(full(world, ticket), world.switches)
