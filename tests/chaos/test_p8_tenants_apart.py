"""Promise 8: a tenant sees its own rows only."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from app.connectors.halopsa.markers import external_link, markup
from tests.support.application import Api, body, create_tenant
from tests.support.comparing import differences
from tests.support.stage import Pair, Stage

BODIES: dict[str, Any] = {
    "pause": {"reason": "mine"},
    "rotate-secret": {"purpose": "webhook"},
    "PATCH": {"name": "mine"},
}
LISTS = ("connections", "relationships", "ticket-links", "syncs", "inbox", "outbox", "api-keys")


async def neighbour(stage: Stage) -> Stage:
    """The same hub, as another tenant uses it."""
    tenant_id, key = await create_tenant(stage.database)
    return replace(stage, api=Api(stage.api.client, tenant_id, key))


async def busy(stage: Stage, number: int) -> tuple[Pair, list[str]]:
    """A tenant with a pair of desks at work."""
    pair = await stage.pair(reverse=True)
    born = [f"tenant {number} ticket {one}" for one in range(5)]
    for summary in born:
        ticket = pair.source.new_ticket(summary)
        pair.source.say(ticket, f"word of tenant {number}")
    wanted = {"relationship_id": pair.relationship_id, "since": "2026-01-01T00:00:00Z"}
    body(await stage.api.post("/v1/syncs", json=wanted), 202)
    return pair, born


async def ids_of(stage: Stage) -> dict[str, str]:
    """One id of each kind that the tenant owns, by the name of the path's parameter."""
    names = dict(
        zip(("connection", "relationship", "ticket_link", "sync", "message", "command", "key"), LISTS, strict=True)
    )
    found = {}
    for name, path in names.items():
        items = body(await stage.api.get(f"/v1/{path}", params={"limit": 1}), 200)["items"]
        assert items, path
        found[name] = items[0]["id"]
    return found


def operations(document: Any) -> Iterator[tuple[str, str, str]]:
    """(method, path, parameter) of every operation on one row."""
    for path, item in document["paths"].items():
        if path.startswith("/v1/") and path.count("{") == 1:
            for method in item:
                if method in ("get", "post", "patch", "delete", "put"):
                    yield method.upper(), path, path.partition("{")[2].partition("}")[0]


async def test_p8_no_route_shows_or_changes_what_is_anothers(stage: Stage) -> None:
    """Every operation on one row, with the id of a row that another tenant owns: the answer is that there is none,
    word for word what is answered for a row that never was."""
    other = await neighbour(stage)
    pair, _ = await busy(stage, 1)
    await stage.settled()
    owned = await ids_of(stage)
    document = body(await stage.api.get("/openapi.json"), 200)
    tried = 0
    for method, path, parameter in operations(document):
        [row_id] = [value for name, value in owned.items() if name in parameter] or [owned["connection"]]
        nobodys = row_id.partition("_")[0] + "_" + "0198" + "f" * 28
        options = {"headers": {"If-Match": '"1"', "Idempotency-Key": f"k{tried}"}}
        wanted = BODIES.get(path.rsplit("/", 1)[-1]) or BODIES.get(method)
        if wanted is not None:
            options["json"] = wanted
        stolen = await other.api.request(method, path.replace(f"{{{parameter}}}", row_id), **options)
        options["headers"]["Idempotency-Key"] += "n"
        absent = await other.api.request(method, path.replace(f"{{{parameter}}}", nobodys), **options)
        assert (stolen.status_code, absent.status_code) == (404, 404), (method, path, stolen.text)
        assert {**stolen.json(), "instance": "", "correlation_id": ""} == {
            **absent.json(),
            "instance": "",
            "correlation_id": "",
        }
        tried += 1
    assert tried >= 20
    assert (await stage.test(pair.source_id))["state"] == "active"


async def test_p8_lists_show_only_ones_own_under_load(stage: Stage) -> None:
    """Two tenants at work at the same time in the same worker: each list holds its own rows, each desk its own
    tickets."""
    other = await neighbour(stage)
    (mine, my_born), (theirs, their_born) = await asyncio.gather(busy(stage, 1), busy(other, 2))
    await stage.settled()
    for path in LISTS:
        own = {one["id"] for one in body(await stage.api.get(f"/v1/{path}?limit=200"), 200)["items"]}
        foreign = {one["id"] for one in body(await other.api.get(f"/v1/{path}?limit=200"), 200)["items"]}
        assert own, path
        assert own.isdisjoint(foreign)
    assert differences(mine.source, mine.target, my_born) == []
    assert differences(theirs.source, theirs.target, their_born) == []
    assert not any(desk.holds("tenant 2") for desk in mine.desks)
    assert not any(desk.holds("tenant 1") for desk in theirs.desks)


async def test_p8_nobody_builds_on_anothers_connections(stage: Stage) -> None:
    other = await neighbour(stage)
    pair = await stage.pair(webhooks=False)
    wanted = {"name": "r", "source_connection_id": pair.source_id, "target_connection_id": pair.target_id}
    answer = await other.api.post("/v1/relationships", json=wanted)
    assert answer.status_code == 404
    since = {"relationship_id": pair.relationship_id, "since": "2026-01-01T00:00:00Z"}
    assert (await other.api.post("/v1/syncs", json=since)).status_code == 404
    replayed = body(await other.api.post("/v1/outbox/replay", json={"connection_id": pair.source_id}), 200)
    assert replayed["replayed"] == 0


async def test_p8_a_marker_of_another_relationship_is_not_believed(stage: Stage) -> None:
    """A marker that is genuine elsewhere, copied onto a ticket and into a comment: it must not make them "ours", or a
    stranger could keep tickets and words from crossing."""
    other = await neighbour(stage)
    mine, theirs = await stage.pair(), await other.pair()
    born, twin = await stage.twins(mine)
    mine.source.say(born, "signed")
    await stage.settled()
    stolen = [row["third_party_id"] for row in mine.target.world.export()["external_links"]]
    assert len(stolen) == 2

    for marker in stolen:
        ticket = theirs.source.new_ticket(
            f"forged {marker}", third_party_id_string=marker, new_external_link=external_link(marker, "forged")
        )
        await stage.settled()
        link = external_link(marker, "forged")
        theirs.source.say(
            ticket, f"words {marker}", note_html=markup(f"words {marker}", marker), new_external_link=link
        )
    await stage.settled()

    for marker in stolen:
        [copied] = theirs.target.titled(f"forged {marker}")
        assert theirs.target.said(copied) == [f"words {marker}"]
    assert mine.target.said(twin) == ["signed"]
