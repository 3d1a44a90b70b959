"""A signing key in AWS KMS: it signs there and never leaves. Region and credentials as usual.

The key has the spec ECC_NIST_P256 and the usage SIGN_VERIFY; who signs needs ``kms:Sign`` and
``kms:GetPublicKey`` on it.
"""

import hashlib
from typing import Any

from ftdm_assets import aws
from ftdm_assets.provenance.keys import PublicKey, SigningKeyError


class KmsUnreachableError(SigningKeyError):
    """KMS could not be reached; the message says what to do."""


class KmsKey:
    """A key in KMS, by its id, alias (``alias/NAME``) or ARN."""

    def __init__(self, name: str) -> None:
        self._name = name
        answer = self._ask("get_public_key")
        self._public = PublicKey.parse(answer["PublicKey"], f"kms:{name}")

    @property
    def public(self) -> PublicKey:
        """Return the public half."""
        return self._public

    def sign(self, message: bytes) -> bytes:
        """Return the DER signature of a message, of which KMS sees the digest only."""
        answer = self._ask(
            "sign",
            Message=hashlib.sha256(message).digest(),
            MessageType="DIGEST",
            SigningAlgorithm="ECDSA_SHA_256",
        )
        signature = bytes(answer["Signature"])
        if not self._public.verifies(signature, message):
            raise SigningKeyError(
                f"kms:{self._name} signed with another key than it showed; was its alias moved? "
                "run the command again"
            )
        return signature

    def _ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        try:
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError:
            raise SigningKeyError(
                f"kms:{self._name} needs boto3; `pip install -e '.[aws]'`"
            ) from None
        try:
            answer: dict[str, Any] = getattr(aws.client("kms"), what)(KeyId=self._name, **arguments)
        except ClientError as error:
            raise SigningKeyError(
                f"kms:{self._name}: KMS refused {what} ({aws.code(error)}); it has to be a key "
                "ECC_NIST_P256 for SIGN_VERIFY, with kms:Sign and kms:GetPublicKey allowed"
            ) from None
        except BotoCoreError as error:
            raise KmsUnreachableError(
                f"kms:{self._name}: KMS could not be reached ({type(error).__name__}); check "
                "network, region and credentials of the AWS environment"
            ) from None
        return answer
