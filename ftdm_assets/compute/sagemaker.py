"""SageMaker training jobs, with boto3; their log is read from CloudWatch.

The step writes its messages to standard output, SageMaker ships that to CloudWatch: a job that
another process joins is read from its beginning, and a run that begins anew after a spot
interruption goes on in the same log.
"""

import importlib.util
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from ftdm_assets import aws
from ftdm_assets.compute import sagemaker_job
from ftdm_assets.compute.job import Job, Seen
from ftdm_assets.compute.process import StepFailedError
from ftdm_assets.compute.staging import told
from ftdm_assets.compute_settings import SageMakerSettings

GROUP = "/aws/sagemaker/TrainingJobs"
_PASSING = {"ThrottlingException", "Throttling", "RequestTimeout", "ServiceUnavailable"}


class SageMaker:
    """The operator of training jobs; see `Operator`."""

    service = "AWS"
    noun = "SageMaker job"
    console = "the AWS console"

    def __init__(self, settings: SageMakerSettings) -> None:
        if importlib.util.find_spec("boto3") is None:
            raise StepFailedError(
                "compute.kind: sagemaker needs boto3; "
                "install it with `pip install 'ftdm-assets[aws]'`"
            )
        self._settings = settings
        self.poll_seconds = settings.poll_seconds
        self.patience_minutes = settings.patience_minutes
        self._tokens: dict[str, str | None] = {}

    def name(self, job: Job, attempt: int) -> str:
        """Return the name of an attempt."""
        return job.name(sagemaker_job.machine(self._settings), attempt)

    def start(self, job: Job, attempt: int) -> bool:
        """Ask for an attempt; return whether it was made."""
        from botocore.exceptions import ClientError

        asked = sagemaker_job.request(job, self._settings, attempt)
        try:
            aws.client("sagemaker").create_training_job(**asked)
        except ClientError as error:
            if aws.code(error) != "ResourceInUse":
                raise
            return False
        return True

    def look_up(self, name: str) -> Seen | None:
        """Say how far a job is; None if there is none."""
        from botocore.exceptions import ClientError

        try:
            found = aws.client("sagemaker").describe_training_job(TrainingJobName=name)
        except ClientError as error:
            if aws.code(error) == "ResourceNotFound" or "not found" in _text(error):
                return None
            raise
        return sagemaker_job.seen(found)

    def stop(self, name: str) -> None:
        """Stop a job; one that is over is none to stop."""
        from botocore.exceptions import ClientError

        try:
            aws.client("sagemaker").stop_training_job(TrainingJobName=name)
        except ClientError as error:
            if aws.code(error) not in {"ResourceNotFound", "ValidationException"}:
                raise

    def passes(self, error: Exception) -> bool:
        """Say whether an error may pass by itself; credentials that are missing do not."""
        from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

        if isinstance(error, ClientError):
            return aws.code(error) in _PASSING or aws.status(error) >= 500
        # Before there is a connection (no such name, refused, no answer), and while there is one.
        return isinstance(error, ConnectionError | HTTPClientError)

    def told(self, what: str) -> AbstractContextManager[None]:
        """Turn what the client raises into one sentence."""
        return told(what)

    def lines(self, name: str) -> Iterator[str]:
        """Give the lines that have come since the last time."""
        from botocore.exceptions import ClientError

        try:
            for stream in self._streams(name):
                yield from self._read(stream)
        except ClientError as error:
            if aws.code(error) != "ResourceNotFoundException":  # Before the first job there is none
                raise

    def _streams(self, name: str) -> list[str]:
        pages = aws.client("logs").get_paginator("describe_log_streams")
        found = pages.paginate(logGroupName=GROUP, logStreamNamePrefix=f"{name}/")
        return sorted(one["logStreamName"] for page in found for one in page["logStreams"])

    def _read(self, stream: str) -> Iterator[str]:
        while True:
            before = self._tokens.get(stream)
            answer = aws.client("logs").get_log_events(
                logGroupName=GROUP,
                logStreamName=stream,
                startFromHead=True,
                **({"nextToken": before} if before else {}),
            )
            self._tokens[stream] = answer["nextForwardToken"]
            for event in answer["events"]:
                yield event["message"].rstrip("\n")
            if answer["nextForwardToken"] == before or not answer["events"]:
                return


def _text(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Message", ""))
