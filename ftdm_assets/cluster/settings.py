"""What a ``defs.yaml`` says of a cluster and its pods, for training and for serving alike.

Invariant: no secret is a setting. What a container needs to know is kept by the cluster, under a
name that is given here.
"""

from typing import Annotated, Literal

from pydantic import Field

from ftdm_assets.section import Section

IMAGE = r"^[^@\s]+@sha256:[0-9a-f]{64}$"
Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]


class TolerationSettings(Section):
    """A taint of nodes that the pod tolerates, as Kubernetes writes it."""

    key: str | None = Field(None, examples=["nvidia.com/gpu"])
    operator: Literal["Equal", "Exists"] = Field("Exists", examples=["Exists"])
    value: str | None = Field(None, examples=["present"])
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, examples=["NoSchedule"]
    )


class PodSettings(Section):
    """A pod with a GPU. The cluster is the one we run in, else that of a kubeconfig's context."""

    kubeconfig: str | None = Field(
        None, examples=["~/.kube/config"], description="Left out: KUBECONFIG, or the usual file."
    )
    context: str | None = Field(
        None, examples=["training"], description="Left out: the kubeconfig's present one."
    )
    namespace: Name = Field("default", examples=["training"])
    service_account: Name | None = Field(None, examples=["ftdm-training"])
    image_pull_secrets: list[Name] = Field([], examples=[["registry"]])
    gpus: int = Field(1, ge=0, le=16, examples=[1])
    gpu_resource: str = Field("nvidia.com/gpu", examples=["nvidia.com/gpu"])
    cpu: Quantity | None = Field(None, examples=["8"])
    memory: Quantity | None = Field(None, examples=["64Gi"], description="Request and limit.")
    disk: Quantity = Field("100Gi", examples=["100Gi"], description="Model and checkpoints.")
    node_selector: dict[str, str] = Field({}, examples=[{"nvidia.com/gpu.product": "NVIDIA-L40S"}])
    tolerations: list[TolerationSettings] = Field([], examples=[[{"key": "nvidia.com/gpu"}]])
    priority_class: Name | None = Field(None, examples=["training"])
    labels: dict[str, str] = Field({}, examples=[{"cost-centre": "1234"}])
