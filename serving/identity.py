"""What shows that an engine is a replica of a version, by what it answers.

Invariants:
- it names the version's served name, which holds the digest of its weights, and no other;
- a right completion names the same and holds a choice.

Standard library only, because the rollback command uses it.
"""

from typing import Any


def names_only(found: Any, served_name: str) -> bool:
    """Tell whether an answer of `/v1/models`, decoded, names exactly this one model."""
    entries = found.get("data") if isinstance(found, dict) else None
    if not isinstance(entries, list):
        return False
    return [one.get("id") if isinstance(one, dict) else None for one in entries] == [served_name]


def is_completion(found: Any, served_name: str) -> bool:
    """Tell whether an answer, decoded, is a completion of this model."""
    if not isinstance(found, dict) or found.get("model") != served_name:
        return False
    choices = found.get("choices")
    return isinstance(choices, list) and bool(choices)
