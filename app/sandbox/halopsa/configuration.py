"""The configuration lists: agents, teams, ticket types, statuses, priorities, SLAs, categories, outcomes,
fields.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from app.sandbox.halopsa import render, seed_rows
from app.sandbox.halopsa.calls import Call, Handler, Reply, Route, Row
from app.sandbox.halopsa.paging import slice_of
from app.sandbox.halopsa.refusals import Missing

if TYPE_CHECKING:
    from app.sandbox.halopsa.world import TenantWorld

Rows = Callable[["TenantWorld", Call], Iterable[Row]]
# No separate scope exists for these: they are readable with ticket scopes or admin.
_READ = ("read:tickets", "edit:tickets", "admin")
# Held back from the lists of these kinds, shown by id.
_DETAILS = frozenset({"steps", "allowed_status", "allowed_actions"})


def _shown(world: "TenantWorld", row: Row) -> Row:
    return render.dated(row, world.switches)


def _brief(world: "TenantWorld", row: Row) -> Row:
    return {name: value for name, value in _shown(world, row).items() if name not in _DETAILS}


def _list(rows: Rows) -> Handler:
    """A bare array, never cut (wire contract, list envelopes)."""
    return lambda world, call: Reply(body=[_brief(world, row) for row in rows(world, call)])


def _get(rows: Callable[["TenantWorld"], dict[int, Row]]) -> Handler:
    def handler(world: "TenantWorld", call: Call) -> Reply:
        row = rows(world).get(call.id())
        if row is None:
            raise Missing
        return Reply(body=_shown(world, row))

    return handler


def _agents(world: "TenantWorld", call: Call) -> list[Row]:
    team_id, team = call.number("team_id"), call.params.get("team", "").strip().casefold()
    everyone = call.flag("showall")
    search = call.params.get("search", "").strip().casefold()
    return [
        row
        for row in world.configuration.agents.values()
        if (row["id"] != seed_rows.UNASSIGNED_AGENT_ID or call.flag("includeunassigned"))
        and (not row["isapiagent"] or everyone or call.flag("includeapiagents"))
        and (not row["isdisabled"] or call.flag("includedisabled"))
        and (team_id is None or team_id in {item["team_id"] for item in row["teams"]})
        and (not team or team in {item["team_name"].casefold() for item in row["teams"]})
        and search in row["name"].casefold()
    ]


def list_agents(world: "TenantWorld", call: Call) -> Reply:
    """Bare array; with ``pageinate=true`` an envelope whose key is ``results``, since about 2025-04."""
    found = [_shown(world, row) for row in _agents(world, call)]
    if not call.flag("pageinate") or world.switches.agent_list_always_bare:
        return Reply(body=found)
    part, head = slice_of(world, call, found)
    return Reply(body=head | {"results": list(part)})


def get_me(world: "TenantWorld", call: Call) -> Reply:
    """The agent that the application acts as."""
    row = world.configuration.agents.get(call.actor.agent_id)
    if row is None:
        raise Missing
    return Reply(body=_shown(world, row))


def _teams(world: "TenantWorld", call: Call) -> list[Row]:
    kind = call.params.get("type", "")
    teams = [
        row
        for row in world.configuration.teams.values()
        if (not row["inactive"] or call.flag("includedisabled")) and (kind != "prjs" or row["forprojects"])
    ]
    if not call.params.get("includeagentsforteams"):
        return teams
    return [
        row
        | {
            "agents": [
                item
                for agent in world.configuration.agents.values()
                for item in agent["teams"]
                if item["team_id"] == row["id"]
            ]
        }
        for row in teams
    ]


def _ticket_types(world: "TenantWorld", call: Call) -> list[Row]:
    itil = call.number("itil_type")
    return [
        row
        for row in world.configuration.ticket_types.values()
        if (itil is None or row["itilrequesttype"] == itil) and (not call.flag("can_create_only") or row["cancreate"])
    ]


def _statuses(world: "TenantWorld", call: Call) -> list[Row]:
    """Statuses of every kind: the ``type`` filter does not work, as on real tenants."""
    allowed: set[int] | None = None
    kind = world.configuration.ticket_types.get(call.number("tickettype_id") or 0)
    if kind is not None and not kind["allowall_status"]:
        allowed = {item["status_id"] for item in kind["allowed_status"]}
    return [
        row
        for row in world.configuration.statuses.values()
        if not (call.flag("excludeclosed") and world.is_closed(row["id"])) and (allowed is None or row["id"] in allowed)
    ]


def list_priorities(world: "TenantWorld", call: Call) -> Reply:
    """A row per SLA and priority: ``id`` is a GUID, the ticket's number is ``priorityid``."""
    sla = call.number("slaid")
    return Reply(
        body=[
            _shown(world, row) | {"priorityid": render.text_id(row["priorityid"], world.switches)}
            for row in world.configuration.priorities.values()
            if sla is None or row["slaid"] == sla
        ]
    )


def get_priority(world: "TenantWorld", call: Call) -> Reply:
    """One row by its GUID."""
    for row in world.configuration.priorities.values():
        if row["id"] == call.key.lower():
            return Reply(body=_shown(world, row) | {"priorityid": render.text_id(row["priorityid"], world.switches)})
    raise Missing


def _slas(world: "TenantWorld", call: Call) -> list[Row]:
    found = list(world.configuration.slas.values())
    if not call.flag("showpriorities"):
        return found
    return [_with_priorities(world, row) for row in found]


def _with_priorities(world: "TenantWorld", row: Row) -> Row:
    return row | {"priorities": [p for p in world.configuration.priorities.values() if p["slaid"] == row["id"]]}


def get_sla(world: "TenantWorld", call: Call) -> Reply:
    """One SLA with its priorities."""
    row = world.configuration.slas.get(call.id())
    if row is None:
        raise Missing
    return Reply(body=_with_priorities(world, row))


def _categories(world: "TenantWorld", call: Call) -> list[Row]:
    level = call.number("type_id")
    return [row for row in world.configuration.categories.values() if level is None or row["type_id"] == level]


def _outcomes(world: "TenantWorld", call: Call) -> list[Row]:
    kind = world.configuration.ticket_types.get(call.number("tickettype_id") or 0)
    allowed: set[int] | None = None
    if kind is not None and not kind["allowall_actions"]:
        allowed = {item["key1"] for item in kind["allowed_actions"]}
    workflow = world.configuration.workflows.get(call.number("workflow_id") or 0)
    step = call.number("workflow_step")
    if workflow is not None:
        steps = [item for item in workflow["steps"] if step is None or item["step_id"] == step]
        offered = {action["action_id"] for item in steps for action in item["actions"]}
        allowed = offered if allowed is None else allowed & offered
    return [
        row
        for row in world.configuration.outcomes.values()
        if (not row["hidden"] or call.flag("showhidden"))
        and not (row["systemid"] and call.flag("excludesystemactions"))
        and (allowed is None or row["id"] in allowed)
    ]


def _fields(world: "TenantWorld", call: Call) -> list[Row]:
    found = list(world.configuration.fields.values())
    if call.flag("includevalues"):
        return found
    return [{name: value for name, value in row.items() if name != "values"} for row in found]


def list_lookups(world: "TenantWorld", call: Call) -> Reply:
    """The entries of the list ``lookupid``; an unknown list is empty."""
    number = call.number("lookupid") or 0
    entries = seed_rows.LOOKUPS.get(number, ())
    return Reply(body=[{"lookupid": number, "id": ident, "name": name} for ident, name in entries])


def _plain(path: str, rows: Rows, by_id: Callable[["TenantWorld"], dict[int, Row]]) -> tuple[Route, ...]:
    return (
        Route("GET", path, _READ, _list(rows)),
        Route("GET", f"{path}/{{id}}", _READ, _get(by_id)),
    )


ROUTES = (
    Route("GET", "/Agent", _READ, list_agents),
    Route("GET", "/Agent/me", (), get_me),
    Route("GET", "/Agent/{id}", _READ, _get(lambda world: world.configuration.agents)),
    *_plain("/Team", _teams, lambda world: world.configuration.teams),
    *_plain("/TicketType", _ticket_types, lambda world: world.configuration.ticket_types),
    *_plain("/Status", _statuses, lambda world: world.configuration.statuses),
    Route("GET", "/Priority", _READ, list_priorities),
    Route("GET", "/Priority/{id}", _READ, get_priority),
    Route("GET", "/SLA", _READ, _list(_slas)),
    Route("GET", "/SLA/{id}", _READ, get_sla),
    *_plain("/Category", _categories, lambda world: world.configuration.categories),
    *_plain("/Outcome", _outcomes, lambda world: world.configuration.outcomes),
    *_plain(
        "/Workflow",
        lambda world, call: world.configuration.workflows.values(),
        lambda world: world.configuration.workflows,
    ),
    *_plain("/FieldInfo", _fields, lambda world: world.configuration.fields),
    *_plain(
        "/AssetType",
        lambda world, call: world.configuration.asset_types.values(),
        lambda world: world.configuration.asset_types,
    ),
    Route("GET", "/Lookup", _READ, list_lookups),
)
