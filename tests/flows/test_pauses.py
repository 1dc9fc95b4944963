"""Work that stops for a while: what comes meanwhile is kept and carried later."""

from datetime import timedelta

from app.core import clock
from tests.support.application import body
from tests.support.comparing import differences
from tests.support.desks import CLOSED
from tests.support.stage import Pair, Stage
from tests.support.waiting import wait_until

# What found a connection closed asks again after 15 s.
A_WHILE = timedelta(seconds=16)


def much_happens(pair: Pair, old: int, twin: int) -> None:
    pair.source.new_ticket("born meanwhile")
    pair.source.say(old, "said meanwhile")
    pair.target.say(twin, "answered meanwhile")
    pair.source.change(old, priority_id=1)
    pair.target.resolve(twin, "solved meanwhile")


async def is_in(stage: Stage, connection_id: str, state: str) -> bool:
    found = body(await stage.api.get(f"/v1/connections/{connection_id}"), 200)
    return bool(found["state"] == state)


async def test_a_paused_relationship_keeps_everything(stage: Stage) -> None:
    pair = await stage.pair()
    old, twin = await stage.twins(pair, "old")
    writes = [desk.writes() for desk in pair.desks]
    paused = await stage.command(pair.path, "pause", {"reason": "migration"})
    assert (paused["state"], paused["paused_reason"]) == ("paused", "migration")

    much_happens(pair, old, twin)
    for desk in pair.desks:
        await desk.world.deliveries.settled()
    await wait_until(lambda: _waits(stage, pair))
    assert [desk.writes() for desk in pair.desks] == writes

    await stage.command(pair.path, "resume")
    await stage.settled()
    assert differences(pair.source, pair.target, ["old", "born meanwhile"]) == []
    assert pair.source.field(old, "status_id") == CLOSED


async def _waits(stage: Stage, pair: Pair) -> bool:
    waiting = body(await stage.api.get(pair.path), 200)["links"]["waiting"]
    return bool(waiting >= 2)


async def test_a_paused_connection_keeps_everything(stage: Stage) -> None:
    pair = await stage.pair()
    old, twin = await stage.twins(pair, "old")
    writes = [desk.writes() for desk in pair.desks]
    await stage.command(f"/v1/connections/{pair.target_id}", "pause", {"reason": "upgrade tonight"})

    much_happens(pair, old, twin)
    await wait_until(lambda: _says_why(stage, pair, "upgrade tonight"))
    assert [desk.writes() for desk in pair.desks] == writes

    await stage.command(f"/v1/connections/{pair.target_id}", "resume")
    with clock.shifted(A_WHILE):
        await stage.settled()
    assert differences(pair.source, pair.target, ["old", "born meanwhile"]) == []


async def _says_why(stage: Stage, pair: Pair, words: str) -> bool:
    """Whether every link tells the operator why it waits."""
    links = await stage.links(pair)
    return len(links) == 2 and all(words in (link["reason"] or "") for link in links)


async def test_credentials_that_stop_working(stage: Stage) -> None:
    """Given an API application whose secret was changed in HaloPSA, when work goes on, then the connection is broken
    and says so, nothing is lost, and after new credentials and a test everything flows."""
    pair = await stage.pair()
    old, twin = await stage.twins(pair, "old")
    [application] = pair.target.world.tokens.applications.values()
    object.__setattr__(application.seed, "client_secret", "the-new-secret")
    pair.target.world.tokens.revoke_all()

    much_happens(pair, old, twin)
    await wait_until(lambda: is_in(stage, pair.target_id, "broken"))
    broken = body(await stage.api.get(f"/v1/connections/{pair.target_id}"), 200)
    assert broken["broken_reason"]
    refused = await stage.test(pair.target_id)
    assert refused["state"] == "broken"

    renewed = {"client_id": application.seed.client_id, "client_secret": "the-new-secret"}
    rotate = {"purpose": "credentials", "credentials": renewed}
    told = await stage.command(f"/v1/connections/{pair.target_id}", "rotate-secret", rotate)
    assert "/test" in told["next_step"]
    assert (await stage.test(pair.target_id))["state"] == "active"
    with clock.shifted(A_WHILE * 2):
        await stage.settled()

    assert differences(pair.source, pair.target, ["old", "born meanwhile"]) == []
    assert await stage.dead_letters() == []


async def test_a_ticket_that_is_gone_at_one_side_is_deleted_nowhere(stage: Stage) -> None:
    pair = await stage.pair()
    born, twin = await stage.twins(pair)
    pair.target.delete(twin)
    await stage.settled()
    pair.source.say(born, "is anybody there")
    await stage.settled()
    link = await stage.link(pair, born)
    assert link["state"] == "orphaned"
    assert "Nothing was deleted" in link["next_step"]
    assert pair.source.tickets == [born]


async def test_an_archived_relationship_carries_nothing(stage: Stage) -> None:
    pair = await stage.pair()
    born, _ = await stage.twins(pair)
    await stage.command(pair.path, "archive")
    writes = [desk.writes() for desk in pair.desks]
    pair.source.say(born, "to nobody")
    pair.source.new_ticket("stays")
    for desk in pair.desks:
        await desk.world.deliveries.settled()
    await wait_until(lambda: _inbox_is_empty(stage))
    assert await stage.links(pair, waiting=True) == []
    assert [desk.writes() for desk in pair.desks] == writes


async def _inbox_is_empty(stage: Stage) -> bool:
    pending = body(await stage.api.get("/v1/inbox", params={"status": "pending"}), 200)
    return bool(pending["items"] == [])
