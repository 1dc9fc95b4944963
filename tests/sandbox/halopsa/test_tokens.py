"""Tokens: the form, where the tenant's name may stand, expiry, revocation, scopes."""

from datetime import timedelta

import pytest

from app.core import clock
from app.sandbox.halopsa.seed import ApplicationSeed, Seed
from app.sandbox.halopsa.tokens import is_allowed
from tests.sandbox.halopsa.calling import Tenant


@pytest.mark.parametrize("where", [{"tenant": "acme"}, {"tenant": ""}, {}])
async def test_a_token_is_given_wherever_the_tenant_is_named(acme: Tenant, where: dict[str, str]) -> None:
    answer = await acme.token(**where)
    assert answer.status_code == 200
    token = answer.json()
    assert token["token_type"] == "Bearer"
    assert token["expires_in"] == acme.world.switches.token_lifetime_seconds
    probe = await acme.client.get(
        f"{acme.base_url}/api/Agent/me", headers={"Authorization": f"Bearer {token['access_token']}"}
    )
    assert probe.json()["isapiagent"] is True


async def test_a_wrong_secret_is_invalid_client(acme: Tenant) -> None:
    answer = await acme.token(secret="wrong")
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    answer = await acme.token(app="nobody", secret="")
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


async def test_a_json_body_and_another_grant_are_refused(acme: Tenant) -> None:
    url = f"{acme.base_url}/auth/token"
    assert (await acme.client.post(url, json={"grant_type": "client_credentials"})).status_code == 400
    answer = await acme.client.post(url, data={"grant_type": "password"})
    assert answer.json()["error"] == "unsupported_grant_type"


async def test_a_wrong_tenant_is_500_only_with_the_switch(acme: Tenant) -> None:
    assert (await acme.token(tenant="globex")).status_code == 200
    acme.world.switches.bad_tenant_is_500 = True
    assert (await acme.token(tenant="globex")).status_code == 500
    assert (await acme.token(tenant="ACME")).status_code == 200


async def test_requests_without_a_good_token_are_401(acme: Tenant) -> None:
    for header in ("", "Bearer nonsense", "Basic abc"):
        answer = await acme.client.get(f"{acme.base_url}/api/Tickets", headers={"Authorization": header})
        assert answer.status_code == 401


async def test_a_token_expires_after_its_lifetime(acme: Tenant) -> None:
    acme.world.switches.token_lifetime_seconds = 120
    await acme.log_in()
    with clock.shifted(timedelta(seconds=119)):
        assert (await acme.get("/Tickets")).status_code == 200
    with clock.shifted(timedelta(seconds=121)):
        assert (await acme.get("/Tickets")).status_code == 401


async def test_a_new_token_revokes_the_old_one_only_with_the_switch(acme: Tenant) -> None:
    await acme.token()
    assert (await acme.get("/Tickets")).status_code == 200
    acme.world.switches.new_token_revokes_old = True
    await acme.token()
    assert (await acme.get("/Tickets")).status_code == 401


async def test_revoked_tokens_are_401_until_the_next_log_in(acme: Tenant) -> None:
    answer = await acme.control("DELETE", "/tokens")
    assert answer.json() == {"revoked": 1}
    assert (await acme.get("/Tickets")).status_code == 401
    await acme.log_in()
    assert (await acme.get("/Tickets")).status_code == 200


async def test_a_missing_scope_is_403_with_an_empty_body(acme: Tenant) -> None:
    applications = (
        ApplicationSeed("reader", "reader-secret", ("read:tickets",), "Reader"),
        ApplicationSeed("hooks", "hooks-secret", ("admin:webhooks",), "Hooks"),
    )
    world = acme.sandbox.add_tenant("globex", seed=Seed(applications=applications))
    globex = Tenant(acme.sandbox, world, acme.base_url.replace("/acme", "/globex"), acme.client)
    await globex.log_in(app="reader", secret="reader-secret")
    assert (await globex.get("/Tickets")).status_code == 200
    assert (await globex.get("/Status")).status_code == 200
    refused = await globex.post("/Tickets", [{"summary": "x"}])
    assert (refused.status_code, refused.content) == (403, b"")
    assert (await globex.get("/Webhook")).status_code == 403
    assert (await globex.post("/Client", [{"name": "x"}])).status_code == 403
    await globex.log_in(app="hooks", secret="hooks-secret")
    assert (await globex.get("/Webhook")).status_code == 200
    assert (await globex.get("/Tickets")).status_code == 403


async def test_a_token_has_only_the_scopes_it_asked_for(acme: Tenant) -> None:
    await acme.log_in(scope="admin edit:tickets edit:customers")
    assert (await acme.get("/Tickets")).status_code == 200
    assert (await acme.get("/Webhook")).status_code == 200
    await acme.log_in(scope="read:customers")
    assert (await acme.get("/Tickets")).status_code == 403


@pytest.mark.parametrize(
    ("held", "needed", "allowed"),
    [
        ({"edit:tickets"}, ("read:tickets",), True),
        ({"read:tickets"}, ("edit:tickets",), False),
        ({"all:standard"}, ("edit:assets",), True),
        ({"all:standard"}, ("admin",), False),
        ({"admin"}, ("admin:webhooks",), True),
        ({"admin:webhooks"}, ("admin",), False),
        (set(), (), True),
    ],
)
def test_scopes_cover_what_they_say(held: set[str], needed: tuple[str, ...], allowed: bool) -> None:
    assert is_allowed(frozenset(held), needed) is allowed
