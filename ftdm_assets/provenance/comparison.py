"""What differs between two environments of record. Pure functions."""

from collections.abc import Mapping
from typing import Any

_ABSENT = "absent"


def environment_differences(
    recorded: Mapping[str, Any], now: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the entries (dotted names) whose values differ: ``entry``, ``recorded``, ``now``."""
    then_flat, now_flat = _flat(recorded), _flat(now)
    return [
        {"entry": name, "recorded": then_flat.get(name), "now": now_flat.get(name)}
        for name in sorted(then_flat.keys() | now_flat.keys())
        if then_flat.get(name) != now_flat.get(name)
    ]


def package_differences(recorded: str, now: str) -> list[dict[str, Any]]:
    """Return the packages whose versions differ between two lists of ``name==version`` lines."""
    then_versions, now_versions = _versions(recorded), _versions(now)
    return [
        {
            "entry": f"package {name}",
            "recorded": then_versions.get(name, _ABSENT),
            "now": now_versions.get(name, _ABSENT),
        }
        for name in sorted(then_versions.keys() | now_versions.keys())
        if then_versions.get(name) != now_versions.get(name)
    ]


def _versions(listed: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in listed.splitlines():
        name, _, version = line.partition("==")
        # Two copies of one package may be installed, the order of the path decides between them.
        found[name] = f"{found[name]}, {version}" if name in found else version
    return found


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found.update(_flat(value, f"{prefix}{name}."))
        else:
            found[f"{prefix}{name}"] = value
    return found
