"""From one look at one link to what is stored and sent."""

from datetime import timedelta
from uuid import UUID

import pytest

from app.connectors.canonical import Ticket
from app.sync import marker
from app.sync.plan import LOOKS_UNTIL_GONE
from app.sync.settings import SIDES, Side
from tests.sync.looks import AGREED, RELATIONSHIP, SECRET, link, new_link, planned, views
from tests.sync.values import (
    NOON,
    comment,
    settings_with,
    ticket,
)


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

        result = planned(new_link(attempts=LOOKS_UNTIL_GONE + 1), views(found, None), settings=settings)

        assert result.commands == []
        assert result.settled.state == "ignored"
        assert why in (result.settled.reason or "")

    def test_a_ticket_that_is_not_listed_yet_is_looked_for_again(self) -> None:
        """A webhook may overtake the desk's own list; the ticket was once ignored for good."""
        result = planned(new_link(attempts=1), views(None, None))

        assert (result.settled.state, result.settled.stay_dirty) == ("new", True)
        assert result.settled.next_attempt_at is not None

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

        result = planned(link(attempts=LOOKS_UNTIL_GONE + 1), seen)

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
