"""Run the sandbox from a terminal until it is told to stop."""

import asyncio
import signal
import sys

from app.sandbox.halopsa.control import describe
from app.sandbox.halopsa.server import Sandbox, SandboxSettings, create_sandbox
from app.sandbox.halopsa.switches import Switches
from app.sandbox.serving import serving


def serve(host: str, port: int, tenants: list[str], switches: dict[str, str]) -> None:
    """Serve ``tenants`` (one called ``acme`` when none is given) until SIGINT or SIGTERM.

    ``switches`` are names and values as text, for every tenant. Prints each tenant's addresses and
    credentials, which are invented. Raises ``UnknownSwitch``, ``BadTenantName``, and ``OSError`` when the
    port is taken.
    """
    settings = SandboxSettings(tuple(tenants) or ("acme",), Switches().changed(dict(switches)))
    asyncio.run(_until_told(create_sandbox(settings), host, port))


async def _until_told(sandbox: Sandbox, host: str, port: int) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    async with serving(sandbox.app, host=host, port=port) as base_url:
        sys.stdout.write(_welcome(sandbox, base_url))
        sys.stdout.flush()
        await told.wait()


def _welcome(sandbox: Sandbox, base_url: str) -> str:
    lines = [f"HaloPSA sandbox at {base_url}, control API at {base_url}/_sandbox/tenants"]
    for world in sandbox.tenants.values():
        shown = describe(world, base_url)
        lines.append(f"\n{world.name}\n  resource server  {shown['api_url']}\n  token url        {shown['token_url']}")
        lines += [
            f"  client id        {item['client_id']}\n  client secret    {item['client_secret']}"
            for item in shown["applications"]
        ]
    return "\n".join(lines) + "\n\nStop with Ctrl+C.\n"
