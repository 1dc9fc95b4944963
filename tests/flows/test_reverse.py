"""Reverse sync: tickets that are born at the target go to the source, and ours never come back."""

import pytest

from tests.support.comparing import differences
from tests.support.stage import Stage


async def test_without_reverse_they_stay_at_home(stage: Stage) -> None:
    pair = await stage.pair()
    pair.target.new_ticket("globex only")
    await stage.settled()
    await stage.poll()
    assert pair.source.tickets == []
    assert await stage.links(pair) == []


@pytest.mark.parametrize("external_links", ["on", "not_kept", "forbidden"])
async def test_both_sides_originate_and_nothing_comes_back(stage: Stage, external_links: str) -> None:
    """Given reverse sync, when tickets are born at both sides at once and in bursts, then each stands once at each,
    whether or not HaloPSA keeps the links by which we know our own."""
    pair = await stage.pair(reverse=True, switches={"external_links": external_links})
    born = [f"acme {number}" for number in range(6)]
    born_at_target = [f"globex {number}" for number in range(6)]

    for left, right in zip(born, born_at_target, strict=True):
        pair.source.new_ticket(left)
        pair.target.new_ticket(right)
        pair.source.say(pair.source.titled(left)[0], f"about {left}")
        pair.target.say(pair.target.titled(right)[0], f"about {right}")
    await stage.settled()
    await stage.poll()
    await stage.poll()

    assert differences(pair.source, pair.target, born, born_at_target=born_at_target) == []
    for desk in pair.desks:
        for ticket in desk.tickets:
            assert len(desk.notes(ticket)) == 1


async def test_turned_on_later_it_takes_what_happens_from_then_on(stage: Stage) -> None:
    pair = await stage.pair()
    pair.target.new_ticket("before")
    await stage.settled()
    await stage.reset(pair, reverse=True)
    pair.target.new_ticket("after")
    await stage.settled()
    assert pair.source.titled("after")
