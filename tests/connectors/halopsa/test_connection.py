"""Logging in, the connection test, and what each failure tells a person to do."""

import asyncio
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from app.connectors.canonical import Check, DeskError, ErrorClass, Lane, Verdict
from app.connectors.halopsa import client
from app.connectors.halopsa.auth import TokenSource
from app.connectors.halopsa.config import HaloConfig, HaloCredentials
from app.connectors.halopsa.connection import open_connection
from app.connectors.registry import OpenContext
from app.core import clock
from app.core.http.budget import BudgetStore
from app.core.http.client import open_client
from app.sandbox.halopsa.seed import ApplicationSeed, Seed
from tests.connectors.halopsa.rig import Rig, connect, rigged

NAMES = [
    "address",
    "api",
    "token",
    "identity",
    "read tickets",
    "read actions",
    "edit tickets",
    "outcomes",
    "external links",
    "webhooks",
    "clock",
    "call budget",
]

CREDENTIALS = HaloCredentials.model_validate({"client_id": "acme-app", "client_secret": "acme-app-secret"})


def by_name(checks: Any) -> dict[str, Check]:
    assert [one.name for one in checks] == NAMES
    return {one.name: one for one in checks}


async def test_twenty_calls_at_once_log_in_once(rig: Rig) -> None:
    await asyncio.gather(*(rig.halo.desk.identity() for _ in range(20)))
    assert rig.calls("POST /auth/token") == 1
    rig.world.tokens.revoke_all()
    await asyncio.gather(*(rig.halo.desk.identity() for _ in range(20)))
    assert rig.calls("POST /auth/token") == 2
    assert rig.calls("GET /Agent/me") == 60, "20, then 20 refused and 20 again"


async def test_twenty_calls_with_a_wrong_secret_log_in_once() -> None:
    async with rigged(credentials={"client_secret": "wrong"}) as rig:
        results = await asyncio.gather(*(rig.halo.desk.identity() for _ in range(20)), return_exceptions=True)
        assert all(isinstance(one, DeskError) and one.error is ErrorClass.AUTH for one in results)
        assert rig.calls("POST /auth/token") == 1
        assert not any(
            "wrong" in str(one) or "wrong" in str(getattr(one, "next_step", "")).split("'") for one in results
        )


async def test_a_token_is_renewed_before_it_expires_and_a_short_one_at_half_its_life() -> None:
    for lifetime, good_for in ((3600, 3540.0), (40, 20.0)):
        now = {"seconds": 1000.0}
        switches = {"token_lifetime_seconds": lifetime}
        async with rigged(switches=switches) as rig, open_client(allow_private=True) as http:
            config = HaloConfig(base_url=rig.url)
            source = TokenSource(http, config, CREDENTIALS, monotonic=partial(now.__getitem__, "seconds"))
            first = await source.token()
            now["seconds"] += good_for - 1
            assert await source.token() == first
            now["seconds"] += 1
            assert await source.token() != first
            assert rig.calls("POST /auth/token") == 2


async def test_a_token_that_is_refused_again_and_again_is_an_auth_failure(rig: Rig) -> None:
    rig.world.faults.add({"match": {"path": "/Agent/me"}, "effect": {"status": 401}, "times": None})
    with pytest.raises(DeskError) as caught:
        await rig.halo.desk.identity()
    assert caught.value.error is ErrorClass.AUTH
    assert rig.calls("GET /Agent/me") == 2


async def test_a_healthy_connection_passes_every_check(rig: Rig) -> None:
    rig.human_ticket()
    checks = by_name(await rig.halo.check())
    assert {one.verdict for one in checks.values()} == {Verdict.OK}, checks
    assert "API Integration" in checks["identity"].detail


async def test_an_empty_tenant_is_not_called_healthy_or_broken(rig: Rig) -> None:
    checks = by_name(await rig.halo.check())
    assert checks["read tickets"].verdict is Verdict.UNKNOWN
    assert "every team" in str(checks["read tickets"].advice)


async def test_a_wrong_secret_fails_the_token_and_leaves_the_rest_unknown() -> None:
    async with rigged(credentials={"client_secret": "not-it-at-all"}) as rig:
        checks = by_name(await rig.halo.check())
    assert [checks[name].verdict for name in ("address", "api", "token")] == [
        Verdict.OK,
        Verdict.OK,
        Verdict.FAILED,
    ]
    assert "client secret" in str(checks["token"].advice)
    assert all(checks[name].verdict is Verdict.UNKNOWN for name in NAMES[3:])
    assert "not-it-at-all" not in repr(checks)


async def test_a_wrong_tenant_is_named_with_the_right_one() -> None:
    async with rigged(switches={"bad_tenant_is_500": True}, config={"tenant": "akme"}) as rig:
        checks = by_name(await rig.halo.check())
    assert checks["token"].verdict is Verdict.FAILED
    assert "'akme'" in checks["token"].detail
    assert "'acme'" in str(checks["token"].advice)


async def test_a_wrong_tenant_is_told_even_where_nobody_looks_at_it() -> None:
    """It passed without a word, and would have failed with the next version of that HaloPSA."""
    async with rigged(config={"tenant": "akme"}) as rig:
        checks = by_name(await rig.halo.check())
    assert checks["token"].verdict is Verdict.UNKNOWN
    assert "'akme'" in checks["token"].detail
    assert "'acme'" in str(checks["token"].advice)
    assert checks["identity"].verdict is Verdict.OK


async def test_an_address_without_a_halopsa_behind_it_is_told_apart() -> None:
    async with rigged() as rig:
        halo = connect(rig.url.removesuffix("/acme") + "/nowhere")
        try:
            checks = by_name(await halo.check())
        finally:
            await halo.aclose()
    assert checks["address"].verdict is Verdict.OK
    assert checks["api"].verdict is Verdict.FAILED
    assert "Halo API" in str(checks["api"].advice)
    assert all(checks[name].verdict is Verdict.UNKNOWN for name in NAMES[2:])


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("http://127.0.0.1:9", "Nothing listens"),
        ("https://does-not-exist.invalid", "cannot resolve"),
        ("http://169.254.169.254", "private address"),
    ],
)
async def test_an_unreachable_address_says_why_and_nothing_else_is_judged(url: str, advice: str) -> None:
    halo = connect(url)
    try:
        checks = by_name(await halo.check())
    finally:
        await halo.aclose()
    assert checks["address"].verdict is Verdict.FAILED
    assert advice in str(checks["address"].advice)
    assert all(checks[name].verdict is Verdict.UNKNOWN for name in NAMES[1:])


@pytest.mark.parametrize(
    ("scopes", "failing", "named"),
    [
        (("read:tickets", "read:customers", "admin:webhooks"), {"edit tickets"}, "edit:tickets"),
        (("edit:tickets",), {"webhooks"}, "admin:webhooks"),
        (("read:customers", "admin:webhooks"), {"read tickets", "read actions", "edit tickets"}, "tickets"),
    ],
)
async def test_a_missing_scope_is_named(scopes: tuple[str, ...], failing: set[str], named: str) -> None:
    application = ApplicationSeed("acme-app", "acme-app-secret", scopes)
    async with rigged(seed=Seed(applications=(application,))) as rig:
        rig.human_ticket()
        checks = by_name(await rig.halo.check())
    failed = {name for name, one in checks.items() if one.verdict is Verdict.FAILED}
    assert failed >= failing
    for name in failing:
        assert named in str(checks[name].advice)
        assert "Permissions tab" in str(checks[name].advice)


async def test_external_links_that_may_not_be_read_are_one_failed_check() -> None:
    async with rigged(switches={"external_links": "forbidden"}) as rig:
        rig.human_ticket()
        checks = by_name(await rig.halo.check())
    assert {name for name, one in checks.items() if one.verdict is not Verdict.OK} == {"external links"}


async def test_a_skewed_clock_fails_its_check(rig: Rig) -> None:
    rig.human_ticket()
    rig.world.skew_seconds = -1200.0
    checks = by_name(await rig.halo.check())
    assert checks["clock"].verdict is Verdict.FAILED
    assert "-1200" in checks["clock"].detail or "-1199" in checks["clock"].detail


async def test_a_429_in_the_middle_is_could_not_ask() -> None:
    async with rigged(switches={"rate_limit": 3}) as rig:
        checks = by_name(await rig.halo.check())
    assert checks["identity"].verdict is Verdict.OK
    assert checks["webhooks"].verdict is Verdict.UNKNOWN
    assert Verdict.FAILED not in {one.verdict for one in checks.values()}


async def test_the_picklists_are_those_of_tickets(rig: Rig) -> None:
    lists = await rig.halo.desk.picklists()
    assert {one.name: one.closes for one in lists.statuses}["Closed"]
    assert [one.name for one in lists.statuses if one.closes] == ["Closed"]
    assert "Retired" not in {one.name for one in lists.statuses}, "a status of assets"
    assert [one.native_id for one in lists.priorities] == ["1", "2", "3", "4"]
    assert "Security Alert" in {one.name for one in lists.ticket_types}
    assert "12" in {one.native_id for one in lists.outcomes}
    assert "1st Line Support" in {one.name for one in lists.teams}
    assert "Alder Dental" in {one.name for one in lists.clients}


async def test_bulk_work_leaves_the_reserve_to_interactive_work() -> None:
    async with rigged(config={"budget_limit": 10, "budget_window_seconds": 300}) as rig:
        bulk = rig.halo.desk.in_lane(Lane.BULK)
        for _ in range(7):
            await bulk.identity()
        with pytest.raises(DeskError) as caught:
            await bulk.identity()
        assert caught.value.error is ErrorClass.RATE
        assert rig.halo.desk.pressure() == pytest.approx(0.7)
        for _ in range(3):
            await rig.halo.desk.identity()
        with pytest.raises(DeskError):
            await rig.halo.desk.identity()
        assert rig.calls("GET /Agent/me") == 10


async def test_server_time_follows_the_other_clock(rig: Rig) -> None:
    rig.world.skew_seconds = 3600.0
    ahead = (await rig.halo.desk.server_time()) - (await rig.halo.desk.server_time())
    assert abs(ahead.total_seconds()) < 2
    assert ((await rig.halo.desk.server_time()) - clock.now()).total_seconds() == pytest.approx(3600, abs=2)


async def test_each_call_is_reported_to_the_metrics_without_ids() -> None:
    seen: list[tuple[str, str, int, float]] = []
    async with rigged() as rig:
        halo = open_connection(
            HaloConfig(base_url=rig.url),
            CREDENTIALS,
            OpenContext("k", BudgetStore(), allow_private=True, on_call=lambda *call: seen.append(call)),
        )
        try:
            ticket_id = rig.human_ticket()
            await halo.desk.read_tickets([ticket_id])
            await halo.desk.read_comments([ticket_id], None)
        finally:
            await halo.aclose()
    assert [(method, template, status) for method, template, status, _ in seen] == [
        ("GET", "/Tickets", 200),
        ("GET", "/Actions?ticket_id", 200),
    ]
    assert all(0 < seconds < 10 for *_, seconds in seen)


def test_plain_http_needs_a_private_network() -> None:
    for given in (
        {"base_url": "http://halo.example"},
        {"base_url": "halo.example", "auth_url": "http://halo.example"},
    ):
        with pytest.raises(DeskError) as caught:
            open_connection(HaloConfig.model_validate(given), CREDENTIALS, OpenContext("k", BudgetStore()))
        assert caught.value.error is ErrorClass.MISCONFIGURED
        assert "https" in caught.value.next_step


async def test_a_walk_larger_than_the_budget_goes_on_where_it_stood(monkeypatch: pytest.MonkeyPatch) -> None:
    """It began at its first page again each time, spent the whole budget on it, and never ended."""
    monkeypatch.setattr(client, "_BUDGET_PAUSE_SECONDS", 0.1)
    async with rigged(config={"budget_limit": 10, "budget_window_seconds": 3, "page_size": 1}) as rig:
        made = {rig.human_ticket(summary=f"Ticket {number}") for number in range(10)}
        since = clock.now() - timedelta(minutes=5)
        bulk = rig.halo.desk.in_lane(Lane.BULK)

        pages = [page async for page in bulk.changed_tickets(since)]

        assert made <= {ticket.native_id for page in pages for ticket in page}
        assert [] in pages, "a sign of life while it waited"
