"""Links, and what a look at both sides showed of them."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

from app.connectors.canonical import Comment, Ticket
from app.connectors.registry import SideOptions
from app.sync.context import OpenRelationship
from app.sync.look import SideView
from app.sync.maps import Maps
from app.sync.models import Relationship
from app.sync.plan import Plan, plan
from app.sync.repository import ClaimedLink
from app.sync.settings import Learnt, RelationshipSettings, Side
from tests.sync.values import (
    NOON,
    settings_with,
)

SECRET = "an-invented-marker-secret"
RELATIONSHIP = Relationship(
    id=UUID(int=1),
    tenant_id=UUID(int=2),
    name="Acme to Globex",
    source_connection_id=UUID(int=3),
    target_connection_id=UUID(int=4),
    settings={},
    marker_secret="sealed",
)
OPTIONS: dict[Side, SideOptions] = {
    "source": SideOptions(resolution="11", comment_outcome="21"),
    "target": SideOptions(resolution="12", comment_outcome="22"),
}


def opened(settings: RelationshipSettings | None = None, *, closing: str = "t3") -> OpenRelationship:
    chosen = settings or settings_with()
    return OpenRelationship(
        relationship=RELATIONSHIP,
        settings=chosen,
        learnt=Learnt(learnt_at=NOON, source_closed_statuses=("s4",), target_closed_statuses=(closing,)),
        maps=Maps.of(chosen),
        marker_secret=SECRET,
        options=OPTIONS,
        connectors={},
        polled_until={"source": None, "target": None},
    )


def link(**changes: Any) -> ClaimedLink:
    made = ClaimedLink(
        id=UUID(int=9),
        source_ticket_id="1",
        target_ticket_id="2",
        origin="source",
        state="linked",
        shadow={},
        field_errors={},
        generation=5,
        source_comments_until=None,
        target_comments_until=None,
        source_comments_from=None,
        target_comments_from=None,
        dirty_mark=1,
        lane="interactive",
        attempts=1,
    )
    return replace(made, **changes)


def views(
    source: Ticket | None,
    target: Ticket | None,
    *,
    from_source: tuple[Comment, ...] = (),
    from_target: tuple[Comment, ...] = (),
) -> dict[Side, SideView]:
    made: dict[Side, SideView] = {"source": SideView(NOON), "target": SideView(NOON + timedelta(seconds=3))}
    for side, found, comments in (("source", source, from_source), ("target", target, from_target)):
        view = made[cast(Side, side)]
        if found is not None:
            view.tickets[found.native_id] = found
            view.comments[found.native_id] = list(comments)
    return made


def planned(
    wanted: ClaimedLink,
    seen: dict[Side, SideView],
    *,
    settings: RelationshipSettings | None = None,
    known: set[tuple[str, str]] | None = None,
    may_be_ours: bool = False,
) -> Plan:
    return plan(opened(settings), wanted, seen, known or set(), may_be_ours=may_be_ours)


AGREED: dict[str, dict[str, str | None]] = {"status": {"source": "s1", "target": "t1"}}


def new_link(**changes: Any) -> ClaimedLink:
    return link(**{"target_ticket_id": None, "state": "new", **changes})
