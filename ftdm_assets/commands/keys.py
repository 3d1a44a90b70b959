"""``ftdm keys``: the API keys of the gateway."""

import os
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from ftdm_assets.commands import output
from ftdm_assets.home import home
from ftdm_assets.provenance.access_log import user
from serving.api_keys import ApiKey, Grant, KeyStore, NewKey
from serving.local_key import local_key


def new(grant: Grant, as_json: bool) -> int:
    """Make a key and show it, once."""
    with KeyStore(home()) as store:
        made = store.new(grant, by=_person())
    return _made(made, f"key {made.key.key_id} for {made.key.name}", as_json)


def rotate(key_id: str, overlap_minutes: int, as_json: bool) -> int:
    """Replace a key by another of the same grant."""
    overlap = timedelta(minutes=overlap_minutes)
    with KeyStore(home()) as store:
        made = store.rotate(key_id, by=_person(), overlap=overlap)
    when = f"in {overlap_minutes} minutes" if overlap_minutes else "now"
    told = f"key {made.key.key_id} replaces {key_id}, which ends {when}"
    return _made(made, told, as_json)


def revoke(key_id: str, as_json: bool) -> int:
    """End a key."""
    with KeyStore(home()) as store:
        key = store.revoke(key_id, by=_person())
    if as_json:
        output.print_json(_document(key))
    else:
        output.say(f"key {key.key_id} of {key.name} counts no more, from the next request on")
    return output.DONE


def list_keys(as_json: bool) -> int:
    """List every key."""
    with KeyStore(home()) as store:
        keys = store.keys()
    if as_json:
        output.print_json({"keys": [_document(key) for key in keys]})
        return output.DONE
    headings = ("key", "who has it", "models", "a minute", "admin", "state", "until")
    output.table(headings, [_row(key) for key in keys])
    return output.DONE


def local() -> int:
    """Write the local key and nothing else."""
    sys.stdout.write(local_key(home()) + "\n")
    return output.DONE


def _made(made: NewKey, told: str, as_json: bool) -> int:
    if as_json:
        output.print_json({"api_key": made.text, **_document(made.key)})
        return output.DONE
    sys.stdout.write(made.text + "\n")
    output.console(error=True).print(
        f"{told}; valid until {_day(made.key)}. It is shown only now and kept nowhere: "
        "`ftdm keys rotate` makes another."
    )
    return output.DONE


def _document(key: ApiKey) -> dict[str, Any]:
    return {**asdict(key), "state": key.state(datetime.now(UTC))}


def _row(key: ApiKey) -> tuple[str, ...]:
    return (
        key.key_id,
        key.name,
        ", ".join(key.models),
        "no limit" if key.per_minute is None else str(key.per_minute),
        "yes" if key.admin else "",
        key.state(datetime.now(UTC)),
        _day(key),
    )


def _day(key: ApiKey) -> str:
    return key.expires_at[:16].replace("T", " ") if key.expires_at else "it is revoked"


def _person() -> str:
    """Return who gives the command: the system's user, and who that user says to act for."""
    actor = os.environ.get("FTDM_ACTOR", "").strip()
    return f"{user()} ({actor})" if actor else user()
