"""Who may reach a version's replicas, and whom they may reach. No I/O.

Invariant: replicas take calls from the gateway and from whoever rolls out, which are pods of the
same namespace, told by their label; from nobody else.
"""

from typing import Any
from urllib.parse import urlsplit

from serving.kubernetes.naming import ENGINE_PORT, PART_LABEL, object_name
from serving.kubernetes.objects import ENGINE, made, selector
from serving.kubernetes.place import Place
from serving.otlp import traces_endpoint
from serving.versions import Version

GATEWAY, ORCHESTRATOR = "gateway", "orchestrator"


def policies(version: Version, place: Place) -> list[dict[str, Any]]:
    """Return who may reach the replicas, and whom they may reach."""
    callers = [
        {"podSelector": {"matchLabels": {PART_LABEL: one}}} for one in (GATEWAY, ORCHESTRATOR)
    ]
    spec = {
        "podSelector": {"matchLabels": selector(version, ENGINE)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": callers, "ports": [{"port": ENGINE_PORT, "protocol": "TCP"}]}],
        "egress": _traces(),
    }
    name = object_name(version.model, version.version)
    return [made("NetworkPolicy", name, version, place, ENGINE, spec)]


def _traces() -> list[dict[str, Any]]:
    """Return where an engine may call: nowhere, or where its spans go."""
    endpoint = traces_endpoint()
    if endpoint is None:
        return []
    dns = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    parts = urlsplit(endpoint)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return [dns, {"ports": [{"port": port, "protocol": "TCP"}]}]
