"""The invented configuration that every tenant starts with. Ids 1, 7 and 9 mean what they mean in HaloPSA."""

from typing import Any

Row = dict[str, Any]

UNASSIGNED_AGENT_ID = 1
UNKNOWN_CLIENT_ID = 1
NEW_STATUS_ID = 1
IN_PROGRESS_STATUS_ID = 2
CLOSED_STATUS_ID = 9
INTERNAL_NOTE_OUTCOME_ID = 7
PUBLIC_NOTE_OUTCOME_ID = 10
EMAIL_OUTCOME_ID = 11
RESOLVE_OUTCOME_ID = 12
REOPEN_OUTCOME_ID = 13
HOLD_OUTCOME_ID = 14
TIME_ENTRY_OUTCOME_ID = 15
CHANGE_ONLY_OUTCOME_ID = 16

# (id, name, type, slaaction, colour). Only type 0 is a ticket status; the list also holds other kinds,
# unfiltered.
STATUSES: tuple[tuple[int, str, int, str, str], ...] = (
    (1, "New", 0, "N", "#3b7ddd"),
    (2, "In Progress", 0, "R", "#2eb85c"),
    (3, "Action Required", 0, "R", "#e55353"),
    (4, "With User", 0, "H", "#f9b115"),
    (5, "On Hold", 0, "H", "#9da5b1"),
    (6, "With Supplier", 0, "H", "#6610f2"),
    (8, "Resolved", 0, "N", "#1b9e3e"),
    (9, "Closed", 0, "N", "#4f5d73"),
    (21, "Awaiting Delivery", 2, "N", "#39f"),
    (22, "Active", 3, "N", "#2eb85c"),
    (23, "Retired", 3, "N", "#9da5b1"),
    (31, "Qualified", 1, "N", "#39f"),
)

# (id, name, department). The default team of a ticket type is written by name, as HaloPSA stores it.
TEAMS: tuple[tuple[int, str, int], ...] = (
    (1, "1st Line Support", 1),
    (2, "2nd Line Support", 1),
    (3, "Infrastructure", 1),
    (4, "Security", 2),
    (5, "Projects", 2),
)

# Each agent: id, name, email and teams.
AGENTS: tuple[tuple[int, str, str, tuple[int, ...]], ...] = (
    (3, "Ada Brook", "ada.brook@msp.example", (1, 2)),
    (4, "Ben Castle", "ben.castle@msp.example", (1,)),
    (5, "Chloe Dunn", "chloe.dunn@msp.example", (2, 3)),
    (6, "Dev Ellis", "dev.ellis@msp.example", (3, 4)),
    (7, "Eva Frost", "eva.frost@msp.example", (4, 5)),
)

# Each SLA: id, name and the name of its working hours.
SLAS: tuple[tuple[int, str, str], ...] = (
    (1, "Standard", "Office hours"),
    (2, "Around the Clock", "24 hours"),
)

# (priorityid, name, response hours, fix hours, colour), the same numbers under each SLA with other times.
PRIORITIES: tuple[tuple[int, str, float, float, str], ...] = (
    (1, "Critical", 0.5, 4, "#e55353"),
    (2, "High", 1, 8, "#f9b115"),
    (3, "Medium", 4, 24, "#39f"),
    (4, "Low", 8, 72, "#2eb85c"),
)

TICKET_TYPES: tuple[Row, ...] = (
    {"id": 1, "name": "Incident", "itilrequesttype": 1, "default_sla": 1, "default_priority": 3, "team": 1},
    {
        "id": 2,
        "name": "Service Request",
        "itilrequesttype": 3,
        "default_sla": 1,
        "default_priority": 4,
        "team": 1,
    },
    {
        "id": 3,
        "name": "Change",
        "itilrequesttype": 2,
        "default_sla": 1,
        "default_priority": 4,
        "team": 3,
        "workflow_id": 1,
    },
    {"id": 4, "name": "Problem", "itilrequesttype": 4, "default_sla": 1, "default_priority": 2, "team": 2},
    {
        "id": 5,
        "name": "Security Alert",
        "itilrequesttype": 1,
        "default_sla": 2,
        "default_priority": 2,
        "team": 4,
        "mandatory": ("details", "category_1"),
    },
    {
        "id": 6,
        "name": "New Starter Onboarding",
        "itilrequesttype": 3,
        "default_sla": 1,
        "default_priority": 4,
        "team": 1,
        "needs_approval": True,
    },
    {
        "id": 7,
        "name": "Supplier Case",
        "itilrequesttype": 21,
        "default_sla": 1,
        "default_priority": 3,
        "team": 2,
        "allowed_actions": (INTERNAL_NOTE_OUTCOME_ID, PUBLIC_NOTE_OUTCOME_ID, RESOLVE_OUTCOME_ID),
        "allowed_status": (1, 2, 6, 9),
    },
)

# Each outcome: id, text, button, new status, hidden from the user, sends e-mail, number of a system action.
OUTCOMES: tuple[tuple[int, str, str, int, bool, bool, int], ...] = (
    (1, "First User Email", "", -1, False, False, 0),
    (2, "Changed Status", "", -1, True, False, 2),
    (3, "Re-Assigned", "", -1, True, False, 3),
    (INTERNAL_NOTE_OUTCOME_ID, "Internal Note", "Add Note", -1, True, False, 0),
    (PUBLIC_NOTE_OUTCOME_ID, "Public Note", "Add Public Note", -1, False, False, 0),
    (EMAIL_OUTCOME_ID, "Email User", "Email User", -1, False, True, 0),
    (RESOLVE_OUTCOME_ID, "Resolution", "Resolve", CLOSED_STATUS_ID, False, False, 0),
    (REOPEN_OUTCOME_ID, "Re-Opened", "Re-Open", IN_PROGRESS_STATUS_ID, False, False, 0),
    (HOLD_OUTCOME_ID, "Placed On Hold", "Hold", 5, True, False, 0),
    (TIME_ENTRY_OUTCOME_ID, "Time Entry", "Log Time", -1, True, False, 0),
    (CHANGE_ONLY_OUTCOME_ID, "Change Implemented", "Implement", -1, True, False, 0),
    (17, "User Update", "", -1, False, False, 0),
)

# The one workflow: its first step lets an agent note and implement, not resolve.
WORKFLOW_STEPS: tuple[tuple[int, str, tuple[int, ...]], ...] = (
    (1, "Assessment", (INTERNAL_NOTE_OUTCOME_ID, PUBLIC_NOTE_OUTCOME_ID, CHANGE_ONLY_OUTCOME_ID)),
    (2, "Implemented", (INTERNAL_NOTE_OUTCOME_ID, PUBLIC_NOTE_OUTCOME_ID, RESOLVE_OUTCOME_ID)),
)
# The outcome that moves a ticket of that workflow from its first step to its second.
WORKFLOW_ADVANCING_OUTCOME_ID = CHANGE_ONLY_OUTCOME_ID

# Each category: id, level and value.
CATEGORIES: tuple[tuple[int, int, str], ...] = (
    (1, 1, "Hardware"),
    (2, 1, "Hardware>Printer"),
    (3, 1, "Hardware>Laptop"),
    (4, 1, "Software"),
    (5, 1, "Software>Email"),
    (6, 1, "Network"),
    (7, 1, "Security>Malware"),
    (8, 2, "Remote"),
    (9, 2, "On Site"),
)

# (id, name, label, type, table, values). Type 0 text, 2 single select, 4 date, 6 checkbox.
FIELDS: tuple[tuple[int, str, str, int, tuple[tuple[int, str], ...]], ...] = (
    (101, "CFPartnerReference", "Partner reference", 0, ()),
    (102, "CFEnvironment", "Environment", 2, ((1, "Production"), (2, "Test"), (3, "Development"))),
    (103, "CFGoLive", "Go-live date", 4, ()),
    (104, "CFBillable", "Billable", 6, ()),
)

# (id of the list, entries). 17 is HaloPSA's list of charge rates.
LOOKUPS: dict[int, tuple[tuple[int, str], ...]] = {17: ((0, "Non-chargeable"), (1, "Standard"), (2, "Out of Hours"))}

CLIENT_NAMES: tuple[str, ...] = (
    "Alder Dental",
    "Birch & Sons",
    "Cedar Logistics",
    "Dogwood Law",
    "Elm Housing Trust",
    "Fir Engineering",
    "Gorse Media",
    "Hazel Schools",
)
FIRST_NAMES: tuple[str, ...] = ("Iris", "Jonas", "Kemi", "Liam", "Mona", "Nils", "Orla", "Piotr")
SURNAMES: tuple[str, ...] = ("Quill", "Reyes", "Sato", "Thorne", "Usman", "Vogel", "Weir", "Young")

# Each asset type: id and name.
ASSET_TYPES: tuple[tuple[int, str], ...] = ((1, "Laptop"), (2, "Server"), (3, "Firewall"))
