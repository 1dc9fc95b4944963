"""The sender against a desk in memory: order, batches, refusals, retries."""

from datetime import timedelta

from sqlmodel import select

from app.connectors.canonical import ErrorClass
from app.core import clock
from app.outbox import service
from app.sync.models import LedgerEntry, LinkChange
from tests.outbox.rig import Rig, change, creation
from tests.support.memorydesk import Draft, Lost, MemoryDesk, deferred, refused
from tests.support.rows import add_link, read_link


class TestSend:
    async def test_a_write_is_done_and_recorded(self, rig: Rig) -> None:
        [key] = await rig.decided(rig.comment())

        assert await rig.drain() is True
        assert await rig.drain() is False

        row = await rig.row(key)
        [made] = rig.desk.comments
        assert (row.status, row.remote_id, row.open_tries, row.lease_token) == ("done", made.native_id, 0, None)
        assert row.finished_at is not None
        assert await rig.attempts(key) == ["written"]
        async with rig.database.transaction() as session:
            entries = (await session.exec(select(LedgerEntry))).all()
            changes = (await session.exec(select(LinkChange.operation))).all()
        assert {(one.side, one.native_id) for one in entries} == {
            ("target", made.native_id),
            ("source", row.snapshot["origin_comment_id"]),
        }
        assert list(changes) == ["commented"]

    async def test_only_connections_with_something_to_send_are_due(self, rig: Rig) -> None:
        assert await rig.sender().due() == []
        await rig.decided(rig.comment())
        assert await rig.sender().due() == [rig.pair.target_id]
        await rig.drain()
        assert await rig.sender().due() == []

    async def test_one_call_for_each_kind(self, rig: Rig) -> None:
        links = [await add_link(rig.database, rig.pair, state="new", target_ticket_id=None) for _ in range(3)]
        comments = [rig.comment(ordering_key=f"order {number}") for number in range(4)]
        creations = [creation(rig, link_id, number) for number, link_id in enumerate(links)]
        await rig.decided(comments[0], creations[0], comments[1], creations[1], *comments[2:], creations[2])

        await rig.drain()

        assert sorted(len(keys) for keys in rig.desk.sent()) == [3, 4]
        assert len(rig.desk.comments) == 4
        for link_id in links:
            link = await read_link(rig.database, link_id)
            assert link.state == "linked"
            assert link.target_ticket_id in rig.desk.tickets
            assert link.dirty_since is not None, "its comments have never been read"

    async def test_within_an_order_nothing_overtakes(self, rig: Rig) -> None:
        first, second = rig.comment(), rig.comment()
        closing = change(rig, "closing", {"status": "t3"}, before={"status": "t1"})
        last = rig.comment()
        keys = await rig.decided(first, second, closing, last)

        await rig.drain()

        assert [key for call in rig.desk.sent() for key in call] == keys
        assert [method for method, _ in rig.desk.calls] == ["comment", "change", "comment"]
        assert [one.text for one in rig.desk.comments] == [one.body["text"] for one in (first, second, last)]

    async def test_a_change_moves_the_shadow_to_what_was_read_back(self, rig: Rig) -> None:
        await rig.decided(change(rig, "c1", {"status": "t2", "summary": "new"}, before={}))

        await rig.drain()

        link = await read_link(rig.database, rig.link_id)
        assert link.shadow == {
            "status": {"target": "t2", "source": "cause of t2"},
            "summary": {"target": "new", "source": "cause of new"},
        }
        assert link.generation == 1
        assert link.target_updated_at is not None


class TestDeferred:
    async def test_stops_its_own_order_only(self, rig: Rig) -> None:
        stuck, behind, free = rig.comment(), rig.comment(), rig.comment(ordering_key="free")
        keys = await rig.decided(stuck, behind, free)
        rig.desk.fate = lambda draft: deferred(ErrorClass.UNAVAILABLE)(draft) if draft.key == stuck.key else None

        await rig.drain()

        # A connector stops at the first that waits; this desk would have taken the second. It counts as what it is.
        assert (await rig.row(stuck.key)).status == "pending"
        assert (await rig.row(free.key)).status == "done"
        assert await rig.attempts(stuck.key) == ["deferred"]
        rig.desk.fate = lambda draft: None
        await rig.drain(after=timedelta(minutes=10))
        await rig.drain(after=timedelta(minutes=20))
        assert await rig.statuses(keys) == ["done"] * 3
        assert sorted(one.text for one in rig.desk.comments) == sorted(
            one.body["text"] for one in (stuck, behind, free)
        ), "each exactly once"

    async def test_the_whole_call_lost_writes_nothing_twice(self, rig: Rig) -> None:
        """Two comments of one ticket travel in one call, both are saved, and the answer never comes."""
        first, second = rig.comment(), rig.comment()
        keys = await rig.decided(first, second)
        rig.desk.fate = lambda draft: Lost()
        await rig.drain()
        rig.desk.fate = lambda draft: None

        for minutes in range(1, 12):
            await rig.drain(after=timedelta(minutes=minutes))

        assert await rig.statuses(keys) == ["done", "done"]
        assert [one.text for one in rig.desk.comments] == [first.body["text"], second.body["text"]]

    async def test_a_lost_answer_behind_one_that_waits_is_still_in_doubt(self, rig: Rig) -> None:
        first, second = rig.comment(), rig.comment()
        keys = await rig.decided(first, second)
        rig.desk.fate = lambda draft: deferred(ErrorClass.UNAVAILABLE)(draft) if draft.key == first.key else Lost()
        await rig.drain()
        rig.desk.fate = lambda draft: None

        for minutes in range(1, 12):
            await rig.drain(after=timedelta(minutes=minutes))

        assert await rig.statuses(keys) == ["done", "done"]
        assert sorted(one.text for one in rig.desk.comments) == sorted([first.body["text"], second.body["text"]])

    async def test_tries_are_spread_and_counted(self, rig: Rig) -> None:
        [key] = await rig.decided(rig.comment())
        rig.desk.fate = deferred(ErrorClass.UNAVAILABLE)
        before = clock.now()

        await rig.drain()

        row = await rig.row(key)
        assert row.attempts == 1
        assert timedelta(seconds=2) < row.next_attempt_at - before < timedelta(seconds=8)
        assert row.open_tries == 0, "it was surely not done"
        assert not await rig.drain()

    async def test_after_the_last_try_a_person_is_needed(self, rig: Rig) -> None:
        [key] = await rig.decided(rig.comment())
        rig.desk.fate = deferred(ErrorClass.UNAVAILABLE)

        for hours in range(1, 24):
            await rig.drain(after=timedelta(hours=hours))
        assert (await rig.row(key)).status == "pending", "a desk that is down for a day says nothing about the write"
        await rig.drain(after=timedelta(hours=25))

        row = await rig.row(key)
        assert row.status == "dead"
        assert f"after {row.attempts} tries" in (row.error_detail or "")
        assert row.next_step
        assert len(rig.desk.sent()) == row.attempts
        assert (await rig.attempts(key))[-1] == "refused"

    async def test_what_the_desk_answers_uses_up_the_tries(self, rig: Rig) -> None:
        [key] = await rig.decided(rig.comment())
        rig.desk.fate = deferred(ErrorClass.PERMISSION)

        for hours in range(1, 6):
            await rig.drain(after=timedelta(hours=hours))

        row = await rig.row(key)
        assert (row.status, row.attempts) == ("dead", 3)
        assert "after 3 tries" in (row.error_detail or "")

    async def test_what_is_behind_a_dead_letter_goes_on(self, rig: Rig) -> None:
        first, second = rig.comment(), rig.comment()
        await rig.decided(first, second)
        rig.desk.fate = lambda draft: refused(draft) if draft.key == first.key else None

        await rig.drain()

        assert await rig.statuses([first.key, second.key]) == ["dead", "done"]


class TestRefused:
    async def test_is_a_dead_letter_with_a_next_step(self, rig: Rig) -> None:
        [key] = await rig.decided(rig.comment())
        rig.desk.fate = refused

        await rig.drain()

        row = await rig.row(key)
        assert (row.status, row.error_class, row.next_step) == (
            "dead",
            "workflow_blocked",
            "Allow the outcome, then replay it.",
        )
        assert row.lease_token is None
        assert await rig.attempts(key) == ["refused"]
        async with rig.database.transaction() as session:
            [told] = (await session.exec(select(LinkChange))).all()
        assert told.operation == "refused"
        assert told.detail["next_step"] == "Allow the outcome, then replay it."

    async def test_a_replay_looks_first(self, rig: Rig) -> None:
        """The refusal may have been the answer to a retry of something that was done."""
        [key] = await rig.decided(rig.comment())
        rig.desk.fate = lambda draft: (rig.desk._comment(draft), refused(draft))[1]  # type: ignore[arg-type]
        await rig.drain()
        rig.desk.fate = lambda draft: None
        async with rig.database.transaction() as session:
            await service.replay(session, rig.pair.tenant_id)

        await rig.drain()

        row = await rig.row(key)
        assert (row.status, len(rig.desk.comments)) == ("done", 1)
        assert await rig.attempts(key) == ["refused", "adopted"]

    async def test_a_refused_creation_fails_the_link_with_its_reason(self, rig: Rig) -> None:
        link_id = await add_link(rig.database, rig.pair, state="new", target_ticket_id=None)
        await rig.decided(creation(rig, link_id, 5))
        rig.desk.fate = refused

        await rig.drain()

        link = await read_link(rig.database, link_id)
        assert (link.state, link.reason) == ("failed", "not at this step")
        assert link.next_step
        assert link.target_ticket_id is None


def test_the_desk_in_memory_is_a_desk() -> None:
    """Or what these tests show would say nothing about a real one."""
    from app.connectors.ports import Connector
    from tests.support.memorydesk import MemoryConnector

    connector: Connector = MemoryConnector(MemoryDesk())
    draft: Draft | None = None
    assert connector.desk.pressure() == 0.0
    assert draft is None
