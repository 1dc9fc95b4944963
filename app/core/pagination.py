"""Pages of a list: a cursor in, a page out.

Keyset pagination: the cursor holds the last row's sort value and id, so page 10,000 costs what page 1 costs
and a row inserted meanwhile neither repeats nor hides another. The id breaks ties.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

import orjson
from fastapi import Query
from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement, literal, tuple_
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from app.core.errors import Invalid, Pointer

DEFAULT_LIMIT = 50
MAX_LIMIT = 200

ItemT = TypeVar("ItemT")
RowT = TypeVar("RowT")


class Page(BaseModel, Generic[ItemT]):
    """One page of a list. ``next_cursor`` is null on the last page."""

    model_config = ConfigDict(frozen=True)

    items: list[ItemT]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class PageRequest:
    """What part of a list is asked for. ``sort`` is a name of the route's allow-list, ``-`` in front:
    descending."""

    limit: int = DEFAULT_LIMIT
    cursor: str | None = None
    sort: str = "-created_at"


@dataclass(frozen=True, slots=True)
class Slice(Generic[RowT]):
    """Rows of one page and the cursor of the next."""

    rows: list[RowT]
    next_cursor: str | None


def paging(*sorts: str, default: str = "-created_at") -> Callable[..., PageRequest]:
    """A dependency for ``limit``, ``cursor`` and ``sort``. ``sorts`` are column names; each may be reversed
    with ``-``. Use as ``Annotated[PageRequest, Depends(paging("created_at", "name"))]``."""
    allowed = [*sorts, *(f"-{name}" for name in sorts)]
    if default not in allowed:
        raise ValueError(f"the default {default} is not among {allowed}")

    def dependency(
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Items on a page.")] = DEFAULT_LIMIT,
        cursor: Annotated[str | None, Query(max_length=2000, description="`next_cursor` of the page before.")] = None,
        sort: Annotated[
            str, Query(description="Order; `-` in front reverses it.", json_schema_extra={"enum": [*allowed]})
        ] = default,
    ) -> PageRequest:
        if sort not in allowed:
            raise Invalid(
                f"This list cannot be sorted by '{sort[:60]}'.",
                next_step="Use one of the sort keys listed under errors.",
                pointers=(Pointer("?sort", "must be one of: " + ", ".join(allowed)),),
            )
        return PageRequest(limit=limit, cursor=cursor, sort=sort)

    return dependency


def _bad_cursor() -> Invalid:
    return Invalid(
        "The cursor is not one that this list gave out.",
        next_step="Send next_cursor exactly as received and with the same sort, or leave it out to start again.",
        pointers=(Pointer("?cursor", "is not a cursor of this list in this order"),),
    )


def _digest(payload: bytes) -> bytes:
    # Not a signature: a cursor grants nothing that the filters do not. It only tells a typo from a real
    # cursor.
    return hashlib.sha256(b"cursor" + payload).digest()[:6]


def encode_cursor(sort: str, value: Any, row_id: UUID) -> str:
    """The opaque text for "after the row with this sort value and id"."""
    plain = value.isoformat() if isinstance(value, datetime) else value
    payload = orjson.dumps([sort, plain, row_id.hex])
    return base64.urlsafe_b64encode(_digest(payload) + payload).decode().rstrip("=")


def decode_cursor(cursor: str, sort: str, kind: type[Any]) -> tuple[Any, UUID]:
    """The sort value (of type ``kind``) and id in ``cursor``. Raises :class:`Invalid` for anything else."""
    try:
        blob = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        digest, payload = blob[:6], blob[6:]
        if digest != _digest(payload):
            raise _bad_cursor()
        made_for, value, row_id = orjson.loads(payload)
        if made_for != sort:
            raise _bad_cursor()
        value = datetime.fromisoformat(value) if kind is datetime else value
        if not isinstance(value, kind) or (isinstance(value, datetime) and value.tzinfo is None):
            raise _bad_cursor()
        return value, UUID(hex=row_id)
    except (ValueError, TypeError, UnicodeError, binascii.Error) as error:
        raise _bad_cursor() from error


def _kind(column: ColumnElement[Any]) -> type[Any]:
    # A decorated type (SQLModel's UTCDateTime) does not know its own Python type; the type it decorates does.
    decorated = getattr(column.type, "impl_instance", column.type)
    kind: type[Any] = decorated.python_type
    return kind


async def paginate(
    session: AsyncSession,
    statement: SelectOfScalar[RowT],
    request: PageRequest,
    *,
    columns: Mapping[str, Any],
    id_column: Any,
) -> Slice[RowT]:
    """One page of ``statement`` (without order or limit). ``columns`` maps each allowed sort name to its
    column, which must not be null; the rows carry attributes of those names and ``id``."""
    descending = request.sort.startswith("-")
    name = request.sort.removeprefix("-")
    column: ColumnElement[Any] = columns[name]
    if request.cursor is not None:
        value, row_id = decode_cursor(request.cursor, request.sort, _kind(column))
        here = tuple_(literal(value, column.type), literal(row_id, id_column.type))
        key = tuple_(column, id_column)
        statement = statement.where(key < here if descending else key > here)
    order = (column.desc(), id_column.desc()) if descending else (column.asc(), id_column.asc())
    found = list((await session.exec(statement.order_by(*order).limit(request.limit + 1))).all())
    rows = found[: request.limit]
    if len(found) <= request.limit:
        return Slice(rows, None)
    last: Any = rows[-1]
    return Slice(rows, encode_cursor(request.sort, getattr(last, name), last.id))
