"""What to write where: examples of every rule, and properties over random pasts."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.connectors.canonical import Ticket, TicketField
from app.sync.decide import Base, Decision, creation_values, decide, first_shadow
from app.sync.maps import Maps
from app.sync.settings import SIDES, Direction, FieldRule, Policy, RelationshipSettings, Side, other
from tests.sync.values import (
    MANY_TO_ONE,
    NOON,
    SOURCE_VALUES,
    bases,
    maps_of,
    pairs,
    relationship_settings,
    settings_with,
    source_tickets,
    target_tickets,
    ticket,
)

STATUS, PRIORITY, SUMMARY = TicketField.STATUS, TicketField.PRIORITY, TicketField.SUMMARY

Shadow = dict[str, dict[str, str | None]]


def decided(
    base: Mapping[str, Mapping[str, str | None]],
    source: Ticket,
    target: Ticket,
    settings: RelationshipSettings | None = None,
) -> Decision:
    chosen = settings or settings_with()
    return decide(base, source, target, chosen, maps_of(chosen))


def writes(decision: Decision) -> dict[Side, dict[TicketField, str]]:
    return {side: found for side, found in decision.writes.items() if found}


def carried_out(
    base: Base, decision: Decision, tickets: dict[Side, Ticket], normalised: Callable[[str], str]
) -> tuple[Shadow, dict[Side, Ticket]]:
    """What the engine does with a decision: write, read back what the desk made of it, keep both in the shadow."""
    shadow: Shadow = {name: dict(pair) for name, pair in base.items()}
    for name, pair in decision.shadow.items():
        shadow[name.value] = {"source": pair["source"], "target": pair["target"]}
    after = dict(tickets)
    for side in SIDES:
        for name, value in decision.writes[side].items():
            held = normalised(value) if name not in (STATUS, PRIORITY) else value
            after[side] = replace(after[side], values={**after[side].values, name: held})
            shadow[name.value] = {side: held, other(side): decision.causes[side][name]}
    return shadow, after


class TestProperties:
    @given(relationship_settings, source_tickets, target_tickets)
    def test_what_has_not_changed_is_never_written(
        self, settings: RelationshipSettings, source: Ticket, target: Ticket
    ) -> None:
        base = {
            name.value: {"source": source.values.get(name), "target": target.values.get(name)} for name in TicketField
        }

        found = decided(base, source, target, settings)

        assert found == Decision()

    @given(
        relationship_settings,
        bases,
        source_tickets,
        target_tickets,
        st.sampled_from([str, str.strip, str.upper, lambda text: text[:2], lambda text: " ".join(text.split())]),
    )
    def test_once_carried_out_nothing_is_left_to_write(
        self,
        settings: RelationshipSettings,
        base: Shadow,
        source: Ticket,
        target: Ticket,
        normalised: Callable[[str], str],
    ) -> None:
        tickets: dict[Side, Ticket] = {"source": source, "target": target}
        first = decided(base, source, target, settings)

        shadow, after = carried_out(base, first, tickets, normalised)
        again = decided(shadow, after["source"], after["target"], settings)

        assert writes(again) == {}
        assert again.conflicts == []

    @given(relationship_settings, bases, source_tickets, target_tickets)
    def test_a_field_is_written_at_one_side_at_most_and_only_where_it_differs(
        self, settings: RelationshipSettings, base: Shadow, source: Ticket, target: Ticket
    ) -> None:
        found = decided(base, source, target, settings)

        tickets: dict[Side, Ticket] = {"source": source, "target": target}
        assert not set(found.writes["source"]) & set(found.writes["target"])
        for side in SIDES:
            for name, value in found.writes[side].items():
                assert value != tickets[side].values[name]
                assert found.causes[side][name] == tickets[other(side)].values[name]
                assert name not in found.shadow

    @given(relationship_settings, bases, source_tickets, target_tickets)
    def test_only_a_change_at_the_other_side_is_a_reason_to_write(
        self, settings: RelationshipSettings, base: Shadow, source: Ticket, target: Ticket
    ) -> None:
        found = decided(base, source, target, settings)

        tickets: dict[Side, Ticket] = {"source": source, "target": target}
        for side in SIDES:
            for name in found.writes[side]:
                cause = other(side)
                assert tickets[cause].values[name] != base.get(name.value, {}).get(cause)

    @given(relationship_settings, bases, source_tickets, target_tickets)
    def test_the_direction_is_never_broken(
        self, settings: RelationshipSettings, base: Shadow, source: Ticket, target: Ticket
    ) -> None:
        found = decided(base, source, target, settings)

        for name in TicketField:
            if settings.rule(name).direction is Direction.TO_TARGET:
                assert name not in found.writes["source"]
            if settings.rule(name).direction is Direction.TO_SOURCE:
                assert name not in found.writes["target"]

    @given(relationship_settings, bases, source_tickets, target_tickets)
    def test_a_value_without_a_twin_is_told_and_never_written(
        self, settings: RelationshipSettings, base: Shadow, source: Ticket, target: Ticket
    ) -> None:
        maps = maps_of(settings)
        found = decide(base, source, target, settings, maps)

        for one in found.unmapped:
            assert maps.convert(one.field, one.value, to=other(one.side)) is None
            assert not any(one.field in found.writes[side] for side in SIDES)
        for side in SIDES:
            for name, value in found.writes[side].items():
                assert value == maps.convert(name, found.causes[side][name], to=side)

    @given(relationship_settings, bases, source_tickets, target_tickets)
    def test_a_conflict_keeps_the_losers_value(
        self, settings: RelationshipSettings, base: Shadow, source: Ticket, target: Ticket
    ) -> None:
        tickets: dict[Side, Ticket] = {"source": source, "target": target}
        for one in decided(base, source, target, settings).conflicts:
            assert one.winner_value == tickets[one.winner].values[one.field]
            assert one.loser_value == tickets[other(one.winner)].values[one.field]
            assert one.rule

    @given(st.lists(st.sampled_from(SOURCE_VALUES[:4]), min_size=1, max_size=12))
    def test_a_many_to_one_map_never_reverts_the_richer_side(self, history: list[str]) -> None:
        settings = settings_with()
        base: Shadow = {"status": {"source": "s1", "target": "t1"}}
        tickets: dict[Side, Ticket] = {"source": ticket(status="s1"), "target": ticket(status="t1")}
        for value in history:
            tickets["source"] = ticket(status=value)
            found = decided(base, tickets["source"], tickets["target"], settings)
            base, tickets = carried_out(base, found, tickets, str)
            echo = decided(base, tickets["source"], tickets["target"], settings)

            assert tickets["source"].values[STATUS] == value
            assert writes(echo) == {}


class TestCarry:
    def test_a_change_goes_to_the_other_side_in_its_words(self) -> None:
        found = decided({"status": {"source": "s1", "target": "t1"}}, ticket(status="s3"), ticket(status="t1"))

        assert writes(found) == {"target": {STATUS: "t2"}}
        assert found.causes["target"] == {STATUS: "s3"}
        assert found.conflicts == []

    def test_and_back(self) -> None:
        found = decided({"status": {"source": "s1", "target": "t1"}}, ticket(status="s1"), ticket(status="t3"))

        assert writes(found) == {"source": {STATUS: "s4"}}

    def test_the_same_change_at_both_sides_is_agreement(self) -> None:
        found = decided({"status": {"source": "s1", "target": "t1"}}, ticket(status="s3"), ticket(status="t2"))

        assert writes(found) == {}
        assert found.conflicts == []
        assert found.shadow == {STATUS: {"source": "s3", "target": "t2"}}

    def test_white_space_is_no_difference(self) -> None:
        found = decided({}, ticket(summary="Printer  on\r\nfire "), ticket(summary="Printer on fire"))

        assert writes(found) == {}
        assert found.shadow[SUMMARY] == {"source": "Printer  on\r\nfire ", "target": "Printer on fire"}

    def test_a_field_that_one_desk_does_not_tell_is_left_alone(self) -> None:
        found = decided({}, ticket(summary="here", status="s1"), ticket(status="t1"))

        assert SUMMARY not in found.shadow
        assert writes(found) == {}

    def test_an_unmapped_value_does_not_hold_up_the_other_fields(self) -> None:
        base: Shadow = {
            "status": {"source": "s1", "target": "t1"},
            "summary": {"source": "old", "target": "old"},
        }

        found = decided(base, ticket(status="s5", summary="new"), ticket(status="t1", summary="old"))

        assert writes(found) == {"target": {SUMMARY: "new"}}
        assert [(one.field, one.side, one.value) for one in found.unmapped] == [(STATUS, "source", "s5")]

    @pytest.mark.parametrize(
        ("direction", "source", "target", "expected"),
        [
            (Direction.TO_TARGET, "new", "old", {"target": {SUMMARY: "new"}}),
            (Direction.TO_TARGET, "old", "new", {}),
            (Direction.TO_SOURCE, "new", "old", {}),
            (Direction.TO_SOURCE, "old", "new", {"source": {SUMMARY: "new"}}),
        ],
    )
    def test_a_direction(
        self, direction: Direction, source: str, target: str, expected: dict[Side, dict[TicketField, str]]
    ) -> None:
        settings = settings_with(fields={SUMMARY: FieldRule(direction=direction)})
        base: Shadow = {"summary": {"source": "old", "target": "old"}}

        found = decided(base, ticket(summary=source), ticket(summary=target), settings)

        assert writes(found) == expected
        if not expected:
            assert found.shadow[SUMMARY] == {"source": source, "target": target}, "seen, so never asked again"


class TestConflict:
    BASE: ClassVar[Shadow] = {"summary": {"source": "old", "target": "old"}}

    def settle(self, policy: Policy, *, ahead: float | None) -> tuple[Side, str]:
        settings = settings_with(fields={SUMMARY: FieldRule(policy=policy)})
        source_at = NOON + timedelta(seconds=ahead) if ahead is not None else None
        found = decided(
            self.BASE,
            ticket(summary="from source", updated_at=source_at),
            ticket(summary="from target", updated_at=NOON),
            settings,
        )
        [conflict] = found.conflicts
        assert writes(found) == {other(conflict.winner): {SUMMARY: f"from {conflict.winner}"}}
        return conflict.winner, conflict.rule

    @pytest.mark.parametrize(
        ("policy", "ahead", "winner"),
        [
            (Policy.SOURCE, -60.0, "source"),
            (Policy.TARGET, 60.0, "target"),
            (Policy.LAST_WRITER, 60.0, "source"),
            (Policy.LAST_WRITER, -60.0, "target"),
            (Policy.LAST_WRITER, 2.0, "source"),
            (Policy.LAST_WRITER, -2.0, "target"),
            (Policy.LAST_WRITER, -1.9, "source"),
            (Policy.LAST_WRITER, None, "source"),
        ],
    )
    def test_the_policy_decides(self, policy: Policy, ahead: float | None, winner: Side) -> None:
        assert self.settle(policy, ahead=ahead)[0] == winner

    def test_at_the_same_moment_a_closed_ticket_stays_closed(self) -> None:
        found = decided(
            {"status": {"source": "s1", "target": "t1"}},
            ticket(status="s4"),
            ticket(status="t2", closed=True),
        )

        assert writes(found) == {"source": {STATUS: "s3"}}
        assert found.conflicts[0].winner == "target"

    def test_the_defaults_of_the_fields(self) -> None:
        base: Shadow = {
            "summary": {"source": "x", "target": "x"},
            "priority": {"source": "p1", "target": "q3"},
        }
        settings = settings_with(priority_map=pairs("p1>q1", "p2>q2", "p3>q3"))

        found = decided(base, ticket(summary="s", priority="p2"), ticket(summary="t", priority="q1"), settings)

        assert writes(found) == {"target": {SUMMARY: "s"}, "source": {PRIORITY: "p1"}}

    def test_no_conflict_is_told_when_nothing_is_overwritten(self) -> None:
        found = decided(
            {"status": {"source": "s1", "target": "t1"}},
            ticket(status="s5", updated_at=NOON + timedelta(minutes=1)),
            ticket(status="t2"),
        )

        assert writes(found) == {}
        assert found.conflicts == []
        assert [one.value for one in found.unmapped] == ["s5"]


class TestCreation:
    @given(relationship_settings, source_tickets, st.sets(st.sampled_from(("t1", "t2", "t3"))))
    def test_values_are_the_twins_words_and_never_close_it(
        self, settings: RelationshipSettings, origin: Ticket, closing: set[str]
    ) -> None:
        maps = maps_of(settings)
        values, unmapped = creation_values(origin, "source", maps, closing)

        assert not {one.field for one in unmapped} & set(values)
        assert values.get(STATUS) not in closing
        if origin.closed:
            assert STATUS not in values
        for name, value in values.items():
            assert value == maps.convert(name, origin.values[name], to="target")
        left_out = set(origin.values) - set(values) - {one.field for one in unmapped}
        assert left_out <= {STATUS}

    def test_from_the_target_with_reverse_sync(self) -> None:
        values, unmapped = creation_values(
            ticket(status="t2", summary="x", priority="q9"), "target", maps_of(settings_with()), ()
        )

        assert values == {STATUS: "s3", SUMMARY: "x"}
        assert [(one.field, one.side) for one in unmapped] == [(PRIORITY, "target")]


class TestFirstShadow:
    MAPS = Maps.of(RelationshipSettings(status_map=MANY_TO_ONE))

    def test_holds_what_the_twin_was_made_from(self) -> None:
        shadow = first_shadow(
            {"summary": "as it was", "status": "s2"}, ticket(summary="as it was", status="t1"), "source", self.MAPS
        )

        assert shadow == {
            "summary": {"source": "as it was", "target": "as it was"},
            "status": {"source": "s2", "target": "t1"},
        }

    def test_an_edit_between_creation_and_record_is_still_a_change(self) -> None:
        settings = settings_with()
        shadow = first_shadow({"summary": "as it was"}, ticket(summary="as it was"), "source", self.MAPS)

        found = decided(shadow, ticket(summary="edited"), ticket(summary="as it was"), settings)

        assert writes(found) == {"target": {SUMMARY: "edited"}}

    def test_where_the_twin_differs_the_origin_is_carried_again(self) -> None:
        shadow = first_shadow({"status": "s4"}, ticket(status="t1"), "source", self.MAPS)

        assert shadow == {"status": {"source": None, "target": "t1"}}
        found = decided(shadow, ticket(status="s4"), ticket(status="t1"))
        assert writes(found) == {"target": {STATUS: "t3"}}

    def test_for_a_ticket_born_at_the_target(self) -> None:
        shadow = first_shadow({"status": "t2"}, ticket(status="s3"), "target", self.MAPS)

        assert shadow == {"status": {"target": "t2", "source": "s3"}}

    @given(relationship_settings, source_tickets, target_tickets)
    def test_the_look_after_a_creation_writes_only_what_differs(
        self, settings: RelationshipSettings, origin: Ticket, twin: Ticket
    ) -> None:
        maps = maps_of(settings)
        snapshot = {name.value: value for name, value in origin.values.items()}

        shadow = first_shadow(snapshot, twin, "source", maps)
        found = decide(shadow, origin, twin, settings, maps)

        assert writes(found).get("source", {}) == {}, "a creation never changes the original"
        for name in found.writes["target"]:
            assert not maps.equivalent(name, origin.values[name], twin.values[name])
