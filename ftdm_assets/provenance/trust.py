"""Which keys count: a folder of public keys, and beside them which were revoked and why.

Invariants:
* A key counts if its public key lies there under its own id and no revocation of it does.
* A revoked key counts for nothing that it ever signed; revoking is never undone here.
* A file that does not hold what its name says makes its key count for nothing.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ftdm_assets.provenance import files
from ftdm_assets.provenance.digests import json_digest
from ftdm_assets.provenance.keys import PublicKey, SigningKeyError

TRUST_ENV = "FTDM_TRUST"
_KEY, _REVOKED = ".pem", ".revoked.json"


@dataclass(frozen=True)
class Trust:
    """The trusted public keys by id, and why each revoked one was revoked."""

    keys: Mapping[str, PublicKey]
    revoked: Mapping[str, str]

    def problem(self, key_id: str) -> str:
        """Return why a key does not count, or nothing."""
        if key_id in self.revoked:
            return f"key {key_id[:12]} was revoked ({self.revoked[key_id]})"
        if key_id not in self.keys:
            return f"key {key_id[:12] or 'without an id'} is not trusted here"
        return ""

    def digest(self) -> str:
        """Return a digest that changes with every key that comes to count or ceases to."""
        return json_digest({"keys": sorted(self.keys), "revoked": sorted(self.revoked)})


NOBODY = Trust({}, {})


def trust_folder(home: Path) -> Path:
    """Return where the trusted public keys lie: ``FTDM_TRUST``, else a folder of the home."""
    chosen = os.environ.get(TRUST_ENV)
    return Path(chosen).resolve() if chosen else home / "trust"


def read_trust(folder: Path) -> Trust:
    """Read a trust folder; one that is not there trusts nobody."""
    keys, revoked = {}, {}
    for path in sorted(folder.glob(f"*{_KEY}")):
        try:
            key = PublicKey.parse(path.read_bytes(), str(path))
        except (SigningKeyError, OSError):
            continue
        if path.name == key.key_id + _KEY and path.read_bytes() == key.pem:
            keys[key.key_id] = key
    for path in sorted(folder.glob(f"*{_REVOKED}")):
        revoked[path.name.removesuffix(_REVOKED)] = _reason(path)
    return Trust(keys, revoked)


def _reason(path: Path) -> str:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return f"{document['reason']}, by {document['by']} on {str(document['at'])[:10]}"
    except (ValueError, KeyError, TypeError, OSError):
        # Whatever else the file holds, it is there: the key is revoked.
        return "the reason cannot be read"


def trust_key(folder: Path, key: PublicKey) -> Path:
    """Let a key count."""
    path = folder / f"{key.key_id}{_KEY}"
    files.write_bytes(path, key.pem)
    return path


def revoke_key(folder: Path, key_id: str, *, by: str, reason: str, at: str) -> Path:
    """Let a key count no more, for anything that it ever signed."""
    path = folder / f"{key_id}{_REVOKED}"
    files.write_json(path, {"key_id": key_id, "by": by, "reason": reason, "at": at})
    return path
