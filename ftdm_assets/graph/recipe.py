"""The recipe of an artifact: by what it is known whether it was made before.

Invariants:
* One recipe makes one artifact: code version, settings, inputs and sources, each by its digest.
* Inputs that were only needed to allow the step are no part of it.
"""

from collections.abc import Iterable, Mapping

from ftdm_assets.graph.plan import AssetPlan
from ftdm_assets.provenance.digests import json_digest
from ftdm_assets.provenance.statements import InputRef


def recipe_of(plan: AssetPlan, inputs: Iterable[InputRef], sources: Mapping[str, str]) -> str:
    """Return the digest of what an asset is made from and how."""
    return json_digest(
        {
            "asset": plan.name,
            "code_version": plan.version,
            "config": dict(plan.config),
            "inputs": {ref.asset: ref.digest for ref in inputs if not ref.gate_only},
            "sources": dict(sources),
        }
    )
