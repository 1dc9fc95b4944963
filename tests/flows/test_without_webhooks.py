"""Webhooks that are lost: the poll finds what nobody told."""

from datetime import datetime, timedelta

import pytest

from app.core import clock, telemetry
from tests.support.application import body
from tests.support.comparing import differences
from tests.support.stage import Stage
from tests.support.waiting import wait_until


def found_by_poll() -> float:
    """How many changes the poll was first to see, so far, in this process."""
    return float(telemetry.SYNC_CHANGES.labels("poll")._value.get())


def drift() -> float:
    return float(telemetry.DRIFT._value.get())


class TestPoll:
    async def test_it_finds_tickets_changes_and_comments_of_both_sides(self, stage: Stage) -> None:
        """Given deliveries that are all lost, when a poll comes, then everything has crossed, and the counters say
        that the webhooks failed."""
        pair = await stage.pair(reverse=True)
        old, twin = await stage.twins(pair, "old")
        for desk in pair.desks:
            desk.no_webhooks()
        polled, drifted = found_by_poll(), drift()

        pair.source.new_ticket("born at acme")
        pair.target.new_ticket("born at globex")
        pair.source.change(old, summary="renamed", details="and retold")
        pair.target.change(twin, priority_id=1)
        pair.source.say(old, "from acme")
        pair.target.say(twin, "from globex")
        await stage.poll()
        await stage.poll()

        wanted = ["renamed", "born at acme"]
        assert differences(pair.source, pair.target, wanted, born_at_target=["born at globex"]) == []
        assert found_by_poll() >= polled + 4
        assert drift() > drifted

    @pytest.mark.parametrize("window_by", ["datetime", "created"])
    async def test_it_finds_a_comment_that_moves_no_ticket(self, stage: Stage, window_by: str) -> None:
        pair = await stage.pair(switches={"action_moves_last_update": False, "actions_window_by": window_by})
        born, twin = await stage.twins(pair)
        for desk in pair.desks:
            desk.no_webhooks()

        pair.source.say(born, "unheard")
        pair.target.say(twin, "answered")
        await stage.poll()

        assert [note.said for note in pair.target.notes(twin) if note.by_us] == ["unheard"]
        assert [note.said for note in pair.source.notes(born) if note.by_us] == ["answered"]

    async def test_a_relationship_sets_its_own_pace(self, stage: Stage) -> None:
        pair = await stage.pair(webhooks=False, poll_interval_seconds=2)
        born = pair.source.new_ticket("found in its own time")
        await wait_until(lambda: bool(pair.target.tickets), 10)
        assert pair.target.titled("found in its own time")
        assert born in pair.source.tickets

    async def test_a_second_poll_writes_nothing(self, stage: Stage) -> None:
        pair = await stage.pair(webhooks=False)
        for number in range(3):
            pair.source.new_ticket(f"ticket {number}")
        await stage.poll()
        writes = [desk.writes() for desk in pair.desks]
        for _ in range(3):
            await stage.poll()
        assert [desk.writes() for desk in pair.desks] == writes

    async def test_a_poll_that_fails_reads_the_same_again(self, stage: Stage) -> None:
        """HaloPSA is away for one poll: nothing that happened meanwhile is skipped by the next."""
        pair = await stage.pair(webhooks=False)
        pair.source.new_ticket("while away")
        pair.source.fail({"match": {"method": "GET", "path": "/Tickets"}, "times": 3, "effect": {"status": 502}})
        await stage.request_poll()
        [told] = await wait_until(stage.poll_errors)
        assert "502" in told
        pair.source.calm()
        await stage.poll()
        assert len(pair.target.titled("while away")) == 1


class TestStartDate:
    async def test_what_was_left_out_once_is_taken_when_it_changes(self, stage: Stage) -> None:
        """The first poll looks a little further back than the start, sees an old ticket and leaves it out. That is
        no judgement for ever."""
        source, target = stage.desk("acme"), stage.desk("globex")
        with clock.shifted(timedelta(seconds=-30)):
            old = source.new_ticket("a little older")
        pair = await stage.joined(source, target)
        await stage.poll()
        assert target.tickets == []

        source.change(old, priority_id=1)
        await stage.settled()
        await stage.poll()
        assert len(target.titled("a little older")) == 1
        assert [link["state"] for link in await stage.links(pair)] == ["linked"]

    async def test_what_was_there_before_stays_out_until_it_changes_or_is_asked_for(self, stage: Stage) -> None:
        """Given tickets older than the relationship, when nothing happens they stay at home; one that changes is
        taken; a sync since an earlier date takes the rest and tells how far it is."""
        source, target = stage.desk("acme"), stage.desk("globex")
        with clock.shifted(timedelta(days=-40)):
            touched, untouched = source.new_ticket("touched"), source.new_ticket("untouched")
            source.say(untouched, "words of old")
        ids = [await stage.connect(desk) for desk in (source, target)]
        relationship = await stage.relate(*ids)
        await stage.poll()
        assert target.tickets == []

        source.change(touched, priority_id=1)
        await stage.settled()
        await stage.poll()
        assert [target.field(one, "summary") for one in target.tickets] == ["touched"]

        since: datetime = clock.now() - timedelta(days=60)
        wanted = {"relationship_id": relationship, "since": clock.rfc3339(since)}
        run = body(await stage.api.post("/v1/syncs", json=wanted), 202)
        assert run["state"] in ("queued", "reading")
        await stage.settled()

        done = body(await stage.api.get(f"/v1/syncs/{run['id']}"), 200)
        assert (done["state"], done["read"], done["done"], done["total"]) == ("done", 2, 2, 2)
        assert done["eta_seconds"] == 0
        assert differences(source, target, ["touched", "untouched"]) == []
