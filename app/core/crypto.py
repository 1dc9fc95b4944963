"""Secrets at rest and in comparison.

Values that are read back (credentials) are sealed with AES-256-GCM under a named key; the row's place
(``table/column/id``) is bound as associated data, so a ciphertext copied to another row does not open. Values that
are only looked up (API keys, verification codes) are stored as a hash.
"""

import base64
import hashlib
import hmac
import os
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.core.config import Settings, parse_keys


class UndecipherableError(Exception):
    """No configured key opens this value: the key was removed from ``PARHELION_SECRET_KEYS`` too early, or the
    row was tampered with."""


class Vault:
    """Seals and opens values under a ring of named keys: the first seals, all open."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._keys = dict(keys)
        self._newest = next(iter(self._keys))

    @classmethod
    def from_settings(cls, settings: Settings) -> "Vault":
        """The vault of the configured keys."""
        return cls(parse_keys(settings.secret_keys.get_secret_value()))

    @property
    def newest(self) -> str:
        """The name of the key that seals now."""
        return self._newest

    def seal(self, text: str, *, place: str) -> str:
        """Encrypt ``text``. ``place`` is where it will be stored, as ``table/column/id``."""
        nonce = os.urandom(12)
        sealed = AESGCM(self._keys[self._newest]).encrypt(nonce, text.encode(), place.encode())
        return f"{self._newest}.{base64.b64encode(nonce + sealed).decode()}"

    def open(self, sealed: str, *, place: str) -> str:
        """Decrypt. Raises :class:`UndecipherableError` naming the missing key, never the value."""
        name, _, encoded = sealed.partition(".")
        key = self._keys.get(name)
        if key is None:
            raise UndecipherableError(
                f"{place} is encrypted with key '{name}', which is not in PARHELION_SECRET_KEYS; add it back"
            )
        blob = base64.b64decode(encoded)
        try:
            return AESGCM(key).decrypt(blob[:12], blob[12:], place.encode()).decode()
        except InvalidTag:
            raise UndecipherableError(f"{place} does not open with key '{name}': it was changed or moved") from None

    def is_current(self, sealed: str) -> bool:
        """Whether ``sealed`` is under the newest key (``parhelion rotate-keys`` re-seals the others)."""
        return sealed.startswith(self._newest + ".")


def lookup_hash(text: str) -> str:
    """SHA-256 of a random secret of at least 128 bits that is only ever looked up, 64 hex digits.

    Such secrets cannot be guessed from their hash, and an unkeyed hash survives the rotation of encryption keys.
    """
    return hashlib.sha256(b"parhelion lookup\x1f" + text.encode()).hexdigest()


def same(left: str, right: str) -> bool:
    """Constant-time comparison of two texts."""
    return hmac.compare_digest(left.encode(), right.encode())


def stable_key(*parts: str) -> str:
    """A 20-hex-digit key of the parts. Parts must not change between tries: ids, never times or titles."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:20]
