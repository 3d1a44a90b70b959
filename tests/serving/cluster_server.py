"""A local cluster that runs StatefulSets, on the server of the Jobs.

It takes objects by server-side apply, and refuses what the API's schema refuses; it keeps as many
pods alive as are asked for, replaces them when their template changes, and ends them when their
object is deleted. Its DNS is arithmetic: every host has an address of its own in 127/8, which the
pod behind a headless Service listens on; no other Service is taken.
"""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate

from tests.compute.kubernetes_server import KubernetesServer
from tests.compute.kubernetes_server import _error as error
from tests.serving.cluster_pod import ClusterPod, World

VERSION = "1.30"
NAMESPACE = "serving"
_KINDS = {"statefulsets", "services", "networkpolicies", "poddisruptionbudgets"}


def loopback_hosts(seed: str) -> Callable[[str], str]:
    """Return how hosts are called: by an address that follows from their name."""

    def host(name: str) -> str:
        mark = hashlib.sha256(f"{seed}:{name}".encode()).digest()
        return f"127.{mark[0] % 200 + 10}.{mark[1]}.{mark[2] % 254 + 1}"

    return host


class ClusterServer(KubernetesServer):
    """The cluster; `world` is what its pods find, `hosts` how they are called."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder / "pods")
        self.hosts = loopback_hosts(str(folder))
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.pods: dict[str, list[ClusterPod]] = {}
        self.applied: list[str] = []
        self._gone: list[ClusterPod] = []
        self._change = threading.Lock()
        super().__init__(folder / "jobs", {})

    def close(self) -> None:
        super().close()
        for pod in (*self._living(), *self._gone):
            pod.join()

    def _living(self) -> list[ClusterPod]:
        return [pod for pods in list(self.pods.values()) for pod in pods]

    def _call(
        self, verb: str, path: tuple[str, ...], query: dict[str, str], body: dict[str, Any]
    ) -> tuple[str, int, Any]:
        place = path[path.index("namespaces") + 1 :] if "namespaces" in path else ()
        if place == (NAMESPACE, "pods"):
            return "list pods", 200, self._listed(query.get("labelSelector", ""))
        if place[:2] == (NAMESPACE, "pods") and place[-1] == "log":
            return ("get pods/log", *self._logged(place[2], query))
        if len(place) == 3 and place[0] == NAMESPACE and place[1] in _KINDS:
            call = f"{ {'PATCH': 'apply', 'GET': 'get', 'DELETE': 'delete'}[verb] } {place[1]}"
            with self._change:
                return (call, *self._object(verb, (place[1], place[2]), query, body))
        return super()._call(verb, path, query, body)

    def _object(
        self, verb: str, key: tuple[str, str], query: dict[str, str], body: dict[str, Any]
    ) -> tuple[int, Any]:
        if verb == "PATCH":
            return self._apply(key, query, body)
        found = self.objects.get(key)
        if found is None:
            return error(404, "NotFound", f'{key[0]} "{key[1]}" not found')
        if verb == "DELETE":
            del self.objects[key]
            if key[0] == "statefulsets":
                self._settle(key[1], 0)
        return 200, found

    def _apply(
        self, key: tuple[str, str], query: dict[str, str], body: dict[str, Any]
    ) -> tuple[int, Any]:
        assert query["fieldManager"] == "ftdm"
        assert body["metadata"]["name"] == key[1]
        try:
            kubernetes_validate.validate(body, VERSION, strict=True)
        except kubernetes_validate.ValidationError as problem:
            return error(400, "BadRequest", str(problem.message))
        known = self.objects.get(key)
        self.applied.append("/".join(key))
        self.objects[key] = body
        if key[0] == "services":
            assert body["spec"]["clusterIP"] == "None"
        if key[0] == "statefulsets" and known != body:
            if known and known["spec"]["template"] != body["spec"]["template"]:
                self._settle(key[1], 0)
            self._settle(key[1], body["spec"]["replicas"])
        return 200 if known else 201, body

    def _settle(self, name: str, count: int) -> None:
        """Make and end pods of a set until it has that many."""
        pods = self.pods.setdefault(name, [])
        while len(pods) > count:
            pods[-1].delete()
            self._gone.append(pods.pop())
        while len(pods) < count:
            pods.append(self._made(name, len(pods)))

    def drain(self, pod: ClusterPod) -> None:
        """Take a pod's node away: it is ended, and then another takes its name."""
        ((name, index),) = [
            (one, pods.index(pod)) for one, pods in self.pods.items() if pod in pods
        ]
        pod.delete()
        pod.wait()
        with self._change:
            self._gone.append(pod)
            self.pods[name][index] = self._made(name, index)

    def _made(self, name: str, index: int) -> ClusterPod:
        template = self.objects["statefulsets", name]["spec"]["template"]
        pod = f"{name}-{index}"
        return ClusterPod(pod, self.hosts(f"{pod}.{name}"), template, self.world)

    def _listed(self, selector: str) -> dict[str, Any]:
        chosen = dict(part.split("=", 1) for part in selector.split(","))
        items = [
            pod.document()
            for pod in (*self._living(), *self._gone)
            if chosen.items() <= pod.labels.items()
        ]
        return {"kind": "PodList", "apiVersion": "v1", "items": items}

    def _logged(self, name: str, query: dict[str, str]) -> tuple[int, Any]:
        for pod in self._living():
            if pod.name == name:
                text = pod.log(query["container"], query.get("previous") == "True")
                if text is not None:
                    tail = text.splitlines()[-int(query["tailLines"]) :]
                    return 200, "\n".join(tail)
        return error(400, "BadRequest", f"no log of {name}")
