"""The text of API keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.auth import keytext


def test_a_generated_key_parses_and_names_its_prefix() -> None:
    made = keytext.generate()

    found = keytext.parse(made.text)

    assert found is not None
    assert found.prefix == made.prefix
    assert made.text.startswith(f"phk_{made.prefix}_")


def test_two_keys_differ() -> None:
    assert keytext.generate().text != keytext.generate().text


@given(position=st.integers(min_value=0, max_value=50), letter=st.sampled_from("0aZ_é"))
def test_one_wrong_letter_is_told_from_a_key(position: int, letter: str) -> None:
    text = keytext.generate().text
    changed = text[:position] + letter + text[position + 1 :]

    assert (keytext.parse(changed) is None) == (changed != text)


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_key_cut_while_copying_is_not_a_key(cut: int) -> None:
    text = keytext.generate().text

    assert keytext.parse(text[:-cut]) is None
    assert keytext.parse(text[cut:]) is None


@given(st.text())
def test_no_text_makes_parsing_raise(text: str) -> None:
    assert keytext.parse(text) is None


def test_a_key_does_not_show_in_a_repr() -> None:
    made = keytext.generate()

    assert made.text not in repr(made)
