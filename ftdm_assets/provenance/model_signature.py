"""OpenSSF model signing of a folder: what ``model_signing verify key`` reads, written here.

The format is that of https://github.com/ossf/model-signing-spec: an in-toto statement with every
file's SHA-256, in a DSSE envelope, in a Sigstore bundle that names the public key. It is written
with the keys and envelopes of this package, because the library signs only with a key in a file.

Invariants:
* The signed list of files is the one over which the folder's digest is computed, so a signature
  binds to the digest that manifests and verdicts name.
* A bundle has one written form, as every envelope.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from ftdm_assets.provenance.digests import json_digest
from ftdm_assets.provenance.dsse import (
    SignatureError,
    envelope,
    open_envelope,
    read_written,
    written,
)
from ftdm_assets.provenance.keys import SigningKey
from ftdm_assets.provenance.statements import STATEMENT_TYPE
from ftdm_assets.provenance.trust import Trust

MODEL_SIGNATURE_TYPE = "https://model_signing/signature/v1.0"
_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
# Nothing is left out: a file that is there and not signed is a difference.
_SERIALIZATION = {"method": "files", "hash_type": "sha256", "allow_symlinks": False}


def sign_model(name: str, listing: Sequence[dict[str, str]], key: SigningKey) -> bytes:
    """Return the signature of a folder as the bytes of a ``.sig`` file.

    Args:
        name: the model's name.
        listing: the folder's files, as ``digests.folder_files`` gives them.
        key: signs.
    """
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": _root(listing)}}],
        "predicateType": MODEL_SIGNATURE_TYPE,
        "predicate": {"serialization": _SERIALIZATION, "resources": list(listing)},
    }
    signed = envelope(statement, key)
    signed["signatures"][0]["keyid"] = ""
    hint = {"publicKey": {"hint": key.public.key_id}, "tlogEntries": []}
    return written({"mediaType": _BUNDLE, "verificationMaterial": hint, "dsseEnvelope": signed})


def signed_listing(content: bytes, trust: Trust) -> tuple[list[dict[str, str]], str]:
    """Return the list of files in a folder's signature, and the id of the key that signed it.

    Raises:
        SignatureError: if the signature does not count.
    """
    bundle = read_written(content)
    try:
        key_id = str(bundle["verificationMaterial"]["publicKey"]["hint"])
        signed = bundle["dsseEnvelope"]
        whole = bundle == {
            "mediaType": _BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": key_id}, "tlogEntries": []},
            "dsseEnvelope": signed,
        }
    except (KeyError, TypeError):
        whole = False
    if not whole:
        raise SignatureError("this is no bundle of model signing with a public key")
    statement = open_envelope(signed, trust, key_id).statement
    try:
        listing: list[dict[str, str]] = statement["predicate"]["resources"]
        same = statement["predicateType"] == MODEL_SIGNATURE_TYPE and (
            statement["subject"][0]["digest"]["sha256"] == _root(listing)
        )
    except (KeyError, TypeError, ValueError, IndexError):
        same = False
    if not same:
        raise SignatureError("its root digest is not that of the files that it lists")
    return listing, key_id


def listing_digest(listing: Sequence[dict[str, str]]) -> str:
    """Return the folder digest that a list of files gives."""
    return json_digest(list(listing))


def differences(signed: Sequence[dict[str, str]], found: Sequence[dict[str, str]]) -> list[str]:
    """Return in words which files differ from the signed ones."""
    then = {one["name"]: one["digest"] for one in signed}
    now = {one["name"]: one["digest"] for one in found}
    return [
        *(
            f"{name} was changed"
            for name in sorted(then)
            if now.get(name, then[name]) != then[name]
        ),
        *(f"{name} is missing" for name in sorted(then.keys() - now.keys())),
        *(f"{name} was added" for name in sorted(now.keys() - then.keys())),
    ]


def _root(listing: Sequence[dict[str, Any]]) -> str:
    return hashlib.sha256(b"".join(bytes.fromhex(one["digest"]) for one in listing)).hexdigest()
