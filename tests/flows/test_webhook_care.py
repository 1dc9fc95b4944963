"""Looking after the webhooks at HaloPSA: registering, repairing, new secrets, removing."""

from datetime import timedelta
from typing import Any

import httpx

from app.core import clock
from tests.support.application import body
from tests.support.desks import Desk
from tests.support.stage import Stage
from tests.support.waiting import wait_until

OTHER_ID = "7d1f0c6e-52b1-4c7e-9a55-0d5c4d1f9b11"


def held(desk: Desk) -> list[dict[str, Any]]:
    """The webhooks that HaloPSA holds, with their secrets."""
    return [dict(row) for row in desk.world.webhooks.webhooks.values()]


async def register(stage: Stage, connection_id: str) -> Any:
    return body(await stage.api.post(f"/v1/connections/{connection_id}/webhooks"), 200)


async def inspect(stage: Stage, connection_id: str) -> Any:
    return body(await stage.api.get(f"/v1/connections/{connection_id}/webhooks"), 200)


async def delivered(stage: Stage, desk: Desk) -> int:
    """The status that this service answers HaloPSA's next delivery with."""
    desk.new_ticket()
    await desk.world.deliveries.settled()
    status: int = desk.world.deliveries.rows()[0]["responsestatus"]
    return status


async def _is_refused(stage: Stage, desk: Desk) -> bool:
    return await delivered(stage, desk) == 401


class TestRegistering:
    async def test_twice_changes_nothing(self, stage: Stage) -> None:
        desk = stage.desk("acme")
        connection = await stage.connect(desk)
        first, writes = held(desk), desk.world.journal.count("POST", "/Webhook")

        again = await register(stage, connection)

        assert again["problems"] == []
        assert held(desk) == first
        assert desk.world.journal.count("POST", "/Webhook") == writes
        assert set(again["events"]) >= {"new ticket logged", "ticket updated"}
        assert await delivered(stage, desk) == 202

    async def test_what_somebody_broke_is_seen_and_repaired(self, stage: Stage) -> None:
        """Given a webhook that was switched off, sent elsewhere and stripped of a rule, when it is inspected each is
        named, and registering again repairs all."""
        desk = stage.desk("acme")
        connection = await stage.connect(desk)
        [webhook] = desk.world.webhooks.webhooks.values()
        webhook |= {"disabled": True, "url": "https://elsewhere.example/hook"}
        desk.world.webhooks.drop_rule(next(iter(desk.world.webhooks.rules)))

        found = await inspect(stage, connection)
        told = " ".join(found["problems"])
        assert "another address" in told
        assert "switched the webhook off" in told
        assert "No notification rule for" in told
        assert found["active"] is False

        assert (await register(stage, connection))["problems"] == []
        assert len(held(desk)) == 1
        assert await delivered(stage, desk) == 202

    async def test_doubles_are_removed(self, stage: Stage) -> None:
        desk = stage.desk("acme")
        connection = await stage.connect(desk)
        [webhook] = held(desk)
        desk.world.webhooks.webhooks[OTHER_ID] = {**webhook, "id": OTHER_ID}
        assert "2 webhooks of ours" in " ".join((await inspect(stage, connection))["problems"])
        assert (await register(stage, connection))["problems"] == []
        assert len(held(desk)) == 1

    async def test_removing_leaves_those_of_others(self, stage: Stage) -> None:
        desk = stage.desk("acme")
        connection = await stage.connect(desk)
        [webhook] = held(desk)
        desk.world.webhooks.webhooks[OTHER_ID] = {**webhook, "id": OTHER_ID, "name": "Somebody else's"}

        assert body(await stage.api.delete(f"/v1/connections/{connection}/webhooks"), 200) == {"removed": 1}

        assert [row["name"] for row in held(desk)] == ["Somebody else's"]
        assert "No webhook of ours" in " ".join((await inspect(stage, connection))["problems"])
        assert body(await stage.api.delete(f"/v1/connections/{connection}/webhooks"), 200) == {"removed": 0}


class TestSecrets:
    async def test_a_new_secret_with_time_to_change_over(self, stage: Stage) -> None:
        """Given a rotated secret, while the grace lasts HaloPSA may sign with either; after it only with the new."""
        desk = stage.desk("acme")
        connection = await stage.connect(desk)
        rotated = await stage.command(
            f"/v1/connections/{connection}", "rotate-secret", {"purpose": "webhook", "grace_seconds": 3600}
        )
        assert rotated["webhook_secret"]
        assert "/webhooks" in rotated["next_step"]
        assert await delivered(stage, desk) == 202, "HaloPSA still signs with the old one"

        [old] = [row["basic_password"] for row in held(desk)]
        assert (await register(stage, connection))["problems"] == []
        [new] = [row["basic_password"] for row in held(desk)]
        assert new == rotated["webhook_secret"] != old
        assert await delivered(stage, desk) == 202

        [webhook] = desk.world.webhooks.webhooks.values()
        with clock.shifted(timedelta(seconds=3700)):
            assert await delivered(stage, desk) == 202
            webhook["basic_password"] = old
            # What the API knows of a connection it may keep for five seconds.
            await wait_until(lambda: _is_refused(stage, desk), 15)

    async def test_nobody_gets_in_without_the_secret(self, stage: Stage) -> None:
        pair = await stage.pair()
        made = body(await stage.api.get(f"/v1/connections/{pair.source_id}"), 200)
        forged = {"id": "forged", "event": "New Ticket Logged", "ticket": {"id": 77}}
        async with httpx.AsyncClient() as stranger:
            answer = await stranger.post(made["hook_url"], json=forged, headers={"x-parhelion-signature": "bm8="})
        assert answer.status_code == 401
        assert await stage.links(pair) == []

    async def test_corrupted_deliveries_are_refused_and_found_by_the_poll(self, stage: Stage) -> None:
        pair = await stage.pair()
        pair.source.fail({"webhook": "corrupt_signature"})
        pair.source.new_ticket("signed badly")
        await stage.settled()
        assert pair.target.tickets == []
        await stage.poll()
        assert len(pair.target.titled("signed badly")) == 1
