"""A Kubernetes Job as data: its document, and what the cluster says of it. No I/O.

Invariants: a document holds names of Secrets, never what is in them; one Job has one pod at a
time, and another one only when a node was taken away.
"""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from ftdm_assets.cluster.pods import placement, resources, state
from ftdm_assets.compute.job import IMAGE_VARIABLE, SECONDS, Job, Phase, Seen, without_registry
from ftdm_assets.compute_settings import KubernetesSettings
from gpu_steps.container import BUCKET_COMMAND, FAILURE_FILE_VARIABLE, JOB_VARIABLE

CONTAINER = "step"
_ROOT = "/opt/ml"
_TERMINATION_LOG = "/dev/termination-log"
_GRACE_SECONDS = 120
_DAY = 86400
_TAKEN_AWAY = {"Evicted", "Preempting", "Preempted", "NodeLost", "NodeShutdown", "Shutdown",
               "Terminated", "TerminationByKubelet", "UnexpectedAdmissionError"}  # fmt: skip
_KILLED = {128 + 9, 128 + 15}


def machine(settings: KubernetesSettings) -> list[Any]:
    """Return what, besides the step, makes another job."""
    return [
        "kubernetes",
        settings.image,
        f"{settings.gpus} {settings.gpu_resource}",
        dict(settings.node_selector),
    ]


def document(job: Job, settings: KubernetesSettings, name: str, bucket_job: str) -> dict[str, Any]:
    """Return the Job; ``bucket_job`` is what its container reads from FTDM_JOB."""
    wait = settings.max_wait_hours or 2 * settings.max_hours
    labels = {
        "app.kubernetes.io/name": "ftdm-training",
        "app.kubernetes.io/managed-by": "ftdm",
        **settings.labels,
    }
    notes = {key: str(value) for key, value in job.tags.items()}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": settings.namespace,
            "labels": labels,
            "annotations": notes,
        },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": math.ceil(wait * SECONDS),
            "ttlSecondsAfterFinished": math.ceil(settings.keep_days * _DAY),
            # A pod whose node is taken away (eviction, preemption, drain) is no failure: the Job
            # makes another one, also while nobody of ours looks.
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "Ignore",
                        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                    }
                ]
            },
            "template": {
                "metadata": {"labels": labels, "annotations": notes},
                "spec": _pod(job, settings, bucket_job),
            },
        },
    }


def _pod(job: Job, settings: KubernetesSettings, bucket_job: str) -> dict[str, Any]:
    return {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": math.ceil(settings.max_hours * SECONDS),
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        **placement(settings),
        "containers": [
            {
                "name": CONTAINER,
                "image": settings.image,
                "command": list(BUCKET_COMMAND),
                "env": [
                    {"name": key, "value": value}
                    for key, value in _variables(job, settings, bucket_job).items()
                ],
                "envFrom": [
                    *({"secretRef": {"name": name}} for name in settings.secrets),
                    *({"configMapRef": {"name": name}} for name in settings.config_maps),
                ],
                "resources": resources(settings),
                "terminationMessagePath": _TERMINATION_LOG,
                "securityContext": {"allowPrivilegeEscalation": False},
                "volumeMounts": [{"name": "work", "mountPath": _ROOT}],
            }
        ],
        "volumes": [{"name": "work", "emptyDir": {"sizeLimit": settings.disk}}],
    }


def _variables(job: Job, settings: KubernetesSettings, bucket_job: str) -> dict[str, str]:
    return {
        **settings.environment,
        **job.environment,
        IMAGE_VARIABLE: settings.image.rpartition("@")[2],
        FAILURE_FILE_VARIABLE: _TERMINATION_LOG,
        JOB_VARIABLE: bucket_job,
    }


def seen(found: Any, pods: Sequence[Any], settings: KubernetesSettings) -> Seen:
    """Return what a Job and its pods say; `output` and the bucket's words are not known here.

    Args:
        found: the client's V1Job.
        pods: its V1Pods, in the order of their beginning.
        settings: where it was to run.
    """
    conditions = {one.type: one for one in found.status.conditions or () if one.status == "True"}
    facts: dict[str, Any] = {
        "namespace": settings.namespace,
        "image": without_registry(settings.image),
        "gpus": settings.gpus,
        "pods": len(pods),
    }
    if pods and pods[-1].spec.node_name:
        facts["node"] = pods[-1].spec.node_name
    held = sum(_seconds(pod) for pod in pods)
    if found.metadata.deletion_timestamp is not None:
        return Seen(Phase.STOPPING, "is being deleted", seconds=held, facts=facts)
    if "Complete" in conditions:
        return Seen(Phase.COMPLETED, "Complete", seconds=held, facts=facts)
    if "Failed" in conditions:
        reason, interrupted = _reason(conditions["Failed"], pods)
        return Seen(Phase.FAILED, "Failed", reason, interrupted, seconds=held, facts=facts)
    return Seen(Phase.RUNNING, _state(pods), seconds=held, facts=facts)


def _reason(condition: Any, pods: Sequence[Any]) -> tuple[str, bool]:
    """Return why a Job has failed, and whether its machine was only taken away."""
    if condition.reason == "DeadlineExceeded":
        return _too_long("max_wait_hours"), False
    if not pods:
        return f"its pod is gone ({condition.reason}: {condition.message})", True
    pod = pods[-1]
    if pod.status.reason == "DeadlineExceeded":
        return _too_long("max_hours"), False
    ended = _terminated(pod)
    if ended is not None and (ended.message or "").strip():
        return ended.message.strip(), False
    if ended is not None and ended.reason == "OOMKilled":
        return "the container was killed for memory; raise compute.kubernetes.memory", False
    said = pod.status.message or pod.status.reason or condition.message or condition.reason
    taken = pod.status.reason in _TAKEN_AWAY or any(
        one.type == "DisruptionTarget" and one.status == "True"
        for one in pod.status.conditions or ()
    )
    if ended is None:
        return str(said), taken
    killed = ended.exit_code in _KILLED
    return f"exit code {ended.exit_code}, {said}", taken or killed


def _too_long(setting: str) -> str:
    return (
        f"it took longer than compute.kubernetes.{setting}; raise that and run again, it goes on "
        "from its last checkpoint"
    )


def _state(pods: Sequence[Any]) -> str:
    """Return what a person who waits wants to know: what the last pod is waiting for."""
    if not pods:
        return "waiting for its pod"
    return state(pods[-1])


def _terminated(pod: Any) -> Any:
    for status in pod.status.container_statuses or ():
        if status.name == CONTAINER and status.state is not None:
            return status.state.terminated
    return None


def _seconds(pod: Any) -> float:
    """Return how long a pod's container has run."""
    for status in pod.status.container_statuses or ():
        if status.name != CONTAINER or status.state is None:
            continue
        if status.state.terminated is not None and status.state.terminated.started_at:
            ended = status.state.terminated
            return float((ended.finished_at - ended.started_at).total_seconds())
        if status.state.running is not None and status.state.running.started_at:
            age: float = (datetime.now(UTC) - status.state.running.started_at).total_seconds()
            return max(0.0, age)
    return 0.0
