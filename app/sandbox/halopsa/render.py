"""HaloPSA's value quirks, in one place: empty dates, decimal ids, names that differ between a read and a
write.
"""

from datetime import datetime
from typing import Any

import orjson

from app.sandbox.halopsa.calls import Row
from app.sandbox.halopsa.switches import Switches

NO_DATE = "1900-01-01T00:00:00"
# Written name in answers to a POST and in webhooks, where it differs from the one in a GET.
LAST_UPDATE_ALIAS = {"last_update": "lastupdate"}
EVERY_ALIAS = LAST_UPDATE_ALIAS | {
    "category_1": "category1",
    "category_2": "category2",
    "category_3": "category3",
    "category_4": "category4",
    "user_email": "useremail",
}


def date(moment: datetime | None, switches: Switches) -> str | None:
    """A stored moment on the wire: naive UTC text; an empty one is the year 1900, unless the switch says
    null.
    """
    if moment is None:
        return NO_DATE if switches.null_dates == "1900" else None
    text = moment.isoformat()[:19]
    if moment.microsecond:
        text += f".{moment.microsecond:06d}".rstrip("0")
    return text if switches.date_style == "naive" else text + "Z"


def dated(row: Row, switches: Switches) -> Row:
    """A copy of a flat row without private members, its dates as text."""
    return {
        name: date(value, switches) if isinstance(value, datetime) else value
        for name, value in row.items()
        if name[0] != "_"
    }


def decimal_id(value: int, switches: Switches) -> int | float:
    """An id whose column is decimal: 3.0, or 3 with clean ids."""
    return value if switches.clean_ids else float(value)


def text_id(value: int, switches: Switches) -> int | str:
    """An id that arrives as text, or as a number with clean ids."""
    return value if switches.clean_ids else str(value)


def written(row: Row, switches: Switches) -> Row:
    """A ticket as the answer to a POST and as a webhook carry it: with the other names for some members."""
    if switches.alias_fields == "none":
        return row
    aliases = LAST_UPDATE_ALIAS if switches.alias_fields == "lastupdate" else EVERY_ALIAS
    return {aliases.get(name, name): value for name, value in row.items()}


def to_bytes(value: Any) -> bytes:
    """JSON bytes of a wire value. Integers as keys become text."""
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)


def delivery_stamp(moment: datetime) -> str:
    """A webhook's time: UTC with seven fraction digits and a Z, one more digit than most parsers take."""
    return f"{moment.isoformat()[:19]}.{moment.microsecond:06d}0Z"
