"""The container's command where files come through a bucket: ``python -m gpu_steps.bucket_entry``.

Kubernetes starts it with one variable, FTDM_JOB. Invariants: the result's list of digests
is uploaded last, so what it lists is there; a checkpoint is uploaded when it is whole, its marker
last, and goes on from there in another container; a failure is one sentence in the bucket, and in
the file that FTDM_FAILURE_FILE names (Kubernetes' termination message).
"""

import json
import os
import sys
from pathlib import Path

from gpu_steps import container
from gpu_steps.bucket import Bucket, bucket_errors
from gpu_steps.checkpoint_keeper import CheckpointKeeper
from gpu_steps.config import ConfigError, parse
from gpu_steps.container import (
    DIGESTS,
    FAILURE,
    FAILURE_FILE_VARIABLE,
    JOB_VARIABLE,
    RESULT,
    BucketJob,
)

_STOP_SECONDS = 60.0  # Then the last checkpoint is uploaded; Kubernetes kills 120 s after SIGTERM.


def main() -> int:
    """Run the step of this job; return the exit code."""
    failure = container.attempted("bucket_entry", lambda: _perform(job_of_environment()))
    if failure is None:
        return 0
    named = os.environ.get(FAILURE_FILE_VARIABLE)
    if named:
        container.write_sentence(Path(named), failure)
    # What the bucket refuses was said above; the termination message holds it.
    container.attempted("bucket_entry", lambda: _leave(job_of_environment(), failure))
    return 1


def job_of_environment() -> BucketJob:
    """Read the job that the environment names.

    Raises:
        ConfigError: there is none, or it cannot be understood.
    """
    text = os.environ.get(JOB_VARIABLE, "")
    try:
        content = json.loads(text)
    except ValueError:
        msg = f"{JOB_VARIABLE}: must hold the job as JSON; the launcher of ftdm sets it."
        raise ConfigError(msg) from None
    return parse(content, BucketJob, JOB_VARIABLE)


def _perform(job: BucketJob) -> None:
    root, bucket = container.root(), Bucket(job.kms_key)
    with bucket_errors():
        if bucket.exists(f"{job.output}{DIGESTS}"):
            return  # This container follows one that was lost after its last upload.
        for name, url in job.channels.items():
            bucket.download(url, root / "input/data" / name)
        bucket.download(job.checkpoints, root / "checkpoints")
    with CheckpointKeeper(bucket, root / "checkpoints", job.checkpoints):
        container.perform(root, job.step, _STOP_SECONDS)
    with bucket_errors():
        bucket.upload(root / "model" / RESULT, f"{job.output}{RESULT}/")
        bucket.put(root / "model" / DIGESTS, f"{job.output}{DIGESTS}")


def _leave(job: BucketJob, failure: str) -> None:
    path = container.root() / "output" / FAILURE
    container.write_sentence(path, failure)
    with bucket_errors():
        Bucket(job.kms_key).put(path, f"{job.output}{FAILURE}")


if __name__ == "__main__":
    sys.exit(main())
