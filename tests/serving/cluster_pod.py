"""A pod of the local cluster: its containers as processes of this machine, on its own address.

It obeys init containers, volumes (a claim is a folder, each of its parts a link), restarts with a
growing pause, the readiness probe, and the grace period. Not obeyed: images, users, read-only file
systems, resources, network policies.
"""

import os
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

from serving.health import get_json
from tests.compute.local_container import LocalContainer

ROOT = Path(__file__).resolve().parents[2]
_PAUSES_S = (0.0, 0.3, 0.6, 1.2)
_LOOK_S = 0.1


@dataclass
class Container:
    """One container of a pod, over its lives."""

    spec: dict[str, Any]
    lives: list[LocalContainer] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    waiting: tuple[str, str] = ("PodInitializing", "")
    ready: bool = False

    @property
    def runs(self) -> bool:
        return len(self.lives) > len(self.codes)

    def status(self) -> dict[str, Any]:
        state: dict[str, Any] = {"waiting": {"reason": self.waiting[0], "message": self.waiting[1]}}
        if self.runs:
            state = {"running": {"startedAt": datetime.now(UTC).isoformat()}}
        elif self.codes and not self.waiting[0]:
            state = {"terminated": {"exitCode": self.codes[-1], "reason": "Completed"}}
        return {
            "name": self.spec["name"], "image": self.spec["image"], "imageID": "",
            "ready": self.ready, "restartCount": max(0, len(self.lives) - 1), "state": state,
        }  # fmt: skip


@dataclass
class World:
    """What the pods of a cluster find there; a test changes it."""

    folder: Path
    claims: dict[str, Path] = field(default_factory=dict)
    nodes: int = 1
    missing_images: set[str] = field(default_factory=set)


class ClusterPod:
    """A pod that is being kept alive by a thread until it is deleted."""

    def __init__(self, name: str, address: str, template: dict[str, Any], world: World) -> None:
        self.name, self.address, self.template, self._world = name, address, template, world
        self.created = datetime.now(UTC)
        spec = template["spec"]
        self.first = [Container(one) for one in spec.get("initContainers", [])]
        self.main = Container(spec["containers"][0])
        self.deleted = threading.Event()
        self._folder = world.folder / f"{name}-{time.monotonic_ns()}"
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    @property
    def labels(self) -> dict[str, str]:
        found: dict[str, str] = self.template["metadata"]["labels"]
        return found

    @property
    def ready(self) -> bool:
        return self.main.ready and not self.deleted.is_set()

    def delete(self) -> None:
        self.deleted.set()
        for one in (*self.first, self.main):
            if one.runs:
                one.lives[-1].stop()

    def join(self) -> None:
        """End it at once."""
        self.delete()
        for one in (*self.first, self.main):
            if one.runs:
                one.lives[-1].process.kill()
        self.wait()

    def wait(self) -> None:
        """Wait until nothing of it runs."""
        self._thread.join(40)
        assert not self._thread.is_alive()

    def document(self) -> dict[str, Any]:
        """Return the pod as the API shows it."""
        scheduled = {"type": "PodScheduled", "status": "True"}
        if not self._world.nodes:
            scheduled |= {
                "status": "False", "reason": "Unschedulable",
                "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu",
            }  # fmt: skip
        metadata: dict[str, Any] = {
            "name": self.name, "labels": self.labels,
            "creationTimestamp": self.created.isoformat(),
        }  # fmt: skip
        if self.deleted.is_set():
            metadata["deletionTimestamp"] = self.created.isoformat()
        containers = [{"name": self.main.spec["name"]}]
        node = {"nodeName": "node-1"} if self._world.nodes else {}
        return {
            "metadata": metadata,
            "spec": {**node, "containers": containers},
            "status": {
                "phase": "Running" if self.main.runs else "Pending",
                "conditions": [
                    scheduled, {"type": "Ready", "status": str(self.ready)},
                ],
                "initContainerStatuses": [one.status() for one in self.first],
                "containerStatuses": [self.main.status()] if self._world.nodes else [],
            },
        }  # fmt: skip

    def log(self, container: str, previous: bool) -> str | None:
        """Return a container's log, of its present life or of the one before."""
        (one,) = [c for c in (*self.first, self.main) if c.spec["name"] == container]
        lives = one.lives[: len(one.codes)] if previous else one.lives
        return "\n".join(line for _, line in lives[-1].lines) if lives else None

    def _live(self) -> None:
        while not self._world.nodes and not self.deleted.is_set():
            time.sleep(_LOOK_S)
        for one in self.first:
            while not self.deleted.is_set() and self._run(one) != 0:
                pass
            one.waiting, one.ready = ("", ""), True
        while not self.deleted.is_set():
            self._run(self.main)

    def _run(self, one: Container) -> int:
        """Give a container one life; return how it ended."""
        if one.codes:
            one.waiting = ("CrashLoopBackOff", "back-off restarting failed container")
        if self.deleted.wait(_PAUSES_S[min(len(one.codes), len(_PAUSES_S) - 1)]):
            return 1
        problem = self._problem(one)
        if problem:
            one.waiting = problem
            self.deleted.wait(_LOOK_S)
            return 1
        container = LocalContainer.started_as(
            [self._here(part) for part in one.spec["command"]], self._environment(one), self._folder
        )
        one.lives.append(container)
        if self.deleted.is_set():
            container.stop()
        while container.process.poll() is None:
            one.ready = one is self.main and self._probed(one)
            time.sleep(_LOOK_S)
        one.ready = False
        one.codes.append(container.wait())
        return one.codes[-1]

    def _probed(self, one: Container) -> bool:
        asked = one.spec["readinessProbe"]["httpGet"]
        status, _ = get_json(f"http://{self.address}:{asked['port']}{asked['path']}")
        return status == HTTPStatus.OK

    def _problem(self, one: Container) -> tuple[str, str] | None:
        """Mount the container's volumes; return what it lacks."""
        if one.spec["image"] in self._world.missing_images:
            return "ImagePullBackOff", f'Back-off pulling image "{one.spec["image"]}"'
        volumes = {volume["name"]: volume for volume in self.template["spec"]["volumes"]}
        for mount in one.spec["volumeMounts"]:
            path = self._folder / mount["mountPath"].lstrip("/")
            claim = volumes[mount["name"]].get("persistentVolumeClaim")
            if claim is None:
                path.mkdir(parents=True, exist_ok=True)
                continue
            part = self._world.claims[claim["claimName"]] / mount["subPath"]
            if not part.is_dir():
                return "CreateContainerConfigError", f"no subPath {mount['subPath']} in the volume"
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.is_symlink():
                path.symlink_to(part)
        return None

    def _environment(self, one: Container) -> dict[str, str]:
        told = {item["name"]: self._here(item["value"]) for item in one.spec["env"]}
        return {"PATH": os.environ["PATH"], **told}

    def _here(self, text: str) -> str:
        """Return what a word of a pod's command means on this machine."""
        if text == "python3":
            return sys.executable
        if text.startswith("/opt/ftdm/"):
            return str(ROOT / text.removeprefix("/opt/ftdm/"))
        if text.startswith(("/ftdm", "/source", "/tmp")):
            return str(self._folder / text.lstrip("/"))
        return text.replace("0.0.0.0", self.address)
