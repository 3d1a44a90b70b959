"""Where a step runs: the settings choose, the graph does not know.

Only training goes to another machine. The other steps take minutes, and prediction must use the
engine that serves.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from ftdm_assets.compute import local
from ftdm_assets.settings import ComputeSettings

_REMOTE = {"train"}


def run_step(
    context: dg.AssetExecutionContext,
    compute: ComputeSettings,
    model: str,
    program: str,
    config: Mapping[str, Any],
    work: Path,
) -> Mapping[str, Any]:
    """Run a step where the settings say; return what a remote machine's operator says of it.

    Raises:
        StepFailedError: with the step's own error.
    """
    if compute.sagemaker is not None and compute.kind == "sagemaker" and program in _REMOTE:
        from ftdm_assets.compute import sagemaker  # boto3 is an extra

        return sagemaker.run_step(context, compute.sagemaker, model, program, config)
    local.run_step(context, program, config, work)
    return {}
