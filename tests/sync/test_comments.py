"""Which comments travel, in which order, and what they look like at the other side."""

from datetime import timedelta, timezone
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from app.connectors.canonical import Comment, CommentKind, Party, Visibility
from app.sync.compose import TEXT_MAX, comment_text, header, resolution_note
from app.sync.decide import _natural, to_carry
from tests.sync.values import NOON, comment

comments = st.lists(
    st.builds(
        Comment,
        native_id=st.builds(lambda ticket, number: f"{ticket}:{number}", st.integers(1, 3), st.integers(1, 12)),
        ticket_id=st.just("1"),
        text=st.just("hello"),
        visibility=st.sampled_from(Visibility),
        kind=st.sampled_from(CommentKind),
        author=st.just(Party("Kim Field")),
        created_at=st.integers(0, 3).map(lambda seconds: NOON + timedelta(seconds=seconds)),
    ),
    max_size=20,
    unique_by=lambda one: one.native_id,
)


class TestToCarry:
    @given(comments, st.frozensets(st.builds(lambda n: f"1:{n}", st.integers(1, 12))))
    def test_exactly_the_public_comments_of_people_that_are_not_ours(
        self, found: list[Comment], ours: frozenset[str]
    ) -> None:
        carried = to_carry(found, ours=ours)

        assert {one.native_id for one in carried} == {
            one.native_id
            for one in found
            if one.visibility == "public" and one.kind == "comment" and one.native_id not in ours
        }
        assert len(carried) == len({one.native_id for one in carried})

    @given(comments, st.randoms(use_true_random=False))
    def test_the_order_is_that_of_writing_whatever_order_they_were_read_in(
        self, found: list[Comment], random: Random
    ) -> None:
        shuffled = list(found)
        random.shuffle(shuffled)

        carried = to_carry(shuffled, ours=frozenset())

        assert carried == to_carry(found, ours=frozenset())
        assert [one.created_at for one in carried] == sorted(one.created_at for one in carried)

    def test_within_a_second_the_desks_numbers_decide(self) -> None:
        found = [comment("42:10"), comment("42:9"), comment("42:100"), comment("9:1")]

        assert [one.native_id for one in to_carry(found, ours=frozenset())] == ["9:1", "42:9", "42:10", "42:100"]


class TestNatural:
    @given(st.integers(0, 10**6), st.integers(0, 10**6))
    def test_numbers_count_as_numbers(self, left: int, right: int) -> None:
        assert (_natural(f"7:{left}") < _natural(f"7:{right}")) == (left < right)

    @given(st.lists(st.text(), max_size=5))
    def test_any_text_has_a_place(self, native_ids: list[str]) -> None:
        places = [_natural(one) for one in native_ids]

        assert sorted(places, key=list) == sorted(places)

    def test_digits_that_are_no_decimal_numbers_have_a_place_too(self) -> None:
        assert len({_natural("²"), _natural("7"), _natural("x")}) == 3


class TestCompose:
    def test_who_where_and_when_then_what(self) -> None:
        text = comment_text(comment(text="  It works now.\n"), organisation="Contoso")

        assert text == "Kim Field (Contoso) · 2026-03-02 12:00 +00:00\n\nIt works now."

    def test_without_an_organisation_and_without_a_name(self) -> None:
        assert header("", "", NOON) == "Unknown author · 2026-03-02 12:00 +00:00"

    def test_an_empty_text_is_said(self) -> None:
        assert comment_text(comment(text=" \n"), organisation="").endswith("\n\n(no text)")

    def test_an_authors_name_is_repeated_exactly(self) -> None:
        assert header("Ann +0000", "Desk +0000", NOON).startswith("Ann +0000 (Desk +0000) · ")

    def test_another_time_zone_is_written_with_a_colon(self) -> None:
        india = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))

        assert header("Kim", "", india) == "Kim · 2026-03-02 17:30 +05:30"

    def test_an_address_is_never_shown(self) -> None:
        author = Party("Kim Field", native_id="12", email="kim@contoso.test")

        assert "kim@contoso.test" not in comment_text(comment(author=author), organisation="Contoso")

    @given(st.integers(0, 500))
    def test_what_is_cut_is_said(self, surplus: int) -> None:
        text = comment_text(comment(text="x" * (TEXT_MAX + surplus)), organisation="")

        body = text.split("\n\n", 1)[1]
        assert body.startswith("x" * TEXT_MAX)
        assert (f"{surplus} more characters" in body) == (surplus > 0)
        assert len(body) < TEXT_MAX + 100

    def test_the_resolution_note(self) -> None:
        assert resolution_note("Globex") == "Resolved at Globex."
        assert resolution_note("") == "Resolved at the partner."
