"""Run an ASGI application on a real loopback socket, inside the event loop that is already running.

The connections it serves can be cut without an answer (:data:`ABORT_EXTENSION`), which plain ASGI has no word
for and which a client must survive: a gateway that dies in the middle of a request looks exactly like this.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

ABORT_EXTENSION = "parhelion.connection"
# A test or a demo that ends must not wait for a reader who has gone; two seconds let real answers finish.
GRACEFUL_SHUTDOWN_SECONDS = 2
# uvicorn's own tick: every tenth one renews the Date header.
TICK_SECONDS = 0.1


class Connection:
    """The socket behind one request: may be cut, and may be marked as never going to answer."""

    __slots__ = ("_protocol", "hanging")

    def __init__(self, protocol: HttpToolsProtocol) -> None:
        self._protocol = protocol
        self.hanging = False

    def abort(self) -> None:
        """Close the socket now, without an answer and without flushing."""
        self._protocol.transport.abort()

    def has_no_delay(self) -> bool:
        """Whether small writes leave at once (TCP_NODELAY)."""
        found: socket.socket = self._protocol.transport.get_extra_info("socket")
        return found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


class _CuttableProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol which hands its connection to the application as an ASGI extension."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._connection = Connection(self)
        extensions: dict[str, Any] = {ABORT_EXTENSION: self._connection}
        self.scope["extensions"] = extensions

    def shutdown(self) -> None:
        connection: Connection | None = getattr(self, "_connection", None)
        if connection is not None and connection.hanging:
            # It will never answer: waiting for it would cost every shutdown the whole grace period.
            connection.abort()
            return
        super().shutdown()


class _Server(uvicorn.Server):
    """uvicorn's server which leaves the process's signals alone and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self._told = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def tell_to_stop(self) -> None:
        """Begin the shutdown now, not at the next tick."""
        self.should_exit = True
        self._told.set()

    async def main_loop(self) -> None:
        ticks = 0
        while not await self.on_tick(ticks):
            ticks = (ticks + 1) % 864000
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), TICK_SECONDS)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.listening.set()


class ServingFailed(RuntimeError):
    """The application's own start-up failed, so nothing listens. The cause is in the log above."""


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol must be named: asyncio switches Nagle's algorithm off only for sockets that say
    # IPPROTO_TCP, and with it on every answer waited 40 ms for the client's delayed acknowledgement (23
    # requests/s instead of 1,300).
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.setblocking(False)
    except OSError:
        bound.close()
        raise
    return bound


@contextlib.asynccontextmanager
async def serving(app: Any, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve ``app`` while the body runs and yield its base URL, e.g. ``http://127.0.0.1:40123``.

    ``port=0`` takes a free port. The application's lifespan runs. An application with the attribute
    ``sets_date_header = True`` writes its own ``Date`` header. Raises ``OSError`` when the port is taken and
    :class:`ServingFailed` when the application does not start.
    """
    bound = _bind(host, port)
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="on",
        loop="none",
        http=_CuttableProtocol,
        ws="none",
        backlog=512,
        server_header=False,
        date_header=not getattr(app, "sets_date_header", False),
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_SECONDS,
    )
    server = _Server(config)
    name = f"[{host}]" if ":" in host else host
    base_url = f"http://{name}:{bound.getsockname()[1]}"
    running = asyncio.create_task(_serve(server, bound), name=f"serving {base_url}")
    try:
        await _until_listening(server, running)
        yield base_url
    finally:
        server.tell_to_stop()
        await asyncio.wait({running})
        bound.close()
    running.result()


async def _serve(server: _Server, bound: socket.socket) -> None:
    try:
        await server.serve(sockets=[bound])
    except SystemExit as error:
        # uvicorn leaves the process when the lifespan fails; here only this server has failed.
        raise ServingFailed("the application did not start: its lifespan failed") from error


async def _until_listening(server: _Server, running: asyncio.Task[None]) -> None:
    listening = asyncio.create_task(server.listening.wait())
    try:
        await asyncio.wait({listening, running}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        listening.cancel()
    if running.done():
        running.result()
