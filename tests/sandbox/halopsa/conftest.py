"""A running sandbox with one tenant, its logged-in client, and a webhook receiver: all on real sockets."""

from collections.abc import AsyncIterator

import pytest

from app.core.http.client import open_client
from app.sandbox.halopsa.server import create_sandbox
from app.sandbox.halopsa.switches import Switches
from app.sandbox.serving import serving
from tests.sandbox.halopsa.calling import Receiver, Tenant


@pytest.fixture
async def acme() -> AsyncIterator[Tenant]:
    """The tenant ``acme`` with every default but the tokens' hour (tests move the clock), and a logged-in client."""
    sandbox = create_sandbox()
    world = sandbox.add_tenant("acme", switches=Switches(token_lifetime_seconds=7 * 24 * 3600))
    async with serving(sandbox.app) as url, open_client(allow_private=True, timeout_seconds=5) as client:
        tenant = Tenant(sandbox, world, f"{url}/acme", client)
        await tenant.log_in()
        yield tenant


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A webhook receiver."""
    app = Receiver()
    async with serving(app) as url:
        app.url = f"{url}/hook"
        yield app
