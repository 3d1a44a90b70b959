"""Finds, starts, follows and stops SageMaker training jobs.

Invariants:
* One training, one job: a lost answer, a lost connection or the death of this process never leads
  to a second job; the same request meets the one that is there and joins it.
* Whoever stops this process stops the job; a connection that is lost for good does not, and says
  that the job runs on.
* What fails in passing is tried again for ``patience_minutes``, everything else is said at once.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ftdm_assets import aws
from ftdm_assets.compute.process import StepFailedError
from ftdm_assets.compute.staging import Staging, told
from ftdm_assets.compute.training_job import RUNNING, Job, artifact, reason, request
from ftdm_assets.settings import SageMakerSettings

T = TypeVar("T")
_ATTEMPTS = 50
_PASSING = {"ThrottlingException", "Throttling", "RequestTimeout", "ServiceUnavailable"}


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
            found = self._settled(name)
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

    def _settled(self, name: str) -> Mapping[str, Any] | None:
        """Describe a job; one that is stopping still writes checkpoints, so it is waited for."""
        while (found := self._described(name)) is not None:
            if found["TrainingJobStatus"] != "Stopping":
                break
            self.say(f"{name} is being stopped; waiting until it has written its checkpoints")
            time.sleep(self.settings.poll_seconds)
        return found

    def _is_of_use(self, found: Mapping[str, Any]) -> bool:
        status = found["TrainingJobStatus"]
        if status == "Completed":
            return self.staging.exists(artifact(found))
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
    from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

    if isinstance(error, ClientError):
        return aws.code(error) in _PASSING or aws.status(error) >= 500
    # Before there is a connection (no such name, refused, no answer), and while there is one.
    return isinstance(error, ConnectionError | HTTPClientError)


def _message(description: Mapping[str, Any]) -> str:
    """Return what SageMaker says of the present state, such as a spot interruption."""
    transitions = description.get("SecondaryStatusTransitions") or [{}]
    text = transitions[-1].get("StatusMessage", "")
    return f" ({text})" if text else ""
