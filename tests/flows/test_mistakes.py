"""The mistakes of an integrator, each answered by a sentence that says what to do."""

from typing import Any

import pytest

from app.sandbox.halopsa.seed import ApplicationSeed, Seed
from app.sandbox.halopsa.server import create_sandbox
from app.sandbox.serving import serving
from tests.support.application import body, problem
from tests.support.desks import CLOSED
from tests.support.stage import SIDES, Stage, open_stage

EVERY_SCOPE = ("read:tickets", "edit:tickets", "read:customers", "admin:webhooks")


def check(tested: Any, name: str) -> Any:
    """One check of a connection test."""
    [found] = [one for one in tested["checks"] if one["name"] == name]
    return found


def with_scopes(*scopes: str) -> Seed:
    return Seed(applications=(ApplicationSeed("narrow-app", "narrow-secret", scopes),))


class TestCredentials:
    async def test_a_wrong_secret(self, stage: Stage) -> None:
        made = await stage.create(stage.desk("acme"), client_secret="not the secret")
        tested = await stage.test(made["id"])
        assert (tested["overall"], tested["state"]) == ("failed", "draft")
        token = check(tested, "token")
        assert token["verdict"] == "failed"
        assert "client id" in token["advice"].lower()
        assert "secret" in token["advice"].lower()
        assert check(tested, "read tickets")["verdict"] == "unknown", "what could not be asked is not broken"

    async def test_a_wrong_tenant_name(self, stage: Stage) -> None:
        desk = stage.desk("acme", bad_tenant_is_500=True)
        made = await stage.create(desk, config={"tenant": "acmee"})
        tested = await stage.test(made["id"])
        assert tested["state"] == "draft"
        token = check(tested, "token")
        assert token["verdict"] != "ok"
        assert "tenant" in f"{token['detail']} {token['advice']}".lower()

    @pytest.mark.parametrize(
        ("missing", "name"),
        [("read:tickets", "read tickets"), ("edit:tickets", "edit tickets"), ("admin:webhooks", "webhooks")],
    )
    async def test_a_missing_scope_is_named(self, stage: Stage, missing: str, name: str) -> None:
        held = [one for one in EVERY_SCOPE if one != missing and not (missing == "read:tickets" and "tickets" in one)]
        desk = stage.desk("acme", seed=with_scopes(*held))
        tested = await stage.test((await stage.create(desk))["id"])
        found = check(tested, name)
        assert found["verdict"] == "failed", tested
        assert missing in found["advice"]
        assert "Permissions" in found["advice"]

    async def test_without_the_right_to_register_webhooks_the_rest_works(self, stage: Stage) -> None:
        desk = stage.desk("acme", seed=with_scopes("read:tickets", "edit:tickets", "read:customers"))
        made = await stage.create(desk)
        assert (await stage.test(made["id"]))["state"] == "active"
        answer = await stage.api.post(f"/v1/connections/{made['id']}/webhooks")
        refused = body(answer, answer.status_code)
        assert 400 <= answer.status_code < 600
        assert "admin:webhooks" in refused["next_step"]


class TestAddress:
    async def test_an_address_where_nobody_listens(self, stage: Stage) -> None:
        desk = stage.desk("acme")
        made = await stage.create(desk, config={"base_url": "http://127.0.0.1:9"})
        tested = await stage.test(made["id"])
        address = check(tested, "address")
        assert address["verdict"] == "failed"
        assert "Nothing listens" in address["advice"]
        assert check(tested, "token")["verdict"] == "unknown"

    async def test_a_host_that_does_not_exist(self, stage: Stage) -> None:
        made = await stage.create(stage.desk("acme"), config={"base_url": "https://halo.invalid"})
        address = check(await stage.test(made["id"]), "address")
        assert address["verdict"] == "failed"
        assert "host name" in address["advice"]

    async def test_a_host_that_answers_a_web_page(self, stage: Stage) -> None:
        """The web application's own address, a path too deep."""
        made = await stage.create(stage.desk("acme"), config={"base_url": f"{stage.sandbox_url}/nobody"})
        api = check(await stage.test(made["id"]), "api")
        assert api["verdict"] == "failed"
        assert "text/html" in api["detail"]
        assert "address of the HaloPSA" in api["advice"]

    async def test_a_plain_http_address_where_none_is_allowed(self, database_url: str, redis_url: str) -> None:
        async with open_stage(database_url, redis_url, allow_private_egress=False) as strict:
            made = await strict.create(strict.desk("acme"))
            answer = await strict.api.post(f"/v1/connections/{made['id']}/test")
        told = answer.text
        assert answer.status_code != 500, told
        assert "in the clear" in told
        assert "https://" in told

    async def test_an_unusable_address_is_refused_at_once(self, stage: Stage) -> None:
        wanted = {
            "kind": "halopsa",
            "name": "odd",
            "config": {"base_url": "ftp://halo.example"},
            "credentials": {"client_id": "a", "client_secret": "b"},
        }
        refused = problem(await stage.api.post("/v1/connections", json=wanted), 422, "invalid_input")
        assert refused["errors"][0]["pointer"] == "/config/base_url"
        assert "https://" in refused["errors"][0]["message"]


class TestRelationship:
    async def test_an_archived_connection(self, stage: Stage) -> None:
        desks = [stage.desk("acme"), stage.desk("globex")]
        source, target = [await stage.connect(desk, webhooks=False) for desk in desks]
        await stage.command(f"/v1/connections/{target}", "archive")
        wanted = {"name": "r", "source_connection_id": source, "target_connection_id": target}
        refused = body(await stage.api.post("/v1/relationships", json=wanted), 422)
        assert refused["errors"] == [{"pointer": "/target_connection_id", "message": "is archived"}]

    async def test_settings_that_do_not_fit_the_side(self, stage: Stage) -> None:
        pair = await stage.pair(webhooks=False)
        wanted = {
            "name": "r",
            "source_connection_id": pair.source_id,
            "target_connection_id": pair.target_id,
            "settings": {**SIDES, "target": {"resolution": "12", "costumer": 3, "impact": 99}},
        }
        refused = body(await stage.api.post("/v1/relationships", json=wanted), 422)
        pointers = {one["pointer"] for one in refused["errors"]}
        assert pointers == {"/settings/target/costumer", "/settings/target/impact"}


class TestValues:
    async def test_a_status_without_a_twin_is_told_and_holds_up_nothing_else(self, stage: Stage) -> None:
        """Given a map that lacks a status, when Acme sets it, then the link names the pair to add, other fields and
        comments go on, and once the pair is added it crosses."""
        known = [{"source": one, "target": one} for one in ("1", "2", "9")]
        pair = await stage.pair(status_map=known)
        born, twin = await stage.twins(pair)

        pair.source.change(born, status_id=5, summary="On hold now")
        pair.source.say(born, "We wait.")
        await stage.settled()

        assert pair.target.field(twin, "summary") == "On hold now"
        assert pair.target.said(twin) == ["We wait."]
        assert pair.target.field(twin, "status_id") == 1
        trouble = (await stage.link(pair, born))["field_errors"]["status"]
        assert (trouble["side"], trouble["value"]) == ("source", "5")
        assert "Add a pair" in trouble["next_step"]

        await stage.reset(pair, status_map=[*known, {"source": "5", "target": "4"}])
        await stage.settled()

        assert pair.target.field(twin, "status_id") == 4
        assert (await stage.link(pair, born))["field_errors"] == {}

    async def test_an_outcome_that_the_partner_does_not_allow(self, stage: Stage) -> None:
        """Given Globex's change workflow that resolves only after it was implemented, when Acme closes, then a dead
        letter says so; once Globex has moved it on, a replay closes it."""
        pair = await stage.pair(target={"resolution": "12", "customer": 3, "ticket_type": 3})
        born, twin = await stage.twins(pair)

        pair.source.resolve(born, "Done at Acme.")
        await stage.settled()

        [letter] = await stage.dead_letters()
        assert (letter["kind"], letter["error_class"]) == ("ticket.change", "workflow_blocked")
        assert "workflow" in letter["next_step"]
        assert pair.target.said(twin) == ["Done at Acme."], "words cross although the closing does not"
        assert pair.target.field(twin, "status_id") != CLOSED

        pair.target.act("POST", "/Actions", [{"ticket_id": twin, "outcome_id": 16, "note": "implemented"}])
        body(await stage.api.post(f"/v1/outbox/{letter['id']}/replay"), 200)
        await stage.settled()

        assert pair.target.field(twin, "status_id") == CLOSED
        assert await stage.dead_letters() == []

    async def test_a_ticket_type_that_refuses_what_we_create(self, stage: Stage) -> None:
        """A mandatory category is missing: the letter says which, the corrected settings and a resync create it."""
        wrong = {"resolution": "12", "customer": 3, "ticket_type": 5}
        pair = await stage.pair(target=wrong)
        born = pair.source.new_ticket()
        await stage.settled()

        [letter] = await stage.dead_letters()
        assert letter["error_class"] == "required_field"
        assert "defaults for created tickets" in letter["next_step"]
        link = await stage.link(pair, born)
        assert link["state"] == "failed"
        assert link["next_step"] == letter["next_step"]

        await stage.reset(pair, target={**wrong, "category": "Security>Malware"})
        body(await stage.api.post(f"/v1/ticket-links/{link['id']}/resync"), 202)
        await stage.settled()

        assert len(pair.target.tickets) == 1
        assert (await stage.link(pair, born))["state"] == "linked"


async def test_the_sandbox_of_somebody_else(stage: Stage) -> None:
    """A connection moved to another HaloPSA by its address: credentials of the old one are refused there."""
    made = await stage.create(stage.desk("acme"))
    other = create_sandbox()
    world = other.add_tenant("elsewhere")
    async with serving(other.app) as url:
        await stage.patch(f"/v1/connections/{made['id']}", {"config": {"base_url": f"{url}/{world.name}"}})
        tested = await stage.test(made["id"])
    assert check(tested, "token")["verdict"] == "failed"
