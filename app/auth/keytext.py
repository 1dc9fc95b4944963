"""The text of an API key: ``phk_<8 characters>_<32 characters><6 characters of checksum>`` (pure).

The prefix lets secret scanners and people recognise a key. The checksum tells a mistyped or cut key from a
wrong one without asking the database.
"""

import secrets
import string
import zlib
from dataclasses import dataclass

_ALPHABET = string.digits + string.ascii_letters
_PREFIX_LENGTH = 8
_SECRET_LENGTH = 32  # 62^32 is 190 bits
_CHECKSUM_LENGTH = 6  # 62^6 is above 2^32


@dataclass(frozen=True, slots=True, repr=False)
class KeyText:
    """A well-formed key. ``text`` is the whole of it and a secret."""

    prefix: str
    text: str


def _checksum(text: str) -> str:
    number = zlib.crc32(text.encode())
    digits = []
    for _ in range(_CHECKSUM_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def generate() -> KeyText:
    """A fresh random key."""
    prefix = "".join(secrets.choice(_ALPHABET) for _ in range(_PREFIX_LENGTH))
    head = f"phk_{prefix}_" + "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_LENGTH))
    return KeyText(prefix, head + _checksum(head))


def parse(text: str) -> KeyText | None:
    """The key in ``text``, or ``None`` when it cannot be a key of ours (wrong form, or a typo)."""
    marker, _, rest = text.partition("_")
    prefix, _, secret = rest.partition("_")
    if marker != "phk" or len(prefix) != _PREFIX_LENGTH or len(secret) != _SECRET_LENGTH + _CHECKSUM_LENGTH:
        return None
    head = text[:-_CHECKSUM_LENGTH]
    if not text.isascii() or _checksum(head) != text[-_CHECKSUM_LENGTH:]:
        return None
    return KeyText(prefix, text)
