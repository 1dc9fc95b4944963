"""Invented tickets, maps and settings for the pure decisions, by hand and by hypothesis."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from app.connectors.canonical import Comment, CommentKind, Party, Ticket, TicketField, Visibility
from app.sync.maps import Maps
from app.sync.settings import Direction, FieldRule, Policy, RelationshipSettings, ValuePair

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)

SOURCE_VALUES = ("s1", "s2", "s3", "s4", "s5")
TARGET_VALUES = ("t1", "t2", "t3", "t4")
# Both sides of every pair are known here; s5 and t4 may stay without a twin.
TEXTS = ("", "a", "a ", "b", "long text", "long  text", "long\r\ntext", "ü")


def ticket(native_id: str = "1", **changes: Any) -> Ticket:
    """A ticket; fields by name, the rest by attribute."""
    fields = {TicketField(name): changes.pop(name) for name in list(changes) if name in set(TicketField)}
    return Ticket(
        **{
            "native_id": native_id,
            "values": fields,
            "closed": False,
            "updated_at": NOON,
            "created_at": NOON - timedelta(days=1),
            **changes,
        }
    )


def comment(native_id: str = "1:1", **changes: Any) -> Comment:
    """A public comment of a person."""
    return Comment(
        **{
            "native_id": native_id,
            "ticket_id": "1",
            "text": "hello",
            "visibility": Visibility.PUBLIC,
            "kind": CommentKind.COMMENT,
            "author": Party("Kim Field"),
            "created_at": NOON,
            **changes,
        }
    )


def pairs(*texts: str) -> tuple[ValuePair, ...]:
    """``pairs("s1>t1", "s2>t1")``."""
    split = [text.split(">") for text in texts]
    return tuple(ValuePair(source=source, target=target) for source, target in split)


MANY_TO_ONE = pairs("s1>t1", "s2>t1", "s3>t2", "s4>t3")


def settings_with(**changes: Any) -> RelationshipSettings:
    """Settings with the many-to-one status map unless told otherwise."""
    return RelationshipSettings(**{"status_map": MANY_TO_ONE, "priority_map": pairs("p1>q1", "p2>q2"), **changes})


value_maps = st.lists(
    st.builds(ValuePair, source=st.sampled_from(SOURCE_VALUES), target=st.sampled_from(TARGET_VALUES)),
    max_size=8,
).map(tuple)

rules = st.builds(FieldRule, direction=st.sampled_from(Direction), policy=st.sampled_from(Policy))

relationship_settings = st.builds(
    RelationshipSettings,
    fields=st.dictionaries(st.sampled_from(TicketField), rules),
    status_map=value_maps,
    priority_map=value_maps,
    reverse=st.booleans(),
    public_comments=st.booleans(),
    preserve_dates=st.booleans(),
    source_label=st.sampled_from(("", "Acme")),
    target_label=st.sampled_from(("", "Globex")),
)

moments = st.one_of(st.none(), st.integers(-5, 5).map(lambda seconds: NOON + timedelta(seconds=seconds)))


def _values(picklist: tuple[str, ...]) -> st.SearchStrategy[dict[TicketField, str]]:
    by_field = {
        TicketField.SUMMARY: st.sampled_from(TEXTS),
        TicketField.DESCRIPTION: st.sampled_from(TEXTS),
        TicketField.STATUS: st.sampled_from(picklist),
        TicketField.PRIORITY: st.sampled_from(picklist),
    }
    return st.fixed_dictionaries({}, optional=by_field)


def _tickets(native_id: str, picklist: tuple[str, ...]) -> st.SearchStrategy[Ticket]:
    return st.builds(
        Ticket,
        native_id=st.just(native_id),
        values=_values(picklist),
        closed=st.booleans(),
        updated_at=moments,
        created_at=st.just(NOON - timedelta(days=1)),
    )


source_tickets = _tickets("1", SOURCE_VALUES)
target_tickets = _tickets("2", TARGET_VALUES)

bases = st.dictionaries(
    st.sampled_from([name.value for name in TicketField]),
    st.fixed_dictionaries(
        {
            "source": st.one_of(st.none(), st.sampled_from((*SOURCE_VALUES, *TEXTS))),
            "target": st.one_of(st.none(), st.sampled_from((*TARGET_VALUES, *TEXTS))),
        }
    ),
)


def maps_of(settings: RelationshipSettings) -> Maps:
    """The maps that the settings spell out."""
    return Maps.of(settings)
