"""What a job whose container fetches its files from the bucket is told, and what it leaves there.

Invariant: the bucket says how a job has ended when its service has forgotten it.
"""

import importlib.util
import json
from dataclasses import asdict

from ftdm_assets.compute.job import Job, Phase, Seen
from ftdm_assets.compute.process import StepFailedError
from ftdm_assets.compute.staging import Staging
from gpu_steps.container import DIGESTS, FAILURE, BucketJob


def told_to_container(job: Job, name: str, kms_key: str | None) -> str:
    """Return what FTDM_JOB holds."""
    told = BucketJob(
        step=job.step,
        channels=dict(job.channels),
        checkpoints=f"{job.checkpoints}/",
        output=f"{job.output}/{name}/",
        kms_key=kms_key,
    )
    return json.dumps(asdict(told), sort_keys=True)


def left_in_bucket(staging: Staging, name: str) -> Seen | None:
    """Say how a job has ended that its service does not know; None if it left nothing."""
    output = staging.url("output", name, DIGESTS)
    if staging.exists(output):
        return Seen(Phase.COMPLETED, "its output is in the bucket", output=output)
    failure = failure_in_bucket(staging, name)
    return Seen(Phase.FAILED, "failed", failure) if failure else None


def failure_in_bucket(staging: Staging, name: str) -> str:
    """Return the sentence that a job has left; empty if it left none."""
    return (staging.read_text(staging.url("output", name, FAILURE)) or "").strip()


def require(kind: str, *packages: str, setting: str = "compute.kind") -> None:
    """Refuse to go on without a kind's packages.

    Raises:
        StepFailedError: naming what installs them.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise StepFailedError(
            f"{setting}: {kind} needs {' and '.join(missing)}; "
            f"install it with `pip install 'ftdm-assets[{kind}]'`"
        )
