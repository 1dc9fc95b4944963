"""/ExternalLink, HaloPSA's own correlation table, and the rows that ``new_external_link`` writes with a
record.

``table_id`` tells the kind of record. ``halo_id`` is the ticket (or client, site, user, asset); for an action
or an attachment ``halo_second_id`` is its id.
"""

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from app.sandbox.halopsa import render
from app.sandbox.halopsa.batches import Commit, save_all
from app.sandbox.halopsa.calls import Call, Reply, Route, Row, whole
from app.sandbox.halopsa.paging import bare_or_results
from app.sandbox.halopsa.refusals import Forbidden, Missing, Refused

if TYPE_CHECKING:
    from app.sandbox.halopsa.world import TenantWorld

# The numbers are the sandbox's own: the real ones are not documented. They are stable here.
TICKET_TABLE = 1
ACTION_TABLE = 2
ATTACHMENT_TABLE = 3
CLIENT_TABLE = 4
SITE_TABLE = 5
USER_TABLE = 6
ASSET_TABLE = 7

_TEXTS = (
    "third_party_id",
    "third_party_secondary_id",
    "third_party_desc",
    "third_party_type",
    "third_party_url",
    "third_party_status",
    "integration_name",
    "halo_desc",
)
_NUMBERS = ("table_id", "module_id", "halo_id", "halo_second_id", "details_id")
_TEXT_FILTERS = ("third_party_id", "third_party_secondary_id", "third_party_desc", "third_party_type")
_NUMBER_FILTERS = ("halo_id", "module_id", "table_id", "details_id")

# (table, halo id, second id)
_Place = tuple[int, int, int]


class LinkTable:
    """A tenant's rows, found by id, by third-party id and by record without a scan."""

    def __init__(self) -> None:
        self.by_id: dict[int, Row] = {}
        self.last_id = 0
        self._by_key: dict[str, dict[int, Row]] = defaultdict(dict)
        self._by_record: dict[_Place, dict[int, Row]] = defaultdict(dict)
        self._by_halo_id: dict[int, dict[int, Row]] = defaultdict(dict)

    def put(self, row: Row) -> None:
        """Store the row under its id, replacing the one that was there."""
        self.drop(row["id"])
        self.by_id[row["id"]] = row
        self.last_id = max(self.last_id, row["id"])
        self._by_key[row["third_party_id"]][row["id"]] = row
        self._by_record[_place(row)][row["id"]] = row
        self._by_halo_id[row["halo_id"]][row["id"]] = row

    def drop(self, ident: int) -> Row | None:
        """Forget a row; None when there is none."""
        row = self.by_id.pop(ident, None)
        if row is not None:
            self._by_key[row["third_party_id"]].pop(ident, None)
            self._by_record[_place(row)].pop(ident, None)
            self._by_halo_id[row["halo_id"]].pop(ident, None)
        return row

    def of_key(self, third_party_id: str) -> list[Row]:
        """Rows with that third-party id."""
        return list(self._by_key[third_party_id].values()) if third_party_id in self._by_key else []

    def of_record(self, place: _Place) -> list[Row]:
        """Rows of that record."""
        return list(self._by_record[place].values()) if place in self._by_record else []

    def of_halo_id(self, halo_id: int) -> list[Row]:
        """Rows whose first HaloPSA id is that one, of every kind."""
        return list(self._by_halo_id[halo_id].values()) if halo_id in self._by_halo_id else []


def _place(row: Row) -> _Place:
    return row["table_id"], row["halo_id"], row["halo_second_id"]


def _row(world: "TenantWorld", element: Row, ident: int, before: Row | None) -> Row:
    now = world.now()
    row: Row = {
        "id": ident,
        "primary": bool(element.get("primary", False)),
        "date_created": now,
        "date_updated": now,
    }
    for member in _TEXTS:
        value = element.get(member)
        row[member] = str(value) if value is not None else (before or {}).get(member, "")
    for member in _NUMBERS:
        value = element.get(member)
        row[member] = whole(value, member) if value is not None else (before or {}).get(member, 0)
    if before is not None:
        row["date_created"] = before["date_created"]
    return row


def keep_inline(world: "TenantWorld", element: Row, table: int, halo_id: int, second_id: int) -> None:
    """Write the row that a record's ``new_external_link`` asks for, unless this tenant does not keep such
    rows.
    """
    given = element.get("new_external_link")
    if not isinstance(given, dict) or world.switches.external_links != "on":
        return
    if not str(given.get("third_party_id") or given.get("third_party_secondary_id") or ""):
        return
    wanted = given | {"table_id": table, "halo_id": halo_id, "halo_second_id": second_id}
    same = [
        row
        for row in world.links.of_record((table, halo_id, second_id))
        if row["third_party_id"] == str(given.get("third_party_id", ""))
        and row["module_id"] == given.get("module_id", 0)
    ]
    ident = same[0]["id"] if same else world.links.last_id + 1
    world.links.put(_row(world, wanted, ident, same[0] if same else None))


def links_of(world: "TenantWorld", table: int, halo_id: int, second_id: int) -> list[Row]:
    """A record's external links as its JSON shows them."""
    return [render.dated(row, world.switches) for row in world.links.of_record((table, halo_id, second_id))]


def match_of(world: "TenantWorld", element: Row, table: int) -> tuple[int, int] | None:
    """(halo id, second id) of the record that ``_match_thirdparty_id`` finds; None with the switch off."""
    wanted = element.get("_match_thirdparty_id")
    if not wanted or not world.switches.match_third_party:
        return None
    for row in world.links.of_key(str(wanted)):
        if row["table_id"] == table:
            return row["halo_id"], row["halo_second_id"]
    return None


def _refuse_forbidden(world: "TenantWorld") -> None:
    if world.switches.external_links == "forbidden":
        raise Forbidden


def list_links(world: "TenantWorld", call: Call) -> Reply:
    """The rows that match every given key; a bare array, or ``results`` with paging."""
    _refuse_forbidden(world)
    found = [row for row in _candidates(world, call) if _matches(call, row)]
    found.sort(key=lambda row: row["id"])
    return bare_or_results(world, call, found, lambda row: render.dated(row, world.switches))


def _candidates(world: "TenantWorld", call: Call) -> list[Row]:
    key = call.params.get("third_party_id", "")
    if key:
        return world.links.of_key(key)
    halo_id = call.number("halo_id")
    if halo_id is not None:
        return world.links.of_halo_id(halo_id)
    return list(world.links.by_id.values())


def _matches(call: Call, row: Row) -> bool:
    for member in _TEXT_FILTERS:
        text = call.params.get(member, "")
        if text and row[member] != text:
            return False
    for member in _NUMBER_FILTERS:
        number = call.number(member)
        if number is not None and row[member] != number:
            return False
    search = call.params.get("search", "").casefold()
    return not search or search in row["third_party_id"].casefold() or search in row["third_party_desc"].casefold()


def get_link(world: "TenantWorld", call: Call) -> Reply:
    """One row."""
    _refuse_forbidden(world)
    row = world.links.by_id.get(call.id())
    if row is None:
        raise Missing
    return Reply(body=render.dated(row, world.switches))


def post_links(world: "TenantWorld", call: Call) -> Reply:
    """Create or change rows. With ``external_links=not_kept`` it answers a success and stores nothing."""
    _refuse_forbidden(world)
    return save_all(world, call, _plan)


def _plan(world: "TenantWorld", call: Call, element: Row) -> Commit:
    raw: Any = element.get("id")
    ident = 0 if raw in (None, "") else whole(raw, "id")
    before = world.links.by_id.get(ident)
    if ident and before is None:
        raise Refused(400, "Record not found")
    checked = _row(world, element, ident, before)
    if not checked["halo_id"]:
        raise Refused(400, "A halo_id must be given for this External Link")

    def commit() -> Any:
        row = checked | {"id": ident or world.links.last_id + 1}
        if world.switches.external_links == "on":
            world.links.put(row)
        return lambda: render.dated(row, world.switches)

    return commit


def delete_link(world: "TenantWorld", call: Call) -> Reply:
    """Delete a row."""
    _refuse_forbidden(world)
    row = world.links.drop(call.id())
    if row is None:
        raise Missing
    return Reply(body=render.dated(row, world.switches))


_READ = ("read:tickets", "edit:tickets", "admin")
_EDIT = ("edit:tickets", "admin")
ROUTES = (
    Route("GET", "/ExternalLink", _READ, list_links),
    Route("POST", "/ExternalLink", _EDIT, post_links),
    Route("GET", "/ExternalLink/{id}", _READ, get_link),
    Route("DELETE", "/ExternalLink/{id}", _EDIT, delete_link),
)
