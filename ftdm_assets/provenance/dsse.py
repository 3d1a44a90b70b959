"""In-toto statements in signed DSSE envelopes (https://github.com/secure-systems-lab/dsse).

Invariants:
* What is signed is the canonical JSON of a statement, in DSSE's pre-authentication encoding.
* An envelope has one written form, down to the byte: one that could be written otherwise (white
  space, base64 with stray bits, a second signature) is refused, so no changed byte goes unseen.
* Opening needs the bytes and the trusted keys, nothing else: no clock, no network, no file.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ftdm_assets.provenance.digests import canonical_json
from ftdm_assets.provenance.keys import SigningKey
from ftdm_assets.provenance.trust import Trust

PAYLOAD_TYPE = "application/vnd.in-toto+json"


class SignatureError(ValueError):
    """A signature that does not count; the message says why."""


@dataclass(frozen=True)
class Opened:
    """A statement, its digest, and the id of the key that signed it."""

    statement: dict[str, Any]
    digest: str
    key_id: str


def envelope(statement: Mapping[str, Any], key: SigningKey) -> dict[str, Any]:
    """Sign a statement."""
    payload = canonical_json(dict(statement))
    signature = key.sign(pre_authentication(payload))
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [
            {"keyid": key.public.key_id, "sig": base64.b64encode(signature).decode()},
        ],
    }


def signed(statement: Mapping[str, Any], key: SigningKey) -> bytes:
    """Sign a statement and return the envelope as the bytes of a file."""
    return written(envelope(statement, key))


def written(document: Mapping[str, Any]) -> bytes:
    """Return the one form in which a signed document is written."""
    return canonical_json(dict(document)) + b"\n"


def open_signed(content: bytes, trust: Trust) -> Opened:
    """Return the statement in an envelope that a trusted key has signed.

    Raises:
        SignatureError: if it is no such envelope, or its key does not count.
    """
    return open_envelope(read_written(content), trust)


def read_written(content: bytes) -> dict[str, Any]:
    """Read a signed document back.

    Raises:
        SignatureError: if it is not in the form that this project writes.
    """
    try:
        document = json.loads(content)
        same = isinstance(document, dict) and written(document) == content
    except (ValueError, RecursionError):
        same = False
    if not same:
        raise SignatureError("it was changed: it is not in the form in which it was written")
    found: dict[str, Any] = document
    return found


def open_envelope(document: Mapping[str, Any], trust: Trust, key_id: str | None = None) -> Opened:
    """Return the statement in an envelope; ``key_id`` names the key where the envelope does not.

    Raises:
        SignatureError: if it is no such envelope, or its key does not count.
    """
    try:
        (signature,) = document["signatures"]
        named = str(signature["keyid"]) if key_id is None else key_id
        payload, sig = _bytes(document["payload"]), _bytes(signature["sig"])
        whole = (
            set(document) == {"payload", "payloadType", "signatures"}
            and document["payloadType"] == PAYLOAD_TYPE
            and set(signature) <= {"keyid", "sig"}
        )
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise SignatureError("this is no DSSE envelope with one signature on an in-toto statement")
    if problem := trust.problem(named):
        raise SignatureError(problem)
    if not trust.keys[named].verifies(sig, pre_authentication(payload)):
        raise SignatureError(f"the signature is not of key {named[:12]} on this content")
    statement = json.loads(payload)
    if not isinstance(statement, dict) or canonical_json(statement) != payload:
        raise SignatureError("what was signed is no statement in canonical JSON")
    return Opened(statement, hashlib.sha256(payload).hexdigest(), named)


def pre_authentication(payload: bytes) -> bytes:
    """Return what is signed in place of a payload: DSSE's PAE."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _bytes(text: str) -> bytes:
    content = base64.b64decode(text, validate=True)
    if base64.b64encode(content).decode() != text:
        raise ValueError("stray bits in base64")
    return content
