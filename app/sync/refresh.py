"""Dead letters brought up to date: the parts of a write that come from the relationship's settings.

The key stays, because it is the same write; the ticket values that were to be written are converted again from what
caused them, so that a pair that was missing in a map is found now.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from app.connections import service as connections
from app.connectors import registry
from app.connectors.canonical import TicketField
from app.connectors.registry import SideOptions
from app.outbox.commands import DeadLetter
from app.sync import repository
from app.sync.maps import Maps
from app.sync.models import Relationship
from app.sync.settings import Learnt, RelationshipSettings, Side, other


async def refresh(session: AsyncSession, commands: Sequence[DeadLetter]) -> None:
    """Rewrite the bodies of dead letters of this room with the present settings."""
    for text in {command.snapshot["relationship_id"] for command in commands}:
        relationship = await repository.load_relationship(session, UUID(text))
        if relationship is None:
            continue
        settings = RelationshipSettings.model_validate(relationship.settings)
        learnt = Learnt.model_validate(relationship.learnt) if relationship.learnt else None
        maps = Maps.of(settings, learnt)
        for command in commands:
            if command.snapshot["relationship_id"] == text:
                options = await _options(session, relationship, settings, _side(command))
                command.body = _refreshed(command, options, maps)


def _side(command: DeadLetter) -> Side:
    """The side a write goes to."""
    side: Side = command.snapshot["side"] if "side" in command.snapshot else other(command.snapshot["origin"])
    return side


async def _options(
    session: AsyncSession, relationship: Relationship, settings: RelationshipSettings, side: Side
) -> SideOptions:
    connection_id = relationship.source_connection_id if side == "source" else relationship.target_connection_id
    connection = await connections.find_connection(session, relationship.tenant_id, connection_id)
    told = settings.source if side == "source" else settings.target
    return registry.kind(connection.kind).side_options.model_validate(told)


def _refreshed(command: DeadLetter, options: SideOptions, maps: Maps) -> dict[str, Any]:
    body = dict(command.body)
    match command.kind:
        case "ticket.create":
            body["defaults"] = dict(options.created_ticket_defaults())
            body["values"] = _converted(body["values"], command.snapshot["values"], _side(command), maps)
        case "ticket.change":
            body["resolution"] = options.resolution if body["closes"] else None
            body["values"] = _converted(body["values"], command.snapshot["cause"], _side(command), maps)
        case "comment.create":
            body["outcome"] = options.comment_outcome
    return body


def _converted(values: dict[str, str], causes: dict[str, str | None], side: Side, maps: Maps) -> dict[str, str]:
    """The values to be written, converted again from what caused them; one without a twin stays as it was."""
    found = dict(values)
    for name in values:
        cause = causes.get(name)
        wanted = maps.convert(TicketField(name), cause, to=side) if cause is not None else None
        if wanted is not None:
            found[name] = wanted
    return found
