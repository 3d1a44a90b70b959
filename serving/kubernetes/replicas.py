"""A version's replicas as objects: a StatefulSet and what belongs to it. No I/O.

Invariants:
- an engine's command is that of `serving.engine`, behind `admitted.py`: each time that a container
  is started, evidence and weights are checked anew, in the pod;
- the model is copied to the pod's own disk first, and checked there: what is served cannot be
  changed by whoever can write to the store;
- a pod sees of the home the weights, the evidence and the trusted keys, all read only, and none of
  the records that a model was trained on;
- vLLM is reached by the gateway and by whoever rolls out, by nobody else (`policies`).
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from serving.admission import guarded_command
from serving.kubernetes.naming import CODE, ENGINE_PORT, HOME, PYTHON, object_name
from serving.kubernetes.objects import (
    CONFINED,
    CONFINED_POD,
    ENGINE,
    apart,
    budget,
    labels,
    made,
    notes,
    probe,
    selector,
)
from serving.kubernetes.place import Place
from serving.sleep import with_sleep_mode
from serving.versions import Version

BRING, SERVE = "bring", "engine"
# What admission reads of the store, besides the weights.
EVIDENCE = (
    *("manifests", "verdicts", "seals"),
    *("artifacts/seal", "artifacts/model_card", "artifacts/ml_bom"),
)
_MODEL = HOME / "model"
_SOURCE = PurePosixPath("/source")
_STARTUP_PERIOD_S = 5


def replica_objects(version: Version, place: Place, source: PurePosixPath) -> list[dict[str, Any]]:
    """Return what runs the replicas of a version, but for who may reach them.

    Args:
        version: As it is recorded.
        place: Where.
        source: The folder of the weights, from the home on.
    """
    name = object_name(version.model, version.version)
    return [
        made("Service", name, version, place, ENGINE, _headless(version)),
        made("StatefulSet", name, version, place, ENGINE, _set(name, version, place, source)),
        budget(name, version, place, ENGINE),
    ]


def _headless(version: Version) -> dict[str, Any]:
    return {
        "clusterIP": "None",
        # An address must not change its meaning with a pod's health: the gateway looks at that.
        "publishNotReadyAddresses": True,
        "selector": selector(version, ENGINE),
        "ports": [{"name": "http", "port": ENGINE_PORT, "targetPort": ENGINE_PORT}],
    }


def _set(name: str, version: Version, place: Place, source: PurePosixPath) -> dict[str, Any]:
    return {
        "replicas": len(version.replicas),
        "serviceName": name,
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": selector(version, ENGINE)},
        "template": {
            "metadata": {"labels": labels(version, place, ENGINE), "annotations": notes(version)},
            "spec": _pod(version, place, source),
        },
    }


def _pod(version: Version, place: Place, source: PurePosixPath) -> dict[str, Any]:
    return {
        **CONFINED_POD,
        **place.engine_pod,
        "terminationGracePeriodSeconds": 60,
        "affinity": apart(version, ENGINE),
        "initContainers": [_bring(version, place, source)],
        "containers": [_serve(version, place)],
        "volumes": [
            {
                "name": "home",
                "persistentVolumeClaim": {"claimName": place.home_claim, "readOnly": True},
            },
            {"name": "run", "emptyDir": {}},
            {"name": "model", "emptyDir": {"sizeLimit": place.disk}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }


def _bring(version: Version, place: Place, source: PurePosixPath) -> dict[str, Any]:
    program = str(CODE / "serving/kubernetes/bring.py")
    command = [PYTHON, "-I", program, str(HOME), str(HOME / "trust"), version.version]
    return {
        "name": BRING,
        "image": place.engine_image,
        "command": [*command, version.digest, str(_SOURCE), str(_MODEL)],
        "env": _variables({}),
        "securityContext": CONFINED,
        "resources": {"requests": {"ephemeral-storage": place.disk}},
        "volumeMounts": [*_mounts(writable=True), _of_home(_SOURCE, source)],
    }


def _serve(version: Version, place: Place) -> dict[str, Any]:
    engine = place.engine(
        Path(_MODEL),
        version.served_name,
        ENGINE_PORT,
        python=PYTHON,
        host="0.0.0.0",  # noqa: S104 - inside the pod; the NetworkPolicy says who reaches it
        threads=place.threads,
        max_model_len=version.max_model_len,
        dtype=version.dtype,
    )
    if version.replicas[0].sleeps:
        engine = with_sleep_mode(engine)
    first = (PYTHON, "-I", str(CODE / "serving/admitted.py"))
    asked = replace(version, folder=Path(_MODEL))
    command = guarded_command(first, Path(HOME), Path(HOME / "trust"), asked, engine.argv)
    tries = max(1, math.ceil(place.startup_s / _STARTUP_PERIOD_S))
    return {
        "name": SERVE,
        "image": place.engine_image,
        "command": list(command),
        "env": _variables(engine.env),
        "ports": [{"name": "http", "containerPort": ENGINE_PORT}],
        "startupProbe": probe("/health", ENGINE_PORT, _STARTUP_PERIOD_S, tries),
        "readinessProbe": probe("/health", ENGINE_PORT, 2, 2),
        "livenessProbe": probe("/health", ENGINE_PORT, 10, 6),
        "securityContext": CONFINED,
        "resources": dict(place.resources),
        "volumeMounts": _mounts(),
    }


def _variables(more: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the environment; only /tmp and the home's own folders can be written.

    USER is said since torch asks for a name, and no image need know the user that it runs as.
    """
    home = {"HOME": "/tmp", "USER": "ftdm", "PYTHONDONTWRITEBYTECODE": "1"}  # noqa: S108
    found = {**home, **more}
    return [{"name": name, "value": value} for name, value in sorted(found.items())]


def _mounts(*, writable: bool = False) -> list[dict[str, Any]]:
    return [
        {"name": "run", "mountPath": str(HOME)},
        {"name": "model", "mountPath": str(_MODEL), "readOnly": not writable},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
        *(_of_home(HOME / "store" / one, PurePosixPath("store") / one) for one in EVIDENCE),
        _of_home(HOME / "trust", PurePosixPath("trust")),
    ]


def _of_home(path: PurePosixPath, part: PurePosixPath) -> dict[str, Any]:
    return {"name": "home", "mountPath": str(path), "subPath": str(part), "readOnly": True}
