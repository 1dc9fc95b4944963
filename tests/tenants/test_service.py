"""Making tenants."""

import pytest

from app.auth.schemas import Scope
from app.auth.service import Authenticator
from app.core.db.session import Database
from app.core.errors import Invalid
from app.tenants import repository, service


async def test_the_first_tenant_comes_with_a_key_that_may_do_everything(database: Database) -> None:
    async with database.transaction() as session:
        tenant, key = await service.create_first_tenant(session, "  Northwind MSP ")

    principal = await Authenticator(database).principal(key)

    assert tenant.name == "Northwind MSP"
    assert principal.tenant_id == tenant.id
    assert principal.scopes == frozenset(Scope)


@pytest.mark.parametrize("name", ["", "   ", "x" * 201])
async def test_a_name_has_1_to_200_characters(database: Database, name: str) -> None:
    with pytest.raises(Invalid, match="1 to 200"):
        async with database.transaction() as session:
            await service.create_tenant(session, name)


async def test_tenants_are_found_and_listed_in_order(database: Database) -> None:
    async with database.transaction() as session:
        first = await service.create_tenant(session, "First")
        second = await service.create_tenant(session, "Second")

    async with database.transaction() as session:
        assert [tenant.id for tenant in await repository.every(session)] == [first.id, second.id]
        found = await repository.find(session, second.id)
    assert found is not None
    assert found.name == "Second"
