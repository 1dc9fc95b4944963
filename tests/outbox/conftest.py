"""What tests of the outbox share."""

import pytest

from app.core.db.session import Database
from tests.outbox.rig import Rig
from tests.support.memorydesk import MemoryDesk, OneDesk
from tests.support.rows import add_link, add_pair
from tests.sync.values import ticket


@pytest.fixture
async def rig(database: Database) -> Rig:
    pair = await add_pair(database)
    desk = MemoryDesk()
    link_id = await add_link(database, pair, source_ticket_id="1", target_ticket_id="9001")
    desk.tickets["9001"] = ticket("9001", status="t1", summary="old")
    origin = MemoryDesk()
    return Rig(database, desk, origin, OneDesk(desk, others={pair.source_id: origin}), pair, link_id)


@pytest.fixture(autouse=True)
def _known_kind(testdesk: str) -> str:
    """The pairs' connections are of the kind ``testdesk``: replaying reads its settings."""
    return testdesk
