"""The life of a connection, as decisions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.connections import states
from app.connections.states import State
from app.connectors.canonical import Check, Verdict

checks = st.lists(
    st.builds(Check, st.sampled_from(["address", "token", "webhooks"]), st.sampled_from(Verdict), st.just("detail"))
)


@pytest.mark.parametrize("before", State)
@pytest.mark.parametrize("after", State)
def test_the_table_of_moves(before: State, after: State) -> None:
    legal = {
        ("draft", "active"), ("draft", "archived"),
        ("active", "paused"), ("active", "broken"), ("active", "archived"),
        ("paused", "active"), ("paused", "broken"), ("paused", "draft"), ("paused", "archived"),
        ("broken", "active"), ("broken", "paused"), ("broken", "archived"),
    }  # fmt: skip
    assert states.may_move(before, after) == ((before, after) in legal)


@given(state=st.sampled_from(State), found=checks)
def test_a_test_only_makes_legal_moves(state: State, found: list[Check]) -> None:
    after = states.after_check(state, states.overall(found))

    assert after is state or states.may_move(state, after)


@given(found=checks)
def test_could_not_ask_is_not_a_failure(found: list[Check]) -> None:
    unknown = [Check(one.name, Verdict.UNKNOWN, one.detail) for one in found]

    assert states.overall(unknown) is Verdict.UNKNOWN
    for state in State:
        assert states.after_check(state, Verdict.UNKNOWN) is state


def test_a_missing_webhook_does_not_keep_a_connection_from_working() -> None:
    found = [Check("token", Verdict.OK, "fine"), Check("webhooks", Verdict.FAILED, "no scope")]

    assert states.overall(found) is Verdict.OK


@pytest.mark.parametrize("state", [State.PAUSED, State.ARCHIVED])
@pytest.mark.parametrize("verdict", Verdict)
def test_a_test_never_ends_what_a_person_decided(state: State, verdict: Verdict) -> None:
    assert states.after_check(state, verdict) is state


@pytest.mark.parametrize(
    ("health", "state"),
    [({"overall": "ok"}, State.ACTIVE), ({"overall": "failed"}, State.BROKEN), ({}, State.DRAFT)],
)
def test_a_pause_ends_by_what_was_last_known(health: dict[str, str], state: State) -> None:
    assert states.resumed(health) is state
