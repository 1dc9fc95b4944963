"""From one look at one link to what is stored and sent."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.connectors.canonical import Comment, CommentKind, Party, Ticket, Visibility
from app.connectors.registry import SideOptions
from app.outbox.repository import NewCommand
from app.sync import marker
from app.sync.context import OpenRelationship
from app.sync.look import SideView
from app.sync.maps import Maps
from app.sync.models import Relationship
from app.sync.plan import Plan, plan
from app.sync.repository import ClaimedLink
from app.sync.settings import SIDES, Learnt, RelationshipSettings, Side, other
from tests.sync.values import (
    NOON,
    comment,
    relationship_settings,
    settings_with,
    source_tickets,
    target_tickets,
    ticket,
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


class TestNew:
    def test_a_ticket_seen_for_the_first_time_gets_a_twin(self) -> None:
        origin = ticket("1", status="s3", summary="Printer", priority="p2")

        result = planned(new_link(), views(origin, None))

        [command] = result.commands
        key = marker.ticket_key(RELATIONSHIP.id, "source", "1")
        assert (command.kind, command.key, command.connection_id) == ("ticket.create", key, UUID(int=4))
        assert command.body["values"] == {"status": "t2", "summary": "Printer", "priority": "q2"}
        assert marker.read(command.body["marker"], SECRET) == key
        assert command.snapshot["values"] == {"status": "s3", "summary": "Printer", "priority": "p2"}
        assert not result.settled.stay_dirty
        assert result.settled.source_updated_at == NOON

    def test_at_the_target_with_its_own_key(self) -> None:
        wanted = link(source_ticket_id=None, state="new", origin="target")

        result = planned(wanted, views(None, ticket("2", status="t2")))

        [command] = result.commands
        assert command.connection_id == RELATIONSHIP.source_connection_id
        assert command.body["values"] == {"status": "s3"}
        assert command.snapshot["origin"] == "target"

    @pytest.mark.parametrize(
        ("found", "why"),
        [
            (None, "does not exist"),
            (ticket("1", deleted=True), "does not exist"),
            (ticket("1", merged_into="77"), "merged into 77"),
            (ticket("1", markers=(marker.sign("0" * 20, SECRET),)), "created itself"),
            (ticket("1", foreign_links=("Jira",)), "Jira"),
            (ticket("1", created_at=NOON, updated_at=NOON), "older than the start date"),
        ],
    )
    def test_what_gets_none_is_told_why(self, found: Ticket | None, why: str) -> None:
        settings = settings_with(start_at=NOON + timedelta(days=1))
        if why != "older than the start date":
            settings = settings_with()

        result = planned(new_link(), views(found, None), settings=settings)

        assert result.commands == []
        assert result.settled.state == "ignored"
        assert why in (result.settled.reason or "")

    def test_a_marker_of_a_stranger_is_not_believed(self) -> None:
        found = ticket("1", status="s1", markers=(marker.sign("0" * 20, "another secret"), "PHL-nonsense"))

        assert len(planned(new_link(), views(found, None)).commands) == 1

    def test_while_a_creation_of_ours_is_not_recorded_we_wait(self) -> None:
        result = planned(new_link(), views(ticket("1", status="s1"), None), may_be_ours=True)

        assert result.commands == []
        assert result.settled.stay_dirty
        assert result.settled.state == "new"

    def test_a_value_without_a_twin_is_shown_and_the_ticket_created_all_the_same(self) -> None:
        result = planned(new_link(), views(ticket("1", status="s5", summary="x"), None))

        assert result.commands[0].body["values"] == {"summary": "x"}
        error = result.settled.field_errors["status"]
        assert (error["class"], error["side"], error["value"]) == ("unmapped_value", "source", "s5")
        assert "s5" in error["next_step"]


class TestGone:
    @pytest.mark.parametrize("side", SIDES)
    @pytest.mark.parametrize("how", ["absent", "deleted"])
    def test_a_missing_ticket_orphans_the_link_and_deletes_nothing(self, side: Side, how: str) -> None:
        gone = None if how == "absent" else ticket("1" if side == "source" else "2", deleted=True)
        seen = views(gone, ticket("2")) if side == "source" else views(ticket("1"), gone)

        result = planned(link(), seen)

        assert result.settled.state == "orphaned"
        assert side in (result.settled.reason or "")
        assert result.settled.next_step
        assert result.commands == []
        assert [change.operation for change in result.changes] == ["note"]

    def test_it_is_told_once(self) -> None:
        result = planned(link(state="orphaned"), views(None, ticket("2")))

        assert result.changes == []
        assert result.settled.state == "orphaned"

    def test_a_ticket_that_came_back_is_linked_again(self) -> None:
        result = planned(
            link(state="orphaned", shadow=AGREED), views(ticket("1", status="s3"), ticket("2", status="t1"))
        )

        assert result.settled.state == "linked"
        assert [command.kind for command in result.commands] == ["ticket.change"]

    def test_a_merged_ticket_ends_the_link(self) -> None:
        result = planned(link(), views(ticket("1", merged_into="77"), ticket("2")))

        assert result.settled.state == "merged"
        assert "77" in (result.settled.reason or "")
        assert result.commands == []


class TestLinked:
    def test_fields_then_comments_then_the_closing(self) -> None:
        settings = settings_with()
        shadow = {**AGREED, "summary": {"source": "old", "target": "old"}}

        result = planned(
            link(shadow=shadow),
            views(
                ticket("1", status="s4", summary="new", closed=True),
                ticket("2", status="t1", summary="old"),
                from_source=(comment("1:2", created_at=NOON), comment("1:1", created_at=NOON)),
            ),
            settings=settings,
        )

        assert [command.kind for command in result.commands] == [
            "ticket.change",
            "comment.create",
            "comment.create",
            "ticket.change",
        ]
        first, *comments, last = result.commands
        assert first.body["values"] == {"summary": "new"}
        assert not first.body["closes"]
        assert [one.snapshot["origin_comment_id"] for one in comments] == ["1:1", "1:2"]
        assert last.body["values"] == {"status": "t3"}
        assert (last.body["closes"], last.body["resolution"]) == (True, "12")
        assert len({command.ordering_key for command in result.commands}) == 1

    def test_reopening_goes_first_and_is_said(self) -> None:
        result = planned(
            link(shadow={"status": {"source": "s4", "target": "t3"}}),
            views(
                ticket("1", status="s1"),
                ticket("2", status="t3", closed=True),
                from_source=(comment("1:1"),),
            ),
        )

        assert [command.kind for command in result.commands] == ["ticket.change", "comment.create"]
        assert result.commands[0].body["reopens"] is True
        assert result.commands[0].body["resolution"] is None

    def test_a_change_carries_what_was_before_and_what_caused_it(self) -> None:
        result = planned(
            link(shadow=AGREED),
            views(ticket("1", status="s3"), ticket("2", status="t1", context={"client_id": "7"})),
        )

        [command] = result.commands
        assert command.key == marker.change_key(UUID(int=9), "target", 5, {"status": "t2"})
        assert command.body["context"] == {"client_id": "7"}
        assert command.snapshot["before"] == {"status": "t1"}
        assert command.snapshot["cause"] == {"status": "s3"}

    def test_the_same_write_again_later_has_another_key(self) -> None:
        seen = views(ticket("1", status="s3"), ticket("2", status="t1"))

        first = planned(link(shadow=AGREED), seen).commands[0].key
        retry = planned(link(shadow=AGREED), seen).commands[0].key
        later = planned(link(shadow=AGREED, generation=6), seen).commands[0].key

        assert first == retry
        assert later != first

    def test_comments_are_read_up_to_the_desks_own_time(self) -> None:
        result = planned(link(), views(ticket("1"), ticket("2")))

        assert result.settled.source_comments_until == NOON
        assert result.settled.target_comments_until == NOON + timedelta(seconds=3)

    def test_a_conflict_is_kept_for_people(self) -> None:
        shadow: dict[str, dict[str, str | None]] = {"summary": {"source": "old", "target": "old"}}

        result = planned(link(shadow=shadow), views(ticket("1", summary="mine"), ticket("2", summary="yours")))

        [change] = result.changes
        assert change.operation == "conflict"
        assert change.detail["loser_value"] == "yours"
        assert change.detail["winner"] == "source"

    def test_a_refusal_stands_until_the_refused_value_has_changed(self) -> None:
        errors = {"summary": {"class": "validation", "side": "source", "value": "bad"}}
        shadow: dict[str, dict[str, str | None]] = {"summary": {"source": "old", "target": "old"}}
        wanted = link(shadow=shadow, field_errors=errors)

        same = planned(wanted, views(ticket("1", summary="bad"), ticket("2", summary="old")))
        changed = planned(wanted, views(ticket("1", summary="good"), ticket("2", summary="old")))

        assert same.settled.field_errors == errors
        assert changed.settled.field_errors == {}

    def test_an_unmapped_value_is_cleared_when_it_is_gone(self) -> None:
        errors = {"status": {"class": "unmapped_value", "side": "source", "value": "s5"}}

        result = planned(
            link(shadow=AGREED, field_errors=errors), views(ticket("1", status="s1"), ticket("2", status="t1"))
        )

        assert result.settled.field_errors == {}


class TestComments:
    def test_ours_by_the_ledger_stay(self) -> None:
        seen = views(ticket("1"), ticket("2"), from_source=(comment("1:1"), comment("1:2")))

        result = planned(link(), seen, known={("source", "1:1"), ("target", "1:2")})

        assert [one.snapshot["origin_comment_id"] for one in result.commands] == ["1:2"]

    def test_ours_by_a_signed_marker_stay_and_are_taken_into_the_ledger(self) -> None:
        marked = comment("1:1", markers=(marker.sign("0" * 20, SECRET),))
        forged = comment("1:2", markers=(marker.sign("0" * 20, "another secret"),))

        result = planned(link(), views(ticket("1"), ticket("2"), from_source=(marked, forged)))

        assert [one.snapshot["origin_comment_id"] for one in result.commands] == ["1:2"]
        assert [(entry["side"], entry["native_id"]) for entry in result.adopted] == [("source", "1:1")]

    def test_each_with_its_own_key_outcome_and_date(self) -> None:
        result = planned(link(), views(ticket("1"), ticket("2"), from_target=(comment("2:7", ticket_id="2"),)))

        [command] = result.commands
        assert command.key == marker.comment_key(RELATIONSHIP.id, "target", "2:7")
        assert command.connection_id == RELATIONSHIP.source_connection_id
        assert command.body["outcome"] == "21"
        assert command.body["created_at"] == NOON.isoformat()
        assert command.body["ticket_id"] == "1"

    def test_without_preserved_dates_the_time_of_writing_counts(self) -> None:
        settings = settings_with(preserve_dates=False)

        result = planned(link(), views(ticket("1"), ticket("2"), from_source=(comment(),)), settings=settings)

        assert result.commands[0].body["created_at"] is None

    def test_switched_off_nothing_travels(self) -> None:
        settings = settings_with(public_comments=False)

        result = planned(link(), views(ticket("1"), ticket("2"), from_source=(comment(),)), settings=settings)

        assert result.commands == []
        assert result.adopted == []


PRIVATE = "this-must-stay-in-the-house"

any_comments = st.lists(
    st.builds(
        Comment,
        native_id=st.integers(1, 30).map(lambda number: f"1:{number}"),
        ticket_id=st.just("1"),
        text=st.just("public words"),
        visibility=st.sampled_from(Visibility),
        kind=st.sampled_from(CommentKind),
        author=st.builds(Party, st.sampled_from(("", "Kim Field")), is_agent=st.booleans()),
        created_at=st.integers(0, 5).map(lambda seconds: NOON + timedelta(seconds=seconds)),
        outcome=st.sampled_from((None, "public", "7")),
        markers=st.sampled_from(
            ((), ("PHL-x",), (marker.sign("0" * 20, SECRET),), (marker.sign("0" * 20, "stranger"),))
        ),
    ).map(
        lambda one: one if one.visibility is Visibility.PUBLIC else replace(one, text=PRIVATE, html=f"<p>{PRIVATE}</p>")
    ),
    max_size=12,
    unique_by=lambda one: one.native_id,
)
side_options = st.builds(
    SideOptions,
    resolution=st.sampled_from((None, "12")),
    comment_outcome=st.sampled_from((None, "22", "public")),
)


class TestPrivateComments:
    """A private comment never becomes public: any settings, any flags, any state of a link, either side."""

    @given(
        settings=relationship_settings,
        source_options=side_options,
        target_options=side_options,
        source=source_tickets,
        target=target_tickets,
        from_source=any_comments,
        from_target=any_comments,
        known=st.sets(st.tuples(st.sampled_from(SIDES), st.integers(1, 30).map(lambda n: f"1:{n}"))),
        state=st.sampled_from(("linked", "orphaned", "failed", "new")),
        twins=st.sampled_from((("1", "2"), ("1", None), (None, "2"))),
        may_be_ours=st.booleans(),
    )
    def test_none_ever_leaves(
        self,
        settings: RelationshipSettings,
        source_options: SideOptions,
        target_options: SideOptions,
        source: Ticket,
        target: Ticket,
        from_source: list[Comment],
        from_target: list[Comment],
        known: set[tuple[str, str]],
        state: str,
        twins: tuple[str | None, str | None],
        may_be_ours: bool,
    ) -> None:
        wanted = link(
            source_ticket_id=twins[0],
            target_ticket_id=twins[1],
            origin="target" if twins[0] is None else "source",
            state=state,
        )
        seen = views(source, target, from_source=tuple(from_source), from_target=tuple(from_target))
        open_ = replace(opened(settings), options={"source": source_options, "target": target_options})

        result = plan(open_, wanted, seen, known, may_be_ours=may_be_ours)

        by_id: Mapping[Side, dict[str, Comment]] = {
            "source": {one.native_id: one for one in from_source},
            "target": {one.native_id: one for one in from_target},
        }
        for command in result.commands:
            assert PRIVATE not in str(command.body)
            assert PRIVATE not in str(command.snapshot)
            if command.kind == "comment.create":
                original = by_id[other(command.snapshot["side"])][command.snapshot["origin_comment_id"]]
                assert command.body["visibility"] == "public"
                assert original.visibility is Visibility.PUBLIC
                assert original.kind is CommentKind.COMMENT
        assert PRIVATE not in str([change.detail for change in result.changes])
        if not settings.public_comments:
            assert "comment.create" not in {command.kind for command in result.commands}


class TestAgain:
    """Deciding twice from the same look gives the same keys, so the outbox makes one row of each write."""

    @given(
        relationship_settings,
        source_tickets,
        target_tickets,
        any_comments,
        st.sampled_from(("linked", "new")),
    )
    def test_the_same_look_makes_the_same_commands(
        self,
        settings: RelationshipSettings,
        source: Ticket,
        target: Ticket,
        comments: list[Comment],
        state: str,
    ) -> None:
        wanted = link(state=state, target_ticket_id="2" if state == "linked" else None)
        seen = views(source, target, from_source=tuple(comments))

        first = planned(wanted, seen, settings=settings).commands
        second = planned(wanted, seen, settings=settings).commands

        assert first == second
        assert len({command.key for command in first}) == len(first)
        assert all(stays_in_the_relationship(command) for command in first)


def stays_in_the_relationship(command: NewCommand) -> bool:
    return (
        command.tenant_id == RELATIONSHIP.tenant_id
        and command.connection_id in (RELATIONSHIP.source_connection_id, RELATIONSHIP.target_connection_id)
        and command.subject_id == UUID(int=9)
        and marker.read(command.body["marker"], SECRET) == command.key
    )
