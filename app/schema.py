"""Bringing the database to the newest version, from a program."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import AsyncEngine

ROOT = Path(__file__).resolve().parent.parent


def alembic_config(database_url: str) -> Config:
    """Alembic's configuration for one database."""
    config = Config(str(ROOT / "alembic.ini"))
    config.attributes["database_url"] = database_url
    return config


class NotMigrated(Exception):
    """The database lacks migrations that this version needs; the message says what to do."""


async def check(engine: AsyncEngine) -> None:
    """Raise :class:`NotMigrated` when the database is older than this version needs.

    A newer one is fine: migrations keep what the version before them needs, so that pods can be replaced one by one.
    """
    script = ScriptDirectory.from_config(Config(str(ROOT / "alembic.ini")))
    async with engine.connect() as connection:
        at = await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())
    known = {step.revision for step in script.walk_revisions()}
    if at is None or (at in known and at != script.get_current_head()):
        state = "empty" if at is None else f"at version {at}"
        raise NotMigrated(f"The database is {state} and has to be migrated first. Run: parhelion migrate")


def upgrade(database_url: str) -> None:
    """Run every migration that the database lacks. Blocking; call it outside an event loop."""
    command.upgrade(alembic_config(database_url), "head")
