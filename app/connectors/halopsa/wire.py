"""Reading HaloPSA's JSON liberally: the same value comes in several spellings, and none of them may stop us.

Plain functions over dictionaries: a poll may bring a thousand tickets of 300 members each, of which we need
twenty. Facts: HaloPSA wire contract, list envelopes and value quirks."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

Row = Mapping[str, Any]

# "Never" is written as 1900-01-01 or earlier; nothing of a service desk is older than this.
_FIRST_REAL_YEAR = 1981
_NO_YEAR = 9999  # the other end of "never", and a time zone could push it out of the calendar
_TRUE = frozenset({"true", "1", "yes"})
_FALSE = frozenset({"false", "0", "no"})


class NotAnObject(ValueError):
    """A reply has a form that this reader does not know."""


def whole(value: Any) -> int | None:
    """The integer in ``3``, ``3.0``, ``"3"`` or ``"3.0"``; ``None`` for everything else."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    try:
        number = float(value)
        return int(number) if number == int(number) else None
    except (TypeError, ValueError, OverflowError):
        return None


def identifier(value: Any) -> int | None:
    """An id: like :func:`whole`, with 0 and negative numbers meaning none."""
    number = whole(value)
    return number if number is not None and number > 0 else None


def text(value: Any) -> str:
    """Text; ``None`` is empty, a whole decimal loses its ``.0``."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.replace("\x00", "")  # valid JSON, and the one character that PostgreSQL cannot hold
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def flag(value: Any) -> bool | None:
    """A boolean, also when it comes as text or number; ``None`` when it is missing or anything else."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        word = value.strip().lower()
        return True if word in _TRUE else False if word in _FALSE else None
    return bool(value) if isinstance(value, int | float) else None


def moment(value: Any) -> datetime | None:
    """An aware UTC time. Naive times are UTC, seven fraction digits are cut to six, 1900-01-01 is
    ``None``."""
    if not isinstance(value, str) or len(value) < len("2026-01-31"):
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    if not _FIRST_REAL_YEAR <= found.year < _NO_YEAR:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def sent(value: datetime) -> str:
    """A time as we write it: UTC to the second with a ``Z``."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def first(row: Row, *names: str) -> Any:
    """The first of several spellings of one member that is there."""
    for name in names:
        value = row.get(name)
        if value is not None:
            return value
    return None


def rows(payload: Any, *keys: str) -> list[dict[str, Any]]:
    """The rows of a list reply: a bare array, or an envelope that holds them under one of ``keys`` or
    ``results``.

    An empty reply is an empty list. Raises :class:`NotAnObject` for anything else, which is never
    "nothing there"."""
    if payload is None or payload == {} or payload == "":
        return []
    if isinstance(payload, list):
        return objects(payload)
    if isinstance(payload, dict):
        for key in (*keys, "results"):
            found = payload.get(key)
            if isinstance(found, list):
                return objects(found)
        if whole(payload.get("record_count")) == 0:
            return []
    raise NotAnObject(f"expected a list of {keys[0] if keys else 'rows'}")


def record_count(payload: Any) -> int | None:
    """How many rows there are in all, when the envelope says so."""
    return whole(payload.get("record_count")) if isinstance(payload, dict) else None


def objects(found: Iterable[Any]) -> list[dict[str, Any]]:
    """The objects among ``found``."""
    return [row for row in found if isinstance(row, dict)]


def saved(payload: Any) -> list[dict[str, Any]]:
    """What a POST gives back: one object, an array of them, or nothing (older versions)."""
    if isinstance(payload, dict):
        return [payload] if payload else []
    return objects(payload) if isinstance(payload, list) else []


class _TextOnly(HTMLParser):
    _BREAKS = frozenset({"br", "p", "div", "li", "tr", "h1", "h2", "h3"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("style", "script"):
            self._silent += 1
        elif tag in self._BREAKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("style", "script"):
            self._silent = max(0, self._silent - 1)

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.parts.append(data)


def plain(markup: str) -> str:
    """The text of a piece of HTML, a line for each block, without empty lines at the ends."""
    reader = _TextOnly()
    reader.feed(markup)
    reader.close()
    lines = (" ".join(line.split()) for line in "".join(reader.parts).split("\n"))
    return "\n".join(lines).strip()
