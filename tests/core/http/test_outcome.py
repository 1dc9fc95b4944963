"""What became of a call: every status and every way a connection fails, with real sockets for the latter."""

import asyncio
from datetime import UTC, datetime

import httpx
import pytest

from app.core.http.client import open_client
from app.core.http.outcome import Kind, of_exception, of_status, parse_retry_after

NOW = datetime(2026, 11, 3, 8, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "read", "write"),
    [
        (200, Kind.OK, Kind.OK),
        (201, Kind.OK, Kind.OK),
        (204, Kind.OK, Kind.OK),
        (301, Kind.REJECTED, Kind.REJECTED),
        (400, Kind.REJECTED, Kind.REJECTED),
        (401, Kind.AUTH_BROKEN, Kind.AUTH_BROKEN),
        (403, Kind.REJECTED, Kind.REJECTED),
        (404, Kind.REJECTED, Kind.REJECTED),
        (408, Kind.RETRY, Kind.RETRY),
        (425, Kind.RETRY, Kind.RETRY),
        (429, Kind.RATE_LIMITED, Kind.RATE_LIMITED),
        (500, Kind.RETRY, Kind.UNKNOWN),
        (501, Kind.REJECTED, Kind.REJECTED),
        (502, Kind.RETRY, Kind.UNKNOWN),
        (503, Kind.RETRY, Kind.UNKNOWN),
        (504, Kind.RETRY, Kind.UNKNOWN),
    ],
)
def test_statuses(status: int, read: Kind, write: Kind) -> None:
    assert of_status(status, writes=False, now=NOW).kind is read
    assert of_status(status, writes=True, now=NOW).kind is write
    assert of_status(status, writes=True, now=NOW).perhaps_done is (write is Kind.UNKNOWN)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("0", 0.0),
        ("Tue, 03 Nov 2026 08:00:30 GMT", 30.0),
        ("Tue, 03 Nov 2026 07:00:00 GMT", 0.0),
        ("Tue, 03 Nov 2099 07:00:00 GMT", 86_400.0),
        ("9" * 400, 86_400.0),
        ("-7", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("²", None),
        (".", None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    ("error", "write"),
    [
        (httpx.ConnectError("refused"), Kind.RETRY),
        (httpx.ConnectTimeout("slow"), Kind.RETRY),
        (httpx.PoolTimeout("full"), Kind.RETRY),
        (httpx.WriteTimeout("half sent"), Kind.UNKNOWN),
        (httpx.WriteError("reset"), Kind.UNKNOWN),
        (httpx.ReadTimeout("slow"), Kind.UNKNOWN),
        (httpx.ReadError("reset"), Kind.UNKNOWN),
        (httpx.RemoteProtocolError("closed"), Kind.UNKNOWN),
        (httpx.DecodingError("gzip"), Kind.UNKNOWN),
        (TimeoutError(), Kind.UNKNOWN),
        (ConnectionResetError(), Kind.UNKNOWN),
        (httpx.UnsupportedProtocol("ftp"), Kind.REJECTED),
        (httpx.LocalProtocolError("bad header"), Kind.REJECTED),
        (httpx.InvalidURL("?"), Kind.REJECTED),
    ],
)
def test_exceptions(error: Exception, write: Kind) -> None:
    found = of_exception(error, writes=True)
    assert found is not None
    assert found.kind is write
    read = of_exception(error, writes=False)
    assert read is not None
    assert not read.perhaps_done


def test_a_bug_is_not_an_outcome() -> None:
    assert of_exception(ValueError("ours"), writes=True) is None
    assert of_exception(KeyError("ours"), writes=False) is None


async def test_real_sockets() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def cutting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with open_client(allow_private=True, timeout_seconds=0.3) as client:
        for handler in (silent, cutting):
            server = await asyncio.start_server(handler, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(httpx.TransportError) as caught:
                await client.post(f"http://127.0.0.1:{port}/", content=b"x")
            found = of_exception(caught.value, writes=True)
            assert found is not None
            assert found.perhaps_done, handler
            server.close()
            await server.wait_closed()
        with pytest.raises(httpx.TransportError) as refused:
            await client.post(f"http://127.0.0.1:{port}/", content=b"x")
        found = of_exception(refused.value, writes=True)
        assert found is not None
        assert found.kind is Kind.RETRY
