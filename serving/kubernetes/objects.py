"""What every object of a version has in common: names, labels, and how a container is confined."""

from typing import Any

from serving.kubernetes.naming import PART_LABEL, VERSION_LABEL, object_name
from serving.kubernetes.place import Place
from serving.versions import Version

ENGINE = "engine"
_USER = 10001
API = {
    "StatefulSet": "apps/v1",
    "PodDisruptionBudget": "policy/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "Service": "v1",
}
# Of a pod: nothing that a process inside could use to become more than it is.
CONFINED_POD: dict[str, Any] = {
    "securityContext": {
        "runAsNonRoot": True,
        "runAsUser": _USER,
        "runAsGroup": _USER,
        "fsGroup": _USER,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    "automountServiceAccountToken": False,
    "enableServiceLinks": False,
}
CONFINED: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def selector(version: Version, part: str) -> dict[str, str]:
    """Return the labels that a version's pods of one part have, and no other pod."""
    return {VERSION_LABEL: object_name(version.model, version.version), PART_LABEL: part}


def made(
    kind: str, name: str, version: Version, place: Place, part: str, spec: dict[str, Any]
) -> dict[str, Any]:
    """Return an object."""
    return {
        "apiVersion": API[kind],
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": place.namespace,
            "labels": labels(version, place, part),
            "annotations": notes(version),
        },
        "spec": spec,
    }


def labels(version: Version, place: Place, part: str) -> dict[str, str]:
    """Return the labels of an object or a pod."""
    return {
        **place.labels,
        "app.kubernetes.io/name": "ftdm-serving",
        "app.kubernetes.io/managed-by": "ftdm",
        **selector(version, part),
    }


def notes(version: Version) -> dict[str, str]:
    """Return the annotations: what a label is too short for."""
    return {"ftdm/version-name": version.version, "ftdm/digest": version.digest}


def apart(version: Version, part: str) -> dict[str, Any]:
    """Return the wish that the pods of one part run on different nodes."""
    term = {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {"matchLabels": selector(version, part)},
    }
    weighted = {"weight": 100, "podAffinityTerm": term}
    return {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [weighted]}}


def probe(path: str, port: int, period: int, failures: int) -> dict[str, Any]:
    """Return a probe of a container."""
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def budget(name: str, version: Version, place: Place, part: str) -> dict[str, Any]:
    """Return the rule that a drain takes one pod of a part at a time."""
    chosen = {"matchLabels": selector(version, part)}
    spec = {"maxUnavailable": 1, "selector": chosen}
    return made("PodDisruptionBudget", name, version, place, part, spec)
