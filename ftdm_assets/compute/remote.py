"""Runs a GPU step as a job of a remote machine, through Dagster Pipes.

Invariant: an output is taken only after the job has completed and each file is what it has listed;
one that is not is never taken for the step's output again.
"""

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from ftdm_assets.compute.job import Job, Operator, Phase, Seen
from ftdm_assets.compute.job_log import JobLog, ShortContext
from ftdm_assets.compute.jobs import Jobs
from ftdm_assets.compute.process import StepFailedError
from ftdm_assets.compute.staging import DamagedOutputError, RemoteStep, Staging
from ftdm_assets.quiet import accepted_notices

_LAST_LOOKS = 10


def run_step(
    context: dg.AssetExecutionContext,
    operator: Operator,
    staging: Staging,
    model: str,
    program: str,
    config: Mapping[str, Any],
) -> dict[str, Any]:
    """Run a step as a job and take its output; return what the manifest keeps of it.

    Raises:
        StepFailedError: with the step's own error, or with what the service refused.
    """
    step = RemoteStep.of(program, config)
    channels, sent = staging.put_step(step)
    context.log.info(f"inputs in {staging.url()}: {sent / 1e6:.1f} MB uploaded, the rest was there")
    jobs = Jobs(operator, staging, context.log.info)
    log = JobLog(operator, lambda: jobs.name, context.log.info)
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
        _read_to_the_end(log, operator.poll_seconds)
    try:
        staging.take(ended.output, step.digest, Path(config["output"]))
    except DamagedOutputError as error:
        jobs.note(Seen(Phase.FAILED, "damaged", str(error), seconds=ended.seconds))
        raise
    with contextlib.suppress(StepFailedError):  # They only cost room; a lifecycle rule helps too.
        staging.remove(staging.url("checkpoints", step.digest, ""))
    return jobs.facts(ended)


def _read_to_the_end(log: JobLog, pause: float) -> None:
    """Read on until the step has said that it was done: a log may come after the event."""
    for _ in range(_LAST_LOOKS):
        log.look()
        if log.closed:
            return
        time.sleep(min(pause, 2.0))
