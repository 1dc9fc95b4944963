"""Unknown outcomes, refused credentials, lost leases: nothing is written twice and nothing is lost."""

from datetime import timedelta
from uuid import UUID

import pytest
from sqlmodel import select

from app.connections.errors import ConnectionPaused
from app.connectors.canonical import DeskError, ErrorClass, TicketField
from app.core import clock, ids
from app.outbox import repository
from app.outbox.send import BUDGET_RETRY_SECONDS
from app.sync.models import LedgerEntry
from tests.outbox.rig import LAG, RECOVERY_SECONDS, Rig, change, creation
from tests.support.memorydesk import Lost, deferred
from tests.support.rows import LEASE, add_link, read_link
from tests.sync.values import ticket


class TestDoubt:
    async def lose(self, rig: Rig, *, done: bool) -> str:
        [key] = await rig.decided(rig.comment())
        rig.desk.fate = (lambda _: Lost()) if done else deferred(ErrorClass.TIMEOUT, perhaps_done=True)
        await rig.drain()
        rig.desk.fate = lambda _: None
        row = await rig.row(key)
        assert (row.status, row.open_tries) == ("pending", 1)
        assert await rig.attempts(key) == ["unknown"]
        return key

    async def test_found_it_is_adopted(self, rig: Rig) -> None:
        key = await self.lose(rig, done=True)

        await rig.drain(after=timedelta(seconds=RECOVERY_SECONDS + 1))

        row = await rig.row(key)
        assert (row.status, row.remote_id) == ("done", rig.desk.comments[0].native_id)
        assert len(rig.desk.comments) == 1
        assert await rig.attempts(key) == ["unknown", "adopted"]

    async def test_it_is_looked_for_soon(self, rig: Rig) -> None:
        key = await self.lose(rig, done=True)

        wait = (await rig.row(key)).next_attempt_at - clock.now()

        assert wait <= timedelta(seconds=RECOVERY_SECONDS)

    async def test_not_found_it_waits_for_the_lag_and_is_then_sent_once(self, rig: Rig) -> None:
        key = await self.lose(rig, done=False)

        await rig.drain(after=timedelta(seconds=10))
        assert rig.desk.sent() == [[key]], "too early to be sure"
        assert (await rig.row(key)).next_attempt_at > clock.now() + timedelta(seconds=100)
        await rig.drain(after=LAG + timedelta(seconds=1))

        assert rig.desk.sent() == [[key], [key]]
        assert len(rig.desk.comments) == 1
        assert (await rig.row(key)).status == "done"

    async def test_a_desk_that_lists_late_makes_no_duplicate(self, rig: Rig) -> None:
        key = await self.lose(rig, done=True)
        rig.desk.lists_late = True
        await rig.drain(after=timedelta(seconds=10))
        rig.desk.lists_late = False

        await rig.drain(after=LAG + timedelta(seconds=1))

        assert len(rig.desk.comments) == 1
        assert (await rig.row(key)).status == "done"

    async def test_a_desk_that_cannot_be_asked_concludes_nothing(self, rig: Rig) -> None:
        key = await self.lose(rig, done=True)
        rig.desk.unreachable = DeskError(ErrorClass.UNAVAILABLE, "the desk is down")
        await rig.drain(after=LAG + timedelta(minutes=1))
        rig.desk.unreachable = None
        row = await rig.row(key)
        assert (row.status, row.open_tries > 0) == ("pending", True)

        await rig.drain(after=LAG + timedelta(hours=1))

        assert len(rig.desk.comments) == 1
        assert (await rig.row(key)).status == "done"

    async def test_after_a_crash_the_next_worker_looks_first(self, rig: Rig) -> None:
        """The first worker wrote and died before it recorded; its lease ends."""
        [key] = await rig.decided(rig.comment())

        class Died(BaseException):
            """What a SIGKILL looks like from inside."""

        def die() -> None:
            raise Died

        rig.desk.before_answer = die
        with pytest.raises(Died):
            await rig.drain()
        rig.desk.before_answer = None

        await rig.drain(after=LEASE + timedelta(seconds=1))

        assert len(rig.desk.comments) == 1
        row = await rig.row(key)
        assert (row.status, await rig.attempts(key)) == ("done", ["adopted"])

    async def test_many_in_doubt_are_looked_for_in_one_call(self, rig: Rig) -> None:
        commands = [rig.comment(ordering_key=f"order {number}") for number in range(30)]
        keys = await rig.decided(*commands)
        rig.desk.fate = lambda _: Lost()
        await rig.drain()
        rig.desk.fate = lambda _: None

        await rig.drain(after=timedelta(seconds=RECOVERY_SECONDS + 1))

        assert await rig.statuses(keys) == ["done"] * 30
        assert len(rig.desk.looked()) == 1
        assert len(rig.desk.comments) == 30

    async def test_a_change_that_was_done_is_adopted(self, rig: Rig) -> None:
        await rig.decided(change(rig, "c1", {"status": "t2"}, before={"status": "t1"}))
        rig.desk.fate = lambda _: Lost()
        await rig.drain()
        rig.desk.fate = lambda _: None

        await rig.drain(after=timedelta(seconds=RECOVERY_SECONDS + 1))

        assert (await rig.row("c1")).status == "done"
        assert len(rig.desk.sent()) == 1
        link = await read_link(rig.database, rig.link_id)
        assert link.shadow["status"] == {"target": "t2", "source": "cause of t2"}

    async def test_a_change_that_a_person_overwrote_counts_as_done(self, rig: Rig) -> None:
        """Writing it again would undo what the person did after it."""
        await rig.decided(change(rig, "c1", {"status": "t2"}, before={"status": "t1"}))
        rig.desk.fate = lambda _: Lost()
        await rig.drain()
        rig.desk.fate = lambda _: None
        rig.desk.tickets["9001"] = ticket("9001", status="t9")

        await rig.drain(after=timedelta(seconds=RECOVERY_SECONDS + 1))

        assert rig.desk.tickets["9001"].values[TicketField.STATUS] == "t9"
        assert len(rig.desk.sent()) == 1
        link = await read_link(rig.database, rig.link_id)
        assert link.shadow["status"]["target"] == "t2", "so the person's value is seen as a change"

    async def test_an_adopted_creation_keeps_the_base_of_its_intent(self, rig: Rig) -> None:
        link_id = await add_link(rig.database, rig.pair, state="new", target_ticket_id=None)
        await rig.decided(creation(rig, link_id, 5))
        rig.desk.fate = lambda _: Lost()
        await rig.drain()
        rig.desk.fate = lambda _: None
        [made] = [one for one in rig.desk.tickets.values() if one.markers]
        rig.desk.tickets[made.native_id] = ticket(made.native_id, summary="edited", markers=made.markers)

        await rig.drain(after=timedelta(seconds=RECOVERY_SECONDS + 1))

        link = await read_link(rig.database, link_id)
        assert (link.state, link.target_ticket_id) == ("linked", made.native_id)
        assert link.shadow["summary"] == {"source": "Ticket 5", "target": "Ticket 5"}
        assert len([one for one in rig.desk.tickets.values() if one.markers]) == 1


class TestTrouble:
    async def test_refused_credentials_pause_the_connection_and_burn_no_attempt(self, rig: Rig) -> None:
        keys = await rig.decided(*(rig.comment(ordering_key=f"order {n % 2}") for n in range(4)))
        rig.desk.fate = deferred(ErrorClass.AUTH)

        await rig.drain()
        await rig.drain()

        assert [error.error for error in rig.troubles] == [ErrorClass.AUTH]
        for key in keys:
            row = await rig.row(key)
            assert (row.status, row.attempts, row.open_tries, row.lease_token) == ("pending", 0, 0, None)
        rig.connectors.failure = None
        rig.desk.fate = lambda _: None
        await rig.drain(after=timedelta(hours=1))
        assert await rig.statuses(keys) == ["done"] * 4

    async def test_credentials_refused_while_looking_pause_it_too(self, rig: Rig) -> None:
        [key] = await rig.decided(rig.comment())
        rig.desk.fate = lambda _: Lost()
        await rig.drain()
        rig.desk.unreachable = DeskError(ErrorClass.AUTH, "the secret was refused")

        await rig.drain(after=timedelta(minutes=1))

        assert [error.error for error in rig.troubles] == [ErrorClass.AUTH]
        row = await rig.row(key)
        assert (row.status, row.attempts) == ("pending", 1)
        assert row.open_tries > 0, "still in doubt"

    async def test_a_paused_connections_writes_wait(self, rig: Rig) -> None:
        [key] = await rig.decided(rig.comment())
        rig.connectors.failure = ConnectionPaused("'Desk' is paused.")

        assert await rig.drain() is True
        assert await rig.drain() is False

        row = await rig.row(key)
        assert (row.status, row.attempts, row.open_tries, row.error_detail) == (
            "pending",
            0,
            0,
            "'Desk' is paused.",
        )
        assert rig.desk.calls == []

    @pytest.mark.parametrize("raised", [True, False], ids=["before the call", "as an answer"])
    async def test_an_empty_budget_burns_no_attempt_and_waits_as_told(self, rig: Rig, raised: bool) -> None:
        [key] = await rig.decided(rig.comment())
        if raised:
            rig.desk.unreachable = DeskError(ErrorClass.RATE, "no calls left", retry_after_seconds=40)
        else:
            rig.desk.fate = deferred(ErrorClass.RATE, retry_after_seconds=40)

        before = clock.now()
        await rig.drain()
        assert (await rig.row(key)).next_attempt_at - before >= timedelta(seconds=min(40, BUDGET_RETRY_SECONDS))
        for minutes in range(1, 10):
            await rig.drain(after=timedelta(minutes=minutes))

        row = await rig.row(key)
        assert (row.status, row.attempts) == ("pending", 0)
        rig.desk.unreachable = None
        rig.desk.fate = lambda _: None
        await rig.drain(after=timedelta(hours=2))
        assert (await rig.row(key)).status == "done"

    async def test_a_read_only_wrong_answer_is_not_the_writes_fault(self, rig: Rig) -> None:
        [key] = await rig.decided(rig.comment())
        rig.desk.fate = deferred(ErrorClass.MISCONFIGURED)

        for hours in range(1, 8):
            await rig.drain(after=timedelta(hours=hours))

        row = await rig.row(key)
        assert (row.status, row.attempts) == ("pending", 0)


class TestLostLease:
    async def test_records_nothing(self, rig: Rig) -> None:
        """While the first worker waits for the answer its lease ends and another takes the write over."""
        [key] = await rig.decided(rig.comment())
        taken: list[UUID] = []

        async def take_over() -> None:
            with clock.shifted(LEASE + timedelta(seconds=1)):
                async with rig.database.transaction() as session:
                    claimed = await repository.claim(
                        session,
                        rig.pair.target_id,
                        limit=9,
                        lease=LEASE,
                        token=ids.new_id(),
                        owner=ids.new_id(),
                    )
                    taken.extend(one.id for one in claimed)

        rig.desk.before_answer = take_over
        await rig.drain()

        row = await rig.row(key)
        assert taken == [row.id]
        assert (row.status, row.open_tries) == ("pending", 2)
        assert row.lease_token is not None
        assert await rig.attempts(key) == []
        async with rig.database.transaction() as session:
            assert (await session.exec(select(LedgerEntry))).all() == []
        rig.desk.before_answer = None
        await rig.drain(after=2 * LEASE + timedelta(seconds=2))
        assert len(rig.desk.comments) == 1, "the one that took over looks first"
        assert (await rig.row(key)).status == "done"
