"""Keys that sign, and the public keys that verify: ECDSA on P-256 with SHA-256.

That is the pair that OpenSSF model signing, DSSE tools and every key management service know.

Invariants:
* A key is named by the SHA-256 of its public key in PEM, which is also model signing's hint.
* A private key is never shown: not by its representation, not in an error.
"""

import functools
import hashlib
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_ALGORITHM = ec.ECDSA(hashes.SHA256())


class SigningKeyError(ValueError):
    """A key that cannot be used; the message says which and what to do, and shows none of it."""


@dataclass(frozen=True)
class PublicKey:
    """A public key, as PEM in its one canonical form."""

    pem: bytes

    @staticmethod
    def parse(content: bytes, where: str) -> "PublicKey":
        """Read a public key from PEM or DER.

        Raises:
            SigningKeyError: if it is none on P-256; ``where`` says whose.
        """
        loaders = (serialization.load_pem_public_key, serialization.load_der_public_key)
        for load in loaders:
            try:
                found = load(content)
            except (ValueError, UnsupportedAlgorithm):
                continue
            if isinstance(found, ec.EllipticCurvePublicKey) and found.curve.name == "secp256r1":
                return PublicKey(_pem(found))
        raise SigningKeyError(
            f"{where}: this is no public key on the curve P-256; make one with "
            "`ftdm signing-key new` or `openssl ecparam -name prime256v1 -genkey`"
        )

    @property
    def key_id(self) -> str:
        """Return the key's name: the SHA-256 of its PEM."""
        return hashlib.sha256(self.pem).hexdigest()

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Say whether this key's private half has signed the message."""
        try:
            _loaded(self.pem).verify(signature, message, _ALGORITHM)
        except InvalidSignature:
            return False
        return True


class SigningKey(Protocol):
    """Whatever can sign: a key in memory, or one that never leaves its service."""

    @property
    def public(self) -> PublicKey:
        """Return the public half."""

    def sign(self, message: bytes) -> bytes:
        """Return the DER signature of a message."""


class LocalKey:
    """A private key in this process's memory."""

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        self._private = private

    def __repr__(self) -> str:
        return f"LocalKey({self.public.key_id[:12]})"

    @staticmethod
    def new() -> "LocalKey":
        """Make a new key."""
        return LocalKey(ec.generate_private_key(ec.SECP256R1()))

    @staticmethod
    def parse(content: bytes, where: str) -> "LocalKey":
        """Read an unencrypted private key from PEM.

        Raises:
            SigningKeyError: if it is none on P-256; the message does not show it.
        """
        problem = "this is no private key in PEM"
        try:
            found = serialization.load_pem_private_key(content, None)
        except TypeError:
            problem = "this private key is encrypted; keep it unencrypted with mode 0600, or in KMS"
        except (ValueError, UnsupportedAlgorithm):
            pass
        else:
            if isinstance(found, ec.EllipticCurvePrivateKey) and found.curve.name == "secp256r1":
                return LocalKey(found)
            problem = "this private key is not on the curve P-256"
        # Without the cause: a parser's message may quote what it could not read.
        raise SigningKeyError(f"{where}: {problem}") from None

    @property
    def public(self) -> PublicKey:
        """Return the public half."""
        return PublicKey(_pem(self._private.public_key()))

    def sign(self, message: bytes) -> bytes:
        """Return the DER signature of a message."""
        return self._private.sign(message, _ALGORITHM)

    def pem(self) -> bytes:
        """Return the private key for the file that keeps it, and for nothing else."""
        return self._private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


def _pem(public: ec.EllipticCurvePublicKey) -> bytes:
    return public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@functools.lru_cache(maxsize=64)
def _loaded(pem: bytes) -> ec.EllipticCurvePublicKey:
    found = serialization.load_pem_public_key(pem)
    if not isinstance(found, ec.EllipticCurvePublicKey):
        raise SigningKeyError("this is no public key on the curve P-256")
    return found
