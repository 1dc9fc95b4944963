"""The safety net under the webhooks: a poll of each connection that finds what no event announced.

The watermark is the remote's own clock at the start of a poll, stored only after all its pages were taken in; the next
poll asks from before it (overlap), because a desk lists late and stamps whole seconds. What was seen already is told
by comparing values with the shadow and comments with the ledger, so the overlap costs reads and never a write.
"""

import random
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from app.connectors.canonical import Comment, DeskError, ErrorClass, Lane, Ticket, TicketField
from app.connectors.ports import TicketDesk
from app.core import clock, ids, telemetry
from app.core.crypto import Vault
from app.core.db.session import Database, ring_after_commit
from app.core.errors import AppError
from app.core.logging import get_logger
from app.outbox.send import Trouble
from app.sync import marker, repository
from app.sync.context import Connectors, marker_place
from app.sync.decide import to_carry
from app.sync.inbound import side_of
from app.sync.models import PollCursor, Relationship, SyncRun, TicketLink
from app.sync.repository import polls
from app.sync.settings import RelationshipSettings, Side, covers

log = get_logger(__name__)

RETRY_SECONDS = 30.0


class Reconciler:
    """Polls connections whose time has come, and runs the syncs that people asked for."""

    def __init__(
        self,
        database: Database,
        connectors: Connectors,
        vault: Vault,
        *,
        owner: UUID,
        lease_seconds: float,
        interval_seconds: float,
        overlap_seconds: float,
        on_trouble: Trouble,
    ) -> None:
        self._database = database
        self._connectors = connectors
        self._vault = vault
        self._owner = owner
        self._lease = timedelta(seconds=lease_seconds)
        self._interval_seconds = interval_seconds
        self._overlap = timedelta(seconds=overlap_seconds)
        self._on_trouble = on_trouble

    async def due(self) -> list[tuple[str, UUID]]:
        """Polls and runs whose time has come, as ("poll" | "run", row id)."""
        async with self._database.transaction() as session:
            await polls.finish_converged(session)
            cursors = [("poll", found) for found in await polls.due_cursors(session)]
            return cursors + [("run", found) for found in await polls.due_runs(session)]

    async def work(self, key: tuple[str, UUID]) -> bool:
        """Do one poll or one run."""
        kind, row_id = key
        await (self._poll(row_id) if kind == "poll" else self._run(row_id))
        return False

    async def _poll(self, cursor_id: UUID) -> None:
        token = ids.new_id()
        async with self._database.transaction() as session:
            cursor = await polls.claim(session, PollCursor, cursor_id, self._lease, token, self._owner)
        if cursor is None:
            return
        try:
            connector = await self._connectors.get(cursor.connection_id, Lane.BULK)
            started = await connector.desk.server_time()
            since = cursor.watermark - self._overlap
            mine = (cursor.id, token)
            await self._tickets(connector.desk, cursor.connection_id, since, lane="interactive", poll=mine)
            await self._comments(connector.desk, cursor.connection_id, since)
        except (DeskError, AppError) as error:
            await self._poll_failed(cursor, token, error)
            return
        async with self._database.transaction() as session:
            pace = await self._interval(session, cursor.connection_id)
            due = clock.now() + timedelta(seconds=pace * random.uniform(0.9, 1.1))
            await polls.advance(session, cursor_id, token, watermark=started, next_attempt_at=due)

    async def _interval(self, session: AsyncSession, connection_id: UUID) -> float:
        """The shortest interval that a relationship of the connection asks for."""
        wanted = [
            RelationshipSettings.model_validate(relationship.settings).poll_interval_seconds
            for relationship in await repository.relationships_of_connection(session, connection_id)
        ]
        return min([value for value in wanted if value is not None], default=self._interval_seconds)

    async def _poll_failed(self, cursor: PollCursor, token: UUID, error: DeskError | AppError) -> None:
        wait = RETRY_SECONDS
        if isinstance(error, DeskError) and error.retry_after_seconds is not None:
            wait = error.retry_after_seconds
        async with self._database.transaction() as session:
            due = clock.now() + timedelta(seconds=wait)
            await polls.advance(session, cursor.id, token, watermark=None, next_attempt_at=due, error=error.detail)
        log.warning("poll.failed", connection=str(cursor.connection_id), error=type(error).__name__)
        if isinstance(error, DeskError) and error.error is ErrorClass.AUTH:
            await self._on_trouble(cursor.connection_id, error)

    async def _tickets(
        self,
        desk: TicketDesk,
        connection_id: UUID,
        since: datetime,
        *,
        lane: str,
        run: SyncRun | None = None,
        poll: tuple[UUID, UUID] | None = None,
    ) -> int:
        """Take in every page of tickets changed since. Each page is its own transaction, and renews the lease of
        the ``run`` or ``poll`` (cursor id, lease token). Returns tickets read."""
        read = 0
        async for page in desk.changed_tickets(since):
            async with self._database.transaction() as session:
                for relationship in await repository.relationships_of_connection(session, connection_id):
                    if run is not None and relationship.id != run.relationship_id:
                        continue
                    found = await self._page(session, relationship, connection_id, page, lane=lane, run=run)
                    if found and run is None:
                        telemetry.SYNC_CHANGES.labels("poll").inc(found)
                        telemetry.DRIFT.inc(found)
                read += len(page)
                if run is not None:
                    await polls.note_read(session, run.id, len(page), self._lease)
                if poll is not None:
                    await polls.renew(session, *poll, self._lease)
                ring_after_commit(session, "sync")
        return read

    async def _page(
        self,
        session: AsyncSession,
        relationship: Relationship,
        connection_id: UUID,
        page: Sequence[Ticket],
        *,
        lane: str,
        run: SyncRun | None,
    ) -> int:
        side = side_of(relationship, connection_id)
        settings = RelationshipSettings.model_validate(relationship.settings)
        known = await repository.links_of_tickets(session, relationship.id, side, [ticket.native_id for ticket in page])
        links = {(link.source_ticket_id if side == "source" else link.target_ticket_id): link for link in known}
        sync_id = run.id if run is not None else None
        differing = [
            links[ticket.native_id].id
            for ticket in page
            if ticket.native_id in links and (run is not None or _differs(ticket, links[ticket.native_id], side))
        ]
        found = await repository.mark_dirty(session, differing, lane=lane, sync_id=sync_id)
        if side == "source" or settings.reverse:
            secret = self._vault.open(relationship.marker_secret, place=marker_place(relationship.id))
            unknown = [
                ticket.native_id
                for ticket in page
                if ticket.native_id not in links
                and not ticket.deleted
                and covers(settings, ticket.created_at, ticket.updated_at)
                and not any(marker.read(mark, secret) for mark in ticket.markers)
            ]
            found += await repository.add_candidates(session, relationship, side, unknown, lane=lane, sync_id=sync_id)
        return found

    async def _comments(self, desk: TicketDesk, connection_id: UUID, since: datetime) -> None:
        """Find public comments that were never carried, whether or not they moved their ticket's last update."""
        window = await desk.recent_comments(since)
        by_ticket: dict[str, list[Comment]] = {}
        for comment in to_carry(window.comments, ours=frozenset()):
            by_ticket.setdefault(comment.ticket_id, []).append(comment)
        async with self._database.transaction() as session:
            for relationship in await repository.relationships_of_connection(session, connection_id):
                await self._missed(session, relationship, connection_id, by_ticket)
            ring_after_commit(session, "sync")

    async def _missed(
        self,
        session: AsyncSession,
        relationship: Relationship,
        connection_id: UUID,
        by_ticket: dict[str, list[Comment]],
    ) -> None:
        side = side_of(relationship, connection_id)
        links = await repository.links_of_tickets(session, relationship.id, side, list(by_ticket))
        pairs = [
            (link, comment)
            for link in links
            if link.source_ticket_id is not None and link.target_ticket_id is not None
            for comment in by_ticket[(link.source_ticket_id if side == "source" else link.target_ticket_id) or ""]
        ]
        known = await repository.known_items(
            session, relationship.id, "comment", {(side, comment.native_id) for _, comment in pairs}
        )
        missed: dict[UUID, datetime] = {}
        for link, comment in pairs:
            if (side, comment.native_id) not in known:
                missed[link.id] = min(comment.created_at, missed.get(link.id, comment.created_at))
        found = await polls.mark_missed(session, side, missed)
        telemetry.SYNC_CHANGES.labels("poll").inc(found)

    async def _run(self, run_id: UUID) -> None:
        token = ids.new_id()
        async with self._database.transaction() as session:
            run = await polls.claim(session, SyncRun, run_id, self._lease, token, self._owner)
            relationship = await repository.load_relationship(session, run.relationship_id) if run else None
            if run is not None:
                await polls.start_run(session, run.id)
        if run is None or relationship is None:
            return
        settings = RelationshipSettings.model_validate(relationship.settings)
        connections = [relationship.source_connection_id]
        if settings.reverse:
            connections.append(relationship.target_connection_id)
        try:
            for connection_id in connections:
                connector = await self._connectors.get(connection_id, Lane.BULK)
                await self._tickets(connector.desk, connection_id, run.since, lane="bulk", run=run)
        except (DeskError, AppError) as error:
            await self._run_failed(run, token, error)
            return
        async with self._database.transaction() as session:
            await polls.finish_reading(session, run.id)

    async def _run_failed(self, run: SyncRun, token: UUID, error: DeskError | AppError) -> None:
        """A passing trouble is tried again from the start (taking in twice is harmless); a lasting one ends the run."""
        lasting = not isinstance(error, DeskError) or error.error in (
            ErrorClass.AUTH,
            ErrorClass.PERMISSION,
            ErrorClass.MISCONFIGURED,
        )
        wait = RETRY_SECONDS
        if isinstance(error, DeskError) and error.retry_after_seconds is not None:
            wait = error.retry_after_seconds
        async with self._database.transaction() as session:
            await polls.run_failed(
                session,
                run.id,
                lasting=lasting,
                error=error.detail,
                next_step=error.next_step or "Test the connection, then ask for the sync again.",
                next_attempt_at=clock.now() + timedelta(seconds=wait),
            )


def _differs(ticket: Ticket, link: TicketLink, side: Side) -> bool:
    """Whether a synced field of the ticket is not what the shadow holds for its side."""
    if link.source_ticket_id is None or link.target_ticket_id is None:
        # Its creation is under way, and the look after it reads everything; but what was refused is judged again when
        # it has changed since.
        seen = link.source_updated_at if side == "source" else link.target_updated_at
        return link.state == "ignored" and link.origin == side and ticket.updated_at != seen
    if ticket.deleted or ticket.merged_into:
        return link.state == "linked"
    return _any_differs(ticket, link, side) or link.state == "orphaned"


def _any_differs(ticket: Ticket, link: TicketLink, side: Side) -> bool:
    for name in _fields(ticket):
        held = ticket.values[name]
        refused = link.field_errors.get(name.value, {})
        if refused.get("side") == side and refused.get("value") == held:
            continue  # known to have no way across; looking again would change nothing
        if held != (link.shadow.get(name.value) or {}).get(side):
            return True
    return False


def _fields(ticket: Ticket) -> Iterable[TicketField]:
    return ticket.values.keys()
