"""The load generators of the ingest measurement: wrk, or a small one of our own where wrk is missing."""

import asyncio
import json
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.bodies import SIGNATURE

INSTALL_WRK = "wrk is not installed (Debian, Ubuntu: apt-get install wrk; macOS: brew install wrk)"
_SCRIPT = Path(__file__).with_name("ring.lua")


class LoadFailed(RuntimeError):
    """A load generator did not do its round; the text says why."""


@dataclass(frozen=True, slots=True)
class Round:
    """One round: answered requests, its length, answers that were no 2xx, and broken connections."""

    requests: int
    seconds: float
    refused: int
    broken: int

    @property
    def accepted(self) -> int:
        """Requests answered with a 2xx."""
        return self.requests - self.refused

    @property
    def per_second(self) -> float:
        """Accepted requests per second."""
        return self.accepted / self.seconds


@dataclass(frozen=True, slots=True)
class Load:
    """How a round is driven: the same for both targets."""

    tool: str
    connections: int
    seconds: float


def chosen_tool() -> str:
    """``wrk`` or ``python``."""
    return "wrk" if shutil.which("wrk") else "python"


def drive(load: Load, url: str, ring: Path, template: Path) -> Round:
    """One round against ``url``. Raises :class:`LoadFailed`."""
    if load.tool == "wrk":
        return _wrk(load, url, ring, template)
    return asyncio.run(_python(load, url, ring, template))


def _wrk(load: Load, url: str, ring: Path, template: Path) -> Round:
    command = ["wrk", "-t1", f"-c{load.connections}", f"-d{max(1, round(load.seconds))}s", "-s", str(_SCRIPT)]
    command += [url, "--", str(ring), str(template), SIGNATURE]
    limit = load.seconds + 30
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        raise LoadFailed(f"wrk did not end within {limit:.0f} s") from None
    lines = [line for line in said.stdout.splitlines() if line.startswith("RESULT ")]
    if said.returncode or not lines:
        raise LoadFailed(f"wrk failed: {(said.stderr or said.stdout).strip()[-300:]}")
    found = json.loads(lines[-1].removeprefix("RESULT "))
    return Round(found["requests"], found["microseconds"] / 1e6, found["refused"], found["broken"])


class _Connection(asyncio.Protocol):
    """One kept-alive connection that has one request under way, like a connection of wrk."""

    def __init__(self, pump: "_Pump") -> None:
        self._pump = pump
        self._buffer = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        self._next()

    def _next(self) -> None:
        request = self._pump.next_request()
        if request is not None and self._transport is not None:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        if len(self._buffer) < end + 4 + length:
            return
        self._buffer = b""
        self._pump.answered(head[9:12].startswith(b"2"))
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._pump.lost()


class _Pump:
    """Hands out requests until the time or the ring is over, and counts answers."""

    def __init__(self, url: str, ring: Path, template: Path) -> None:
        parts = urlsplit(url)
        self._before, self._after = template.read_bytes().rstrip(b"\n").split(b"\n")
        self._lines = iter(ring.read_bytes().splitlines())
        self._start = f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
        self._over = False
        self.requests = self.refused = self.broken = 0

    def stop(self) -> None:
        self._over = True

    def next_request(self) -> bytes | None:
        line = None if self._over else next(self._lines, None)
        if line is None:
            return None
        ident, signature = line.split(b" ")
        body = self._before + ident + self._after
        head = f"{self._start}content-length: {len(body)}\r\n{SIGNATURE}: ".encode() + signature
        return head + b"\r\n\r\n" + body

    def answered(self, ok: bool) -> None:
        self.requests += 1
        self.refused += not ok

    def lost(self) -> None:
        self.broken += not self._over


async def _python(load: Load, url: str, ring: Path, template: Path) -> Round:
    pump = _Pump(url, ring, template)
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    transports = []
    for _ in range(load.connections):
        transport, _protocol = await loop.create_connection(lambda: _Connection(pump), host, port)
        transports.append(transport)
    await asyncio.sleep(max(0.0, load.seconds - (time.perf_counter() - started)))
    spent = time.perf_counter() - started
    counted = Round(pump.requests, spent, pump.refused, pump.broken)
    pump.stop()
    for transport in transports:
        transport.close()
    await asyncio.sleep(0)
    return counted
