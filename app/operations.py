"""What the operator's verbs do, without their words: small compositions of rooms."""

import json
import urllib.error
import urllib.request
from datetime import timedelta

from pydantic import SecretStr
from rich.console import Console
from rich.progress import Progress
from sqlalchemy.exc import SQLAlchemyError

from app import schema
from app.connections.secrets import reseal_all
from app.core import clock, ids
from app.core.config import Settings, generate_key
from app.core.crypto import Vault
from app.core.db.engine import create_engine
from app.core.db.session import Database
from app.sync.service import reseal_markers
from app.tenants import service as tenants
from app.worker import heartbeat

WORKER_SILENT = timedelta(seconds=30)


async def make_tenant(settings: Settings, name: str) -> tuple[str, str]:
    """A tenant and its first key: (public id, key text)."""
    await check_database(settings, needed=True)
    database = Database(create_engine(settings, application_name="parhelion init"))
    try:
        async with database.transaction() as session:
            tenant, key = await tenants.create_first_tenant(session, name)
        return ids.public("ten", tenant.id), key
    finally:
        await database.aclose()


async def check_database(settings: Settings, *, needed: bool) -> None:
    """Raise ``NotMigrated`` when the database lacks migrations. A database that does not answer stops a worker
    (``needed``), not the api: it says that it is not ready until the database is back."""
    engine = create_engine(settings, application_name="parhelion start", pooled=False)
    try:
        await schema.check(engine)
    except (SQLAlchemyError, OSError, TimeoutError):
        if needed:
            raise
    finally:
        await engine.dispose()


async def reseal(settings: Settings, people: Console) -> int:
    """Re-encrypt what is stored under older keys, with a progress bar. Returns how many were re-encrypted."""
    await check_database(settings, needed=True)
    database = Database(create_engine(settings, application_name="parhelion rotate-keys"))
    try:
        with Progress(console=people, transient=True) as bar:
            task = bar.add_task("re-encrypting", total=None)
            vault = Vault.from_settings(settings)
            _, changed = await reseal_all(database, vault, lambda done: bar.update(task, completed=done))
            return changed + await reseal_markers(database, vault)
    finally:
        await database.aclose()


async def worker_is_alive(settings: Settings) -> bool:
    """Whether the worker of this name went round in the last 30 s.

    A database that cannot be asked is no sign of a dead worker: restarting every worker would not bring it back.
    """
    database = Database(create_engine(settings, application_name="parhelion health"))
    try:
        async with database.transaction() as session:
            seen = await heartbeat.newest(session, settings.worker_name)
        return seen is not None and clock.now() - seen < WORKER_SILENT
    except (SQLAlchemyError, OSError):
        return True
    finally:
        await database.aclose()


def api_is_ready(url: str) -> bool:
    """Whether the api says that it can take requests."""
    try:
        with urllib.request.urlopen(f"{url}/health/ready", timeout=3) as answer:  # noqa: S310  the operator's own
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def openapi_document() -> str:
    """The contract as it is written to ``openapi/service.json``: sorted, so that a difference is a change."""
    from app.main import create_app

    settings = Settings(
        database_url=SecretStr("postgresql://nobody@localhost/none"),
        redis_url=SecretStr("redis://localhost"),
        secret_keys=SecretStr(generate_key()),
    )
    return json.dumps(create_app(settings).openapi(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
