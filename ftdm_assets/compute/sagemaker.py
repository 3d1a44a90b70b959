"""Runs a GPU step as a SageMaker training job, through Dagster Pipes, with boto3.

Invariant: an output is taken only after the job has completed and each file is what it has listed.
"""

import contextlib
import importlib.util
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from ftdm_assets.compute.job_log import JobLog, ShortContext
from ftdm_assets.compute.process import StepFailedError
from ftdm_assets.compute.staging import RemoteStep, Staging
from ftdm_assets.compute.training_job import Job, artifact, facts
from ftdm_assets.compute.training_jobs import TrainingJobs
from ftdm_assets.quiet import accepted_notices
from ftdm_assets.settings import SageMakerSettings

_LAST_LOOKS = 10


def run_step(
    context: dg.AssetExecutionContext,
    settings: SageMakerSettings,
    model: str,
    program: str,
    config: Mapping[str, Any],
) -> dict[str, Any]:
    """Run a step as a training job and take its output; return what the manifest keeps of it.

    Raises:
        StepFailedError: with the step's own error, or with what AWS refused.
    """
    if importlib.util.find_spec("boto3") is None:
        raise StepFailedError(
            "compute.kind: sagemaker needs boto3; install it with `pip install 'ftdm-assets[aws]'`"
        )
    step = RemoteStep.of(program, config)
    staging = Staging(settings.bucket, settings.output_kms_key)
    channels, sent = staging.put_step(step)
    context.log.info(f"inputs in {staging.url()}: {sent / 1e6:.1f} MB uploaded, the rest was there")
    jobs = TrainingJobs(settings, staging, context.log.info)
    log = JobLog(lambda: jobs.name, context.log.info)
    session = dg.open_pipes_session(
        context=context.op_execution_context,
        context_injector=ShortContext(),
        message_reader=log,
    )
    with accepted_notices(), session as pipes:
        run = pipes.default_remote_invocation_info
        job = Job(
            model=model,
            program=program,
            step=step.digest,
            channels=channels,
            output=staging.url("output"),
            checkpoints=staging.url("checkpoints", step.digest),
            environment=pipes.get_bootstrap_env_vars(),
            tags={**run, "ftdm/model": model, "ftdm/step": step.digest},
        )
        ended = jobs.run(job, log.look)
        _read_to_the_end(log, settings.poll_seconds)
    staging.take(artifact(ended), step.digest, Path(config["output"]))
    with contextlib.suppress(StepFailedError):  # They only cost room; a lifecycle rule helps too.
        staging.remove(staging.url("checkpoints", step.digest, ""))
    return facts(ended, jobs.attempt)


def _read_to_the_end(log: JobLog, pause: float) -> None:
    """Read on until the step has said that it was done: CloudWatch comes after the event."""
    for _ in range(_LAST_LOOKS):
        log.look()
        if log.closed:
            return
        time.sleep(min(pause, 2.0))
