"""The main story: a ticket is born at Acme, Globex works on it, and both see the same."""

from datetime import timedelta
from typing import Any

import pytest

from app.core import clock
from tests.support.desks import CLOSED, HEADER, Desk
from tests.support.stage import Pair, Stage

IN_PROGRESS, ACTION_REQUIRED, WITH_USER, ON_HOLD = 2, 3, 4, 5


def same(pair: Pair, source: int, target: int) -> bool:
    """Whether both sides hold the same."""
    return pair.source.fields(source) == pair.target.fields(target)


class TestBirth:
    async def test_a_ticket_appears_at_the_partner(self, stage: Stage) -> None:
        """Given two related desks, when somebody reports something at Acme, then Globex has it, with Globex's own
        client and type."""
        pair = await stage.pair()

        born = pair.source.new_ticket("Laptop battery swells", priority_id=2, status_id=IN_PROGRESS)
        twin = await stage.twin(pair, born)

        assert pair.target.tickets == [twin]
        assert pair.target.fields(twin) == {
            "summary": "Laptop battery swells",
            "details": "About: Laptop battery swells",
            "status_id": IN_PROGRESS,
            "priority_id": 2,
        }
        assert (pair.target.field(twin, "client_id"), pair.target.field(twin, "tickettype_id")) == (3, 1)
        assert pair.source.tickets == [born]

    async def test_a_closed_ticket_is_created_open_and_then_closed(self, stage: Stage) -> None:
        pair = await stage.pair()
        born = pair.source.new_ticket()
        pair.source.resolve(born)

        twin = await stage.twin(pair, born)

        assert pair.target.field(twin, "status_id") == CLOSED
        assert same(pair, born, twin)
        assert pair.target.said(twin) == ["Solved."]


class TestConversation:
    async def test_comments_cross_both_ways_with_author_and_date(self, stage: Stage) -> None:
        """Given a pair of tickets, when both sides write, then each reads the other's words under a line that says
        who wrote them and when, dated as they were written."""
        pair = await stage.pair()
        born, twin = await stage.twins(pair)
        written = clock.now() - timedelta(hours=3)

        pair.source.say(born, "We see <smoke> & fire.", datetime=written.isoformat())
        await stage.settled()
        pair.target.say(twin, "Use the extinguisher.", agent=5)
        await stage.settled()

        [carried] = [note for note in pair.target.notes(twin) if note.by_us]
        header = HEADER.match(carried.text)
        assert header is not None
        assert header["who"] == "Ada Brook (Acme)"
        assert header["said"] == "We see <smoke> & fire."
        assert abs(carried.values["datetime"] - written) < timedelta(seconds=2)
        [reply] = [note for note in pair.source.notes(born) if note.by_us]
        assert reply.text.startswith("Chloe Dunn (Globex) · ")
        assert reply.said == "Use the extinguisher."

    async def test_an_end_users_words_cross_too(self, stage: Stage) -> None:
        pair = await stage.pair()
        born, twin = await stage.twins(pair)
        reply = {"ticket_id": born, "outcome_id": 17, "note": "It is urgent.", "hiddenfromuser": False}
        user = next(iter(pair.source.world.users))

        pair.source.act("POST", "/Actions", [reply], user=user)
        await stage.settled()

        assert pair.target.said(twin) == ["It is urgent."]

    async def test_a_conversation_keeps_its_order(self, stage: Stage) -> None:
        pair = await stage.pair()
        born, twin = await stage.twins(pair)
        words = [f"line {number}" for number in range(12)]

        for line in words:
            pair.source.say(born, line)
        await stage.settled()

        assert pair.target.said(twin) == words

    async def test_private_notes_stay_at_home(self, stage: Stage) -> None:
        """Given private notes on both sides, when settings change and tickets are looked at again, then nobody at
        the other side can read them."""
        pair = await stage.pair()
        born, twin = await stage.twins(pair)
        pair.source.say(born, "acme's own secret", hidden=True)
        pair.target.say(twin, "globex's own secret", hidden=True)
        pair.source.say(born, "for everybody")
        await stage.settled()

        changes: list[dict[str, Any]] = [
            {"public_comments": False},
            {"public_comments": True, "reverse": True},
            {"fields": {}},
        ]
        for change in changes:
            await stage.reset(pair, **change)
            link = await stage.link(pair, born)
            await stage.api.post(f"/v1/ticket-links/{link['id']}/resync")
            pair.source.change(born, summary=f"Changed {len(change)} times")
            await stage.settled()

        assert not pair.target.holds("acme's own secret")
        assert not pair.source.holds("globex's own secret")
        assert pair.target.said(twin) == ["for everybody"]


class TestStatus:
    async def test_changes_travel_both_ways_and_a_many_to_one_map_never_flips_the_richer_side(
        self, stage: Stage
    ) -> None:
        """Given Acme's four open statuses that are two at Globex, when Acme moves between those that mean the same,
        then Acme keeps what it set."""
        many_to_one = [("1", "1"), ("2", "2"), ("3", "2"), ("4", "5"), ("5", "5"), ("9", "9")]
        pair = await stage.pair(status_map=[{"source": left, "target": right} for left, right in many_to_one])
        born, twin = await stage.twins(pair)

        for status, means in ((ACTION_REQUIRED, 2), (ON_HOLD, 5), (WITH_USER, 5), (IN_PROGRESS, 2)):
            pair.source.change(born, status_id=status)
            await stage.settled()
            await stage.poll()
            assert (pair.source.field(born, "status_id"), pair.target.field(twin, "status_id")) == (status, means)

        pair.target.change(twin, status_id=ON_HOLD)
        await stage.settled()
        assert pair.source.field(born, "status_id") == WITH_USER, "the first pair that names a value travels back"

    @pytest.mark.parametrize("closer", ["source", "target"])
    async def test_closing_and_reopening_cross(self, stage: Stage, closer: str) -> None:
        """Given a pair of tickets, when one side resolves them, then the other is resolved through its own
        resolution; when the other reopens, then both are open."""
        pair = await stage.pair()
        tickets = dict(zip(("source", "target"), await stage.twins(pair), strict=True))
        other = "target" if closer == "source" else "source"
        desks: dict[str, Desk] = {"source": pair.source, "target": pair.target}

        desks[closer].resolve(tickets[closer], "It was the fuse.")
        await stage.settled()

        assert [desks[one].field(tickets[one], "status_id") for one in desks] == [CLOSED, CLOSED]
        [closing] = [note for note in desks[other].notes(tickets[other], hidden=True) if note.by_us]
        assert closing.values["outcome_id"] == 12
        assert desks[other].said(tickets[other]) == ["It was the fuse."]

        desks[other].reopen(tickets[other], "It burns again.")
        await stage.settled()

        assert [desks[one].field(tickets[one], "status_id") for one in desks] == [IN_PROGRESS, IN_PROGRESS]
        assert desks[closer].said(tickets[closer]) == ["It was the fuse.", "It burns again."]


class TestEdits:
    @pytest.mark.parametrize("side", ["source", "target"])
    async def test_a_changed_summary_crosses(self, stage: Stage, side: str) -> None:
        pair = await stage.pair()
        born, twin = await stage.twins(pair)
        desk, ticket = (pair.source, born) if side == "source" else (pair.target, twin)

        desk.change(ticket, summary="  The printer AND the scanner  ", details="Both of them.")
        await stage.settled()

        assert same(pair, born, twin)
        assert pair.target.field(twin, "summary") == "The printer AND the scanner"

    async def test_when_both_sides_edit_the_policy_decides_and_the_loser_is_kept_for_people(self, stage: Stage) -> None:
        """Given a worker that is away, when both sides edit the same two fields, then the source's summary and the
        target's priority win, and what lost stands in the link's history."""
        pair = await stage.pair()
        born, twin = await stage.twins(pair)
        await stage.command(pair.path, "pause", {"reason": "both edit now"})
        pair.source.change(born, summary="Acme's words", priority_id=1)
        pair.target.change(twin, summary="Globex's words", priority_id=4)

        await stage.command(pair.path, "resume")
        await stage.settled()

        assert same(pair, born, twin)
        assert pair.target.field(twin, "summary") == "Acme's words"
        assert pair.source.field(born, "priority_id") == 4
        history = (await stage.link(pair, born))["changes"]
        lost = {one["detail"]["field"]: one["detail"] for one in history if one["operation"] == "conflict"}
        assert lost["summary"]["loser_value"] == "Globex's words"
        assert lost["summary"]["winner"] == "source"
        assert lost["priority"]["loser_value"] == "1"
        assert "target owns" in lost["priority"]["rule"]
