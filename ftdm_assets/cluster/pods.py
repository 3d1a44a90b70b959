"""Pods as data: where one may run and what it takes, as the settings say; what one waits for."""

from typing import Any, Protocol


class Taint(Protocol):
    """What a pod tolerates, as Kubernetes writes it."""

    def model_dump(self, *, exclude_none: bool) -> dict[str, Any]:
        """Return it as a document."""


class PodOptions(Protocol):
    """What the settings of training and of serving both say of a pod."""

    @property
    def service_account(self) -> str | None: ...  # noqa: D102
    @property
    def priority_class(self) -> str | None: ...  # noqa: D102
    @property
    def node_selector(self) -> dict[str, str]: ...  # noqa: D102
    @property
    def tolerations(self) -> list[Any]: ...  # noqa: D102
    @property
    def image_pull_secrets(self) -> list[str]: ...  # noqa: D102
    @property
    def gpus(self) -> int: ...  # noqa: D102
    @property
    def gpu_resource(self) -> str: ...  # noqa: D102
    @property
    def cpu(self) -> str | None: ...  # noqa: D102
    @property
    def memory(self) -> str | None: ...  # noqa: D102
    @property
    def disk(self) -> str: ...  # noqa: D102


def placement(options: PodOptions) -> dict[str, Any]:
    """Return who a pod is and where it may run; it gets no token of the cluster's API."""
    named = [{"name": name} for name in options.image_pull_secrets]
    taints = [one.model_dump(exclude_none=True) for one in options.tolerations]
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        **if_any(options.service_account, "serviceAccountName", options.service_account),
        **if_any(options.priority_class, "priorityClassName", options.priority_class),
        **if_any(options.node_selector, "nodeSelector", dict(options.node_selector)),
        **if_any(taints, "tolerations", taints),
        **if_any(named, "imagePullSecrets", named),
    }


def resources(options: PodOptions) -> dict[str, Any]:
    """Return what the container takes."""
    limits: dict[str, str] = {}
    if options.gpus:
        limits[options.gpu_resource] = str(options.gpus)
    requests = {"ephemeral-storage": options.disk}
    if options.cpu:
        requests["cpu"] = options.cpu
    if options.memory:
        limits["memory"] = requests["memory"] = options.memory
    return {"requests": requests, **if_any(limits, "limits", limits)}


def if_any(wanted: object, key: str, value: Any) -> dict[str, Any]:
    """Return a mapping with that key, or an empty one."""
    return {key: value} if wanted else {}


def statuses(pod: Any) -> list[Any]:
    """Return what is said of a pod's containers, those that run first in front."""
    return [*(pod.status.init_container_statuses or ()), *(pod.status.container_statuses or ())]


def state(pod: Any) -> str:
    """Return what a person who waits wants to know: what a pod is waiting for."""
    text = f"pod {pod.metadata.name} {pod.status.phase}"
    if pod.spec.node_name:
        text = f"{text} on {pod.spec.node_name}"
    for one in pod.status.conditions or ():
        if one.type == "PodScheduled" and one.status == "False":
            text = f"{text} ({one.reason}: {one.message})"
    for status in statuses(pod):
        waiting = status.state.waiting if status.state else None
        if waiting is not None and waiting.reason:
            text = f"{text} ({waiting.reason}{f': {waiting.message}' if waiting.message else ''})"
    return text
