"""What `/v1/models` says: the names that callers may ask for, each with the weights behind it."""

from datetime import datetime
from typing import Any

from serving.pointer import PointerStore
from serving.versions import Version


def entries(store: PointerStore) -> list[dict[str, Any]]:
    """Return production and previous of each model, and every exact version that is up."""
    ready = {(one.model, one.version): one for one in store.versions() if one.state == "ready"}
    listed = []
    for pointer in store.pointers():
        for name, version in (
            (pointer.model, pointer.current),
            (f"{pointer.model}@previous", pointer.previous),
        ):
            if version:
                listed.append(entry(name, store.version(pointer.model, version)))
    for one in ready.values():
        listed.append(entry(f"{one.model}@{one.version.removeprefix(one.model)[1:]}", one))
    return listed


def entry(name: str, version: Version) -> dict[str, Any]:
    """Return how one name is described, in the OpenAI API's form."""
    recorded = datetime.fromisoformat(version.recorded_at).timestamp()
    return {
        "id": name,
        "object": "model",
        "created": int(recorded),
        "owned_by": "ftdm",
        "version": version.version,
        "digest": version.digest,
        "max_model_len": version.max_model_len,
    }
