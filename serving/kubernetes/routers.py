"""A version's routers as objects, and who may reach what. No I/O.

Invariant: replicas take calls from this version's routers and from whoever rolls out, routers from
the gateway and from whoever rolls out; both are pods of the same namespace, told by their label.
"""

from typing import Any
from urllib.parse import urlsplit

from serving.kubernetes.naming import (
    ENGINE_PORT,
    PART_LABEL,
    ROUTER_METRICS_PORT,
    ROUTER_PORT,
    object_name,
    router_name,
)
from serving.kubernetes.objects import (
    CONFINED,
    CONFINED_POD,
    ENGINE,
    ROUTER,
    apart,
    budget,
    labels,
    made,
    notes,
    probe,
    selector,
)
from serving.kubernetes.place import Place
from serving.otlp import traces_endpoint
from serving.router import router_command
from serving.versions import Version

GATEWAY, ORCHESTRATOR = "gateway", "orchestrator"
_SMG = "smg"


def router_objects(version: Version, place: Place) -> list[dict[str, Any]]:
    """Return what runs the routers of a version."""
    name = router_name(object_name(version.model, version.version))
    ports = [{"name": "http", "port": ROUTER_PORT, "targetPort": ROUTER_PORT}]
    service = {"selector": selector(version, ROUTER), "ports": ports}
    deployment = {
        "replicas": place.router_replicas,
        "selector": {"matchLabels": selector(version, ROUTER)},
        "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {
            "metadata": {"labels": labels(version, place, ROUTER), "annotations": notes(version)},
            "spec": {
                **CONFINED_POD,
                **place.router_pod,
                "terminationGracePeriodSeconds": 30,
                "affinity": apart(version, ROUTER),
                "containers": [_container(version, place)],
                "volumes": [{"name": "tmp", "emptyDir": {}}],
            },
        },
    }
    return [
        made("Service", name, version, place, ROUTER, service),
        made("Deployment", name, version, place, ROUTER, deployment),
        budget(name, version, place, ROUTER),
    ]


def policies(version: Version, place: Place) -> list[dict[str, Any]]:
    """Return who may reach replicas and routers, and whom they may reach."""
    name = object_name(version.model, version.version)
    routers = _pods(selector(version, ROUTER))
    engines = _pods(selector(version, ENGINE))
    rolls_out, asks = _pods({PART_LABEL: ORCHESTRATOR}), _pods({PART_LABEL: GATEWAY})
    dns = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    to_engines = {"to": [engines], "ports": [{"port": ENGINE_PORT, "protocol": "TCP"}]}
    return [
        _policy(name, version, place, ENGINE, [routers, rolls_out], [ENGINE_PORT], _traces(dns)),
        _policy(
            *(router_name(name), version, place, ROUTER, [asks, rolls_out]),
            *([ROUTER_PORT], [to_engines, dns]),
        ),
    ]


def _policy(
    name: str,
    version: Version,
    place: Place,
    part: str,
    callers: list[dict[str, Any]],
    ports: list[int],
    egress: list[dict[str, Any]],
) -> dict[str, Any]:
    taken = {"from": callers, "ports": [{"port": port, "protocol": "TCP"} for port in ports]}
    spec = {
        "podSelector": {"matchLabels": selector(version, part)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [taken],
        "egress": egress,
    }
    return made("NetworkPolicy", name, version, place, part, spec)


def _pods(chosen: dict[str, str]) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": chosen}}


def _traces(dns: dict[str, Any]) -> list[dict[str, Any]]:
    """Return where an engine may call: nowhere, or where its spans go."""
    endpoint = traces_endpoint()
    if endpoint is None:
        return []
    parts = urlsplit(endpoint)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return [dns, {"ports": [{"port": port, "protocol": "TCP"}]}]


def _container(version: Version, place: Place) -> dict[str, Any]:
    urls = tuple(one.url for one in version.replicas)
    everywhere = "0.0.0.0"  # noqa: S104 - inside the pod; the NetworkPolicy says who reaches it
    command = router_command(urls, ROUTER_PORT, ROUTER_METRICS_PORT, host=everywhere, binary=_SMG)
    return {
        "name": ROUTER,
        "image": place.serving_image,
        "command": list(command),
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108
        "ports": [
            {"name": "http", "containerPort": ROUTER_PORT},
            {"name": "metrics", "containerPort": ROUTER_METRICS_PORT},
        ],
        "startupProbe": probe("/liveness", ROUTER_PORT, 2, 30),
        "readinessProbe": probe("/readiness", ROUTER_PORT, 2, 2),
        "livenessProbe": probe("/liveness", ROUTER_PORT, 10, 6),
        "securityContext": CONFINED,
        "resources": {"requests": {"cpu": "250m", "memory": "256Mi"}},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }
