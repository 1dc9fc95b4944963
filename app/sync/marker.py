"""Markers: the signed key on everything we create, by which we find it again after a crash. Pure.

``PHL-<20 hex key>-<16 hex signature>``. The signature is HMAC-SHA256 under the relationship's own secret, so a marker
that someone pasted, quoted or copied from another relationship is not believed. It is cut to 64 bits: a forger would
need 2^63 posted tickets on average to hide one comment.
"""

import hmac
import re
from uuid import UUID

from app.core.crypto import same, stable_key

_FORM = re.compile(r"^PHL-([0-9a-f]{20})-([0-9a-f]{16})$")


def ticket_key(relationship_id: UUID, side: str, native_id: str) -> str:
    """The key of the twin of a ticket. No title, no time: it is the same on every retry."""
    return stable_key("ticket", relationship_id.hex, side, native_id)


def comment_key(relationship_id: UUID, side: str, native_id: str) -> str:
    """The key of the twin of a comment."""
    return stable_key("comment", relationship_id.hex, side, native_id)


def change_key(link_id: UUID, side: str, generation: int, values: dict[str, str]) -> str:
    """The key of a write of fields. ``generation`` moves on with every recorded write, so the same values can be
    written again later while a retry of this write keeps its key."""
    pairs = [f"{name}={value}" for name, value in sorted(values.items())]
    return stable_key("change", link_id.hex, side, str(generation), *pairs)


def sign(key: str, secret: str) -> str:
    """The marker of a key."""
    return f"PHL-{key}-{_signature(key, secret)}"


def read(marker: str, secret: str) -> str | None:
    """The key of a marker that this secret signed, else ``None``."""
    match = _FORM.match(marker.strip())
    if match is None or not same(match[2], _signature(match[1], secret)):
        return None
    return match[1]


def _signature(key: str, secret: str) -> str:
    return hmac.digest(secret.encode(), key.encode(), "sha256").hex()[:16]
