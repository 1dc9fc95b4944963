"""How a delivery proves where it comes from: nothing, Basic, or an HMAC over the raw body."""

import base64
import hashlib
import hmac

from app.sandbox.halopsa.calls import Row
from app.sandbox.halopsa.switches import Switches
from app.sandbox.halopsa.webhooks import AUTHENTICATION_BASIC, AUTHENTICATION_HMAC

DIGEST_HEX = 1
_ALGORITHMS = {0: hashlib.sha256, 1: hashlib.sha512}
_DEFAULT_HEADER = "X-Halo-Signature"


def headers_for(webhook: Row, body: bytes, switches: Switches, *, corrupt: bool = False) -> dict[str, str]:
    """The authentication headers of one delivery. ``corrupt`` signs with a wrong key, for receivers' tests.

    With a ``signature_prefix`` HaloPSA writes a space between prefix and digest, e.g. ``sha256= abc…``.
    """
    password = webhook["basic_password"] + ("-wrong" if corrupt else "")
    if webhook["authentication_type"] == AUTHENTICATION_BASIC:
        pair = f"{webhook['basic_username']}:{password}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
    if webhook["authentication_type"] != AUTHENTICATION_HMAC:
        return {}
    algorithm = _ALGORITHMS.get(webhook["algorithm"], hashlib.sha256)
    digest = hmac.new(password.encode(), body, algorithm).digest()
    text = digest.hex() if webhook["digest"] == DIGEST_HEX else base64.b64encode(digest).decode()
    prefix = webhook["signature_prefix"]
    if prefix:
        text = f"{prefix} {text}" if switches.hmac_space_after_prefix else f"{prefix}{text}"
    return {webhook["authentication_header"] or _DEFAULT_HEADER: text}
