"""The edge of the process."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI
from structlog.testing import LogCapture

from app.core.config import Settings
from app.core.middleware import Edge
from tests.support.application import Api, body
from tests.support.database import make_settings


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    """The events that are logged."""
    capture, configured = LogCapture(), structlog.get_config()
    structlog.configure(processors=[capture])
    yield capture.entries
    structlog.configure(**configured)


class TestCorrelation:
    async def test_a_sane_id_of_the_caller_is_kept(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/health/live", headers={"X-Request-ID": "trace-4f3a.77_B"})

        assert answer.headers["x-request-id"] == "trace-4f3a.77_B"

    @pytest.mark.parametrize(
        "bad", ["short", "x" * 65, "has blank inside", "a;b,c\"d'e", "-starts-with-a-hyphen", "ümlaut-id"]
    )
    async def test_any_other_is_replaced(self, client: httpx.AsyncClient, bad: str) -> None:
        answer = await client.get("/health/live", headers={b"X-Request-ID": bad.encode()})

        assert answer.headers["x-request-id"] != bad
        assert len(answer.headers["x-request-id"]) == 32

    async def test_two_requests_differ(self, client: httpx.AsyncClient) -> None:
        first, second = await client.get("/health/live"), await client.get("/health/live")

        assert first.headers["x-request-id"] != second.headers["x-request-id"]


class TestAccessLine:
    async def test_one_wide_line_without_query_values(self, api: Api, lines: list[Any]) -> None:
        await api.get(
            "/v1/api-keys", params={"state": "active", "limit": "7"}, headers={"X-Request-ID": "trace-line-1"}
        )

        [line] = [entry for entry in lines if entry["event"] == "request.answered"]
        assert line["method"] == "GET"
        assert line["route"] == "/v1/api-keys"
        assert line["status"] == 200
        assert line["duration_ms"] > 0
        assert line["tenant"].startswith("ten_")
        assert line["key_prefix"] == api.key.split("_")[1]
        assert "active" not in str(line)
        assert api.key not in str(line)

    async def test_the_template_and_not_the_path(self, api: Api, lines: list[Any]) -> None:
        await api.get("/v1/api-keys/key_" + "0" * 32)

        assert [entry["route"] for entry in lines] == ["/v1/api-keys/{api_key_id}"]

    async def test_paths_and_methods_of_strangers_make_no_new_series(
        self, client: httpx.AsyncClient, lines: list[Any]
    ) -> None:
        await client.request("PROPFIND", "/wp-admin/setup.php")

        assert [(entry["method"], entry["route"], entry["tenant"]) for entry in lines] == [
            ("(other)", "(no route)", None)
        ]


class TestHeaders:
    async def test_security_headers(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/health/live")

        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["strict-transport-security"] == "max-age=31536000"

    async def test_the_documentation_page_may_load_its_scripts(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/docs")

        assert answer.status_code == 200
        assert "content-security-policy" not in answer.headers


def edge_of(app: Any, **changes: Any) -> httpx.AsyncClient:
    settings: Settings = make_settings("postgresql://nobody@127.0.0.1:1/none", **changes)
    transport = httpx.ASGITransport(app=Edge(app, settings=settings))
    return httpx.AsyncClient(transport=transport, base_url="http://parhelion.test")


class TestHooks:
    async def test_they_get_the_id_and_nothing_else(self, lines: list[Any]) -> None:
        app = FastAPI()

        @app.post("/hooks/{connection_id}")
        async def take(connection_id: str) -> None: ...

        async with edge_of(app, api_body_max_bytes=1024) as client:
            answer = await client.post("/hooks/con_1", content=b"x" * 5000, headers={"X-Request-ID": "delivery-1"})

        assert answer.status_code == 200
        assert answer.headers["x-request-id"] == "delivery-1"
        assert set(answer.headers) == {"content-length", "content-type", "x-request-id"}
        assert lines == []

    async def test_an_unnamed_failure_is_never_a_success(self, lines: list[Any]) -> None:
        async def broken(scope: Any, receive: Any, send: Any) -> None:
            raise RuntimeError("canary")

        async with edge_of(broken) as client:
            answer = await client.post("/hooks/con_1")

        assert body(answer, 500)["code"] == "internal_error"
        assert [entry["event"] for entry in lines] == ["request.failed_unexpectedly"]

    async def test_a_failure_after_the_answer_began_cuts_it_off(self, lines: list[Any]) -> None:
        async def half(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            raise RuntimeError("the rest is missing")

        async with edge_of(half) as client:
            with pytest.raises(RuntimeError):
                await client.get("/v1/things")
