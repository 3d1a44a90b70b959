"""Kubernetes Jobs as data: the API's own schema, and every way in which a Job can end."""

import json
from datetime import UTC, datetime
from typing import Any

import kubernetes_validate
import pytest
from dagster_k8s.client import PatchedApiClient

from ftdm_assets.compute import kubernetes_job
from ftdm_assets.compute.bucket_job import told_to_container
from ftdm_assets.compute.job import Phase, Seen
from ftdm_assets.compute_settings import KubernetesSettings
from ftdm_assets.settings import SettingsError, parse_settings
from tests.compute.test_kubernetes import compute
from tests.compute.test_remote_job import job

_VERSION = "1.30"  # podFailurePolicy and its defaults are stable from here on.
EVERYTHING = {
    "service_account": "ftdm",
    "config_maps": ["ftdm-bucket"],
    "image_pull_secrets": ["registry"],
    "gpus": 2,
    "cpu": "7500m",
    "memory": "64Gi",
    "node_selector": {"nvidia.com/gpu.product": "NVIDIA-L40S"},
    "tolerations": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}],
    "priority_class": "training",
    "max_hours": 1.5,
    "max_wait_hours": 2,
    "labels": {"cost-centre": "7"},
    "environment": {"AWS_DEFAULT_REGION": "eu-west-1"},
    "output_kms_key": "alias/output",
}


def kubernetes_settings(**changes: Any) -> KubernetesSettings:
    found = compute(**changes).kubernetes
    assert found is not None
    return found


def document(settings: KubernetesSettings) -> dict[str, Any]:
    told = told_to_container(job(), "a-name-1", settings.output_kms_key)
    return kubernetes_job.document(job(), settings, "a-name-1", told)


@pytest.mark.parametrize("changes", [{}, {"gpus": 0, "secrets": []}, EVERYTHING])
def test_a_document_is_what_the_api_takes(changes: dict[str, Any]) -> None:
    made = document(kubernetes_settings(**changes))
    kubernetes_validate.validate(made, _VERSION, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**made, "spek": {}}, _VERSION, strict=True)


def test_a_document_has_what_the_settings_say() -> None:
    made = document(kubernetes_settings(**EVERYTHING))
    pod = made["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert made["spec"]["backoffLimit"] == 0
    assert (pod["activeDeadlineSeconds"], made["spec"]["activeDeadlineSeconds"]) == (5400, 7200)
    assert made["spec"]["ttlSecondsAfterFinished"] == 7 * 86400
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "2", "memory": "64Gi"}
    assert container["image"].endswith("@sha256:" + "a" * 64)
    assert container["envFrom"] == [
        {"secretRef": {"name": "ftdm-bucket"}},
        {"configMapRef": {"name": "ftdm-bucket"}},
    ]
    variables = {one["name"]: one["value"] for one in container["env"]}
    told = json.loads(variables["FTDM_JOB"])
    assert told["output"] == "s3://b/output/a-name-1/"
    assert told["kms_key"] == "alias/output"
    assert variables["AWS_DEFAULT_REGION"] == "eu-west-1"


def test_another_machine_is_another_job() -> None:
    def name(**changes: Any) -> str:
        return job().name(kubernetes_job.machine(kubernetes_settings(**changes)), 1)

    assert name() == name(max_hours=3, secrets=["other"], memory="1Gi")
    others = [name(gpus=2), name(node_selector={"a": "b"}), name(image=f"i@sha256:{'b' * 64}")]
    assert len({name(), *others}) == 4


def seen(
    condition: tuple[str, str] | None, terminated: dict[str, Any] | None = None, **pod: Any
) -> Seen:
    """What is said of a Job with this condition, whose only pod has ended so."""
    now = datetime.now(UTC).isoformat()
    conditions = []
    if condition:
        kind, reason = condition
        conditions = [{"type": kind, "status": "True", "reason": reason, "message": "of the Job"}]
    times = {"startedAt": now, "finishedAt": now}
    state = {"terminated": {**times, **terminated}} if terminated else {}
    waiting = pod.pop("waiting", None)
    if waiting:
        state = {"waiting": waiting}
    status = {"name": "step", "image": "", "imageID": "", "ready": False, "restartCount": 0}
    found = {
        "metadata": {"name": "p", "creationTimestamp": now},
        "spec": {"containers": [{"name": "step"}]},
        "status": {"containerStatuses": [{**status, "state": state}] if state else [], **pod},
    }
    client = PatchedApiClient()
    one = client._ApiClient__deserialize(
        {"metadata": {"name": "j"}, "status": {"conditions": conditions}}, "V1Job"
    )
    pods = [] if pod.get("gone") else [client._ApiClient__deserialize(found, "V1Pod")]
    return kubernetes_job.seen(one, pods, kubernetes_settings())


FAILED = ("Failed", "BackoffLimitExceeded")
TAKEN = [{"type": "DisruptionTarget", "status": "True"}]


@pytest.mark.parametrize(
    ("ended", "said", "interrupted"),
    [
        (seen(FAILED, {"exitCode": 1, "message": "train: error: no."}), "train: error: no.", False),
        (
            seen(FAILED, {"exitCode": 137, "reason": "OOMKilled"}),
            "compute.kubernetes.memory",
            False,
        ),
        (seen(FAILED, {"exitCode": 137, "reason": "Error"}), "exit code 137", True),
        (seen(FAILED, {"exitCode": 143}, conditions=TAKEN), "exit code 143", True),
        (seen(FAILED, {"exitCode": 2}), "exit code 2", False),
        (seen(FAILED, reason="Evicted", message="low on disk"), "low on disk", True),
        (seen(FAILED, reason="DeadlineExceeded"), "compute.kubernetes.max_hours", False),
        (seen(("Failed", "DeadlineExceeded")), "compute.kubernetes.max_wait_hours", False),
        (seen(FAILED, gone=True), "its pod is gone", True),
    ],
)
def test_a_job_that_has_failed_says_why(ended: Seen, said: str, interrupted: bool) -> None:
    assert ended.phase is Phase.FAILED
    assert said in ended.reason
    assert ended.interrupted == interrupted


def test_a_job_that_waits_says_for_what() -> None:
    none = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    waits = seen(None, conditions=[{**none, "message": "0/3 nodes have nvidia.com/gpu"}])
    assert waits.phase is Phase.RUNNING
    assert "Unschedulable: 0/3 nodes have nvidia.com/gpu" in waits.state
    pulls = seen(None, waiting={"reason": "ImagePullBackOff", "message": "no such image"})
    assert "ImagePullBackOff: no such image" in pulls.state
    assert "waiting for its pod" in seen(None, gone=True).state


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image": "steps:latest"}, "image"),
        ({"max_wait_hours": 1, "max_hours": 2}, "max_wait_hours"),
        ({"environment": {"AWS_SECRET_ACCESS_KEY": "not-to-be-shown"}}, "name it in `secrets`"),
        ({"memory": "much"}, "memory"),
    ],
)
def test_wrong_settings_name_the_key(changes: dict[str, Any], said: str) -> None:
    where = compute().model_dump(exclude_none=True)
    where["kubernetes"] |= changes
    wrong = {
        "name": "m",
        "task": {"instruction": "i", "taxonomy": ["a"]},
        "labels": {"path": "l"},
        "golden": {"path": "g"},
        "compute": where,
    }
    with pytest.raises(SettingsError, match=f"attributes.compute.kubernetes.*{said}") as raised:
        parse_settings(wrong, "defs.yaml")
    assert "not-to-be-shown" not in str(raised.value)
