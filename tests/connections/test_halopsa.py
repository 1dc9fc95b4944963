"""A connection to HaloPSA from first paste to a verified webhook, over real sockets."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from app.core.config import Settings
from app.sandbox.halopsa.server import create_sandbox
from app.sandbox.serving import serving
from tests.support.application import Api, Made, body, create_connection, problem


@pytest_asyncio.fixture
async def halo_url() -> AsyncIterator[str]:
    """A HaloPSA with the tenant ``acme``."""
    sandbox = create_sandbox()
    sandbox.add_tenant("acme")
    async with serving(sandbox.app) as url:
        yield f"{url}/acme"


async def connect(api: Api, halo_url: str, secret: str = "acme-app-secret") -> Made:
    return await create_connection(
        api,
        kind="halopsa",
        name="Acme",
        config={"base_url": halo_url, "tenant": "acme"},
        credentials={"client_id": "acme-app", "client_secret": secret},
    )


async def test_from_draft_to_active_to_webhooks(api: Api, halo_url: str) -> None:
    made = await connect(api, halo_url)
    assert made.json["verifier"]["kind"] == "hmac_sha256"

    tested = body(await api.post(f"{made.path}/test"), 200)
    assert (tested["overall"], tested["state"]) == ("ok", "active"), tested
    assert tested["identity"]["native_id"]

    registered = body(await api.post(f"{made.path}/webhooks"), 200)
    again = body(await api.post(f"{made.path}/webhooks"), 200)
    assert registered["active"] is True
    assert again["remote_id"] == registered["remote_id"]
    assert body(await api.get(f"{made.path}/webhooks"), 200)["problems"] == []

    lists = body(await api.get(f"{made.path}/picklists"), 200)
    assert {"9"} <= {choice["native_id"] for choice in lists["statuses"]}
    assert body(await api.delete(f"{made.path}/webhooks"), 200) == {"removed": 1}


async def test_a_wrong_secret_is_told_and_does_not_show(api: Api, halo_url: str) -> None:
    made = await connect(api, halo_url, secret="canary-wrong-secret")

    answer = await api.post(f"{made.path}/test")

    tested = body(answer, 200)
    assert (tested["overall"], tested["state"]) == ("failed", "draft")
    failed = [check for check in tested["checks"] if check["verdict"] == "failed"]
    assert failed
    assert all(check["advice"] for check in failed)
    assert "canary" not in answer.text
    refused = await api.get(f"{made.path}/picklists")
    assert problem(refused, 502, "remote_failed")["next_step"]
    assert "canary" not in refused.text


async def test_nobody_there_is_could_not_ask_and_not_a_refusal(api: Api, settings: Settings) -> None:
    made = await connect(api, "http://127.0.0.1:1")

    tested = body(await api.post(f"{made.path}/test"), 200)

    assert tested["state"] == "draft"
    assert {check["verdict"] for check in tested["checks"][1:]} == {"unknown"}


@pytest.mark.parametrize("bad", ["", "ftp://acme.test", "not an address at all"])
async def test_an_address_that_is_none_is_pointed_at(api: Api, bad: str) -> None:
    answer = await api.post(
        "/v1/connections",
        json={
            "kind": "halopsa",
            "name": "Acme",
            "config": {"base_url": bad},
            "credentials": {"client_id": "a", "client_secret": "b"},
        },
    )

    assert problem(answer, 422, "invalid_input")["errors"][0]["pointer"] == "/config/base_url"
