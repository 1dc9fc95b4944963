"""Markers: stable keys, and a signature that nobody else can make."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from app.core import ids
from app.sync import marker

RELATIONSHIP, LINK = UUID(int=7), UUID(int=8)
secrets = st.text(min_size=1, max_size=64)
keys = st.text(alphabet="0123456789abcdef", min_size=20, max_size=20)


class TestBelieved:
    @given(keys, secrets)
    def test_our_own(self, key: str, secret: str) -> None:
        assert marker.read(marker.sign(key, secret), secret) == key
        assert marker.read(f" {marker.sign(key, secret)}\n", secret) == key, "desks wrap and pad"

    @given(keys, secrets, secrets)
    def test_not_one_of_another_secret(self, key: str, secret: str, stranger: str) -> None:
        if secret != stranger:
            assert marker.read(marker.sign(key, stranger), secret) is None

    @given(keys, secrets, st.integers(0, 40), st.sampled_from("0123456789abcdefPHL-"))
    def test_not_one_with_a_changed_character(self, key: str, secret: str, place: int, character: str) -> None:
        real = marker.sign(key, secret)
        forged = real[:place] + character + real[place + 1 :]

        assert marker.read(forged, secret) == (key if forged == real else None)

    @given(st.text(), secrets)
    def test_not_what_people_write(self, text: str, secret: str) -> None:
        assert marker.read(text, secret) is None

    @given(keys, secrets)
    def test_not_one_that_stands_in_a_text(self, key: str, secret: str) -> None:
        """A quoted reply carries the marker of the comment it answers; believing it would hide the reply."""
        assert marker.read(f"see {marker.sign(key, secret)}", secret) is None
        assert marker.read(f"{marker.sign(key, secret)}\nthanks", secret) is None


class TestKeys:
    def test_are_the_same_on_every_retry_and_in_every_version(self) -> None:
        """They stand at remote desks: another value in a later version would create every twin again."""
        assert marker.ticket_key(RELATIONSHIP, "source", "42") == marker.ticket_key(RELATIONSHIP, "source", "42")
        assert marker.ticket_key(RELATIONSHIP, "source", "42") == "318132085d1cd4259558"
        assert marker.comment_key(RELATIONSHIP, "source", "42:1") == "a2c1af525f72c26dbea8"
        assert marker.change_key(LINK, "target", 3, {"status": "2", "summary": "x"}) == "1232a05ecf6e4c336963"

    @given(
        st.lists(
            st.tuples(st.uuids(), st.sampled_from(["source", "target"]), st.text(min_size=1, max_size=8)),
            unique=True,
            max_size=10,
        )
    )
    def test_differ_for_different_things(self, things: list[tuple[UUID, str, str]]) -> None:
        made = [marker.ticket_key(*one) for one in things] + [marker.comment_key(*one) for one in things]

        assert len(set(made)) == len(made)

    @given(
        st.lists(
            st.tuples(
                st.integers(0, 3),
                st.dictionaries(st.sampled_from(["status", "summary"]), st.text(max_size=5), min_size=1),
            ),
            max_size=8,
            unique_by=str,
        )
    )
    def test_a_change_written_again_later_is_another_write(self, changes: list[tuple[int, dict[str, str]]]) -> None:
        distinct = {(generation, tuple(sorted(values.items()))) for generation, values in changes}
        made = {marker.change_key(LINK, "target", generation, values) for generation, values in changes}

        assert len(made) == len(distinct)

    def test_the_order_of_fields_does_not_matter(self) -> None:
        left = marker.change_key(LINK, "target", 1, {"status": "2", "summary": "x"})
        right = marker.change_key(LINK, "target", 1, {"summary": "x", "status": "2"})

        assert left == right

    def test_fit_the_form_of_a_marker(self) -> None:
        key = marker.ticket_key(ids.new_id(), "source", "42")

        assert marker.read(marker.sign(key, "secret"), "secret") == key
