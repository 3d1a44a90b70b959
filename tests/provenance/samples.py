"""Manifests and verdicts for tests."""

from collections.abc import Mapping
from typing import Any

from ftdm_assets.provenance.statements import InputRef, Manifest, Severity, Verdict


def manifest(
    asset: str,
    digest: str,
    *,
    kind: str = "document",
    recipe: str = "recipe",
    inputs: Mapping[str, str] | None = None,
    input_manifests: Mapping[str, str] | None = None,
    facts: Mapping[str, Any] | None = None,
    finished_at: str = "2026-11-24T00:00:00+00:00",
) -> Manifest:
    """Return a manifest of the model ``demo``."""
    known = input_manifests or {}
    refs = tuple(InputRef(name, d, known.get(name, d)) for name, d in (inputs or {}).items())
    return Manifest(
        asset=asset,
        model="demo",
        digest=digest,
        kind=kind,
        recipe=recipe,
        code_version="1-abc",
        config={},
        inputs=refs,
        environment={"commit": "c0ffee"},
        run={"dagster_run_id": "run-1", "finished_at": finished_at},
        facts=facts or {},
    )


def verdict(
    asset: str,
    digest: str,
    *,
    check: str = "good",
    passed: bool = True,
    threshold: Mapping[str, Any] | None = None,
    against: Mapping[str, str] | None = None,
    judged_at: str = "2026-11-24T00:00:00.000000+00:00",
    severity: Severity = "block",
) -> Verdict:
    """Return a verdict of the model ``demo``."""
    return Verdict(
        check=check,
        asset=asset,
        model="demo",
        digest=digest,
        passed=passed,
        severity=severity,
        measured={"value": 1},
        threshold=threshold or {},
        reason="because",
        judged_at=judged_at,
        code_version="1",
        run={"dagster_run_id": "run-1"},
        against=against or {},
    )
