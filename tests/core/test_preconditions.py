"""Entity tags."""

from dataclasses import dataclass

import pytest
from fastapi import Response
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import PreconditionFailed
from app.core.preconditions import Expected, etag, versioned


@dataclass
class Row:
    version: int


@given(version=st.integers(1, 10**9), other=st.integers(1, 10**9))
def test_only_the_version_that_was_read_matches(version: int, other: int) -> None:
    expected = Expected(etag(Row(version)))

    if version == other:
        expected.check(Row(other))
    else:
        with pytest.raises(PreconditionFailed) as caught:
            expected.check(Row(other))
        assert caught.value.headers == {"ETag": etag(Row(other))}


@pytest.mark.parametrize("sent", ["*", ' "3" ', '"1", "3"', 'W/"3"'])
def test_forms_that_match(sent: str) -> None:
    Expected(sent).check(Row(3))


@pytest.mark.parametrize("sent", ['"33"', '"1", "2"', "3"])
def test_forms_that_do_not(sent: str) -> None:
    with pytest.raises(PreconditionFailed):
        Expected(sent).check(Row(3))


@pytest.mark.parametrize("copy", ['"3"', '"2", "3"', "*", 'W/"3"'])
def test_a_current_copy_is_not_sent_again(copy: str) -> None:
    answer = versioned(Response(), Row(3), "the body", copy)

    assert isinstance(answer, Response)
    assert answer.status_code == 304


@pytest.mark.parametrize("copy", [None, '"2"', ""])
def test_an_old_copy_is(copy: str | None) -> None:
    response = Response()

    assert versioned(response, Row(3), "the body", copy) == "the body"
    assert response.headers["etag"] == '"3"'
