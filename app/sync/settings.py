"""The settings of a relationship: parsed once, frozen, pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from app.connectors.canonical import TicketField


class Direction(StrEnum):
    """Which way a field's changes travel after the ticket was created."""

    BOTH = "both"
    TO_TARGET = "to_target"
    TO_SOURCE = "to_source"


class Policy(StrEnum):
    """Who wins when both sides changed a field since they last agreed."""

    SOURCE = "source"
    TARGET = "target"
    LAST_WRITER = "last_writer"


class FieldRule(BaseModel):
    """How one field is kept in step."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    direction: Direction = Direction.BOTH
    policy: Policy = Policy.SOURCE


class ValuePair(BaseModel):
    """One pair of picklist values. Several source values may name one target value: the first pair listed for a
    target value is the one that travels back, and only when the present source value means something else."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Annotated[str, Field(min_length=1, max_length=100)]
    target: Annotated[str, Field(min_length=1, max_length=100)]


# Classes of fields and who usually works them: the desk that receives a ticket sets its priority, the one where it
# was born words it, and a status belongs to whoever touched it last.
DEFAULT_RULES: Mapping[TicketField, FieldRule] = {
    TicketField.SUMMARY: FieldRule(policy=Policy.SOURCE),
    TicketField.DESCRIPTION: FieldRule(policy=Policy.SOURCE),
    TicketField.STATUS: FieldRule(policy=Policy.LAST_WRITER),
    TicketField.PRIORITY: FieldRule(policy=Policy.TARGET),
}


class RelationshipSettings(BaseModel):
    """Everything a relationship can be told. Stored as JSON; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: dict[str, Any] = Field(default_factory=dict)
    target: dict[str, Any] = Field(default_factory=dict)
    reverse: bool = False
    start_at: AwareDatetime | None = None
    fields: dict[TicketField, FieldRule] = Field(default_factory=dict)
    status_map: tuple[ValuePair, ...] | None = None
    priority_map: tuple[ValuePair, ...] | None = None
    public_comments: bool = True
    preserve_dates: bool = True
    source_label: str = Field(default="", max_length=100)
    target_label: str = Field(default="", max_length=100)
    poll_interval_seconds: float | None = Field(default=None, ge=2, le=3600)

    def rule(self, field: TicketField) -> FieldRule:
        """The rule of a field."""
        return self.fields.get(field) or DEFAULT_RULES[field]


class Learnt(BaseModel):
    """What the two desks told of themselves: pairs of values that bear the same name, and which statuses close a
    ticket. Used where the settings do not say otherwise; read again every hour and on demand."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    learnt_at: AwareDatetime
    status_map: tuple[ValuePair, ...] = ()
    priority_map: tuple[ValuePair, ...] = ()
    source_closed_statuses: tuple[str, ...] = ()
    target_closed_statuses: tuple[str, ...] = ()


Side = Literal["source", "target"]
SIDES: Sequence[Side] = ("source", "target")


def other(side: Side) -> Side:
    """The opposite side."""
    return "target" if side == "source" else "source"


def covers(settings: RelationshipSettings, *moments: datetime | None) -> bool:
    """Whether a ticket created and last changed at ``moments`` belongs to the sync: created or changed at or after the
    start date. A ticket whose desk tells neither is taken."""
    known = [moment for moment in moments if moment is not None]
    # Desks stamp whole seconds: a ticket made right after the start would otherwise seem to be older than it.
    start = settings.start_at.replace(microsecond=0) if settings.start_at is not None else None
    return start is None or not known or max(known) >= start
