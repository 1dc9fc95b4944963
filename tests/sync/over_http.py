"""Relationships, links and syncs made for tests of the routes."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from app.core import clock, ids
from app.core.db.session import Database
from app.sync.models import SyncRun, TicketLink
from tests.support.application import Api, body, create_connection


@dataclass(frozen=True)
class MadeRelationship:
    json: dict[str, Any]
    etag: str

    @property
    def id(self) -> str:
        return str(self.json["id"])

    @property
    def path(self) -> str:
        return f"/v1/relationships/{self.id}"

    @property
    def uuid(self) -> UUID:
        return ids.parse("rel", self.id)


async def wanted(api: Api, **changes: Any) -> dict[str, Any]:
    source, target = await create_connection(api), await create_connection(api)
    return {
        "name": f"Between {source.id[-6:]} and {target.id[-6:]}",
        "source_connection_id": source.id,
        "target_connection_id": target.id,
        **changes,
    }


async def create(api: Api, **changes: Any) -> MadeRelationship:
    answer = await api.post("/v1/relationships", json=await wanted(api, **changes))
    return MadeRelationship(body(answer, 201), answer.headers["etag"])


async def add_link(database: Database, api: Api, made: MadeRelationship, **columns: Any) -> str:
    row = TicketLink(tenant_id=api.tenant_id, relationship_id=made.uuid, **columns)
    async with database.transaction() as session:
        session.add(row)
    return ids.public("tkl", row.id)


async def add_run(database: Database, api: Api, made: MadeRelationship, **columns: Any) -> str:
    row = SyncRun(tenant_id=api.tenant_id, relationship_id=made.uuid, since=clock.now(), **columns)
    async with database.transaction() as session:
        session.add(row)
    return ids.public("syn", row.id)
