"""The sender against a desk in memory: order, doubt, refusals, trouble that is not the write's fault."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlmodel import col, select

from app.connections.errors import ConnectionPaused
from app.connectors.canonical import DeskError, ErrorClass, TicketField
from app.core import clock, ids
from app.core.backoff import RetryPolicy
from app.core.db.session import Database
from app.outbox import repository
from app.outbox.models import OutboundAttempt, OutboundCommand
from app.outbox.repository import NewCommand
from app.outbox.send import Sender
from app.sync.models import LedgerEntry, LinkChange
from tests.support.memorydesk import Draft, Lost, MemoryDesk, OneDesk, deferred, refused
from tests.support.rows import LEASE, Pair, add_link, add_pair, command_for, read_command, read_link
from tests.sync.values import ticket

LAG = timedelta(seconds=120)
RECOVERY_SECONDS = 5.0


@dataclass
class Rig:
    """A sender, its remote, and the rows it works on."""

    database: Database
    desk: MemoryDesk
    connectors: OneDesk
    pair: Pair
    link_id: UUID
    troubles: list[DeskError] = field(default_factory=list)

    def sender(self, **changes: Any) -> Sender:
        values: dict[str, Any] = {
            "owner": ids.new_id(),
            "lease_seconds": LEASE.total_seconds(),
            "batch_size": 200,
            "policy": RetryPolicy(5, 1800, 3),
            "visibility_lag_seconds": LAG.total_seconds(),
            "recovery_after_seconds": RECOVERY_SECONDS,
            "on_trouble": self.trouble,
            **changes,
        }
        return Sender(self.database, self.connectors, **values)

    async def trouble(self, connection_id: UUID, error: DeskError) -> None:
        assert connection_id == self.pair.target_id
        self.troubles.append(error)
        self.connectors.failure = ConnectionPaused("'Desk' is paused.")

    async def decided(self, *commands: NewCommand) -> list[str]:
        async with self.database.transaction() as session:
            await repository.enqueue(session, commands)
        return [command.key for command in commands]

    def comment(self, **changes: Any) -> NewCommand:
        return command_for(self.pair, self.link_id, **changes)

    async def drain(self, *, after: timedelta = timedelta(), sender: Sender | None = None) -> bool:
        """One drain of the target connection, some time later."""
        with clock.shifted(after):
            return await (sender or self.sender()).drain(self.pair.target_id)

    async def row(self, key: str) -> OutboundCommand:
        return await read_command(self.database, key)

    async def attempts(self, key: str) -> list[str]:
        row = await self.row(key)
        async with self.database.transaction() as session:
            found = await session.exec(
                select(OutboundAttempt.outcome)
                .where(col(OutboundAttempt.command_id) == row.id)
                .order_by(col(OutboundAttempt.id))
            )
            return list(found.all())

    async def statuses(self, keys: Sequence[str]) -> list[str]:
        return [(await self.row(key)).status for key in keys]


@pytest.fixture
async def rig(database: Database) -> Rig:
    pair = await add_pair(database)
    desk = MemoryDesk()
    link_id = await add_link(database, pair, source_ticket_id="1", target_ticket_id="9001")
    desk.tickets["9001"] = ticket("9001", status="t1", summary="old")
    return Rig(database, desk, OneDesk(desk), pair, link_id)


def change(rig: Rig, key: str, values: dict[str, str], *, before: dict[str, str]) -> NewCommand:
    return rig.comment(
        kind="ticket.change",
        key=key,
        body={
            "marker": f"marker of {key}",
            "ticket_id": "9001",
            "values": values,
            "closes": False,
            "reopens": False,
            "resolution": None,
            "resolution_note": "",
            "context": {},
        },
        snapshot={
            "side": "target",
            "relationship_id": str(rig.pair.relationship_id),
            "before": before,
            "cause": {name: f"cause of {value}" for name, value in values.items()},
        },
    )


def creation(rig: Rig, link_id: UUID, number: int) -> NewCommand:
    return command_for(
        rig.pair,
        link_id,
        kind="ticket.create",
        body={"marker": f"ticket marker {number}", "values": {"summary": f"Ticket {number}"}, "defaults": {}},
        snapshot={
            "relationship_id": str(rig.pair.relationship_id),
            "origin": "source",
            "origin_ticket_id": f"{number}",
            "values": {"summary": f"Ticket {number}"},
        },
    )


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

        for hours in range(1, 6):
            await rig.drain(after=timedelta(hours=hours))

        row = await rig.row(key)
        assert (row.status, row.attempts) == ("dead", 3)
        assert "after 3 tries" in (row.error_detail or "")
        assert row.next_step
        assert len(rig.desk.sent()) == 3
        assert (await rig.attempts(key))[-1] == "refused"

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
            await repository.replay(session, rig.pair.tenant_id)

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

        for minutes in range(10):
            await rig.drain(after=timedelta(minutes=minutes))

        row = await rig.row(key)
        assert (row.status, row.attempts) == ("pending", 0)
        assert row.next_attempt_at - clock.now() >= timedelta(minutes=9, seconds=30)
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


def test_the_desk_in_memory_is_a_desk() -> None:
    """Or what these tests show would say nothing about a real one."""
    from app.connectors.ports import Connector
    from tests.support.memorydesk import MemoryConnector

    connector: Connector = MemoryConnector(MemoryDesk())
    draft: Draft | None = None
    assert connector.desk.pressure() == 0.0
    assert draft is None
