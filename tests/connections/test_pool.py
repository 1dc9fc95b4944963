"""Open connectors and webhook targets."""

import time
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI
from pydantic import BaseModel, SecretStr

from app.connections import pool as pool_module
from app.connections import service
from app.connections.errors import ConnectionBroken, ConnectionPaused, ConnectionUntested
from app.connections.pool import ConnectorPool
from app.connectors.canonical import Lane, Party
from app.core import clock
from app.core.config import generate_key
from app.core.crypto import Vault
from app.core.db.session import Database
from app.core.errors import NotFound
from tests.support.application import Api, Made, MakeApi, body, create_connection
from tests.support.testdesk import Remote, remote

pytestmark = pytest.mark.usefixtures("testdesk")


@pytest.fixture
def pool(application: FastAPI) -> ConnectorPool:
    found = application.state.connectors
    assert isinstance(found, ConnectorPool)
    return found


@pytest.fixture
def elsewhere(application: FastAPI) -> ConnectorPool:
    """The pool of another process: nothing of this one reaches it but the database."""
    state = application.state
    found = ConnectorPool(state.database, state.vault, state.budgets, state.settings)
    pool_module._pools.discard(found)  # it registered for this process's announcements, which another would not hear
    return found


async def active(api: Api, **changes: object) -> Made:
    made = await create_connection(api, **changes)
    assert body(await api.post(f"{made.path}/test"), 200)["state"] == "active"
    return made


def other(made: Made) -> Remote:
    return remote(made.json["config"]["base_url"])


class TestGet:
    async def test_a_connector_is_opened_once_and_kept(self, api: Api, pool: ConnectorPool) -> None:
        made = await active(api)

        await pool.get(made.uuid)
        await pool.get(made.uuid)

        assert len(other(made).opened) == 1

    async def test_calls_go_into_the_lane_that_was_asked_for(self, api: Api, pool: ConnectorPool) -> None:
        made = await active(api)
        other(made).lanes.clear()

        await (await pool.get(made.uuid, Lane.BULK)).desk.identity()
        await (await pool.get(made.uuid)).desk.identity()

        assert other(made).lanes == [Lane.BULK, Lane.INTERACTIVE]

    async def test_another_process_sees_new_credentials_at_once(self, api: Api, elsewhere: ConnectorPool) -> None:
        made = await active(api)
        await elsewhere.get(made.uuid)
        change = {"credentials": {"client_id": "app", "client_secret": "the-new-secret"}}
        body(await api.patch(made.path, json=change, headers={"If-Match": "*"}), 200)

        await elsewhere.get(made.uuid)

        assert other(made).opened[-1][0] == "the-new-secret"

    async def test_a_pause_keeps_the_open_connector(self, api: Api, pool: ConnectorPool) -> None:
        made = await active(api)
        await pool.get(made.uuid)

        body(await api.post(f"{made.path}/pause", json={"reason": "x"}, headers={"If-Match": "*"}), 200)
        with pytest.raises(ConnectionPaused, match="paused: x"):
            await pool.get(made.uuid)
        body(await api.post(f"{made.path}/resume", headers={"If-Match": "*"}), 200)
        await pool.get(made.uuid)

        assert len(other(made).opened) == 1

    async def test_closing_the_pool_closes_what_is_open(self, api: Api, elsewhere: ConnectorPool) -> None:
        made = await active(api)
        await elsewhere.get(made.uuid)

        await elsewhere.aclose()

        assert other(made).closed == 1

    async def test_states_that_may_not_be_used(self, api: Api, pool: ConnectorPool, database: Database) -> None:
        draft = await create_connection(api)
        broken = await active(api)
        archived = await active(api)
        async with database.transaction() as session:
            assert await service.mark_broken(session, broken.uuid, "Refused since this morning.")
        body(await api.post(f"{archived.path}/archive", headers={"If-Match": "*"}), 200)

        with pytest.raises(ConnectionUntested):
            await pool.get(draft.uuid)
        with pytest.raises(ConnectionBroken, match="Refused since this morning"):
            await pool.get(broken.uuid)
        with pytest.raises(ConnectionPaused, match="archived"):
            await pool.get(archived.uuid, whatever_state=True)
        with pytest.raises(NotFound):
            await pool.get(uuid4())
        await pool.get(draft.uuid, whatever_state=True)

    async def test_a_lost_key_is_told_without_the_value(self, api: Api, application: FastAPI) -> None:
        made = await active(api)
        state = application.state
        settings = state.settings.model_copy(update={})
        vault = Vault.from_settings(settings.model_validate({**_plain(settings), "secret_keys": generate_key("k2")}))
        pool = ConnectorPool(state.database, vault, state.budgets, settings)

        with pytest.raises(ConnectionBroken, match="cannot be decrypted") as caught:
            await pool.get(made.uuid)

        assert "client-secret" not in str(caught.value)
        target = await pool.hook_target(made.uuid)
        assert target is not None
        assert target.secrets == ()

    async def test_settings_that_no_longer_fit_are_told_without_the_values(
        self, api: Api, pool: ConnectorPool, database: Database
    ) -> None:
        made = await active(api)
        async with database.transaction() as session:
            row = await service.find_connection(session, api.tenant_id, made.uuid)
            row.config = {"base_url": "x", "removed_option": "canary-value"}
            row.settings_version += 1
            session.add(row)

        with pytest.raises(ConnectionBroken, match="do not fit") as caught:
            await pool.get(made.uuid)
        assert "canary-value" not in str(caught.value)

    async def test_connections_to_one_remote_share_a_budget_inside_a_tenant_only(
        self, api: Api, make_api: MakeApi
    ) -> None:
        config = {"base_url": "https://shared.test"}
        for caller in (api, api, await make_api()):
            await active(caller, config=config)

        first, second, stranger = (key for _, key in remote("https://shared.test").opened)
        assert first == second
        assert stranger != first


def _plain(settings: object) -> dict[str, object]:
    assert isinstance(settings, BaseModel)
    return {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in settings.model_dump().items()
    }


class TestHookTarget:
    async def test_what_the_hot_path_needs(self, api: Api, pool: ConnectorPool) -> None:
        made = await create_connection(api)

        target = await pool.hook_target(made.uuid)

        assert target is not None
        assert (target.connection_id, target.tenant_id, target.kind) == (made.uuid, api.tenant_id, "testdesk")
        assert target.secrets == (made.json["webhook_secret"],)
        assert made.json["webhook_secret"] not in repr(target)

    async def test_both_secrets_count_during_the_grace_and_one_after_it(
        self, api: Api, elsewhere: ConnectorPool
    ) -> None:
        made = await create_connection(api)
        wanted = {"purpose": "webhook", "grace_seconds": 60}
        rotated = body(await api.post(f"{made.path}/rotate-secret", json=wanted, headers={"If-Match": "*"}), 200)

        during = await elsewhere.hook_target(made.uuid)
        elsewhere.forget(made.uuid)
        with clock.shifted(timedelta(seconds=61)):
            after = await elsewhere.hook_target(made.uuid)

        assert during is not None
        assert after is not None
        assert during.secrets == (rotated["webhook_secret"], made.json["webhook_secret"])
        assert after.secrets == (rotated["webhook_secret"],)

    async def test_without_grace_the_old_one_ends_at_once_here(self, api: Api, pool: ConnectorPool) -> None:
        made = await create_connection(api)
        await pool.hook_target(made.uuid)
        wanted = {"purpose": "webhook", "grace_seconds": 0}

        rotated = body(await api.post(f"{made.path}/rotate-secret", json=wanted, headers={"If-Match": "*"}), 200)

        target = await pool.hook_target(made.uuid)
        assert target is not None
        assert target.secrets == (rotated["webhook_secret"],)

    async def test_a_shorter_grace_of_an_earlier_rotation_stays(self, api: Api, pool: ConnectorPool) -> None:
        made = await create_connection(api)
        for grace in (10, 3600):
            wanted = {"purpose": "webhook", "grace_seconds": grace}
            body(await api.post(f"{made.path}/rotate-secret", json=wanted, headers={"If-Match": "*"}), 200)

        with clock.shifted(timedelta(seconds=11)):
            target = await pool.hook_target(made.uuid)

        assert target is not None
        assert made.json["webhook_secret"] not in target.secrets
        assert len(target.secrets) == 2

    async def test_nobody_and_archived_have_none(self, api: Api, pool: ConnectorPool) -> None:
        made = await create_connection(api)
        assert await pool.hook_target(made.uuid) is not None

        body(await api.post(f"{made.path}/archive", headers={"If-Match": "*"}), 200)

        assert await pool.hook_target(made.uuid) is None
        assert await pool.hook_target(UUID(int=0)) is None

    async def test_a_paused_connection_still_takes_webhooks(self, api: Api, pool: ConnectorPool) -> None:
        made = await active(api)
        body(await api.post(f"{made.path}/pause", json={"reason": "x"}, headers={"If-Match": "*"}), 200)

        target = await pool.hook_target(made.uuid)

        assert target is not None
        assert target.state == "paused"

    async def test_a_scan_of_unknown_addresses_does_not_grow_memory(self, pool: ConnectorPool) -> None:
        kept = pool_module._MISSES_KEPT
        for number in range(kept + 20):
            pool_module._keep(pool._misses, UUID(int=number), 0.0, kept)

        assert len(pool._misses) == kept

    async def test_a_remembered_target_is_cheap(self, api: Api, pool: ConnectorPool) -> None:
        made = await create_connection(api)
        connection_id = made.uuid
        await pool.hook_target(connection_id)
        rounds = 20_000

        best = 1.0
        for _ in range(3):
            started = time.perf_counter()
            for _ in range(rounds):
                await pool.hook_target(connection_id)
            best = min(best, (time.perf_counter() - started) / rounds)

        # Measured 0.3 microseconds; the bound leaves room for a busy machine and still catches a query (500
        # and more).
        assert best < 20e-6


class TestMarks:
    async def test_mark_broken_touches_active_connections_only(self, api: Api, database: Database) -> None:
        made = await create_connection(api)

        async with database.transaction() as session:
            draft = await service.mark_broken(session, made.uuid, "Refused.")
            nobody = await service.mark_broken(session, uuid4(), "Refused.")

        assert (draft, nobody) == (False, False)
        assert body(await api.get(made.path), 200)["state"] == "draft"

    async def test_record_identity_writes_only_what_is_new(self, api: Api, database: Database) -> None:
        made = await create_connection(api)
        versions = []
        for _ in range(2):
            async with database.transaction() as session:
                await service.record_identity(session, made.uuid, Party("Agent", native_id="7"))
            versions.append(body(await api.get(made.path), 200)["version"])

        assert versions == [2, 2]
        assert body(await api.get(made.path), 200)["health"]["identity"] == {
            "name": "Agent",
            "native_id": "7",
        }
