"""Custom fields: how they are written (by id or by name) and how they are shown."""

from typing import TYPE_CHECKING, Any

from app.sandbox.halopsa.calls import Row, whole
from app.sandbox.halopsa.refusals import Refused

if TYPE_CHECKING:
    from app.sandbox.halopsa.world import TenantWorld

SINGLE_SELECT = 2


def read_custom_fields(world: "TenantWorld", given: Any) -> dict[int, Any]:
    """The values in a body's ``customfields`` by field id; unknown fields are ignored. Raises
    :class:`Refused`.
    """
    if given is None:
        return {}
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        raise Refused(400, "customfields requires a JSON array of objects.", field="customfields")
    by_name = {row["name"].casefold(): ident for ident, row in world.configuration.fields.items()}
    found = {}
    for item in given:
        if item.get("id") is not None:
            ident: int | None = whole(item["id"], "customfields.id")
        else:
            ident = by_name.get(str(item.get("name", "")).casefold())
        if ident in world.configuration.fields and "value" in item:
            found[ident] = item["value"]
    return found


def custom_rows(world: "TenantWorld", values: dict[int, Any]) -> list[Row]:
    """Every custom field of the tenant with this record's value and the text it displays."""
    return [
        {
            "id": ident,
            "name": row["name"],
            "label": row["label"],
            "type": row["type"],
            "usage": row["usage"],
            "value": values.get(ident),
            "display": _display(row, values.get(ident)),
        }
        for ident, row in world.configuration.fields.items()
    ]


def _display(row: Row, value: Any) -> str:
    if value is None:
        return ""
    if row["type"] == SINGLE_SELECT:
        return next((entry["name"] for entry in row["values"] if str(entry["id"]) == str(value)), str(value))
    return str(value)
