"""Both servers together: reachable the way the product reaches them, private, gone when they should be."""

import os
import stat
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import redis
from arq import create_pool
from arq.connections import RedisSettings
from sqlalchemy.exc import SQLAlchemyError

from app.embedded import EmbeddedError, EmbeddedPostgres, EmbeddedRedis, EmbeddedStack
from tests.embedded.conftest import ask, lives


def test_the_urls_work_with_sqlalchemy_and_redis() -> None:
    with EmbeddedStack(ephemeral=True, fast=True) as servers:
        assert ask(servers.database_url, "SELECT current_setting('server_version_num')::int / 10000") == 18
        assert ask(servers.database_url, "SELECT current_setting('server_encoding')") == "UTF8"
        assert ask(servers.database_url, "SELECT upper('é')") == "É"
        assert ask(servers.database_url, "SHOW timezone") == "UTC"
        assert ask(servers.database_url, "SHOW synchronous_commit") == "on"
        with redis.Redis.from_url(servers.redis_url) as client:
            assert client.ping()


async def test_the_redis_url_works_with_arq() -> None:
    server = EmbeddedRedis()
    try:
        pool = await create_pool(RedisSettings.from_dsn(server.start()))
        assert await pool.set("key", "value")
        await pool.aclose()
    finally:
        server.stop()


def test_only_tests_give_up_durability() -> None:
    with EmbeddedStack(ephemeral=True, with_redis=False) as servers:
        assert ask(servers.database_url, "SHOW fsync") == "on"
        assert ask(servers.database_url, "SHOW full_page_writes") == "on"
        assert servers.redis_url == ""


def test_nobody_gets_in_without_the_password_or_through_the_folder() -> None:
    with EmbeddedStack(ephemeral=True, fast=True) as servers:
        database = urlsplit(servers.database_url)
        assert database.password
        wrong = servers.database_url.replace(database.password, "wrong")
        with pytest.raises(SQLAlchemyError, match="password authentication failed"):
            ask(wrong, "SELECT 1")
        sockets = [Path(parse_qs(database.query)["host"][0]), Path(urlsplit(servers.redis_url).path).parent]
        assert [stat.S_IMODE(place.stat().st_mode) for place in sockets] == [0o700, 0o700]
        with (
            redis.Redis(unix_socket_path=urlsplit(servers.redis_url).path) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.ping()


def test_no_password_shows_in_a_process_list_or_a_repr() -> None:
    import psutil

    with EmbeddedStack(ephemeral=True, fast=True) as servers:
        passwords = [urlsplit(servers.database_url).password, urlsplit(servers.redis_url).password]
        shown = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
        assert shown
        assert not [line for line in [*shown, repr(servers)] if any(str(word) in line for word in passwords)]


def test_nothing_is_left_after_the_end() -> None:
    stack = EmbeddedStack(ephemeral=True, fast=True)
    servers = stack.start()
    assert stack.redis is not None
    pids = [stack.postgres.pid, stack.redis.pid]
    places = [stack.data_dir, Path(parse_qs(urlsplit(servers.database_url).query)["host"][0])]
    stack.stop()
    stack.stop()
    assert not [pid for pid in pids if lives(pid)]
    assert not [place for place in places if place.exists()]


def test_two_stacks_run_side_by_side_and_know_nothing_of_each_other() -> None:
    with (
        EmbeddedStack(ephemeral=True, fast=True) as one,
        EmbeddedStack(ephemeral=True, fast=True) as other,
    ):
        ask(one.database_url, "CREATE TABLE mine (id int)")
        assert ask(one.database_url, "SELECT to_regclass('mine') IS NOT NULL") is True
        assert ask(other.database_url, "SELECT to_regclass('mine') IS NOT NULL") is False


def test_before_the_start_there_is_no_address() -> None:
    for server in (EmbeddedPostgres(ephemeral=True), EmbeddedRedis()):
        with pytest.raises(EmbeddedError, match=r"Call start\(\) first"):
            server.url  # noqa: B018 - reading it is the test


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's servers run as that user")
def test_roots_servers_run_as_somebody_else() -> None:
    import psutil

    stack = EmbeddedStack(ephemeral=True, fast=True)
    with stack:
        assert stack.redis is not None
        for pid in (stack.postgres.pid, stack.redis.pid):
            process = psutil.Process(pid)
            assert 0 not in process.uids()
            assert 0 not in process.gids()
