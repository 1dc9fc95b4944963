"""The one statement that readiness asks."""

from sqlmodel import literal, select

from app.core.db.session import Database


async def ping(database: Database) -> None:
    """Let Postgres answer the simplest statement. Raises what the driver raises."""
    async with database.transaction() as session:
        await session.exec(select(literal(1)))
