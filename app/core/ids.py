"""Identifiers: time-ordered UUIDs inside, prefixed strings outside.

A public id is ``<prefix>_<32 hex digits>`` (``con_0192…``). The prefix says what the id names, so a ticket link's id
pasted where a connection's id belongs is refused with a sentence instead of "not found".
uuid-utils supplies UUID version 7 (RFC 9562) until Python 3.14's own is everywhere.
"""

from typing import Annotated, Any
from uuid import UUID

import uuid_utils.compat
from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema


def new_id() -> UUID:
    """A UUID version 7: sortable by creation time to the millisecond, 74 random bits."""
    return uuid_utils.compat.uuid7()


def public(prefix: str, value: UUID) -> str:
    """The public form of ``value``: ``public("con", id) -> "con_0192…"``."""
    return f"{prefix}_{value.hex}"


def parse(prefix: str, text: str) -> UUID:
    """The UUID behind a public id.

    Raises ``ValueError`` with a sentence for a person when the prefix or the digits are wrong.
    """
    head, _, tail = text.partition("_")
    if head != prefix or len(tail) != 32:
        raise ValueError(f"expected an id of the form {prefix}_ followed by 32 hexadecimal digits")
    try:
        return UUID(hex=tail)
    except ValueError as error:
        raise ValueError(f"expected an id of the form {prefix}_ followed by 32 hexadecimal digits") from error


def _annotated(prefix: str) -> Any:
    def accept(value: Any) -> UUID:
        return value if isinstance(value, UUID) else parse(prefix, str(value))

    return Annotated[
        UUID,
        BeforeValidator(accept),
        PlainSerializer(lambda value: public(prefix, value), return_type=str),
        WithJsonSchema({"type": "string", "pattern": f"^{prefix}_[0-9a-f]{{32}}$"}),
    ]


# One prefix for each thing that the API names.
TenantId = _annotated("ten")
ApiKeyId = _annotated("key")
ConnectionId = _annotated("con")
InboxMessageId = _annotated("inm")
OutboundCommandId = _annotated("cmd")
RelationshipId = _annotated("rel")
TicketLinkId = _annotated("tkl")
SyncId = _annotated("syn")
