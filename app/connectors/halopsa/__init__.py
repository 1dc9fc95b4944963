"""HaloPSA: the desk at the centre.

Facts about its wire stand in the docstrings of the files that rely on them, with the section of the HaloPSA
wire contract they come from."""

from app.connectors.halopsa.config import HaloConfig, HaloCredentials, HaloSideOptions
from app.connectors.halopsa.connection import open_connection
from app.connectors.halopsa.webhook import HALO_VERIFIER, parse_hook, split_hook
from app.connectors.registry import ConnectorKind

KIND = ConnectorKind(
    name="halopsa",
    title="HaloPSA",
    config=HaloConfig,
    credentials=HaloCredentials,
    side_options=HaloSideOptions,
    open=open_connection,
    parse_hook=parse_hook,
    split_hook=split_hook,
    verifier=HALO_VERIFIER,
)

__all__ = ["HALO_VERIFIER", "KIND", "HaloConfig", "HaloCredentials", "HaloSideOptions"]
