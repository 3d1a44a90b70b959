"""``ftdm signing-key``: the key that signs here, and the keys whose signatures count."""

import getpass
import os
import re

from ftdm_assets.commands import output
from ftdm_assets.home import home, trust, trust_folder
from ftdm_assets.provenance.environment import now
from ftdm_assets.provenance.keys import SigningKeyError
from ftdm_assets.provenance.trust import revoke_key, trust_key
from ftdm_assets.signing import home_key_id, make_home_key, public_key

_SHORTEST = 8


def new(as_json: bool) -> int:
    """Make a new key of this home and trust it; the one before is kept aside."""
    made = make_home_key(home())
    return _done(made.key_id, f"key {made.key_id} signs from now on, and is trusted", as_json)


def list_keys(as_json: bool) -> int:
    """List the trusted and the revoked keys."""
    trusted, mine = trust(), home_key_id(home())
    keys = [
        {
            "key_id": key_id,
            "trusted": not trusted.problem(key_id),
            "revoked": trusted.revoked.get(key_id, ""),
            "signs_here": key_id == mine,
        }
        for key_id in sorted({*trusted.keys, *trusted.revoked})
    ]
    if as_json:
        output.print_json({"folder": str(trust_folder()), "keys": keys})
        return output.DONE
    rows = [
        (
            str(one["key_id"]),
            f"revoked: {one['revoked']}" if one["revoked"] else "trusted",
            "this home's" if one["signs_here"] else "",
        )
        for one in keys
    ]
    output.table(("key", "state", ""), rows)
    output.say(f"{len(rows)} keys in {trust_folder()}")
    return output.DONE


def trust_source(source: str, as_json: bool) -> int:
    """Let the key of a PEM file, or of a setting such as ``kms:alias/NAME``, count."""
    found = public_key(source, home())
    if revoked := trust().revoked.get(found.key_id):
        raise SigningKeyError(f"key {found.key_id[:12]} was revoked ({revoked}); use another")
    trust_key(trust_folder(), found)
    return _done(found.key_id, f"key {found.key_id} is trusted", as_json)


def revoke(key: str, reason: str, as_json: bool) -> int:
    """Let a key count no more, for anything that it ever signed."""
    if not reason.strip():
        raise SigningKeyError("give --reason: the revocation keeps it")
    known = [one for one in sorted({*trust().keys}) if one.startswith(key.lower())]
    if len(key) < _SHORTEST or len(known) > 1 or not (known or re.fullmatch("[0-9a-f]{64}", key)):
        raise SigningKeyError(
            f"{key!r} names no key here; `ftdm signing-key list` shows those that are trusted "
            f"(at least {_SHORTEST} digits, or all 64 of a key that is not known here)"
        )
    key_id = known[0] if known else key
    by = os.environ.get("FTDM_ACTOR") or getpass.getuser()
    revoke_key(trust_folder(), key_id, by=by, reason=reason, at=now())
    told = f"key {key_id} is revoked: nothing that it signed counts any more"
    if key_id == home_key_id(home()):
        told += "; `ftdm signing-key new` makes another, `ftdm run MODEL --select "
        told += "registered_version` signs again with it"
    return _done(key_id, told, as_json)


def _done(key_id: str, told: str, as_json: bool) -> int:
    if as_json:
        output.print_json({"key_id": key_id, "folder": str(trust_folder())})
    else:
        output.say(told)
    return output.DONE
