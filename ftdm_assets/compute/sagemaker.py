"""Runs a GPU step as a SageMaker training job, through Dagster Pipes, with boto3.

Invariants:
* One training, one job: a lost answer, a lost connection or the death of this process never leads
  to a second job; the same request meets the one that is there and joins it.
* Whoever stops this process (a cancelled run) stops the job; a connection that is lost for good
  does not, and says that the job runs on.
* Every call has a timeout and bounded tries; what fails in passing is tried for
  ``patience_minutes``.
"""

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg

from ftdm_assets import aws
from ftdm_assets.compute.job_log import JobLog, ShortContext
from ftdm_assets.compute.process import StepFailedError
from ftdm_assets.compute.staging import RemoteStep, Staging, told
from ftdm_assets.compute.training_job import RUNNING, Job, facts, reason, request
from ftdm_assets.quiet import accepted_notices
from ftdm_assets.settings import SageMakerSettings

T = TypeVar("T")
_ATTEMPTS = 50
_LAST_LOOKS = 10
_PASSING = {"ThrottlingException", "Throttling", "RequestTimeout", "ServiceUnavailable"}


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
    staging.take(_artifact(ended), step.digest, Path(config["output"]))
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


@dataclass
class TrainingJobs:
    """Finds, starts, follows and stops the job of a training."""

    settings: SageMakerSettings
    staging: Staging
    say: Callable[[str], None]
    name: str = ""
    attempt: int = 0

    def run(self, job: Job, look: Callable[[], None]) -> Mapping[str, Any]:
        """Return the description of the job once it has completed; ``look`` is called meanwhile.

        Raises:
            StepFailedError: it failed, was stopped by somebody else, or AWS is out of reach.
        """
        try:
            self._find_or_start(job)
            ended = self._followed(look)
        except Exception:
            raise
        except BaseException:  # This process is told to stop.
            self.stop()
            raise
        look()
        if ended["TrainingJobStatus"] != "Completed":
            status = ended["TrainingJobStatus"].lower()
            raise StepFailedError(
                f"gpu_steps.{job.program} {status} as SageMaker job {self.name}: {reason(ended)}"
            )
        return ended

    def stop(self) -> None:
        """Stop the job; what cannot be stopped is said."""
        if not self.name:
            return
        try:
            with told(f"StopTrainingJob {self.name}"):
                aws.client("sagemaker").stop_training_job(TrainingJobName=self.name)
            self.say(f"asked SageMaker to stop {self.name}")
        except StepFailedError as error:
            self.say(f"the job could not be stopped: {error}; look at it in the AWS console")

    def _find_or_start(self, job: Job) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            name, self.attempt = job.name(self.settings, attempt), attempt
            found = self._described(name)
            if found is None:
                self._start(request(job, self.settings, attempt))
                return
            if self._is_of_use(found):
                self.name = name
                self.say(f"SageMaker job {name} is there already: joined, no second one is started")
                return
        raise StepFailedError(
            f"{_ATTEMPTS} jobs of this very training have failed, the last is {name}; "
            "change its settings, or the image"
        )

    def _is_of_use(self, found: Mapping[str, Any]) -> bool:
        status = found["TrainingJobStatus"]
        if status == "Completed":
            return self.staging.exists(_artifact(found))
        return bool(status == "InProgress")

    def _start(self, asked: Mapping[str, Any]) -> None:
        name = str(asked["TrainingJobName"])
        # From here on there may be a job, so a stop has to reach it.
        self.name = name

        def create() -> None:
            from botocore.exceptions import ClientError

            try:
                aws.client("sagemaker").create_training_job(**asked)
                self.say(f"started SageMaker job {name} on {self.settings.instance_type}")
            except ClientError as error:
                if aws.code(error) != "ResourceInUse":
                    raise
                self.say(f"SageMaker job {name} is there: an answer was lost, or others asked too")

        self._patiently(f"CreateTrainingJob {name}", create)

    def _followed(self, look: Callable[[], None]) -> Mapping[str, Any]:
        state = ""
        while True:
            found = self._described(self.name)
            # A new job may be unknown to the next question for a moment.
            if found is not None:
                now = f"{found['TrainingJobStatus']}, {found.get('SecondaryStatus', '')}"
                if now != state:
                    self.say(f"{self.name}: {now}{_message(found)}")
                    state = now
                if found["TrainingJobStatus"] not in RUNNING:
                    return found
            look()
            time.sleep(self.settings.poll_seconds)

    def _described(self, name: str) -> Mapping[str, Any] | None:
        def describe() -> Mapping[str, Any] | None:
            from botocore.exceptions import ClientError

            try:
                found: Mapping[str, Any] = aws.client("sagemaker").describe_training_job(
                    TrainingJobName=name
                )
            except ClientError as error:
                message = str(error.response.get("Error", {}).get("Message", ""))
                if aws.code(error) == "ResourceNotFound" or "not found" in message:
                    return None
                raise
            return found

        return self._patiently(f"DescribeTrainingJob {name}", describe)

    def _patiently(self, what: str, call: Callable[[], T]) -> T:
        """Call again while AWS is out of reach, for as long as the settings say."""
        from botocore.exceptions import BotoCoreError, ClientError

        end = time.monotonic() + 60 * self.settings.patience_minutes
        while True:
            try:
                return call()
            except (BotoCoreError, ClientError) as error:
                if not _passes(error):
                    with told(what):
                        raise
                if time.monotonic() >= end:
                    raise StepFailedError(
                        f"{what}: AWS was out of reach for {self.settings.patience_minutes:g} "
                        f"minutes ({error}); a job that was started runs on, and the next run "
                        "joins it"
                    ) from None
                self.say(f"{what}: {error}; trying again")
            time.sleep(self.settings.poll_seconds)


def _passes(error: Any) -> bool:
    """Say whether an error may pass by itself; credentials that are missing do not."""
    from botocore.exceptions import ClientError, HTTPClientError

    if isinstance(error, ClientError):
        return aws.code(error) in _PASSING or aws.status(error) >= 500
    return isinstance(error, HTTPClientError)


def _artifact(description: Mapping[str, Any]) -> str:
    return str(description["ModelArtifacts"]["S3ModelArtifacts"])


def _message(description: Mapping[str, Any]) -> str:
    """Return what SageMaker says of the present state, such as a spot interruption."""
    transitions = description.get("SecondaryStatusTransitions") or [{}]
    text = transitions[-1].get("StatusMessage", "")
    return f" ({text})" if text else ""
