"""Keeps names and contents of the result cache from whoever else can read or write the store.

Invariants:
- names are HMACs and contents AES-GCM under keys of this home: a stranger with the store can
  neither read an answer, nor test what was asked, nor plant an answer;
- a content opens under its own name only: an answer that the store, or a connection, gives to
  another question is as good as none;
- every name has a content key of its own, so that random nonces never run out.
"""

import hmac
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from serving.home import Home
from serving.private_file import secret_at

_NONCE_BYTES = 12


class Seal:
    """What one secret names, closes and opens."""

    def __init__(self, secret: bytes) -> None:
        self._naming = _derived(secret, b"name")
        self._closing = _derived(secret, b"content")

    def name(self, told_apart: bytes) -> str:
        """Return the name that an answer is kept under: 64 hexadecimal digits."""
        return _derived(self._naming, told_apart).hex()

    def close(self, name: str, content: bytes) -> bytes:
        """Return what may be given to the store."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher(name).encrypt(nonce, content, None)

    def open(self, name: str, closed: bytes) -> bytes | None:
        """Return the content; None if it is not what `close` made of this name."""
        nonce, rest = closed[:_NONCE_BYTES], closed[_NONCE_BYTES:]
        try:
            return self._cipher(name).decrypt(nonce, rest, None)
        except (InvalidTag, ValueError):  # ValueError: too short to hold a nonce.
            return None

    def _cipher(self, name: str) -> AESGCM:
        return AESGCM(_derived(self._closing, name.encode()))


def home_secret(home: Path) -> bytes:
    """Return the secret of a home's cache, made on first use in `cache.secret`.

    Losing the file loses what is kept, and nothing else.

    Raises:
        SecretError: Others may read the file, or it holds no secret.
        OSError: It can be neither read nor written.
        HomeError: Another process holds its lock.
    """
    place = Home.at(home)
    return bytes.fromhex(secret_at(place.cache_secret, place))


def _derived(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, content, "sha256")
