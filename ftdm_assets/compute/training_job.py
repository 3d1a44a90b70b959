"""A SageMaker training job as data: its name, its request, what its description says. No I/O.

Invariant: a name follows from the step, the machine and the attempt alone, so whoever asks for the
same training once more meets the job that is already there.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ftdm_assets.compute.process import StepFailedError
from ftdm_assets.provenance.digests import json_digest
from ftdm_assets.settings import SageMakerSettings

COMMAND = ("python", "-m", "gpu_steps.sagemaker_entry")
# Read by gpu_steps.environment, which cannot be imported without torch.
IMAGE_VARIABLE = "FTDM_IMAGE_DIGEST"
RUNNING = frozenset({"InProgress", "Stopping"})
_VALUE_LIMIT = 512
_TAG_LIMIT = 256
_SECONDS = 3600


@dataclass(frozen=True)
class Job:
    """What is asked for.

    Attributes:
        model: the domain model's name.
        program: the step's name in ``gpu_steps``.
        step: digest of the step's configuration and inputs.
        channels: S3 address of each input channel.
        output: S3 address below which SageMaker puts ``NAME/output/model.tar.gz``.
        checkpoints: S3 address that checkpoints are kept at; the same for each attempt.
        environment: variables of the container.
        tags: what the job is found by in the AWS console and in the bill.
    """

    model: str
    program: str
    step: str
    channels: Mapping[str, str]
    output: str
    checkpoints: str
    environment: Mapping[str, str]
    tags: Mapping[str, str]

    def name(self, settings: SageMakerSettings, attempt: int) -> str:
        """Return the job's name: at most 63 letters, digits and single hyphens between them."""
        machine = [self.step, settings.image, settings.instance_type]
        model = self.model.replace("_", "-").strip("-")[:24].strip("-")
        return f"{model}-{self.program}-{json_digest(machine)[:20]}-{attempt}"


def request(job: Job, settings: SageMakerSettings, attempt: int) -> dict[str, Any]:
    """Return the arguments of CreateTrainingJob.

    Raises:
        StepFailedError: if a variable is longer than SageMaker takes.
    """
    environment = {**job.environment, IMAGE_VARIABLE: settings.image.rpartition("@")[2]}
    for name, value in environment.items():
        if len(value) > _VALUE_LIMIT:
            raise StepFailedError(
                f"the variable {name} has {len(value)} characters, SageMaker takes {_VALUE_LIMIT}; "
                "shorten the names of the model and the job"
            )
    seconds = math.ceil(settings.max_hours * _SECONDS)
    stopping: dict[str, int] = {"MaxRuntimeInSeconds": seconds}
    if settings.spot:
        hours = settings.max_wait_hours or 2 * settings.max_hours
        stopping["MaxWaitTimeInSeconds"] = math.ceil(hours * _SECONDS)
    return {
        "TrainingJobName": job.name(settings, attempt),
        "AlgorithmSpecification": {
            "TrainingImage": settings.image,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": list(COMMAND),
        },
        "RoleArn": settings.role,
        "HyperParameters": {"step": job.step},
        "InputDataConfig": [_channel(name, url) for name, url in job.channels.items()],
        "OutputDataConfig": {"S3OutputPath": job.output, **_key(settings.output_kms_key)},
        "ResourceConfig": {
            "InstanceType": settings.instance_type,
            "InstanceCount": 1,
            "VolumeSizeInGB": settings.volume_gb,
            **_key(settings.volume_kms_key, "VolumeKmsKeyId"),
        },
        "StoppingCondition": stopping,
        "EnableManagedSpotTraining": settings.spot,
        "EnableNetworkIsolation": settings.network_isolation,
        "CheckpointConfig": {"S3Uri": job.checkpoints, "LocalPath": "/opt/ml/checkpoints"},
        "Environment": environment,
        "Tags": _tags({**job.tags, **settings.tags}),
        **_network(settings),
    }


def _channel(name: str, url: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": url, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, "InputMode": "File"}


def _key(key: str | None, name: str = "KmsKeyId") -> dict[str, str]:
    return {name: key} if key else {}


def _network(settings: SageMakerSettings) -> dict[str, Any]:
    if not settings.subnets:
        return {}
    return {
        "VpcConfig": {"Subnets": settings.subnets, "SecurityGroupIds": settings.security_groups}
    }


def _tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": str(value)[:_TAG_LIMIT]} for key, value in sorted(tags.items())]


def reason(description: Mapping[str, Any]) -> str:
    """Return why a job has ended, in the step's own words where it left some."""
    text = str(description.get("FailureReason") or "")
    for decoration in ("AlgorithmError: ", "ClientError: "):
        text = text.removeprefix(decoration)
    return text or f"no reason given, last state {description.get('SecondaryStatus', 'unknown')}"


def artifact(description: Mapping[str, Any]) -> str:
    """Return the S3 address of a completed job's ``model.tar.gz``."""
    return str(description["ModelArtifacts"]["S3ModelArtifacts"])


def facts(description: Mapping[str, Any], attempt: int) -> dict[str, Any]:
    """Return what the manifest keeps of a job that has ended."""
    found = {
        "job": description["TrainingJobName"],
        "job_arn": description["TrainingJobArn"],
        "attempt": attempt,
        "instance": description["ResourceConfig"]["InstanceType"],
        "image": description["AlgorithmSpecification"]["TrainingImage"],
        "spot": bool(description.get("EnableManagedSpotTraining", False)),
    }
    for name, key in (
        ("billable_seconds", "BillableTimeInSeconds"),
        ("training_seconds", "TrainingTimeInSeconds"),
    ):
        if key in description:
            found[name] = description[key]
    return found
