"""Who sent this request? The verifiers of inbound webhooks, and the signatures of outbound ones.

Everything here is pure: configuration, secrets, headers, raw bytes and the time go in, a verdict comes out.
Nothing raises on what a stranger sends, nothing is parsed before it is verified, every comparison takes
constant time, and what cannot be decided is refused. Several secrets may be active at once, so a secret is
rotated without a lost delivery: the old one stays valid for its grace time.

This is the hot path: a 600-byte body under ``hmac_sha256`` costs about 4 microseconds."""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator

STANDARD_TOLERANCE_SECONDS = 300
# A sender rotating keys sends two or three; a list of thousands is an attempt to make us compute.
_MOST_SIGNATURES = 16
_STANDARD_PREFIX = "whsec_"
_TOKEN = re.compile(r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$")  # RFC 9110, 5.6.2: what a header may be called


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NoVerifier(_Config):
    """The sender proves nothing: the unguessable URL is all there is."""

    kind: Literal["none"] = "none"


class BasicVerifier(_Config):
    """HTTP Basic (RFC 7617): the user name is configured, the passwords are the active secrets."""

    kind: Literal["basic"] = "basic"
    username: str = Field(max_length=200, description="User name; it cannot contain a colon.")

    @field_validator("username")
    @classmethod
    def _no_colon(cls, value: str) -> str:
        if ":" in value:
            raise ValueError("a user name cannot contain ':' (RFC 7617); a password can")
        return value


class BearerVerifier(_Config):
    """``Authorization: Bearer <secret>``, or the bare secret in another header."""

    kind: Literal["bearer"] = "bearer"
    header: str = Field(default="authorization", max_length=100, description="Header that carries the token.")

    @field_validator("header")
    @classmethod
    def _header(cls, value: str) -> str:
        return _header_name(value)


class HmacVerifier(_Config):
    """HMAC-SHA256 of the raw body, keyed with the secret's UTF-8 bytes."""

    kind: Literal["hmac_sha256"] = "hmac_sha256"
    header: str = Field(max_length=100, description="Header that carries the signature.")
    prefix: str = Field(
        default="",
        max_length=50,
        description="Text before the signature, such as 'sha256='; blanks after it are fine.",
    )
    encoding: Literal["base64", "hex", "either"] = Field(
        default="either",
        description="How the 32 bytes are written. Hexadecimal digits may be of either case.",
    )

    @field_validator("header")
    @classmethod
    def _header(cls, value: str) -> str:
        return _header_name(value)

    @field_validator("prefix")
    @classmethod
    def _prefix(cls, value: str) -> str:
        return value.strip()


class StandardVerifier(_Config):
    """Standard Webhooks 1.0: ``webhook-id``, ``webhook-timestamp`` and ``webhook-signature``; secrets
    are base64 with or without the prefix ``whsec_``; deliveries older or newer than five minutes are
    refused as replays."""

    kind: Literal["standard_webhooks"] = "standard_webhooks"


Verifier = Annotated[
    NoVerifier | BasicVerifier | BearerVerifier | HmacVerifier | StandardVerifier, Field(discriminator="kind")
]
verifier_adapter: TypeAdapter[Verifier] = TypeAdapter(Verifier)


@dataclass(frozen=True, slots=True)
class Verification:
    """The verdict; true when the sender is who the configuration says. ``reason`` is for the operator,
    never for the sender, and contains nothing the sender sent."""

    accepted: bool
    reason: str

    def __bool__(self) -> bool:
        return self.accepted


_ACCEPTED = Verification(True, "the sender is verified")
_NOT_CHECKED = Verification(True, "this connection does not verify its sender")
_NO_SECRET = Verification(False, "no secret is active, so nothing can be verified")
_UNKNOWN_KIND = Verification(False, "the verifier is of a kind this version does not know")
_NO_HEADER = Verification(False, "the header that proves the sender is missing")
_NO_PREFIX = Verification(False, "the signature does not start with the configured prefix")
_MALFORMED = Verification(False, "the header that proves the sender is malformed")
_DIFFERS = Verification(False, "the signature or password does not match any active secret")
_STALE = Verification(False, "the timestamp is more than five minutes away from now")


def verify(
    verifier: Any, secrets: Sequence[str], headers: Mapping[str, str], body: bytes, now: datetime
) -> Verification:
    """Whether the request comes from the holder of one of ``secrets``.

    ``headers`` has lower-case names (ASGI's own form), ``body`` is the raw request body and ``now`` an
    aware time. Empty secrets do not count, and an unknown kind of verifier is refused."""
    check = _CHECKS.get(type(verifier))
    if check is None:
        return _UNKNOWN_KIND
    if check is _check_none:
        return _NOT_CHECKED
    active = [secret for secret in secrets if secret]
    if not active:
        return _NO_SECRET
    return check(verifier, active, headers, body, now)


def decoy() -> HmacVerifier:
    """A verifier for requests that have no connection: it costs what a wrong signature costs.

    It reads ``host``, which every request has, so the HMAC is really computed. Ignore its verdict.
    """
    return HmacVerifier(header="host", encoding="hex")


def sign_hmac(secret: str, body: bytes, *, prefix: str = "", encoding: Literal["base64", "hex"] = "hex") -> str:
    """The header value that :class:`HmacVerifier` accepts for ``body``."""
    digest = hmac.digest(_key(secret), body, "sha256")
    return prefix + (digest.hex() if encoding == "hex" else base64.b64encode(digest).decode())


def sign_standard(secret: str, message_id: str, timestamp: datetime, body: bytes) -> str:
    """The ``webhook-signature`` of Standard Webhooks 1.0: ``v1,<base64>`` over ``id.timestamp.body``.

    Raises ``ValueError`` when the secret is not base64 (with or without ``whsec_``).
    """
    key = _standard_key(secret)
    if key is None:
        raise ValueError("a Standard Webhooks secret is base64, usually with the prefix whsec_")
    return "v1," + _standard_signature(key, message_id, int(timestamp.timestamp()), body)


def _check_none(
    verifier: Any, secrets: list[str], headers: Mapping[str, str], body: bytes, now: datetime
) -> Verification:
    return _NOT_CHECKED


def _check_basic(
    verifier: BasicVerifier, secrets: list[str], headers: Mapping[str, str], body: bytes, now: datetime
) -> Verification:
    given = headers.get("authorization")
    if given is None:
        return _NO_HEADER
    scheme, _, encoded = given.strip().partition(" ")
    if scheme.lower() != "basic":
        return _MALFORMED
    try:
        pair = base64.b64decode(_bytes(encoded.strip()), validate=True)
    except (binascii.Error, ValueError):
        return _MALFORMED
    username, colon, password = pair.partition(b":")
    if not colon:
        return _MALFORMED
    # Both parts are always compared, so the time taken does not tell whether the name was right.
    right_name = hmac.compare_digest(username, verifier.username.encode())
    right_password = _one_of([_key(secret) for secret in secrets], password)
    return _ACCEPTED if right_name & right_password else _DIFFERS


def _check_bearer(
    verifier: BearerVerifier, secrets: list[str], headers: Mapping[str, str], body: bytes, now: datetime
) -> Verification:
    given = headers.get(verifier.header)
    if given is None:
        return _NO_HEADER
    token = given.strip()
    scheme, blank, rest = token.partition(" ")
    if blank and scheme.lower() == "bearer":
        token = rest.strip()
    elif verifier.header == "authorization":
        return _MALFORMED
    matches = _one_of([_key(secret) for secret in secrets], _bytes(token))
    return _ACCEPTED if matches else _DIFFERS


def _check_hmac(
    verifier: HmacVerifier, secrets: list[str], headers: Mapping[str, str], body: bytes, now: datetime
) -> Verification:
    given = headers.get(verifier.header)
    if given is None:
        return _NO_HEADER
    # HaloPSA writes a blank between its prefix and the signature ("sha256= <base64>"), others do not.
    given = given.strip()
    if verifier.prefix:
        if not given.startswith(verifier.prefix):
            return _NO_PREFIX
        given = given[len(verifier.prefix) :].lstrip()
    signature = _bytes(given)
    expected: list[bytes] = []
    for secret in secrets:
        digest = hmac.digest(_key(secret), body, "sha256")
        if verifier.encoding != "hex":
            expected.append(binascii.b2a_base64(digest, newline=False))
        if verifier.encoding != "base64":
            expected.append(binascii.hexlify(digest))
    if verifier.encoding != "base64" and len(signature) == 64:
        signature = signature.lower()
    return _ACCEPTED if _one_of(expected, signature) else _DIFFERS


def _check_standard(
    verifier: StandardVerifier, secrets: list[str], headers: Mapping[str, str], body: bytes, now: datetime
) -> Verification:
    message_id = headers.get("webhook-id")
    timestamp = headers.get("webhook-timestamp")
    signatures = headers.get("webhook-signature")
    if not message_id or not timestamp or not signatures:
        return _NO_HEADER
    # Ten digits reach the year 2286; int() of a hostile million digits would be a way to keep us busy.
    if len(timestamp) > 12 or not timestamp.isascii() or not timestamp.isdigit():
        return _MALFORMED
    if abs(now.timestamp() - int(timestamp)) > STANDARD_TOLERANCE_SECONDS:
        return _STALE
    given = [
        _bytes(value)
        for version, _, value in (entry.partition(",") for entry in signatures.split()[:_MOST_SIGNATURES])
        if version == "v1"
    ]
    keys = [key for key in map(_standard_key, secrets) if key is not None]
    if not keys:
        return _NO_SECRET
    if not given:
        return _MALFORMED
    expected = [_standard_signature(key, message_id, int(timestamp), body).encode() for key in keys]
    found = False
    for signature in given:
        found |= _one_of(expected, signature)
    return _ACCEPTED if found else _DIFFERS


_CHECKS: Mapping[type, Callable[[Any, list[str], Mapping[str, str], bytes, datetime], Verification]] = {
    NoVerifier: _check_none,
    BasicVerifier: _check_basic,
    BearerVerifier: _check_bearer,
    HmacVerifier: _check_hmac,
    StandardVerifier: _check_standard,
}


def _one_of(candidates: list[bytes], given: bytes) -> bool:
    """Whether ``given`` is among the candidates, comparing with every one of them."""
    found = False
    for candidate in candidates:
        found |= hmac.compare_digest(candidate, given)
    return found


def _bytes(text: str) -> bytes:
    """Bytes of a header value, whatever it is: ASGI servers decode headers as Latin-1, tests may pass
    anything."""
    return text.encode("utf-8", "surrogatepass")


@lru_cache(maxsize=1024)
def _key(secret: str) -> bytes:
    return secret.encode("utf-8", "surrogatepass")


def _standard_key(secret: str) -> bytes | None:
    try:
        key = base64.b64decode(_bytes(secret.removeprefix(_STANDARD_PREFIX)), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key or None


def _standard_signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    signed = _bytes(message_id) + b"." + str(timestamp).encode() + b"." + body
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def _header_name(value: str) -> str:
    name = value.strip()
    if not _TOKEN.match(name):
        raise ValueError("a header name consists of letters, digits and hyphens")
    return name.lower()
