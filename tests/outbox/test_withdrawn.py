"""What waited long is asked about again just before it is sent: a comment hidden meanwhile must not be published."""

from dataclasses import replace
from datetime import timedelta

import pytest

from app.connections.errors import ConnectionPaused
from app.connectors.canonical import DeskError, ErrorClass, Visibility
from tests.outbox.rig import Rig
from tests.support.memorydesk import deferred

SOON = timedelta(minutes=10)


class TestHidden:
    @pytest.mark.parametrize("how", ["hidden", "deleted"])
    async def test_is_not_published_after_an_outage(self, rig: Rig, how: str) -> None:
        """It was: the desk had been away when the comment was made private, and got it in the morning."""
        [key] = await rig.decided(rig.comment())
        rig.desk.fate = deferred(ErrorClass.UNAVAILABLE)
        await rig.drain()
        rig.desk.fate = lambda _: None
        [public] = rig.origin.comments
        rig.origin.comments = [replace(public, visibility=Visibility.PRIVATE)] if how == "hidden" else []

        await rig.drain(after=SOON)

        row = await rig.row(key)
        assert (row.status, rig.desk.comments) == ("dead", [])
        assert "hidden or deleted" in (row.error_detail or "")
        assert row.next_step

    async def test_is_asked_about_when_it_only_waited(self, rig: Rig) -> None:
        [key] = await rig.decided(rig.comment())
        [public] = rig.origin.comments
        rig.origin.comments = [replace(public, visibility=Visibility.PRIVATE)]

        await rig.drain(after=SOON)

        assert (await rig.row(key)).status == "dead"
        assert rig.desk.sent() == []

    async def test_the_others_of_the_ticket_go_on(self, rig: Rig) -> None:
        hidden, public = rig.comment(), rig.comment()
        keys = await rig.decided(hidden, public)
        rig.origin.comments[0] = replace(rig.origin.comments[0], visibility=Visibility.PRIVATE)

        await rig.drain(after=SOON)
        await rig.drain(after=SOON)

        assert await rig.statuses(keys) == ["dead", "done"]
        assert [one.text for one in rig.desk.comments] == [public.body["text"]]


class TestPublic:
    async def test_is_sent_when_it_still_is(self, rig: Rig) -> None:
        [key] = await rig.decided(rig.comment())

        await rig.drain(after=SOON)

        assert (await rig.row(key)).status == "done"

    async def test_costs_nothing_when_it_is_fresh(self, rig: Rig) -> None:
        await rig.decided(rig.comment())

        rig.desk.fate = deferred(ErrorClass.UNAVAILABLE)
        await rig.drain()
        rig.desk.fate = lambda _: None
        await rig.drain(after=timedelta(minutes=1))

        assert rig.origin.calls == []
        assert len(rig.desk.comments) == 1


class TestUnknown:
    @pytest.mark.parametrize("failure", [DeskError(ErrorClass.UNAVAILABLE, "no route"), ConnectionPaused("paused")])
    async def test_waits_when_its_desk_cannot_be_asked(self, rig: Rig, failure: Exception) -> None:
        first, second = rig.comment(), rig.comment()
        keys = await rig.decided(first, second)
        rig.connectors.broken = {rig.pair.source_id: failure}

        await rig.drain(after=SOON)

        assert await rig.statuses(keys) == ["pending", "pending"]
        assert "could not be asked" in ((await rig.row(first.key)).error_detail or "")
        assert rig.desk.sent() == []
        rig.connectors.broken = {}
        await rig.drain(after=2 * SOON)
        await rig.drain(after=3 * SOON)
        assert [one.text for one in rig.desk.comments] == [first.body["text"], second.body["text"]]
