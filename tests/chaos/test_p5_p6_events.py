"""Promises 5 and 6: an event only says "look", and what we wrote never comes back as a change."""

import random
from typing import Any

import pytest

from tests.support.application import body
from tests.support.comparing import differences
from tests.support.desks import Desk
from tests.support.stage import Pair, Stage

BORN = [f"Case {number}" for number in range(6)]


def people_work(pair: Pair, seed: int, word: str) -> None:
    """A burst at both sides, seeded."""
    rng = random.Random(seed)
    for desk in pair.desks:
        for ticket in desk.tickets:
            for number in range(rng.choice((1, 2))):
                desk.say(ticket, f"{word} {number} at {desk.name}/{ticket}", hidden=rng.random() < 0.3)
    for ticket in pair.source.tickets:
        if rng.random() < 0.6:
            pair.source.change(ticket, status_id=rng.choice((2, 3, 4, 5)), details=f"retold {seed}")
    for ticket in pair.target.tickets:
        if rng.random() < 0.6:
            pair.target.change(ticket, priority_id=rng.choice((1, 2, 4)))


def send_everything_again(desk: Desk) -> None:
    """Every delivery that was ever made, once more, newest first."""
    for row in desk.world.deliveries.rows():
        desk.world.deliveries.resend(row["id"])


def writes(pair: Pair) -> list[int]:
    return [desk.writes() for desk in pair.desks]


@pytest.mark.parametrize("seed", range(3))
async def test_p5_lost_doubled_and_reordered_deliveries_change_nothing_in_the_end(stage: Stage, seed: int) -> None:
    """A third of all deliveries is lost, a third comes twice, a third too late: both sides still end up equal, without
    a single ticket or word twice."""
    pair = await stage.pair(reverse=True)
    for desk in pair.desks:
        desk.fail(
            {"webhook": "drop", "probability": 0.33, "seed": seed, "unlogged": True},
            {"webhook": "duplicate", "probability": 0.5, "seed": seed},
            {"webhook": "reorder", "probability": 0.5, "seed": seed},
        )
    for summary in BORN:
        pair.source.new_ticket(summary)
    await stage.settled()
    await stage.poll()
    for word in ("early", "late"):
        people_work(pair, seed, word)
        await stage.settled()
    await stage.poll()
    assert differences(pair.source, pair.target, BORN) == []


@pytest.mark.parametrize(
    "habits",
    [
        {},
        {"trim_text": False},
        {"uppercase_team": True, "clean_ids": True},
        {"action_dates": "ignored", "accept_who": False},
        {"keep_hidden_span": False, "external_links": "not_kept"},
        {"action_moves_last_update": False, "payload": "event_only"},
        {"alias_fields": "all", "date_style": "z", "resend_keeps_id": False},
    ],
    ids=lambda habits: ",".join(habits) or "usual",
)
async def test_p6_what_we_wrote_never_comes_back(stage: Stage, habits: dict[str, Any]) -> None:
    """After everything has crossed, polls, every delivery a second time and a whole sync make the hub look again at
    what it wrote itself: it writes nothing, whatever HaloPSA made of its texts."""
    pair = await stage.pair(switches=habits, reverse=True)
    for number, summary in enumerate(BORN):
        pair.source.new_ticket(summary, details=f"  line one \n\n  line {number}  ")
    await stage.settled()
    people_work(pair, 1, "word")
    pair.target.resolve(pair.target.tickets[0])
    await stage.settled()
    before = writes(pair)

    for _ in range(2):
        await stage.poll()
        for desk in pair.desks:
            send_everything_again(desk)
        await stage.settled()
    wanted = {"relationship_id": pair.relationship_id, "since": "2026-01-01T00:00:00Z"}
    body(await stage.api.post("/v1/syncs", json=wanted), 202)
    await stage.settled()

    assert writes(pair) == before
    assert differences(pair.source, pair.target, BORN) == []
