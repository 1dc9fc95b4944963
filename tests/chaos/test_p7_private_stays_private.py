"""Promise 7: a private comment never becomes public, in any configuration, on any path."""

from itertools import product
from typing import Any

import pytest

from tests.support.desks import Desk
from tests.support.stage import Pair, Stage

OUTCOMES = (7, 10, 11, 12, 13, 14, 15, 17)
# What HaloPSA may say of a note's visibility once it is stored; only a plain False is public.
STORED: tuple[Any, ...] = (True, False, None, "true", "false", "maybe", 1, 0, "")
PUBLIC = (False, 0, "false")


def write(desk: Desk, ticket: int, outcome: int, hidden: bool | None, words: str) -> None:
    note: dict[str, Any] = {"ticket_id": ticket, "outcome_id": outcome, "note": words}
    if hidden is not None:
        note["hiddenfromuser"] = hidden
    desk.act("POST", "/Actions", [note])


def hidden_at(desk: Desk, ticket: int) -> set[str]:
    """What the organisation itself keeps from the end user, or does not plainly show."""
    return {note.text for note in desk.notes(ticket, hidden=None) if note.values["hiddenfromuser"] not in PUBLIC}


def leaked(pair: Pair, tickets: tuple[int, int]) -> list[str]:
    found = []
    for home, away, ticket in ((pair.source, pair.target, tickets[0]), (pair.target, pair.source, tickets[1])):
        found += [words for words in hidden_at(home, ticket) if words.startswith("w") and away.holds(words)]
    return found


@pytest.mark.parametrize("reverse", [True, False])
async def test_p7_no_flag_and_no_outcome_publishes_a_private_note(stage: Stage, reverse: bool) -> None:
    """Every outcome with every flag, said and unsaid, at both sides, with the settings changed in between."""
    pair = await stage.pair(reverse=reverse)
    tickets = await stage.twins(pair)
    for number, (outcome, hidden) in enumerate(product(OUTCOMES, (True, False, None))):
        for desk, ticket in zip(pair.desks, tickets, strict=True):
            write(desk, ticket, outcome, hidden, f"w{number:03}-{desk.name}")
    await stage.settled()
    for change in ({"public_comments": False}, {"public_comments": True}, {"preserve_dates": False}):
        await stage.reset(pair, **change)
        pair.source.change(tickets[0], summary=f"changed {change}")
        await stage.settled()
    await stage.poll()

    assert leaked(pair, tickets) == []
    for home, away, here, there in ((*pair.desks, *tickets), (*pair.desks[::-1], *tickets[::-1])):
        shown = {note.text for note in home.notes(here) if not note.by_us}
        assert {note.said for note in away.notes(there) if note.by_us} == shown, "what is public does cross"


@pytest.mark.parametrize("webhooks", [True, False])
async def test_p7_what_cannot_be_told_for_sure_is_private(stage: Stage, webhooks: bool) -> None:
    """HaloPSA versions write the flag in odd ways; whatever is not plainly "shown" stays at home."""
    pair = await stage.pair(webhooks=webhooks)
    born = pair.source.new_ticket()
    await stage.poll()
    twin = await stage.twin(pair, born)
    for number, stored in enumerate(STORED):
        action = pair.source.say(born, f"w{number:03}-odd", hidden=True)
        pair.source.world.tickets.by_id[born].actions[action].values["hiddenfromuser"] = stored
    await stage.settled()
    await stage.poll()

    assert leaked(pair, (born, twin)) == []
    assert "w001-odd" in pair.target.said(twin)


async def test_p7_a_public_note_that_is_hidden_before_we_look_stays_at_home(stage: Stage) -> None:
    pair = await stage.pair()
    born, _ = await stage.twins(pair)
    await stage.command(pair.path, "pause", {"reason": "look later"})
    action = pair.source.say(born, "w-said too early")
    pair.source.act("POST", "/Actions", [{"id": action, "ticket_id": born, "hiddenfromuser": True}])
    await stage.command(pair.path, "resume")
    await stage.settled()
    assert not pair.target.holds("w-said too early")


async def test_p7_a_private_note_of_ours_does_not_travel_on(stage: Stage) -> None:
    """Three desks in a row: what the middle one keeps private reaches neither neighbour; our closing note, which is
    private by our own decision, stays where it was written."""
    first = await stage.pair()
    third = stage.desk("initech")
    third_id = await stage.connect(third)
    await stage.relate(first.target_id, third_id)
    born, middle = await stage.twins(first)
    await stage.settled()
    first.target.say(middle, "w-private in the middle", hidden=True)
    first.source.resolve(born, "public end")
    await stage.settled()
    closing = [note.text for note in first.target.notes(middle, hidden=True) if note.by_us]
    assert closing
    for desk in (first.source, third):
        assert not desk.holds("w-private in the middle")
        assert not any(note.text in closing for one in desk.tickets for note in desk.notes(one))
