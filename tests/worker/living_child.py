"""A worker process that holds work and never finishes it: what a test kills or pauses.

Arguments: the database's address, how many events to claim. Prints its owner id and waits for ever.
"""

import asyncio
import sys
from datetime import timedelta

from app.core import ids
from app.core.db import claims
from app.core.db.engine import create_engine
from app.core.db.session import Database
from app.inbox import repository
from tests.support.database import make_settings


async def main(database_url: str, limit: int) -> None:
    """Hold the liveness lock, claim, say so."""
    owner = ids.new_id()
    engine = create_engine(make_settings(database_url), application_name="a child that will be killed")
    async with engine.connect() as connection:
        await claims.hold_liveness(connection, owner)
        async with Database(engine).transaction() as session:
            claimed = await repository.claim(
                session, limit=limit, lease=timedelta(seconds=90), token=ids.new_id(), owner=owner
            )
        print(owner.hex, len(claimed), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
