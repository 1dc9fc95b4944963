"""Secrets: kept sealed, shown once, sealed again under a new key, and in no place where they do not
belong."""

import base64
import io
import logging
from collections.abc import Iterator
from datetime import timedelta

import pytest
import structlog
from fastapi import FastAPI
from sqlalchemy import text
from sqlmodel import select

from app.connections import secrets
from app.connections.models import ConnectionSecret
from app.connections.secrets import Purpose
from app.connectors.canonical import DeskError, ErrorClass
from app.core import clock
from app.core import logging as app_logging
from app.core.config import generate_key, parse_keys
from app.core.crypto import UndecipherableError, Vault
from app.core.db.base import metadata
from app.core.db.session import Database
from app.core.http.signing import HmacVerifier, StandardVerifier
from tests.support.application import Api, body, create_connection
from tests.support.testdesk import remote

pytestmark = pytest.mark.usefixtures("testdesk")


async def dump(database: Database) -> str:
    """Every row of every table as text."""
    lines = []
    async with database.transaction() as session:
        connection = await session.connection()
        for table in metadata.sorted_tables:
            for (line,) in await connection.execute(text(f'SELECT t::text FROM "{table.name}" t')):  # noqa: S608  # our own names
                lines.append(f"{table.name} {line}")
    return "\n".join(lines)


@pytest.fixture
def log_lines(application: FastAPI) -> Iterator[io.StringIO]:
    """Everything that is logged, as an operator would see it, at the finest level."""
    configured = structlog.get_config()
    app_logging.configure(application.state.settings.model_copy(update={"log_level": "DEBUG"}))
    stream = io.StringIO()
    [handler] = logging.getLogger().handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(stream)
    yield stream
    logging.getLogger().handlers.clear()
    structlog.configure(**configured)


def test_generated_secrets_have_256_bits_in_the_verifiers_form() -> None:
    plain = secrets.generate_webhook_secret(HmacVerifier(header="x-signature"))
    standard = secrets.generate_webhook_secret(StandardVerifier())

    assert len(base64.urlsafe_b64decode(plain + "=")) == 32
    assert len(base64.b64decode(standard.removeprefix("whsec_"))) == 32


class TestCanaries:
    async def test_no_secret_shows_in_answers_logs_or_tables(
        self, api: Api, database: Database, log_lines: io.StringIO
    ) -> None:
        credential, webhook = "canary-credential-91c7", "canary-webhook-5d02"
        made = await create_connection(
            api,
            credentials={"client_id": "app", "client_secret": credential},
            webhook_secret=webhook,
        )
        other = remote(made.json["config"]["base_url"])
        new = {"client_id": "app", "client_secret": credential + "-2"}
        match = {"If-Match": "*"}
        key = {"Idempotency-Key": "canary-test"}
        answers = [
            await api.get(made.path),
            await api.get("/v1/connections"),
            await api.post(f"{made.path}/test"),
            await api.post(f"{made.path}/webhooks"),
            await api.get(f"{made.path}/webhooks"),
            await api.patch(made.path, json={"credentials": {**new, "surplus": 1}}, headers=match),
            await api.patch(made.path, json={"credentials": {"client_secret": 5}}, headers=match),
            await api.patch(made.path, json={"credentials": new}, headers=match),
            await api.post(
                f"{made.path}/rotate-secret",
                json={"purpose": "webhook", "webhook_secret": webhook + "-2"},
                headers={**match, **key},
            ),
            await api.get(f"{made.path}?secret={webhook}"),
        ]
        other.failure = DeskError(ErrorClass.AUTH, "The client secret was refused.")
        answers.append(await api.get(f"{made.path}/picklists"))
        answers.append(await api.post(f"{made.path}/archive", headers=match))

        # The one place that repeats a canary is the pointer that names a query parameter, and it names no
        # value.
        for answer in answers:
            assert "canary-" not in answer.text
            assert "canary-" not in str(answer.headers)
        assert "request.answered" in log_lines.getvalue()
        assert "canary-" not in log_lines.getvalue().replace("canary-test", "")
        assert "canary-credential" not in await dump(database)
        assert "canary-webhook" not in await dump(database)

    async def test_secrets_made_here_do_not_stay_readable_either(
        self, api: Api, database: Database, log_lines: io.StringIO
    ) -> None:
        made = await create_connection(api)
        key = body(
            await api.post(
                "/v1/api-keys",
                json={"name": "k", "scopes": ["keys:read"]},
                headers={"Idempotency-Key": "made-here"},
            ),
            201,
        )["key"]

        rows = await dump(database)

        assert "idempotency_record" in rows
        for secret in (made.json["webhook_secret"], key, api.key):
            assert secret not in rows
            assert secret not in log_lines.getvalue()

    async def test_archiving_removes_the_secrets(self, api: Api, database: Database) -> None:
        made = await create_connection(api)

        body(await api.post(f"{made.path}/archive", headers={"If-Match": "*"}), 200)

        async with database.transaction() as session:
            assert (await session.exec(select(ConnectionSecret))).all() == []

    async def test_a_sealed_secret_moved_to_another_row_does_not_open(
        self, api: Api, database: Database, application: FastAPI
    ) -> None:
        await create_connection(api)
        async with database.transaction() as session:
            first, second = (await session.exec(select(ConnectionSecret).limit(2))).all()
            vault: Vault = application.state.vault

            with pytest.raises(UndecipherableError):
                vault.open(first.sealed, place=second.place)


class TestRotation:
    async def test_secrets_whose_grace_is_over_are_removed_by_the_next_rotation(
        self, api: Api, database: Database
    ) -> None:
        made = await create_connection(api)
        wanted = {"purpose": "webhook", "grace_seconds": 30}
        for later in (0, 60, 120):
            with clock.shifted(timedelta(seconds=later)):
                answer = await api.post(f"{made.path}/rotate-secret", json=wanted, headers={"If-Match": "*"})
                body(answer, 200)

        async with database.transaction() as session:
            kept = (await session.exec(select(ConnectionSecret))).all()
        assert len([row for row in kept if row.purpose == Purpose.WEBHOOK]) == 2

    async def test_replaced_credentials_are_gone(self, api: Api, database: Database) -> None:
        made = await create_connection(api)
        change = {"credentials": {"client_id": "app", "client_secret": "the-new-secret"}}

        body(await api.patch(made.path, json=change, headers={"If-Match": "*"}), 200)

        async with database.transaction() as session:
            kept = (await session.exec(select(ConnectionSecret))).all()
        assert [row.purpose for row in kept].count(Purpose.CREDENTIALS) == 1


class TestReseal:
    async def test_everything_opens_with_the_new_key_alone(
        self, api: Api, database: Database, application: FastAPI, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(secrets, "_RESEAL_BATCH", 3)
        made = [await create_connection(api) for _ in range(4)]
        old = application.state.settings.secret_keys.get_secret_value()
        new = generate_key("k2")
        both, only_new = Vault(parse_keys(f"{new},{old}")), Vault(parse_keys(new))
        seen: list[int] = []

        counts = await secrets.reseal_all(database, both, seen.append)
        again = await secrets.reseal_all(database, both)

        assert counts == (8, 8)
        assert again == (8, 0)
        assert seen == [3, 6, 8]
        async with database.transaction() as session:
            for one in made:
                found = await secrets.active(session, only_new, one.uuid, Purpose.WEBHOOK)
                assert found == (one.json["webhook_secret"],)
