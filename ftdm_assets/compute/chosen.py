"""Where a step runs: the settings choose, the graph does not know.

Only training goes to another machine. The other steps take minutes, and prediction must use the
engine that serves.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from ftdm_assets.compute import local, remote
from ftdm_assets.compute.job import Operator
from ftdm_assets.compute.staging import Staging
from ftdm_assets.compute_settings import ComputeSettings

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
    chosen = operator_of(compute) if program in _REMOTE else None
    if chosen is not None:
        return remote.run_step(context, *chosen, model, program, config)
    local.run_step(context, program, config, work)
    return {}


def operator_of(compute: ComputeSettings) -> tuple[Operator, Staging] | None:
    """Return who runs the jobs and the bucket that they share with us; None: this machine.

    Each is imported when it is asked for: its client is an extra.

    Raises:
        StepFailedError: the extra is not installed.
    """
    if compute.kind == "sagemaker" and compute.sagemaker is not None:
        from ftdm_assets.compute.sagemaker import SageMaker

        staging = Staging(compute.sagemaker.bucket, compute.sagemaker.output_kms_key)
        return SageMaker(compute.sagemaker), staging
    if compute.kind == "kubernetes" and compute.kubernetes is not None:
        from ftdm_assets.compute.kubernetes import Kubernetes

        staging = Staging(compute.kubernetes.bucket, compute.kubernetes.output_kms_key)
        return Kubernetes(compute.kubernetes, staging), staging
    if compute.kind == "modal" and compute.modal is not None:
        from ftdm_assets.compute.modal_sandbox import ModalSandboxes

        staging = Staging(compute.modal.bucket, compute.modal.output_kms_key)
        return ModalSandboxes(compute.modal, staging), staging
    return None
