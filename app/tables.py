"""Every table, imported: for Alembic and for tests."""

from sqlmodel import SQLModel

import app.auth.models
import app.connections.models
import app.core.db.idempotency
import app.inbox.models
import app.outbox.models
import app.sync.models
import app.tenants.models
import app.worker.heartbeat  # noqa: F401

metadata = SQLModel.metadata
