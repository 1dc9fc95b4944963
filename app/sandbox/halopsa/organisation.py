"""/Client, /Site and /Users: whom tickets are for."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson

from app.sandbox.halopsa import external_links, render
from app.sandbox.halopsa.batches import Commit, Shape, save_all
from app.sandbox.halopsa.calls import Call, Handler, Reply, Route, Row, lenient_whole, whole
from app.sandbox.halopsa.paging import enveloped, ordered
from app.sandbox.halopsa.refusals import Missing, Refused

if TYPE_CHECKING:
    from app.sandbox.halopsa.world import TenantWorld

EQUALS = 2


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the three kinds: its list key, its rows, its members and how it is shown."""

    key: str
    table: int
    rows: Callable[["TenantWorld"], dict[int, Row]]
    texts: tuple[str, ...]
    flags: tuple[str, ...]
    searched: tuple[str, ...]
    parents: tuple[str, ...]
    shape: Callable[["TenantWorld", Row], Row]
    create: Callable[["TenantWorld", Row, Row], Row]


def _links(world: "TenantWorld", table: int, row: Row) -> Row:
    return {"external_links": external_links.links_of(world, table, row["id"], 0)}


def _client(world: "TenantWorld", row: Row) -> Row:
    site = world.sites.get(row["main_site_id"])
    return (
        {
            "website": "",
            "notes": "",
            "is_vip": False,
            "accountsid": "",
            "toplevel_name": "Customers",
            "colour": "",
        }
        | render.dated(row, world.switches)
        | {"main_site_name": site["name"] if site else ""}
        | _links(world, external_links.CLIENT_TABLE, row)
    )


def _site(world: "TenantWorld", row: Row) -> Row:
    client = world.clients[row["client_id"]]["name"]
    return (
        {"phonenumber": "", "notes": "", "ref": "", "maincontact_name": "", "sla_id": 0}
        | render.dated(row, world.switches)
        | {
            "client_id": render.decimal_id(row["client_id"], world.switches),
            "client_name": client,
            "clientsite_name": f"{client}/{row['name']}",
        }
        | _links(world, external_links.SITE_TABLE, row)
    )


def _user(world: "TenantWorld", row: Row) -> Row:
    return (
        {
            "phonenumber": "",
            "mobilenumber": "",
            "notes": "",
            "isimportantcontact": False,
            "linked_agent_id": 0,
        }
        | render.dated(row, world.switches)
        | {
            "site_id": render.decimal_id(row["site_id"], world.switches),
            "site_name": world.sites[row["site_id"]]["name"],
            "client_name": world.clients[row["client_id"]]["name"],
        }
        | _links(world, external_links.USER_TABLE, row)
    )


def _named(element: Row, what: str) -> str:
    name = str(element.get("name") or "").strip()
    if not name:
        raise Refused(400, f"{what} name was required")
    return name


def _create_client(world: "TenantWorld", element: Row, found: Row) -> Row:
    """A new client comes with a main site and that site's General User."""
    ident, site_id, user_id = max(world.clients) + 1, max(world.sites) + 1, max(world.users) + 1
    now = world.now()
    world.clients[ident] = {
        "id": ident,
        "inactive": False,
        "main_site_id": site_id,
        "toplevel_id": 1,
        "ref": "",
        "datecreated": now,
        "alastupdate": now,
        **found,
    }
    world.sites[site_id] = _new_site(world, site_id, ident, "Main")
    world.users[user_id] = _new_user(world, user_id, world.sites[site_id], "General User")
    return world.clients[ident]


def _new_site(world: "TenantWorld", ident: int, client_id: int, name: str) -> Row:
    return {
        "id": ident,
        "guid": world.guid("site", ident),
        "name": name,
        "client_id": client_id,
        "inactive": False,
        "timezone": "UTC",
        "country_code": "GB",
        "_lastupdate": world.now(),
    }


def _new_user(world: "TenantWorld", ident: int, site: Row, name: str) -> Row:
    first, _, last = name.partition(" ")
    return {
        "id": ident,
        "name": name,
        "firstname": first,
        "surname": last,
        "emailaddress": "",
        "site_id": site["id"],
        "client_id": site["client_id"],
        "inactive": False,
        "isserviceaccount": False,
        "neversendemails": False,
        "_lastupdate": world.now(),
    }


def _create_site(world: "TenantWorld", element: Row, found: Row) -> Row:
    client_id = lenient_whole(element.get("client_id", 0), "client_id")
    ident, user_id = max(world.sites) + 1, max(world.users) + 1
    world.sites[ident] = _new_site(world, ident, client_id, found["name"]) | found
    world.users[user_id] = _new_user(world, user_id, world.sites[ident], "General User")
    return world.sites[ident]


def _create_user(world: "TenantWorld", element: Row, found: Row) -> Row:
    site = world.sites[lenient_whole(element.get("site_id", 0), "site_id")]
    ident = max(world.users) + 1
    world.users[ident] = _new_user(world, ident, site, found["name"]) | found
    return world.users[ident]


CLIENTS = Kind(
    "clients",
    external_links.CLIENT_TABLE,
    lambda world: world.clients,
    ("name", "ref", "accountsid", "website", "notes", "colour"),
    ("inactive", "is_vip"),
    ("name", "ref"),
    ("toplevel_id",),
    _client,
    _create_client,
)
SITES = Kind(
    "sites",
    external_links.SITE_TABLE,
    lambda world: world.sites,
    ("name", "ref", "phonenumber", "notes", "maincontact_name", "timezone", "country_code"),
    ("inactive",),
    ("name",),
    ("client_id",),
    _site,
    _create_site,
)
USERS = Kind(
    "users",
    external_links.USER_TABLE,
    lambda world: world.users,
    (
        "name",
        "firstname",
        "surname",
        "emailaddress",
        "phonenumber",
        "mobilenumber",
        "notes",
        "title",
        "login",
    ),
    ("inactive", "neversendemails", "isserviceaccount", "isimportantcontact"),
    ("name", "emailaddress"),
    ("client_id", "site_id"),
    _user,
    _create_user,
)


def _list(kind: Kind) -> Handler:
    def handler(world: "TenantWorld", call: Call) -> Reply:
        rows = kind.rows(world)
        found = [row for row in rows.values() if _wanted(world, call, kind, row)]
        return enveloped(
            world,
            call,
            kind.key,
            ordered(call, found, lambda row, member: row.get(member)),
            lambda row: kind.shape(world, row),
        )

    return handler


def _wanted(world: "TenantWorld", call: Call, kind: Kind, row: Row) -> bool:
    return (
        _right_activity(call, row)
        and _right_parents(call, kind, row)
        and _right_text(call, kind, row)
        and _right_window(call, row)
        and all(_right_advanced(part, row) for part in _advanced(call))
    )


def _right_activity(call: Call, row: Row) -> bool:
    both = call.params.get("activeinactive", "").lower().split(",")
    if len(both) == 2:
        active, inactive = both[0] == "true", both[1] == "true"
    else:
        active = call.flag("includeactive") or "includeactive" not in call.params
        inactive = call.flag("includeinactive")
    return inactive if row["inactive"] else active


def _right_parents(call: Call, kind: Kind, row: Row) -> bool:
    for member in kind.parents:
        wanted = call.number(member)
        if wanted is not None and row[member] != wanted:
            return False
    if kind is not USERS or row["name"] != "General User":
        return True
    return not (call.flag("exclude_generaluser") or call.flag("exclude_defaultsiteusers"))


def _right_text(call: Call, kind: Kind, row: Row) -> bool:
    text = call.params.get("search", "").strip().casefold()
    return not text or any(text in str(row.get(member, "")).casefold() for member in kind.searched)


def _right_window(call: Call, row: Row) -> bool:
    since, until = call.moment("lastupdatefromdate"), call.moment("lastupdatetodate")
    changed: datetime = row.get("alastupdate") or row["_lastupdate"]
    return (since is None or changed >= since) and (until is None or changed <= until)


def _advanced(call: Call) -> list[Row]:
    text = call.params.get("advanced_search", "").strip()
    if not text:
        return []
    try:
        parts = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise Refused(400, "Invalid advanced search parameter") from None
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise Refused(400, "Invalid advanced search parameter")
    return parts


def _right_advanced(part: Row, row: Row) -> bool:
    if part.get("filter_type") != EQUALS:
        raise Refused(400, "Invalid advanced search parameter")
    return str(row.get(str(part.get("filter_name")), "")).casefold() == str(part.get("filter_value", "")).casefold()


def _get(kind: Kind) -> Handler:
    def handler(world: "TenantWorld", call: Call) -> Reply:
        row = kind.rows(world).get(call.id())
        if row is None:
            raise Missing
        return Reply(body=kind.shape(world, row))

    return handler


def _delete(kind: Kind) -> Handler:
    def handler(world: "TenantWorld", call: Call) -> Reply:
        rows = kind.rows(world)
        row = rows.get(call.id())
        if row is None:
            raise Missing
        if world.is_in_use(kind.key, row["id"]):
            raise Refused(400, f"{row['name']} is in use and cannot be deleted")
        shown = kind.shape(world, row)
        del rows[row["id"]]
        return Reply(body=shown)

    return handler


def _post(kind: Kind) -> Handler:
    def plan(world: "TenantWorld", call: Call, element: Row) -> Commit:
        ident = 0 if element.get("id") in (None, "") else whole(element["id"], "id")
        if ident == 0:
            matched = external_links.match_of(world, element, kind.table)
            ident = matched[0] if matched else 0
        row = kind.rows(world).get(ident)
        if ident and row is None:
            raise Refused(400, "Record not found")
        found = _members(world, kind, element)
        if row is None:
            found["name"] = _named(element, kind.key[:-1].capitalize())
            _check_parent(world, kind, element)

        def commit() -> Shape:
            saved = row if row is not None else kind.create(world, element, found)
            saved.update(found)
            saved["alastupdate" if kind is CLIENTS else "_lastupdate"] = world.now()
            external_links.keep_inline(world, element, kind.table, saved["id"], 0)
            return lambda: kind.shape(world, saved)

        return commit

    return lambda world, call: save_all(world, call, plan)


def _members(world: "TenantWorld", kind: Kind, element: Row) -> Row:
    found: Row = {}
    for member in kind.texts:
        if element.get(member) is not None:
            found[member] = str(element[member]).strip() if world.switches.trim_text else str(element[member])
    for member in kind.flags:
        if element.get(member) is not None:
            found[member] = bool(element[member])
    if kind is SITES and element.get("client_id") is not None:
        found["client_id"] = _known(world.clients, element, "client_id", "Client")
    if kind is USERS and element.get("site_id") is not None:
        found["site_id"] = _known(world.sites, element, "site_id", "Site")
        found["client_id"] = world.sites[found["site_id"]]["client_id"]
    return found


def _known(rows: dict[int, Row], element: Row, member: str, what: str) -> int:
    ident = lenient_whole(element[member], member)
    if ident not in rows:
        raise Refused(400, f"{what} {ident} was not found")
    return ident


def _check_parent(world: "TenantWorld", kind: Kind, element: Row) -> None:
    needed: dict[str, Any] = {"sites": "client_id", "users": "site_id"}
    member = needed.get(kind.key)
    if member is not None and element.get(member) in (None, "", 0):
        raise Refused(400, f"{member} was required")


def _routes(path: str, kind: Kind) -> tuple[Route, ...]:
    read = ("read:customers", "edit:customers", "read:tickets", "edit:tickets")
    return (
        Route("GET", path, read, _list(kind)),
        Route("POST", path, ("edit:customers",), _post(kind)),
        Route("GET", f"{path}/{{id}}", read, _get(kind)),
        Route("DELETE", f"{path}/{{id}}", ("edit:customers",), _delete(kind)),
    )


ROUTES = (*_routes("/Client", CLIENTS), *_routes("/Site", SITES), *_routes("/Users", USERS))
