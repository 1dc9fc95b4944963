"""Values from one side's words to the other's. Pure.

A value map is many to one from source to target. "Equivalent" is the question that matters: a target value that the
present source value already maps to is in step, so a richer source status is never flattened by its own echo.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from app.connectors.canonical import Choice, TicketField
from app.sync.settings import Learnt, RelationshipSettings, Side, ValuePair

MAPPED = (TicketField.STATUS, TicketField.PRIORITY)


@dataclass(frozen=True, slots=True)
class ValueMap:
    """One field's map in both directions; ``None`` for a value means that it has no twin."""

    to_target: dict[str, str]
    to_source: dict[str, str]

    @classmethod
    def of(cls, pairs: Sequence[ValuePair]) -> "ValueMap":
        """Build both directions; the first pair that names a value wins for it."""
        to_target: dict[str, str] = {}
        to_source: dict[str, str] = {}
        for pair in pairs:
            to_target.setdefault(pair.source, pair.target)
            to_source.setdefault(pair.target, pair.source)
        return cls(to_target, to_source)


@dataclass(frozen=True, slots=True)
class Maps:
    """The value maps of a relationship."""

    by_field: dict[TicketField, ValueMap]

    @classmethod
    def of(cls, settings: RelationshipSettings, learnt: Learnt | None = None) -> "Maps":
        """The maps that the settings spell out, or else those learnt from the desks."""
        status = settings.status_map if settings.status_map is not None else learnt.status_map if learnt else ()
        priority = settings.priority_map if settings.priority_map is not None else learnt.priority_map if learnt else ()
        return cls({TicketField.STATUS: ValueMap.of(status), TicketField.PRIORITY: ValueMap.of(priority)})

    def convert(self, field: TicketField, value: str, *, to: Side) -> str | None:
        """``value`` in the words of side ``to``; ``None`` when a mapped field's value has no twin."""
        table = self.by_field.get(field)
        if table is None:
            return value
        return (table.to_target if to == "target" else table.to_source).get(value)

    def equivalent(self, field: TicketField, source: str, target: str) -> bool:
        """Whether the two sides' values mean the same."""
        if field not in self.by_field:
            return same_text(source, target)
        table = self.by_field[field]
        return table.to_target.get(source) == target or table.to_source.get(target) == source


def same_text(left: str, right: str) -> bool:
    """Equal but for white space: desks trim, re-wrap and change line ends."""
    return left == right or left.split() == right.split()


def propose(source: Sequence[Choice], target: Sequence[Choice]) -> tuple[ValuePair, ...]:
    """Pairs of values that bear the same name on both sides (case and spaces aside), in the source's order."""
    names = {_fold(choice.name): choice.native_id for choice in reversed(target)}
    return tuple(
        ValuePair(source=choice.native_id, target=names[_fold(choice.name)])
        for choice in source
        if _fold(choice.name) in names
    )


def _fold(name: str) -> str:
    return " ".join(name.casefold().split())
