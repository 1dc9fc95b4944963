"""Value maps: both directions, many to one, and the pairs proposed from two desks' own words."""

from hypothesis import given
from hypothesis import strategies as st

from app.connectors.canonical import Choice, TicketField
from app.core import clock
from app.sync.maps import Maps, ValueMap, propose, same_text
from app.sync.settings import Learnt, RelationshipSettings, ValuePair
from tests.sync.values import MANY_TO_ONE, SOURCE_VALUES, TARGET_VALUES, pairs, value_maps

STATUS, SUMMARY = TicketField.STATUS, TicketField.SUMMARY
names = st.lists(st.sampled_from(["Open", " open ", "OPEN", "In Progress", "in  progress", "Closed"]), max_size=6)


def choices(prefix: str, found: list[str]) -> list[Choice]:
    return [Choice(f"{prefix}{number}", name) for number, name in enumerate(found)]


class TestValueMap:
    @given(value_maps)
    def test_every_value_that_is_named_converts_and_the_first_pair_wins(self, found: tuple[ValuePair, ...]) -> None:
        table = ValueMap.of(found)

        assert set(table.to_target) == {pair.source for pair in found}
        assert set(table.to_source) == {pair.target for pair in found}
        for pair in found:
            first = next(one for one in found if one.source == pair.source)
            assert table.to_target[pair.source] == first.target

    def test_a_target_value_goes_back_to_the_first_that_names_it(self) -> None:
        assert ValueMap.of(MANY_TO_ONE).to_source["t1"] == "s1"


class TestMaps:
    @given(value_maps, st.sampled_from(SOURCE_VALUES), st.sampled_from(TARGET_VALUES))
    def test_what_converts_is_equivalent(self, found: tuple[ValuePair, ...], source: str, target: str) -> None:
        maps = Maps.of(RelationshipSettings(status_map=found))
        there, back = maps.convert(STATUS, source, to="target"), maps.convert(STATUS, target, to="source")

        if there is not None:
            assert maps.equivalent(STATUS, source, there)
        if back is not None:
            assert maps.equivalent(STATUS, back, target)
        assert maps.equivalent(STATUS, source, target) == (there == target or back == source)

    def test_every_source_value_of_one_target_value_is_in_step_with_it(self) -> None:
        maps = Maps.of(RelationshipSettings(status_map=MANY_TO_ONE))

        assert maps.equivalent(STATUS, "s1", "t1")
        assert maps.equivalent(STATUS, "s2", "t1")
        assert not maps.equivalent(STATUS, "s3", "t1")

    def test_free_text_is_not_mapped(self) -> None:
        maps = Maps.of(RelationshipSettings(status_map=MANY_TO_ONE))

        assert maps.convert(SUMMARY, "s1", to="target") == "s1"

    def test_settings_beat_what_was_learnt_and_an_empty_map_is_a_setting(self) -> None:
        learnt = Learnt(learnt_at=clock.now(), status_map=pairs("s1>t1"), priority_map=pairs("p1>q1"))

        from_desks = Maps.of(RelationshipSettings(), learnt)
        said = Maps.of(RelationshipSettings(status_map=pairs("s1>t9"), priority_map=()), learnt)

        assert from_desks.convert(STATUS, "s1", to="target") == "t1"
        assert said.convert(STATUS, "s1", to="target") == "t9"
        assert said.convert(TicketField.PRIORITY, "p1", to="target") is None

    def test_without_any_map_nothing_has_a_twin(self) -> None:
        assert Maps.of(RelationshipSettings()).convert(STATUS, "s1", to="target") is None


class TestSameText:
    @given(st.text())
    def test_is_itself_whatever_white_space_does(self, text: str) -> None:
        assert same_text(text, text)
        assert same_text(text, f" {text}\r\n")

    def test_words_matter(self) -> None:
        assert not same_text("a b", "ab")
        assert not same_text("a", "A")


class TestPropose:
    @given(names, names)
    def test_pairs_bear_the_same_name_and_each_source_value_has_one_at_most(
        self, source: list[str], target: list[str]
    ) -> None:
        left, right = choices("s", source), choices("t", target)
        name_of = {choice.native_id: " ".join(choice.name.casefold().split()) for choice in (*left, *right)}

        proposed = propose(left, right)

        assert all(name_of[pair.source] == name_of[pair.target] for pair in proposed)
        wanted = [one.native_id for one in left if name_of[one.native_id] in {name_of[r.native_id] for r in right}]
        assert [pair.source for pair in proposed] == wanted

    def test_the_first_of_two_equal_names_is_taken(self) -> None:
        assert propose(choices("s", ["Open"]), choices("t", ["open", "OPEN"])) == pairs("s0>t0")

    def test_desks_that_share_no_name(self) -> None:
        assert propose(choices("s", ["Open"]), choices("t", ["Offen"])) == ()
