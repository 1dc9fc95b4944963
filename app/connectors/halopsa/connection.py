"""One open connection to a HaloPSA."""

from collections.abc import Sequence

from pydantic import BaseModel

from app.connectors.canonical import Check, DeskError, ErrorClass, Lane
from app.connectors.halopsa import check
from app.connectors.halopsa.auth import TokenSource
from app.connectors.halopsa.client import HaloClient
from app.connectors.halopsa.config import HaloConfig, HaloCredentials
from app.connectors.halopsa.desk import HaloDesk
from app.connectors.halopsa.webhook import HaloWebhooks
from app.connectors.registry import OpenContext
from app.core.http.client import open_client


class HaloConnection:
    """Implements :class:`app.connectors.ports.Connector`."""

    def __init__(self, client: HaloClient) -> None:
        self._client = client
        self.desk = HaloDesk(client)
        self.webhooks = HaloWebhooks(client)

    async def check(self) -> Sequence[Check]:
        """The connection test, as interactive work: somebody is waiting for it."""
        return await check.run(self._client.in_lane(Lane.INTERACTIVE))

    async def aclose(self) -> None:
        """Close sockets."""
        await self._client.http.aclose()


def open_connection(config: BaseModel, credentials: BaseModel, context: OpenContext) -> HaloConnection:
    """Open a connection; nothing is sent yet. Raises :class:`DeskError` for an address that may not be
    used."""
    if not isinstance(config, HaloConfig) or not isinstance(credentials, HaloCredentials):
        raise TypeError("a HaloPSA connection needs HaloConfig and HaloCredentials")
    plain = [url for url in (config.base_url, config.token_url) if url.startswith("http://")]
    if plain and not context.allow_private:
        raise DeskError(
            ErrorClass.MISCONFIGURED,
            "The address starts with http://, so client secret and tickets would travel in the clear.",
            next_step="Use the https:// address.",
        )
    http = open_client(allow_private=context.allow_private)
    budget = context.budgets.budget(
        context.budget_key, limit=config.budget_limit, window_seconds=config.budget_window_seconds
    )
    tokens = TokenSource(http, config, credentials)
    return HaloConnection(HaloClient(config, http, tokens, budget, on_call=context.on_call))
