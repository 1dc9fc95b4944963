"""One HaloPSA on a socket for each test that asks for it."""

from collections.abc import AsyncIterator

import pytest

from tests.connectors.halopsa.rig import Rig, rigged


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A sandbox with every switch at its default, and a connection to it."""
    async with rigged() as found:
        yield found
