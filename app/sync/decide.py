"""What to write where, from what both sides hold now and held last. Pure.

A field has changed at a side when its raw value differs from the shadow's value for that side; the event that made
us look does not matter. So lost, doubled and reordered webhooks change nothing, our own write (whose read-back is in
the shadow) is no change, and a many-to-one map never flips the richer side.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from app.connectors.canonical import Comment, CommentKind, Ticket, TicketField, Visibility
from app.sync.maps import Maps
from app.sync.settings import Direction, Policy, RelationshipSettings, Side, other

# Below this, "who wrote last" is a guess: desks stamp whole seconds and clocks differ.
SAME_MOMENT = timedelta(seconds=2)

Base = Mapping[str, Mapping[str, str | None]]


@dataclass(frozen=True, slots=True)
class Conflict:
    """Both sides changed a field since they last agreed. The loser's value is kept here for people."""

    field: TicketField
    winner: Side
    winner_value: str
    loser_value: str
    rule: str


@dataclass(frozen=True, slots=True)
class Unmapped:
    """A changed value that has no twin at the other side: nothing is written, the other fields go on."""

    field: TicketField
    side: Side
    value: str


@dataclass(slots=True)
class Decision:
    """Writes per side, the shadow of fields that need none, and what people should know."""

    writes: dict[Side, dict[TicketField, str]] = field(default_factory=lambda: {"source": {}, "target": {}})
    causes: dict[Side, dict[TicketField, str]] = field(default_factory=lambda: {"source": {}, "target": {}})
    shadow: dict[TicketField, dict[Side, str]] = field(default_factory=dict)
    conflicts: list[Conflict] = field(default_factory=list)
    unmapped: list[Unmapped] = field(default_factory=list)


def decide(base: Base, source: Ticket, target: Ticket, settings: RelationshipSettings, maps: Maps) -> Decision:
    """Compare both sides with the base, field by field."""
    decision = Decision()
    for name in TicketField:
        value_s, value_t = source.values.get(name), target.values.get(name)
        if value_s is None or value_t is None:
            continue  # a desk that did not tell a field has not changed it
        known = base.get(name.value, {})
        changed_s, changed_t = value_s != known.get("source"), value_t != known.get("target")
        if not changed_s and not changed_t:
            continue
        if maps.equivalent(name, value_s, value_t):
            decision.shadow[name] = {"source": value_s, "target": value_t}
            continue
        rule = "only this side changed"
        winner: Side = "source" if changed_s else "target"
        if changed_s and changed_t:
            winner, rule = _winner(name, source, target, settings)
            only = settings.rule(name).direction
            if only is not Direction.BOTH:
                winner = "source" if only is Direction.TO_TARGET else "target"
                rule = "this field travels one way"
        _carry(decision, name, winner, {"source": value_s, "target": value_t}, settings, maps)
        if changed_s and changed_t and name in decision.writes[other(winner)]:
            values = {"source": value_s, "target": value_t}
            decision.conflicts.append(Conflict(name, winner, values[winner], values[other(winner)], rule))
    return decision


def _carry(
    decision: Decision,
    name: TicketField,
    winner: Side,
    values: dict[Side, str],
    settings: RelationshipSettings,
    maps: Maps,
) -> None:
    """Write the winner's value at the other side, or say why not."""
    loser = other(winner)
    allowed = settings.rule(name).direction
    if allowed is (Direction.TO_SOURCE if loser == "target" else Direction.TO_TARGET):
        decision.shadow[name] = dict(values)  # seen, and by setting not carried
        return
    wanted = maps.convert(name, values[winner], to=loser)
    if wanted is None:
        decision.unmapped.append(Unmapped(name, winner, values[winner]))
        return
    if wanted == values[loser]:
        decision.shadow[name] = dict(values)
        return
    decision.writes[loser][name] = wanted
    decision.causes[loser][name] = values[winner]


def _winner(name: TicketField, source: Ticket, target: Ticket, settings: RelationshipSettings) -> tuple[Side, str]:
    policy = settings.rule(name).policy
    if policy is Policy.SOURCE:
        return "source", "the source owns this field"
    if policy is Policy.TARGET:
        return "target", "the target owns this field"
    if source.updated_at is not None and target.updated_at is not None:
        ahead = source.updated_at - target.updated_at
        if abs(ahead) >= SAME_MOMENT:
            return ("source" if ahead > timedelta() else "target"), "the last writer wins"
    if name is TicketField.STATUS and source.closed != target.closed:
        return ("source" if source.closed else "target"), "both at the same moment: a closed ticket stays closed"
    return "source", "both at the same moment: the source wins"


def creation_values(
    origin: Ticket, side: Side, maps: Maps, closed_statuses: Iterable[str]
) -> tuple[dict[TicketField, str], list[Unmapped]]:
    """What the twin of ``origin`` (a ticket of ``side``) is created with.

    A status that would close it is left out: a ticket is created open and then closed the way its desk wants.
    """
    values: dict[TicketField, str] = {}
    unmapped: list[Unmapped] = []
    for name, value in origin.values.items():
        wanted = maps.convert(name, value, to=other(side))
        if wanted is None:
            unmapped.append(Unmapped(name, side, value))
        elif not (name is TicketField.STATUS and (origin.closed or wanted in closed_statuses)):
            values[name] = wanted
    return values, unmapped


def first_shadow(
    snapshot: Mapping[str, str], created: Ticket, origin_side: Side, maps: Maps
) -> dict[str, dict[str, str | None]]:
    """The base of a new pair. The origin's base is what the twin was made from, not what the origin holds now, so an
    edit in between is still a change; where the twin differs from it, the base is unknown and will be compared."""
    shadow: dict[str, dict[str, str | None]] = {}
    twin: Side = other(origin_side)
    for name in TicketField:
        held, made_from = created.values.get(name), snapshot.get(name.value)
        if held is None or made_from is None:
            continue
        pair: dict[Side, str] = {origin_side: made_from, twin: held}
        agrees = maps.equivalent(name, pair["source"], pair["target"])
        shadow[name.value] = {origin_side: made_from if agrees else None, twin: held}
    return shadow


def to_carry(comments: Iterable[Comment], *, ours: frozenset[str]) -> list[Comment]:
    """Public comments of people that are not ours, in the order they were written."""
    wanted = [
        comment
        for comment in comments
        if comment.visibility is Visibility.PUBLIC
        and comment.kind is CommentKind.COMMENT
        and comment.native_id not in ours
    ]
    return sorted(wanted, key=lambda comment: (comment.created_at, _natural(comment.native_id)))


def _natural(native_id: str) -> tuple[tuple[int, str], ...]:
    """``42:9`` before ``42:10``."""
    return tuple((int(part), "") if part.isdecimal() else (0, part) for part in native_id.split(":"))
