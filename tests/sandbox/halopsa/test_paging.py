"""Lists: what is cut, what is counted, how pages and orders behave."""

from typing import Any

import pytest

from app.sandbox.halopsa.seed import Seed
from tests.sandbox.halopsa.calling import Tenant


@pytest.fixture
async def full(acme: Tenant) -> Tenant:
    """A tenant with 130 tickets."""
    world = acme.sandbox.add_tenant("full", seed=Seed(tickets=130))
    tenant = Tenant(acme.sandbox, world, acme.base_url.replace("/acme", "/full"), acme.client)
    await tenant.log_in()
    return tenant


def ids(answer: Any) -> list[int]:
    return [row["id"] for row in answer.json()["tickets"]]


async def test_without_pageinate_the_list_is_cut_to_50_and_the_total_is_true(full: Tenant) -> None:
    answer = await full.get("/Tickets", page_size=100, page_no=2)
    assert ids(answer) == list(range(130, 80, -1))
    assert answer.json()["record_count"] == 130
    assert "page_no" not in answer.json()


async def test_pageinate_without_page_no_is_cut_too(full: Tenant) -> None:
    assert len(ids(await full.get("/Tickets", pageinate="true", page_size=100))) == 50


async def test_pages_cover_everything_once(full: Tenant) -> None:
    seen: list[int] = []
    for page in (1, 2, 3):
        answer = await full.get("/Tickets", pageinate="true", page_size=60, page_no=page, order="id", orderdesc="false")
        assert answer.json()["record_count"] == 130
        assert answer.json()["page_no"] == page
        seen += ids(answer)
    assert seen == list(range(1, 131))
    assert ids(await full.get("/Tickets", pageinate="true", page_size=60, page_no=4)) == []


async def test_the_page_size_is_reduced_without_a_word(full: Tenant) -> None:
    answer = await full.get("/Tickets", pageinate="true", page_size=1000, page_no=1)
    assert (len(ids(answer)), answer.json()["page_size"]) == (100, 100)
    full.world.switches.page_size_cap = 1000
    assert len(ids(await full.get("/Tickets", pageinate="true", page_size=1000, page_no=1))) == 130


async def test_the_cut_is_the_agents_default_list_size(full: Tenant) -> None:
    full.world.switches.default_list_size = 7
    assert len(ids(await full.get("/Tickets"))) == 7


async def test_count_gives_that_many(full: Tenant) -> None:
    answer = await full.get("/Tickets", count=70)
    assert (len(ids(answer)), answer.json()["record_count"]) == (70, 130)


async def test_the_total_is_of_the_filtered_list(full: Tenant) -> None:
    answer = await full.get("/Tickets", requesttype_id=2, pageinate="true", page_size=10, page_no=1)
    assert answer.json()["record_count"] == 65


async def test_an_unknown_or_misspelt_filter_returns_everything(full: Tenant) -> None:
    answer = await full.get("/Tickets", tickettype_id=2, clientid=2)
    assert answer.json()["record_count"] == 130


async def test_orders_combine(full: Tenant) -> None:
    answer = await full.get(
        "/Tickets",
        pageinate="true",
        page_no=1,
        page_size=100,
        order="tickettype_id",
        order2="id",
        orderdesc2="true",
    )
    rows = [(row["tickettype_id"], -row["id"]) for row in answer.json()["tickets"]]
    assert rows == sorted(rows)
    assert len({kind for kind, _ in rows}) == 2


async def test_agents_are_bare_or_under_results(full: Tenant) -> None:
    assert isinstance((await full.get("/Agent")).json(), list)
    answer = (await full.get("/agent", pageinate="true", page_no=1, page_size=2)).json()
    assert (len(answer["results"]), answer["record_count"]) == (2, 5)
    full.world.switches.agent_list_always_bare = True
    assert isinstance((await full.get("/Agent", pageinate="true", page_no=1)).json(), list)


@pytest.mark.parametrize(
    ("path", "key"), [("/Client", "clients"), ("/Site", "sites"), ("/Users", "users"), ("/Asset", "assets")]
)
async def test_envelopes_have_their_keys(acme: Tenant, path: str, key: str) -> None:
    answer = (await acme.get(path, pageinate="true", page_no=1, page_size=2)).json()
    assert len(answer[key]) == 2
    assert answer["record_count"] > 2


async def test_a_page_number_that_is_no_number_is_a_model_state_error(acme: Tenant) -> None:
    answer = await acme.get("/Tickets", pageinate="true", page_no="two")
    assert (answer.status_code, list(answer.json())) == (400, ["page_no"])
