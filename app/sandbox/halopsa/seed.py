"""What a tenant of the sandbox starts with: clients, sites, people and configuration. Invented and
deterministic.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from app.sandbox.halopsa import seed_rows as rows
from app.sandbox.halopsa.calls import Row

_NAMESPACE = uuid.UUID("5b2f6d0e-53b2-4a0c-9f0e-7d1f3c0a9e11")
_FOUNDED = datetime(2024, 1, 8, 9, 0, tzinfo=UTC)
FIRST_API_AGENT_ID = 90

# Names a row: (kind, id) -> GUID.
_Mark = Callable[[str, object], str]


@dataclass(frozen=True, slots=True)
class ApplicationSeed:
    """An API application: its credentials, its scopes, and the name of the API-only agent it acts as."""

    client_id: str
    client_secret: str = field(repr=False)
    scopes: tuple[str, ...] = ("all",)
    agent_name: str = "API Integration"


@dataclass(frozen=True, slots=True)
class Seed:
    """How much a tenant starts with. The same seed gives the same rows and GUIDs.

    Without ``applications`` there is one, ``{tenant}-app`` with the secret ``{tenant}-app-secret`` and every
    scope.
    """

    clients: int = 5
    users_per_client: int = 3
    tickets: int = 0
    number: int = 1
    applications: tuple[ApplicationSeed, ...] = ()

    def applications_of(self, tenant: str) -> tuple[ApplicationSeed, ...]:
        """The tenant's API applications: the given ones or the default one."""
        return self.applications or (ApplicationSeed(f"{tenant}-app", f"{tenant}-app-secret"),)


def guid(*parts: object) -> str:
    """A GUID that depends on ``parts`` only."""
    return str(uuid.uuid5(_NAMESPACE, "|".join(str(part) for part in parts)))


@dataclass(slots=True)
class Configuration:
    """A tenant's configuration rows by id, and how they refer to each other."""

    statuses: dict[int, Row]
    teams: dict[int, Row]
    agents: dict[int, Row]
    slas: dict[int, Row]
    priorities: dict[tuple[int, int], Row]
    ticket_types: dict[int, Row]
    categories: dict[int, Row]
    outcomes: dict[int, Row]
    workflows: dict[int, Row]
    fields: dict[int, Row]
    asset_types: dict[int, Row]

    def team_named(self, name: str) -> Row | None:
        """The team of that name, whatever its case."""
        wanted = name.strip().casefold()
        return next((row for row in self.teams.values() if row["name"].casefold() == wanted), None)

    def outcome_named(self, text: str) -> Row | None:
        """The outcome whose stored text or button has that text, whatever its case."""
        wanted = text.strip().casefold()
        if not wanted:
            return None
        return next(
            (
                row
                for row in self.outcomes.values()
                if wanted in (row["outcome"].casefold(), row["buttonname"].casefold())
            ),
            None,
        )


def configuration(tenant: str, seed: Seed) -> Configuration:
    """The configuration of a fresh tenant."""

    def mark(kind: str, ident: object) -> str:
        return guid(tenant, seed.number, kind, ident)

    return Configuration(
        statuses={
            ident: {
                "id": ident,
                "guid": mark("status", ident),
                "name": name,
                "shortname": name[:10],
                "type": kind,
                "sequence": ident,
                "colour": colour,
                "slaaction": action,
                "showonquickchange": kind == 0,
            }
            for ident, name, kind, action, colour in rows.STATUSES
        },
        teams=_teams(mark),
        agents=_agents(mark, seed.applications_of(tenant)),
        slas={
            ident: {
                "id": ident,
                "guid": mark("sla", ident),
                "name": name,
                "workday_id": ident,
                "workday_name": day,
            }
            for ident, name, day in rows.SLAS
        },
        priorities=_priorities(mark),
        ticket_types=_ticket_types(mark),
        categories={
            ident: {
                "id": ident,
                "guid": mark("category", ident),
                "value": value,
                "category_name": value,
                "type_id": level,
            }
            for ident, level, value in rows.CATEGORIES
        },
        outcomes=_outcomes(mark),
        workflows={1: _workflow(mark)},
        fields=_fields(mark),
        asset_types={
            ident: {"id": ident, "guid": mark("assettype", ident), "name": name} for ident, name in rows.ASSET_TYPES
        },
    )


def _teams(mark: _Mark) -> dict[int, Row]:
    return {
        ident: {
            "id": ident,
            "guid": mark("team", ident),
            "name": name,
            "sequence": ident,
            "forrequests": True,
            "foropps": False,
            "forprojects": name == "Projects",
            "department_id": department,
            "department_name": "Service Desk" if department == 1 else "Professional Services",
            "inactive": False,
        }
        for ident, name, department in rows.TEAMS
    }


def _agents(mark: _Mark, applications: tuple[ApplicationSeed, ...]) -> dict[int, Row]:
    found = {rows.UNASSIGNED_AGENT_ID: _agent(mark, rows.UNASSIGNED_AGENT_ID, "Unassigned", "", ())}
    for ident, name, email, teams in rows.AGENTS:
        found[ident] = _agent(mark, ident, name, email, teams)
    every_team = tuple(team[0] for team in rows.TEAMS)
    for offset, application in enumerate(applications):
        ident = FIRST_API_AGENT_ID + offset
        found[ident] = _agent(mark, ident, application.agent_name, "", every_team) | {"isapiagent": True}
    return found


def _agent(mark: _Mark, ident: int, name: str, email: str, teams: tuple[int, ...]) -> Row:
    names = {team_id: team_name for team_id, team_name, _ in rows.TEAMS}
    first, _, last = name.partition(" ")
    return {
        "id": ident,
        "guid": mark("agent", ident),
        "name": name,
        "firstname": first,
        "surname": last,
        "initials": f"{first[:1]}{last[:1]}",
        "email": email,
        "isdisabled": False,
        "is_agent": True,
        "isapiagent": False,
        "team": names[teams[0]] if teams else "",
        "teams": [{"team_id": team, "team_name": names[team], "agent_id": ident} for team in teams],
    }


def _priorities(mark: _Mark) -> dict[tuple[int, int], Row]:
    return {
        (sla, number): {
            "id": mark("priority", f"{sla}-{number}"),
            "slaid": sla,
            "priorityid": number,
            "name": name,
            "responsetime": response if sla == 1 else response / 2,
            "responseunits": "H",
            "fixtime": fix if sla == 1 else fix / 2,
            "fixunits": "H",
            "ishidden": False,
            "colour": colour,
        }
        for sla, *_ in rows.SLAS
        for number, name, response, fix, colour in rows.PRIORITIES
    }


def _ticket_types(mark: _Mark) -> dict[int, Row]:
    team_names = {ident: name for ident, name, _ in rows.TEAMS}
    found = {}
    for given in rows.TICKET_TYPES:
        actions, statuses = given.get("allowed_actions", ()), given.get("allowed_status", ())
        found[given["id"]] = {
            "id": given["id"],
            "guid": mark("tickettype", given["id"]),
            "name": given["name"],
            "use": "reqs",
            "sequence": given["id"],
            "itilrequesttype": given["itilrequesttype"],
            "cancreate": True,
            "agentscanselect": True,
            "enduserscanselect": given["id"] < 3,
            "visible": True,
            "allowattachments": True,
            "default_sla": given["default_sla"],
            "default_priority": given["default_priority"],
            "default_agent": rows.UNASSIGNED_AGENT_ID,
            "default_team": team_names[given["team"]],
            "default_summary": f"{given['name']} template",
            "default_details": "Please describe what happened.",
            "workflow_id": given.get("workflow_id", 0),
            "initial_status": rows.NEW_STATUS_ID,
            "reopenedstatus": rows.IN_PROGRESS_STATUS_ID,
            "hasmandatorytechfields": bool(given.get("mandatory")),
            "allowall_actions": not actions,
            "allowed_actions": [{"key1": action} for action in actions],
            "allowall_status": not statuses,
            "allowed_status": [{"status_id": status} for status in statuses],
            "_mandatory": tuple(given.get("mandatory", ())),
            "_needs_approval": bool(given.get("needs_approval")),
        }
    return found


def _outcomes(mark: _Mark) -> dict[int, Row]:
    return {
        ident: {
            "id": ident,
            "guid": mark("outcome", ident),
            "outcome": text,
            "buttonname": button or text,
            "labellong": button or text,
            "sequence": ident,
            "hidden": False,
            "systemid": system,
            "respondtype": 0,
            "newstatus": status,
            "sendemail": 1 if sends else 0,
            "hidefromuser": hidden,
            "actionvisibility": hidden,
        }
        for ident, text, button, status, hidden, sends, system in rows.OUTCOMES
    }


def _workflow(mark: _Mark) -> Row:
    return {
        "id": 1,
        "guid": mark("workflow", 1),
        "name": "Change workflow",
        "active": True,
        "steps": [
            {
                "step_id": step,
                "flow_id": 1,
                "name": name,
                "isstart": step == 1,
                "actions": [{"action_id": action, "start_step": step} for action in actions],
            }
            for step, name, actions in rows.WORKFLOW_STEPS
        ],
    }


def _fields(mark: _Mark) -> dict[int, Row]:
    return {
        ident: {
            "id": ident,
            "guid": mark("field", ident),
            "name": name,
            "label": label,
            "type": kind,
            "custom": 1,
            "usage": 1,
            "inputtype": 0,
            "searchable": True,
            "values": [{"id": value, "name": text} for value, text in values],
        }
        for ident, name, label, kind, values in rows.FIELDS
    }


def organisation(tenant: str, seed: Seed) -> tuple[dict[int, Row], dict[int, Row], dict[int, Row]]:
    """Clients, sites and users by id. Client 1 is HaloPSA's "Unknown"; every site has its General User."""
    clients: dict[int, Row] = {}
    sites: dict[int, Row] = {}
    users: dict[int, Row] = {}
    names = ("Unknown", *(_numbered(rows.CLIENT_NAMES, place) for place in range(seed.clients)))
    for client_id, name in enumerate(names, start=1):
        site_id = len(sites) + 1
        clients[client_id] = {
            "id": client_id,
            "name": name,
            "inactive": False,
            "main_site_id": site_id,
            "toplevel_id": 1,
            "ref": f"C{client_id:04d}",
            "datecreated": _FOUNDED,
            "alastupdate": _FOUNDED,
        }
        for branch in ("Main",) if client_id == 1 or client_id % 2 else ("Main", "Warehouse"):
            site_id = len(sites) + 1
            sites[site_id] = {
                "id": site_id,
                "guid": guid(tenant, seed.number, "site", site_id),
                "name": branch,
                "client_id": client_id,
                "inactive": False,
                "timezone": "UTC",
                "country_code": "GB",
                "_lastupdate": _FOUNDED,
            }
            general = len(users) + 1
            users[general] = _user(general, "General User", "", site_id, client_id)
        if client_id > 1:
            _people(seed, clients[client_id], users)
    return clients, sites, users


def _numbered(names: tuple[str, ...], place: int) -> str:
    rounds, index = divmod(place, len(names))
    return names[index] if rounds == 0 else f"{names[index]} {rounds + 1}"


def _people(seed: Seed, client: Row, users: dict[int, Row]) -> None:
    domain = client["name"].split()[0].lower() + str(client["id"]) + ".example"
    for place in range(seed.users_per_client):
        first = rows.FIRST_NAMES[(client["id"] + place) % len(rows.FIRST_NAMES)]
        last = rows.SURNAMES[(client["id"] * 3 + place) % len(rows.SURNAMES)]
        ident = len(users) + 1
        email = f"{first.lower()}.{last.lower()}@{domain}"
        users[ident] = _user(ident, f"{first} {last}", email, client["main_site_id"], client["id"])


def _user(ident: int, name: str, email: str, site_id: int, client_id: int) -> Row:
    first, _, last = name.partition(" ")
    return {
        "id": ident,
        "name": name,
        "firstname": first,
        "surname": last,
        "initials": f"{first[:1]}{last[:1]}",
        "emailaddress": email,
        "site_id": site_id,
        "client_id": client_id,
        "inactive": False,
        "isserviceaccount": False,
        "neversendemails": False,
        "_lastupdate": _FOUNDED,
    }
