"""One latency for each change, from what the sandbox wrote down."""

import pytest

from benchmarks.matching import ApiCall, Edit, Latency, Sent, latencies


def read(side: str, began: float, seconds: float, *tickets: int) -> ApiCall:
    return ApiCall(side, "GET", "/Tickets" if tickets else "/Actions", began, seconds, frozenset(tickets))


def write(began: float, *pairs: tuple[int, str]) -> ApiCall:
    return ApiCall("target", "POST", "/Tickets", began, 0.5, writes=pairs)


def test_from_the_first_webhook_after_the_edit_to_the_arrival_of_its_own_write() -> None:
    edits = [Edit(1, "b", 10.0)]
    sent = [Sent(1, 9.0), Sent(2, 10.05), Sent(1, 10.2), Sent(1, 10.1)]
    calls = [write(10.15, (71, "a")), write(10.6, (70, "z"), (71, "b")), write(11.0, (71, "b"))]

    (found,) = latencies(edits, sent, calls)

    assert found.total == pytest.approx(0.5)
    assert found.remote == 0.0


def test_the_longer_side_of_the_last_look_is_the_remotes_own_time() -> None:
    calls = [
        read("source", 10.15, 9.0, 1),  # an earlier look at the same ticket
        read("source", 10.2, 0.02, 1, 2),
        read("source", 10.25, 0.03),  # its comments
        read("source", 10.3, 5.0, 3),  # somebody else's
        read("target", 10.2, 0.04, 71),
        read("target", 10.7, 5.0, 71),  # after the write
        write(10.6, (71, "b")),
    ]

    (found,) = latencies([Edit(1, "b", 10.0)], [Sent(1, 10.1)], calls)

    assert found.remote == pytest.approx(0.05)
    assert found.beyond_remote == pytest.approx(0.45)


def test_an_edit_that_did_not_arrive_or_was_not_announced_has_none() -> None:
    edits = [Edit(1, "never written", 10.0), Edit(2, "never announced", 10.0)]

    assert latencies(edits, [Sent(1, 10.1), Sent(2, 9.9)], [write(10.6, (72, "never announced"))]) == []


def test_a_write_that_travelled_back_does_not_count() -> None:
    back = ApiCall("source", "POST", "/Tickets", 10.3, 0.1, writes=((1, "b"),))

    assert latencies([Edit(1, "b", 10.0)], [Sent(1, 10.1)], [back]) == []


def test_never_less_than_nothing() -> None:
    assert Latency(0.1, 0.2).beyond_remote == 0.0
