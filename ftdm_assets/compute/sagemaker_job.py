"""A SageMaker training job as data: its request, and what its description says. No I/O."""

import math
from collections.abc import Mapping
from typing import Any

from ftdm_assets.compute.job import IMAGE_VARIABLE, SECONDS, Job, Phase, Seen, without_registry
from ftdm_assets.compute.process import StepFailedError
from ftdm_assets.compute_settings import SageMakerSettings

COMMAND = ("python", "-m", "gpu_steps.sagemaker_entry")
_PHASES = {
    "InProgress": Phase.RUNNING,
    "Stopping": Phase.STOPPING,
    "Completed": Phase.COMPLETED,
    "Failed": Phase.FAILED,
    "Stopped": Phase.STOPPED,
}
_LIMITS = {"MaxRuntimeExceeded": "max_hours", "MaxWaitTimeExceeded": "max_wait_hours"}
_VALUE_LIMIT = 512
_TAG_LIMIT = 256


def machine(settings: SageMakerSettings) -> list[str]:
    """Return what, besides the step, makes another job."""
    return [settings.image, settings.instance_type]


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
    seconds = math.ceil(settings.max_hours * SECONDS)
    stopping: dict[str, int] = {"MaxRuntimeInSeconds": seconds}
    if settings.spot:
        hours = settings.max_wait_hours or 2 * settings.max_hours
        stopping["MaxWaitTimeInSeconds"] = math.ceil(hours * SECONDS)
    return {
        "TrainingJobName": job.name(machine(settings), attempt),
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


def seen(description: Mapping[str, Any]) -> Seen:
    """Return what a description says."""
    status, secondary = description["TrainingJobStatus"], description.get("SecondaryStatus", "")
    return Seen(
        _PHASES[status],
        f"{status}, {secondary}{_message(description)}",
        reason=_reason(description),
        output=str(description.get("ModelArtifacts", {}).get("S3ModelArtifacts", "")),
        seconds=description.get("BillableTimeInSeconds"),
        facts=_facts(description),
    )


def _reason(description: Mapping[str, Any]) -> str:
    """Return why a job has ended, in the step's own words where it left some."""
    secondary = description.get("SecondaryStatus", "unknown")
    if secondary in _LIMITS:
        return (
            f"{secondary}: it took longer than compute.sagemaker.{_LIMITS[secondary]}; raise that "
            "and run again, it goes on from its last checkpoint"
        )
    text = str(description.get("FailureReason") or "")
    for decoration in ("AlgorithmError: ", "ClientError: "):
        text = text.removeprefix(decoration)
    return text or f"no reason given, last state {secondary}"


def _message(description: Mapping[str, Any]) -> str:
    """Return what SageMaker says of the present state, such as a spot interruption."""
    transitions = description.get("SecondaryStatusTransitions") or [{}]
    text = transitions[-1].get("StatusMessage", "")
    return f" ({text})" if text else ""


def _facts(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the manifest keeps: neither the account nor what is named after it."""
    found = {
        "instance": description["ResourceConfig"]["InstanceType"],
        "image": without_registry(description["AlgorithmSpecification"]["TrainingImage"]),
        "spot": bool(description.get("EnableManagedSpotTraining", False)),
    }
    if "TrainingTimeInSeconds" in description:
        found["training_seconds"] = description["TrainingTimeInSeconds"]
    return found
