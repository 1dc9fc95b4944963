"""What went wrong once and must not again."""

import asyncio

import pytest

from app.connectors.halopsa import ticket_writes
from tests.support.comparing import differences
from tests.support.desks import CLOSED, TIMES_OUT, Desk, post_fault
from tests.support.stage import Stage
from tests.support.waiting import wait_until


async def test_two_comments_of_one_call_that_timed_out_are_not_written_twice(stage: Stage) -> None:
    pair = await stage.pair()
    born, twin = await stage.twins(pair)
    pair.source.say(born, "zero")  # the first comment of a process goes alone, to learn about markers
    await stage.settled()
    pair.target.fail(post_fault("/Actions", TIMES_OUT, times=2))

    pair.source.say(born, "one")
    pair.source.say(born, "two")
    await stage.settled()

    assert pair.target.said(twin) == ["zero", "one", "two"]


@pytest.mark.parametrize("saved", [0, 1, 2])
async def test_a_batch_that_was_saved_in_part_is_completed(stage: Stage, saved: int) -> None:
    pair = await stage.pair(target_switches={"batch_atomic": False})
    born, twin = await stage.twins(pair)
    pair.source.say(born, "zero")
    await stage.settled()
    pair.target.fail(post_fault("/Actions", {"partial_batch": saved}))

    for word in ("one", "two", "three"):
        pair.source.say(born, word)
    await stage.settled()

    assert pair.target.said(twin) == ["zero", "one", "two", "three"]


async def test_a_person_who_reopens_in_the_instant_of_our_closing_is_not_overruled(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between our closing write and our reading of it somebody at Globex opens the ticket again: that is the newer
    word, and it must travel back instead of being taken for ours."""
    pair = await stage.pair()
    born, twin = await stage.twins(pair)
    real = ticket_writes._read_back
    opened: list[int] = []

    async def meanwhile(*arguments: object) -> None:
        if not opened and pair.target.field(twin, "status_id") == CLOSED:
            opened.append(twin)
            pair.target.reopen(twin, "No, it still burns.")
        await real(*arguments)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(ticket_writes, "_read_back", meanwhile)
    pair.source.resolve(born)
    await stage.settled()

    assert opened == [twin]
    assert pair.source.field(born, "status_id") == pair.target.field(twin, "status_id") != CLOSED


async def test_a_storm_of_refusals_for_too_many_calls_ends_in_step(stage: Stage) -> None:
    """HaloPSA answers 429 now and then, to reads and to writes: nothing is given up, nothing is doubled."""
    pair = await stage.pair()
    old, _ = await stage.twins(pair, "old")
    refused = {"status": 429, "body": {"error": "Rate Limit Reached"}, "headers": {"Retry-After": "1"}}
    for desk in pair.desks:
        desk.fail(
            *(
                {"match": {"method": method, "nth": nth}, "effect": refused}
                for method in ("GET", "POST")
                for nth in (1, 3)
            )
        )

    for number in range(5):
        pair.source.new_ticket(f"ticket {number}")
        pair.source.say(old, f"word {number}")
    await stage.settled(45)

    assert differences(pair.source, pair.target, ["old", *(f"ticket {number}" for number in range(5))]) == []
    assert await stage.dead_letters() == []


async def test_polls_and_deliveries_that_meet_the_same_tickets_lose_nothing(stage: Stage) -> None:
    """They once locked each other's rows in opposite orders, and what PostgreSQL ended was gone."""
    pair = await stage.pair(reverse=True, target_switches={"delivery_workers": 16})
    born = [f"ticket {number}" for number in range(15)]
    for summary in born:
        pair.source.new_ticket(summary)
    await stage.settled()
    polls = asyncio.create_task(_poll_all_the_time(stage))
    try:
        for number in range(6):
            for ticket in reversed(pair.source.tickets):
                pair.source.change(ticket, priority_id=1 + number % 4)
            for ticket in pair.target.tickets:
                pair.target.say(ticket, f"word {number}")
            await _writes_more(pair.source)
    finally:
        polls.cancel()
        await asyncio.gather(polls, return_exceptions=True)
    await stage.settled()
    assert differences(pair.source, pair.target, born) == []


async def _writes_more(desk: Desk) -> None:
    """Until the hub is at work there."""
    before = desk.writes()
    await wait_until(lambda: desk.writes() > before, 20)


async def _poll_all_the_time(stage: Stage) -> None:
    while True:
        await stage.request_poll()
        await wait_until(lambda: _no_poll_is_due(stage), 20)


async def _no_poll_is_due(stage: Stage) -> bool:
    return await stage.polls_due() == 0
