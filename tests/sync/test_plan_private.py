"""A private comment never becomes public, and the same look always makes the same writes."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from app.connectors.canonical import Comment, CommentKind, Party, Ticket, Visibility
from app.connectors.registry import SideOptions
from app.outbox.commands import NewCommand
from app.sync import marker
from app.sync.plan import plan
from app.sync.settings import SIDES, RelationshipSettings, Side, other
from tests.sync.looks import RELATIONSHIP, SECRET, link, opened, planned, views
from tests.sync.values import (
    NOON,
    relationship_settings,
    source_tickets,
    target_tickets,
)

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
