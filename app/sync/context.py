"""A relationship opened for work: its settings parsed, its maps built, both desks at hand."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from app.connectors import ports, registry
from app.connectors.canonical import DeskError, Lane
from app.connectors.ports import Connector, TicketDesk
from app.connectors.registry import SideOptions
from app.core import clock
from app.core.crypto import Vault
from app.core.db.session import Database
from app.core.errors import NotFound
from app.sync import repository
from app.sync.maps import Maps, propose
from app.sync.models import Relationship
from app.sync.settings import SIDES, Learnt, RelationshipSettings, Side

# New statuses appear at a desk now and then; asking costs a handful of calls a side.
LEARN_EVERY = timedelta(hours=1)


class Connectors(ports.Connectors, Protocol):
    """Where open connectors come from, and what is known of a connection without opening it."""

    async def hook_target(self, connection_id: UUID) -> "HasKind | None": ...


class HasKind(Protocol):
    """What is known of a connection without opening it."""

    @property
    def kind(self) -> str: ...


@dataclass(frozen=True, slots=True)
class OpenRelationship:
    """Everything a look at links needs. ``polled_until`` is per side, by that side's clock."""

    relationship: Relationship
    settings: RelationshipSettings
    learnt: Learnt
    maps: Maps
    marker_secret: str
    options: dict[Side, SideOptions]
    connectors: dict[Side, Connector]
    polled_until: dict[Side, datetime | None]
    other_secrets: tuple[str, ...] = ()  # of the tenant's other relationships: their copies are not passed on

    def desk(self, side: Side, lane: Lane = Lane.INTERACTIVE) -> TicketDesk:
        """The desk of a side, its calls counted in ``lane``."""
        return self.connectors[side].desk.in_lane(lane)

    def connection_id(self, side: Side) -> UUID:
        """The connection of a side."""
        if side == "source":
            return self.relationship.source_connection_id
        return self.relationship.target_connection_id

    def closed_statuses(self, side: Side) -> tuple[str, ...]:
        """The statuses that close a ticket at a side."""
        return self.learnt.source_closed_statuses if side == "source" else self.learnt.target_closed_statuses

    def label(self, side: Side) -> str:
        """The organisation behind a side, for the header of comments."""
        return self.settings.source_label if side == "source" else self.settings.target_label


def marker_place(relationship_id: UUID) -> str:
    """Where the marker secret is stored, bound into its encryption."""
    return f"relationship/marker_secret/{relationship_id}"


async def _learn_or_keep(opened: dict[Side, Connector], known: Learnt | None) -> Learnt:
    """What the desks tell now; when one refuses, what they told an hour ago does for another five minutes."""
    try:
        return await learn(opened["source"].desk, opened["target"].desk)
    except DeskError:
        if known is None:
            raise
        return known.model_copy(update={"learnt_at": clock.now() - LEARN_EVERY + timedelta(minutes=5)})


async def learn(source: TicketDesk, target: TicketDesk) -> Learnt:
    """Ask both desks for their picklists. Raises :class:`DeskError`; call it with no transaction open."""
    left, right = await source.picklists(), await target.picklists()
    return Learnt(
        learnt_at=clock.now(),
        status_map=propose(left.statuses, right.statuses),
        priority_map=propose(left.priorities, right.priorities),
        source_closed_statuses=tuple(choice.native_id for choice in left.statuses if choice.closes),
        target_closed_statuses=tuple(choice.native_id for choice in right.statuses if choice.closes),
    )


async def open_relationship(
    database: Database, connectors: Connectors, vault: Vault, relationship_id: UUID
) -> OpenRelationship | None:
    """Open an active relationship; ``None`` when it is gone or paused.

    Raises what opening its connectors raises: a paused or broken connection stops the lane, not the links.
    """
    async with database.autocommit() as session:
        relationship = await repository.load_relationship(session, relationship_id)
        if relationship is None or relationship.state != "active":
            return None
        others = await repository.sealed_markers(session, relationship.tenant_id, relationship.id)
        polled: dict[Side, datetime | None] = {
            "source": await repository.polled_until(session, relationship.source_connection_id),
            "target": await repository.polled_until(session, relationship.target_connection_id),
        }
    settings = RelationshipSettings.model_validate(relationship.settings)
    learnt = Learnt.model_validate(relationship.learnt) if relationship.learnt else None
    opened: dict[Side, Connector] = {}
    options: dict[Side, SideOptions] = {}
    for side in SIDES:
        connection_id = relationship.source_connection_id if side == "source" else relationship.target_connection_id
        opened[side] = await connectors.get(connection_id)
        known = await connectors.hook_target(connection_id)
        if known is None:
            raise NotFound("One of the relationship's connections is archived.")
        kind = registry.kind(known.kind)
        options[side] = kind.side_options.model_validate(settings.source if side == "source" else settings.target)
    if learnt is None or clock.now() - learnt.learnt_at > LEARN_EVERY:
        learnt = await _learn_or_keep(opened, learnt)
        async with database.transaction() as session:
            await repository.store_learnt(session, relationship.id, learnt.model_dump(mode="json"))
    return OpenRelationship(
        relationship=relationship,
        settings=settings,
        learnt=learnt,
        maps=Maps.of(settings, learnt),
        marker_secret=vault.open(relationship.marker_secret, place=marker_place(relationship.id)),
        other_secrets=tuple(vault.open(sealed, place=marker_place(row_id)) for row_id, sealed in others),
        options=options,
        connectors=opened,
        polled_until=polled,
    )
