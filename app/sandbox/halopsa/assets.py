"""/Asset: devices of clients, listed, read and upserted."""

from typing import TYPE_CHECKING

from app.sandbox.halopsa import external_links, render, seed, seed_rows
from app.sandbox.halopsa.batches import Commit, Shape, save_all
from app.sandbox.halopsa.calls import Call, Reply, Route, Row, whole
from app.sandbox.halopsa.paging import enveloped, ordered
from app.sandbox.halopsa.refusals import Missing, Refused

if TYPE_CHECKING:
    from app.sandbox.halopsa.world import TenantWorld

_TEXTS = ("inventory_number", "key_field", "key_field2", "key_field3", "username", "notes")
_IDS = ("assettype_id", "client_id", "site_id", "status_id", "third_party_id", "criticality")
_FILTERS = ("client_id", "site_id", "assettype_id")


def seeded(tenant: str, clients: dict[int, Row], number: int) -> dict[int, Row]:
    """A server and a laptop for each seeded client but "Unknown"."""
    found: dict[int, Row] = {}
    for client in clients.values():
        if client["id"] == seed_rows.UNKNOWN_CLIENT_ID:
            continue
        for kind, prefix in ((2, "SRV"), (1, "LAP")):
            ident = len(found) + 1
            found[ident] = {
                "id": ident,
                "guid": seed.guid(tenant, number, "asset", ident),
                "inventory_number": f"{prefix}-{client['id']:03d}",
                "key_field": f"{prefix.lower()}{client['id']:03d}.example",
                "assettype_id": kind,
                "client_id": client["id"],
                "site_id": client["main_site_id"],
                "status_id": 22,
                "inactive": False,
                "last_modified": client["datecreated"],
            }
    return found


def _shape(world: "TenantWorld", row: Row) -> Row:
    return (
        {
            "key_field2": "",
            "key_field3": "",
            "username": "",
            "notes": "",
            "third_party_id": 0,
            "criticality": 0,
        }
        | render.dated(row, world.switches)
        | {
            "assettype_name": world.configuration.asset_types[row["assettype_id"]]["name"],
            "client_name": world.clients[row["client_id"]]["name"],
            "site_name": world.sites[row["site_id"]]["name"],
            "status_name": world.configuration.statuses[row["status_id"]]["name"],
            "external_links": external_links.links_of(world, external_links.ASSET_TABLE, row["id"], 0),
        }
    )


def list_assets(world: "TenantWorld", call: Call) -> Reply:
    """Assets by client, site, type, inventory number or text."""
    wanted = {member: call.number(member) for member in _FILTERS}
    number = call.params.get("inventory_number", "").casefold()
    text = call.params.get("search", "").casefold()
    since = call.moment("lastupdatefromdate")
    found = [
        row
        for row in world.assets.values()
        if all(value is None or row[member] == value for member, value in wanted.items())
        and (not number or row["inventory_number"].casefold() == number)
        and (text in row["inventory_number"].casefold() or text in row.get("key_field", "").casefold())
        and (since is None or row["last_modified"] >= since)
        and (not row["inactive"] or call.flag("includeinactive"))
    ]
    ordered(call, found, lambda row, member: row.get(member))
    return enveloped(world, call, "assets", found, lambda row: _shape(world, row))


def get_asset(world: "TenantWorld", call: Call) -> Reply:
    """One asset."""
    row = world.assets.get(call.id())
    if row is None:
        raise Missing
    return Reply(body=_shape(world, row))


def post_assets(world: "TenantWorld", call: Call) -> Reply:
    """Create or change assets."""
    return save_all(world, call, _plan)


def _plan(world: "TenantWorld", call: Call, element: Row) -> Commit:
    ident = 0 if element.get("id") in (None, "") else whole(element["id"], "id")
    row = world.assets.get(ident)
    if ident and row is None:
        raise Refused(400, "Record not found")
    found: Row = {member: str(element[member]) for member in _TEXTS if element.get(member) is not None}
    found |= {member: whole(element[member], member) for member in _IDS if element.get(member) is not None}
    if element.get("inactive") is not None:
        found["inactive"] = bool(element["inactive"])
    values: Row = {"assettype_id": 1, "client_id": 1, "status_id": 22, "inventory_number": ""} | (row or {}) | found
    for member, rows in (
        ("assettype_id", world.configuration.asset_types),
        ("client_id", world.clients),
        ("status_id", world.configuration.statuses),
    ):
        if values[member] not in rows:
            raise Refused(400, f"{member} {values[member]} was not found")
    if values.get("site_id") not in world.sites or ("client_id" in found and "site_id" not in found):
        values["site_id"] = world.clients[values["client_id"]]["main_site_id"]

    def commit() -> Shape:
        new_id = ident or max(world.assets, default=0) + 1
        fresh = {"id": new_id, "guid": world.guid("asset", new_id), "inactive": False}
        world.assets[new_id] = fresh | values | {"last_modified": world.now()}
        external_links.keep_inline(world, element, external_links.ASSET_TABLE, new_id, 0)
        return lambda: _shape(world, world.assets[new_id])

    return commit


def delete_asset(world: "TenantWorld", call: Call) -> Reply:
    """Delete an asset."""
    row = world.assets.pop(call.id(), None)
    if row is None:
        raise Missing
    return Reply(body=_shape(world, row))


_READ = ("read:assets", "edit:assets", "read:tickets", "edit:tickets")
ROUTES = (
    Route("GET", "/Asset", _READ, list_assets),
    Route("POST", "/Asset", ("edit:assets",), post_assets),
    Route("GET", "/Asset/{id}", _READ, get_asset),
    Route("DELETE", "/Asset/{id}", ("edit:assets",), delete_asset),
)
